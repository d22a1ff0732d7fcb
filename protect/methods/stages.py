"""The two stages of error minimisation, round by round: a pattern a class, then a perturbation an image.

A round is a pure function of the state before it and of a generator seeded from (seed, attempt, stage, round), so a
fit that is killed and resumed makes the same rounds. Classes may be those of the labels, or clusters.

The surrogate is trained here; passes of pictures through its frozen copy go in blocks to whatever processes there are
(:mod:`.ranks`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import torch
from torch import Tensor

from ...imaging import ImageSet
from ...imaging.image_set import Writable
from ...surrogates import FrozenSurrogate, transfer
from .pgd import CropFlip, RandomCropFlip, class_gradient, class_means, gradient_sums, moved_sums, pgd_min
from .ranks import Ranks, ranks
from .surrogate_training import SurrogateTrainer, count_wrong, crop_padding, delta_by_class, delta_by_row
from .written import ResizeOperator, TintBound

ExtraGradient = Callable[[Tensor, Tensor, Tensor, torch.Generator], Tensor]
"""Positions [B], whose pattern each image carries [B], patterns [K, 3, R, R], a generator -> gradient [K, 3, R, R]."""


@dataclass(frozen=True)
class RoundRecord:
    """One line of the fit log: losses and errors are those of the surrogate on perturbed images."""

    stage: str
    round: int
    surrogate_loss: float
    error: float

    def to_json(self) -> dict[str, float | str | int]:
        """JSON-safe, rounded for reading."""
        return {
            "stage": self.stage,
            "round": self.round,
            "surrogate_loss": round(self.surrogate_loss, 4),
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
        batch_size: images that the paper's class-wise sweep moves together.
        block: images that go through the frozen surrogate together, in one process.
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
    block: int
    through_crops: bool
    resize: ResizeOperator | None
    tint: TintBound | None
    paper: bool

    @property
    def passes(self) -> float:
        """What a round costs, in passes of one image through the surrogate: the way back to the input counts as one
        more, that to the weights as another."""
        return self._training + self.swept(len(self.dataset))

    @property
    def _training(self) -> float:
        """Of these, what the surrogate's own steps cost."""
        return self.trained(len(self.dataset))

    def trained(self, images: int) -> float:
        """Passes of the surrogate's own steps in a round on so many images."""
        return 3.0 * self.surrogate_steps * min(self.batch_size, images)

    def swept(self, images: int) -> float:
        """Passes through the frozen surrogate in a round on so many images, and back to the input."""
        return 0.0

    def crop(self, seed: int) -> RandomCropFlip | None:
        """Random crops and flips for one block, or none."""
        if not self.through_crops:
            return None
        return RandomCropFlip(crop_padding(self.dataset.resolution), torch.Generator().manual_seed(seed))

    def _crew(self, trainer: SurrogateTrainer) -> tuple[Ranks, Self, FrozenSurrogate]:
        """The processes of one round, and what they share: this stage, and the surrogate as it is now."""
        crew, stage, frozen = ranks(), self._sendable(), trainer.frozen()
        crew.share(dataset=self.dataset)  # before the stage, which holds it
        crew.share(stage=stage, surrogate=frozen)
        return crew, stage, frozen

    def _sendable(self) -> Self:
        """This stage, as far as blocks of pictures need it."""
        return self

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


class _Block(NamedTuple):
    """Images at ``places``, int64 ``[B]`` on their device, that carry the patterns ``low`` to ``high - 1``."""

    places: Tensor
    low: int
    high: int

    def carrying(self, patterns: Tensor) -> tuple[Tensor, int, Tensor]:
        """What a process has to know of it: where its images are, and their patterns from the first on."""
        return self.places, self.low, patterns[self.low : self.high]


def _total(blocks: Sequence[_Block], sums: Iterable[Tensor], delta: Tensor) -> Tensor:
    """``[K, 3, R, R]``: the sums of the blocks, added in their order, whoever computed them."""
    total = torch.zeros_like(delta)
    for block, part in zip(blocks, sums, strict=True):
        total[block.low : block.high] += part
    return total


