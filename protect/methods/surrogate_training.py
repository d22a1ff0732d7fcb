"""The outer problem: the surrogate descends the loss on perturbed images, a few steps a round."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ...imaging.image_set import Writable
from ...surrogates import (
    FrozenSurrogate,
    Precision,
    Surrogate,
    choose_precision,
    class_losses,
    class_scores,
    crop_flip,
    draw_crops,
    fused,
    own_randomness,
    pad_images,
    transfer,
)
from .written import ResizeOperator

DeltaOf = Callable[[Tensor], Tensor]
"""Positions int64 [B] -> their perturbations float [B, 3, R, R]."""


def delta_by_class(
    delta: Tensor, labels: Tensor, resize: ResizeOperator | None, writable: Writable | None = None
) -> DeltaOf:
    """Look up the class pattern of each position, as a trainer sees it; a snapshot of ``delta`` as it is now."""
    seen = delta.clone() if resize is None else resize(delta)
    return _as_written(lambda index: seen[labels[index]], writable)


def delta_by_row(delta: Tensor, resize: ResizeOperator | None, writable: Writable | None = None) -> DeltaOf:
    """Look up each position's own perturbation as a trainer sees it; kept in half precision, handed out as float32."""
    return _as_written(lambda index: delta[index].float() if resize is None else resize(delta[index].float()), writable)


def _as_written(delta_of: DeltaOf, writable: Writable | None) -> DeltaOf:
    return delta_of if writable is None else lambda index: writable.select(index)(delta_of(index))


