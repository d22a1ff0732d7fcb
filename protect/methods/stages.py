"""The two stages of error minimisation, round by round: a pattern a class, then a perturbation an image.

A round is a pure function of the state before it and of a generator seeded from (seed, attempt, stage, round), so a
fit that is killed and resumed makes the same rounds. Classes may be those of the labels, or clusters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging import ImageSet
from ...imaging.image_set import Writable
from .pgd import RandomCropFlip, class_gradient, pgd_min, pgd_min_class_mean
from .surrogate_training import SurrogateTrainer, crop_padding, delta_by_class, delta_by_row, surrogate_error
from .written import ResizeOperator, TintBound

ExtraGradient = Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]
"""Positions [B], whose pattern each image carries [B], patterns [K, 3, R, R], a generator -> gradient [K, 3, R, R]."""


@dataclass(frozen=True)
class RoundRecord:
    """One line of the fit log: losses and errors are those of the surrogate on perturbed images."""

    stage: str
    round: int
    theta_loss: float
    error: float

    def to_json(self) -> dict[str, float | str | int]:
        """JSON-safe, rounded for reading."""
        return {
            "stage": self.stage,
            "round": self.round,
            "theta_loss": round(self.theta_loss, 4),
            "error": round(self.error, 4),
        }


@dataclass(frozen=True)
class Stage:
    """What both stages share.

    Attributes:
        dataset: images and labels on the device of computation.
        epsilon, step_size: bound and alpha, in units of the full range.
        surrogate_steps: M, optimiser steps of the surrogate a round.
        rounds: at most so many.
        min_rounds: at least so many, whatever the error.
        stop_error: lambda, the error of the surrogate at which a stage ends.
        batch_size: images a pass of the sweep.
        through_crops: craft through random crops and flips.
        resize: what the files do to a perturbation on its way to a trainer.
        tint: bound on slow colours, kept after every step; ``None`` for none.
        paper: the update of the official code: perturbed images may leave [0, 1] where they train and test the
            surrogate, and what a sweep ends with is not brought into that range.
    """

    dataset: ImageSet
    epsilon: float
    step_size: float
    surrogate_steps: int
    rounds: int
    min_rounds: int
    stop_error: float
    batch_size: int
    through_crops: bool
    resize: ResizeOperator | None
    tint: TintBound | None
    paper: bool

    def crop(self, generator: torch.Generator) -> RandomCropFlip | None:
        """Random crops and flips for one round, or none."""
        return RandomCropFlip(crop_padding(self.dataset.resolution), generator) if self.through_crops else None

    def _labels(self) -> Tensor:
        assert self.dataset.labels is not None
        return self.dataset.labels

    def _writable(self, index: Tensor) -> Writable | None:
        """What the files of these pictures can hold."""
        return None if self.dataset.writable is None else self.dataset.writable.select(index)

    def _images(self, index: Tensor) -> Tensor:
        return self.dataset.images[index].float().mul_(1 / 255)

    def done(self, rounds_made: int, error: float) -> bool:
        """The stop rule."""
        return rounds_made >= self.rounds or (rounds_made >= self.min_rounds and error <= self.stop_error)


@dataclass(frozen=True)
class ClassStage(Stage):
    """One pattern a class.

    Attributes:
        updates: sign steps of all patterns a round (ours), or one pass over the subset (the paper's).
        per_class: images a class that each update's gradient is summed over.
        momentum: of the normalised gradient.
        extra: another gradient of the same scale, added to that of the labels.
        subset: share of the images that the paper's update sweeps over and tests on (official: a stratified fifth).
        subset_seed: of the draw of that share, which is the same in all rounds.
    """

    updates: int = 8
    per_class: int = 12
    momentum: float = 0.5
    subset: float = 0.2
    subset_seed: int = 0
    extra: ExtraGradient | None = None

    name = "class-wise"

    def start(self) -> dict[str, Tensor]:
        """Zero patterns ``delta`` and zero ``momentum``, both ``[K, 3, R, R]``."""
        side = self.dataset.resolution
        zero = torch.zeros(len(self.dataset.classes), 3, side, side, device=self.dataset.images.device)
        return {"delta": zero, "momentum": zero.clone()}

    def run_round(
        self,
        number: int,
        state: dict[str, Tensor],
        trainer: SurrogateTrainer,
        generator: torch.Generator,
        tell: Callable[[float], None],
    ) -> RoundRecord:
        """One round in place on ``state``; ``tell`` gets the share of the round that is done."""
        labels, delta = self._labels(), state["delta"]
        carried = self.dataset.writable
        loss = trainer.steps(self.surrogate_steps, delta_by_class(delta, labels, self.resize, carried), generator)
        tell(0.4)
        frozen, crop = trainer.frozen(), self.crop(generator)
        if self.paper:
            index = self._stratified(generator)
            for part in index.split(self.batch_size):
                images, own = self._images(part), labels[part]
                delta.copy_(
                    pgd_min_class_mean(
                        frozen,
                        images,
                        own,
                        delta,
                        epsilon=self.epsilon,
                        step_size=self.step_size,
                        writable=self._writable(part),
                    )
                )
        else:
            index = self._balanced(generator)
            for part in index:
                gradient = class_gradient(
                    frozen,
                    self._images(part),
                    labels[part],
                    delta,
                    crop=crop,
                    batch_size=self.batch_size,
                    resize=self.resize,
                    writable=self._writable(part),
                )
                if self.extra is not None:
                    gradient = gradient + self.extra(part, labels[part], delta, generator)
                state["momentum"].mul_(self.momentum).add_(gradient)
                delta.sub_(self.step_size * state["momentum"].sign()).clamp_(-self.epsilon, self.epsilon)
                if self.tint is not None:
                    delta.copy_(self.tint(delta, self.epsilon))
            index = torch.cat(index)
        tell(0.9)
        seen = delta_by_class(delta, labels, self.resize, carried)
        error = surrogate_error(frozen, self.dataset, seen, index.unique(), clamp=not self.paper)
        return RoundRecord(self.name, number, loss, error)

    def _balanced(self, generator: torch.Generator) -> list[Tensor]:
        """``updates`` index lists, each with about ``per_class`` images of every class, drawn without repeats where
        the class is large enough: the cost of a round does not grow with the folder."""
        labels = self._labels().cpu()
        want = self.updates * self.per_class
        chosen: list[list[Tensor]] = [[] for _ in range(self.updates)]
        for label in range(len(self.dataset.classes)):
            own = (labels == label).nonzero().flatten()
            if len(own) == 0:
                continue
            times = -(-want // len(own))
            order = torch.cat([own[torch.randperm(len(own), generator=generator)] for _ in range(times)])[:want]
            for slot, part in enumerate(order.split(self.per_class)):
                chosen[slot].append(part)
        return [torch.cat(parts).to(self.dataset.images.device) for parts in chosen]

    def _stratified(self, generator: torch.Generator) -> Tensor:
        """The paper's subset, always the same pictures, in an order of this round."""
        labels, fixed = self._labels().cpu(), torch.Generator().manual_seed(self.subset_seed)
        parts = []
        for label in range(len(self.dataset.classes)):
            own = (labels == label).nonzero().flatten()
            count = max(1, round(self.subset * len(own))) if len(own) else 0
            parts.append(own[torch.randperm(len(own), generator=fixed)[:count]])
        index = torch.cat(parts)
        return index[torch.randperm(len(index), generator=generator)].to(self.dataset.images.device)


@dataclass(frozen=True)
class SampleStage(Stage):
    """One perturbation an image.

    Attributes:
        steps: T, PGD steps a round.
        skip_below: images whose loss is below this are left as they are.
    """

    steps: int = 5
    skip_below: float = 0.01

    name = "sample-wise"

    def start(self, patterns: Tensor | None) -> dict[str, Tensor]:
        """``delta`` ``[N, 3, R, R]``: each image's class pattern, or zero. Half precision, which is exact to a
        hundredth of a level; the paper's in single."""
        images, kind = self.dataset.images, torch.float32 if self.paper else torch.float16
        if patterns is None:
            return {"delta": torch.zeros(images.shape, dtype=kind, device=images.device)}
        return {"delta": patterns.to(kind)[self._labels()]}

    def run_round(
        self,
        number: int,
        state: dict[str, Tensor],
        trainer: SurrogateTrainer,
        generator: torch.Generator,
        tell: Callable[[float], None],
    ) -> RoundRecord:
        """One round in place on ``state``; ``tell`` gets the share of the round that is done."""
        labels, delta = self._labels(), state["delta"]
        loss = trainer.steps(self.surrogate_steps, delta_by_row(delta, self.resize, self.dataset.writable), generator)
        frozen, crop = trainer.frozen(), self.crop(generator)
        order = torch.randperm(len(labels), generator=generator).to(labels.device)
        for start in range(0, len(order), self.batch_size):
            part = order[start : start + self.batch_size]
            delta[part] = pgd_min(
                frozen,
                self._images(part),
                labels[part],
                delta[part].float(),
                epsilon=self.epsilon,
                step_size=self.step_size,
                steps=self.steps,
                crop=crop,
                skip_below=self.skip_below,
                resize=self.resize,
                tint=self.tint,
                in_range=not self.paper,
                writable=self._writable(part),
            ).to(delta.dtype)
            tell(0.1 + 0.8 * start / len(order))
        seen = delta_by_row(delta, self.resize, self.dataset.writable)
        error = surrogate_error(frozen, self.dataset, seen, order, clamp=not self.paper)
        return RoundRecord(self.name, number, loss, error)