def _seeds(count: int, generator: torch.Generator) -> list[int]:
    """One a block: what a block draws depends on no other."""
    return torch.randint(2**62, (count,), generator=generator).tolist()


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

    def swept(self, images: int) -> float:
        classes = len(self.dataset.classes)
        seen = self.subset * images if self.paper else self.updates * self.per_class * classes
        return 2 * seen + min(seen, images)  # at the end the surrogate is tested on them

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
        known = labels.cpu()  # once a round: the device is asked for them
        patterns = delta_by_class(delta, labels, self.resize, self.dataset.writable)
        loss = trainer.steps(self.surrogate_steps, patterns, generator)
        tell(self._training / self.passes)
        crew, stage, frozen = self._crew(trainer)
        if self.paper:
            parts = list(self._stratified(known, generator).split(self.batch_size))
            for part in parts:
                blocks = self._blocks(part, known, self.block)
                sums = crew.map(stage.moved_sums, ((frozen, *block.carrying(delta)) for block in blocks))
                own = transfer(known[part], delta.device)
                delta.copy_(class_means(_total(blocks, sums, delta), own, delta, self.epsilon))
        else:
            parts = self._balanced(known, generator)
            for part in parts:
                blocks, crops = self._passes(part, known, generator)
                seen = self._arrived(delta)
                jobs = ((frozen, *block.carrying(seen), crop) for block, crop in zip(blocks, crops, strict=True))
                sums = crew.map(stage.gradient_sums, jobs)
                gradient = class_gradient(_total(blocks, sums, delta), self.resize)
                if self.extra is not None:
                    index = transfer(part, labels.device)
                    gradient = gradient + self.extra(index, labels[index], delta, generator)
                state["momentum"].mul_(self.momentum).add_(gradient)
                delta.sub_(self.step_size * state["momentum"].sign()).clamp_(-self.epsilon, self.epsilon)
                if self.tint is not None:
                    delta.copy_(self.tint(delta, self.epsilon))
        tell((self._training + 2 * sum(map(len, parts))) / self.passes)
        tested, seen = torch.cat(parts).unique(), self._arrived(delta)
        blocks = self._blocks(tested, known, 2 * self.block)  # nothing is kept for a way back
        wrong = crew.map(stage.count_wrong, ((frozen, *block.carrying(seen)) for block in blocks))
        return RoundRecord(self.name, number, loss, int(sum(wrong)) / len(tested))

    def _arrived(self, delta: Tensor) -> Tensor:
        return delta if self.resize is None else self.resize(delta)

    def _sendable(self) -> Self:
        return self if self.extra is None else replace(self, extra=None)

    def _blocks(self, index: Tensor, labels: Tensor, most: int) -> list[_Block]:
        """Blocks of about equal size of the images at these positions, int64 on the CPU like the labels of all images,
        class after class."""
        index = index[labels[index].argsort(stable=True)]
        count = -(-len(index) // most)
        places = transfer(index, self.dataset.images.device).tensor_split(count)
        parts = zip(places, labels[index].tensor_split(count), strict=True)
        return [_Block(part, int(own[0]), int(own[-1]) + 1) for part, own in parts]

    def _passes(
        self, index: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[list[_Block], list[CropFlip | None]]:
        """Blocks of one update, and the crop of each.

        A crop is that of a whole pass of :attr:`batch_size` images, however it is cut into blocks: a class is seen at
        one place and from one side in an update. With a crop and both sides for every block, the same fits protected
        less (CIFAR-10, 3,000 images, two seeds: ``uc`` left .49 instead of .41, ``emn`` .18 instead of .13).
        """
        blocks: list[_Block] = []
        crops: list[CropFlip | None] = []
        draw = RandomCropFlip(crop_padding(self.dataset.resolution), generator) if self.through_crops else None
        for part in index.split(self.batch_size):
            crop, place = None if draw is None else draw.draw(len(part)), 0
            for block in self._blocks(part, labels, self.block):
                blocks.append(block)
                crops.append(None if crop is None else crop.starting_at(place))
                place += len(block.places)
        return blocks, crops

    def gradient_sums(
        self, surrogate: FrozenSurrogate, index: Tensor, first: int, seen: Tensor, crop: CropFlip | None
    ) -> Tensor:
        """Of one block, see :func:`.pgd.gradient_sums`; ``first`` is the class of the first of the patterns."""
        labels, writable = self._labels()[index], self._writable(index)
        return gradient_sums(surrogate, self._images(index), labels - first, labels, seen, crop=crop, writable=writable)

    def moved_sums(self, surrogate: FrozenSurrogate, index: Tensor, first: int, patterns: Tensor) -> Tensor:
        """Of one block, see :func:`.pgd.moved_sums`; ``first`` is the class of the first of the patterns."""
        labels = self._labels()[index]
        return moved_sums(
            surrogate, self._images(index), labels - first, labels, patterns, epsilon=self.epsilon,
            step_size=self.step_size, writable=self._writable(index),
        )  # fmt: skip

    def count_wrong(self, surrogate: FrozenSurrogate, index: Tensor, first: int, seen: Tensor) -> Tensor:
        """Of one block, how many the surrogate gets wrong; ``first`` is the class of the first of the patterns."""
        labels, writable = self._labels()[index], self._writable(index)
        arrived = seen[labels - first]
        arrived = arrived if writable is None else writable(arrived)
        return count_wrong(surrogate, self._images(index), labels, arrived, clamp=not self.paper)

    def _balanced(self, labels: Tensor, generator: torch.Generator) -> list[Tensor]:
        """``updates`` index lists, each with about ``per_class`` images of every class, drawn without repeats where
        the class is large enough: the cost of a round does not grow with the folder."""
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
        return [torch.cat(parts) for parts in chosen]

    def _stratified(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        """The paper's subset, always the same pictures, in an order of this round."""
        fixed = torch.Generator().manual_seed(self.subset_seed)
        parts = []
        for label in range(len(self.dataset.classes)):
            own = (labels == label).nonzero().flatten()
            count = max(1, round(self.subset * len(own))) if len(own) else 0
            parts.append(own[torch.randperm(len(own), generator=fixed)[:count]])
        index = torch.cat(parts)
        return index[torch.randperm(len(index), generator=generator)]


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

    def swept(self, images: int) -> float:
        # Most images are right after a step, and are then left alone.
        moved = self.steps if self.skip_below == 0 else 1 + 0.25 * (self.steps - 1)
        return (2 * moved + 1) * images

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
        delta = state["delta"]
        count = len(delta)
        loss = trainer.steps(self.surrogate_steps, delta_by_row(delta, self.resize, self.dataset.writable), generator)
        crew, stage, frozen = self._crew(trainer)
        # Always the same images together, and so on the same process, but in an order of this round: half are mirrored.
        runs = torch.arange(count).tensor_split(-(-count // self.block))
        order = torch.cat([run[torch.randperm(len(run), generator=generator)] for run in runs])
        blocks = transfer(order, delta.device).tensor_split(len(runs))
        seeds = _seeds(len(runs), generator)
        jobs = ((frozen, index, delta[index], seed) for index, seed in zip(blocks, seeds, strict=True))
        wrong: int | Tensor = 0
        for done, (index, (moved, missed)) in enumerate(zip(blocks, crew.map(stage.moved, jobs), strict=True), start=1):
            delta[index] = moved
            wrong = wrong + missed
            tell((self._training + done / len(blocks) * (self.passes - self._training)) / self.passes)
        return RoundRecord(self.name, number, loss, int(wrong) / count)

    def moved(self, surrogate: FrozenSurrogate, index: Tensor, delta: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The new perturbations of one block, and how many of its images the surrogate then gets wrong."""
        images, labels, writable = self._images(index), self._labels()[index], self._writable(index)
        moved = pgd_min(
            surrogate,
            images,
            labels,
            delta.float(),
            epsilon=self.epsilon,
            step_size=self.step_size,
            steps=self.steps,
            crop=self.crop(seed),
            skip_below=self.skip_below,
            resize=self.resize,
            tint=self.tint,
            in_range=not self.paper,
            writable=writable,
        ).to(delta.dtype)
        seen = moved.float() if self.resize is None else self.resize(moved.float())
        seen = seen if writable is None else writable(seen)
        return moved, count_wrong(surrogate, images, labels, seen, clamp=not self.paper)