class SurrogateTrainer:
    """A surrogate with its optimiser. Constant learning rate, SGD .1 / .9 / 5e-4, gradient norm at most 5.

    Source: the official configuration. Every draw comes from the generator handed in, so a round
    that is done again after an interruption is the same round.

    Args:
        model: the surrogate; moved to the device of ``images``.
        images: uint8 ``[N, 3, R, R]`` on the device of computation.
        labels: int64 ``[N]`` there.
        batch_size: images a step.
        augment: random crop and flip of the perturbed images, as a trainer does.
        lr: learning rate.
        clip_norm: largest norm of the gradient.
        clamp: perturbed images are kept in [0, 1], as files do. The official code of error-minimizing noise does not.
        precision: of the arithmetic; weights stay in float32.

    Attributes:
        precision: what was chosen.
    """

    def __init__(
        self,
        model: Surrogate,
        images: Tensor,
        labels: Tensor,
        *,
        batch_size: int,
        augment: bool,
        lr: float = 0.1,
        clip_norm: float = 5.0,
        clamp: bool = True,
        precision: Precision = "auto",
    ) -> None:
        self.device = images.device
        self.precision = choose_precision(model, self.device, resolution=images.shape[-1], asked=precision)
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._images, self._labels = images, labels
        self._batch_size = min(batch_size, len(images))
        self._padding = crop_padding(images.shape[-1]) if augment else 0
        self._augment, self._clip_norm, self._clamp = augment, clip_norm, clamp
        self._optimiser = torch.optim.SGD(
            model.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4, fused=fused(model.parameters())
        )

    def set_learning_rate(self, lr: float) -> None:
        """For the steps from here on; not part of what :meth:`pack` keeps."""
        for group in self._optimiser.param_groups:
            group["lr"] = lr

    def steps(
        self,
        count: int,
        delta_of: DeltaOf,
        generator: torch.Generator,
        tell: Callable[[float], None] | None = None,
        *,
        plain: bool = False,
    ) -> float:
        """``count`` optimiser steps with the perturbations as they are. Returns the mean loss.

        Args:
            count: steps.
            delta_of: the perturbations.
            generator: of the order, the augmentation and dropout; the global generators are left as they were.
            tell: called after every tenth step with the share done.
            plain: without random crops and flips, whatever the trainer does otherwise.
        """
        augment, padding = (False, 0) if plain else (self._augment, self._padding)
        self.model.train()
        need = count * self._batch_size
        orders = [torch.randperm(len(self._images), generator=generator) for _ in range(-(-need // len(self._images)))]
        batches = torch.cat(orders)[:need].split(self._batch_size)
        # Drawn on the CPU, so that every device trains on the same ones, and moved at once.
        drawn = [draw_crops(len(index), padding, augment, generator) for index in batches]
        everything = (batches, *zip(*drawn, strict=True))
        moved = (transfer(torch.cat(parts), self.device).split(self._batch_size) for parts in everything)
        total = torch.zeros((), device=self.device)
        # Dropout and drop path draw from the global generators: seed these for a while, so that steps are repeatable.
        with own_randomness(generator.initial_seed(), self.device):
            for number, (index, *crops) in enumerate(zip(*moved, strict=True), start=1):
                batch = self._images[index].float().mul_(1 / 255).add_(delta_of(index))
                if self._clamp:
                    batch.clamp_(0.0, 1.0)
                if augment:
                    rows = torch.arange(len(index), device=self.device)
                    batch = crop_flip(pad_images(batch, padding), rows, (crops[0], crops[1], crops[2]), batch.shape[-1])
                batch = batch.contiguous(memory_format=torch.channels_last)
                with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision.bf16):
                    logits = self.model(batch).float()
                loss = class_losses(logits, self._labels[index], reduction="mean")
                self._optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(self.model.parameters(), self._clip_norm)
                self._optimiser.step()
                total += loss.detach()
                if tell is not None and number % 10 == 0:
                    tell(number / count)
        return float(total) / max(1, count)

    def frozen(self) -> FrozenSurrogate:
        """A frozen copy of the surrogate as it is now."""
        return FrozenSurrogate(self.model, bf16=self.precision.bf16)

    def pack(self) -> dict[str, Tensor]:
        """Weights and momentum by name, for a checkpoint."""
        learned = {name for name, parameter in self.model.named_parameters() if parameter.requires_grad}
        kept = self.model.state_dict().items()
        if not all(parameter.requires_grad for parameter in self.model.parameters()):
            kept = [(name, value) for name, value in kept if name in learned]  # the rest comes with its weights file
        state = {f"model.{name}": value for name, value in kept}
        for name, parameter in self.model.named_parameters():
            momentum = self._optimiser.state.get(parameter, {}).get("momentum_buffer")
            if momentum is not None:
                state[f"momentum.{name}"] = momentum
        return state

    def unpack(self, state: dict[str, Tensor]) -> None:
        """Put back what :meth:`pack` gave."""
        self.model.load_state_dict({k[6:]: v for k, v in state.items() if k.startswith("model.")}, strict=False)
        for name, parameter in self.model.named_parameters():
            if f"momentum.{name}" in state:
                momentum = state[f"momentum.{name}"].to(self.device)
                kept = torch.empty_like(parameter).copy_(momentum)  # the memory layout of the parameter: same sums
                self._optimiser.state[parameter]["momentum_buffer"] = kept


def crop_padding(resolution: int) -> int:
    """Crop padding in px: 4 at 32 px, growing with the resolution."""
    return max(1, min(round(resolution / 8), resolution - 1))


@torch.no_grad()
def count_wrong(frozen: FrozenSurrogate, images: Tensor, labels: Tensor, seen: Tensor, *, clamp: bool = True) -> Tensor:
    """How many of some images the frozen surrogate gets wrong, perturbed and un-augmented; int64 ``[]``.

    Args:
        frozen: the surrogate.
        images: float ``[B, 3, R, R]`` in [0, 1].
        labels: int64 ``[B]``.
        seen: perturbations of the same shape, as a trainer sees them.
        clamp: perturbed images are kept in [0, 1].
    """
    perturbed = images + seen
    if clamp:
        perturbed.clamp_(0.0, 1.0)
    return (class_scores(frozen(perturbed)).argmax(1) != labels).sum()
