"""The inner problem: perturbations descend the loss of a frozen surrogate. Pure functions on tensors.

All gradients are taken with respect to the clamped image itself, not through the clamp, whose gradient vanishes at
black and white. Losses are summed, not averaged: near the end they are so small that a mean over the batch would
underflow and ``sign`` would return 0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.image_set import Writable
from ...surrogates import FrozenSurrogate, add_rows, class_losses
from .written import ResizeOperator, TintBound


@dataclass(frozen=True)
class CropFlip:
    """One crop of reflected images; those from the place ``upright`` on are mirrored.

    Attributes:
        padding: reflect padding in px.
        top, left: where the crop begins, in 0..2 * padding.
        upright: images before the first that is mirrored.
    """

    padding: int
    top: int
    left: int
    upright: int

    def __call__(self, images: Tensor) -> Tensor:
        """Shifted images of the same shape ``[B, 3, R, R]``; differentiable."""
        side, p = images.shape[-1], self.padding
        moved = F.pad(images, (p, p, p, p), mode="reflect")[
            :, :, self.top : self.top + side, self.left : self.left + side
        ]
        return torch.cat([moved[: self.upright], moved[self.upright :].flip(3)])

    def starting_at(self, place: int) -> CropFlip:
        """The same for the images from a place on."""
        return replace(self, upright=max(0, self.upright - place))


class RandomCropFlip:
    """One random crop offset for a batch, its second half mirrored: a cheap expectation over crop and flip.

    A trainer crops and flips. Noise that is crafted through the same transforms keeps working under them.

    Args:
        padding: reflect padding in px; the offset is drawn from ``0..2 * padding`` in both directions.
        generator: source of the offsets.
    """

    def __init__(self, padding: int, generator: torch.Generator) -> None:
        self.padding, self._generator = padding, generator

    def __call__(self, images: Tensor) -> Tensor:
        """Shifted images of the same shape ``[B, 3, R, R]``; differentiable."""
        return self.draw(len(images))(images)

    def draw(self, count: int) -> CropFlip:
        """The next one, for a batch of so many images."""
        top, left = torch.randint(0, 2 * self.padding + 1, (2,), generator=self._generator).tolist()
        return CropFlip(self.padding, top, left, count // 2)


def input_gradient(
    surrogate: FrozenSurrogate, images: Tensor, labels: Tensor, crop: CropFlip | RandomCropFlip | None = None
) -> tuple[Tensor, Tensor]:
    """Gradient of the summed cross-entropy with respect to the images.

    Args:
        surrogate: frozen.
        images: float ``[B, 3, R, R]`` in [0, 1].
        labels: int64 ``[B]``.
        crop: transform between image and surrogate.

    Returns:
        Gradient of the shape of ``images``, and the losses ``[B]``.
    """
    leaf = images.detach().requires_grad_(True)
    logits = surrogate(leaf if crop is None else crop(leaf))
    losses = class_losses(logits, labels)
    (gradient,) = torch.autograd.grad(losses.sum(), leaf)
    return gradient, losses.detach()


def pgd_min(
    surrogate: FrozenSurrogate,
    images: Tensor,
    labels: Tensor,
    delta: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int,
    crop: CropFlip | RandomCropFlip | None = None,
    skip_below: float = 0.0,
    resize: ResizeOperator | None = None,
    tint: TintBound | None = None,
    in_range: bool = True,
    writable: Writable | None = None,
) -> Tensor:
    """Signed gradient descent of the loss inside the epsilon ball (arXiv 2101.04898, equation 4).

    Args:
        surrogate: frozen.
        images: float ``[B, 3, R, R]`` in [0, 1].
        labels: int64 ``[B]``.
        delta: where to start, of the shape of ``images``.
        epsilon: bound.
        step_size: alpha.
        steps: T.
        crop: transform between image and surrogate.
        skip_below: images whose loss is below this keep what they have and are no longer computed.
        resize: what the file does to delta before the surrogate sees it.
        tint: bound on slow colours, kept after every step.
        in_range: without ``resize``: also the last step keeps ``images + delta`` in [0, 1]. The official code does so
            before each step, and not after the last one.
        writable: what of a perturbation the files of these images can hold.

    Returns:
        The new delta: within ``epsilon``, and one that can be written; without ``resize``, where ``in_range``, also
        ``images + delta`` within [0, 1].
    """
    result = delta.clamp(-epsilon, epsilon)
    if writable is not None:
        result = writable.grey_in_greys(result)
    if resize is None:
        result = ((images + result).clamp(0.0, 1.0) - images).clamp(-epsilon, epsilon)
    active: Tensor | None = None  # all: nothing is gathered while no image has been left out
    for step in range(steps):
        part = images if active is None else images[active]
        own = result if active is None else result[active]
        seen = own if resize is None else resize(own)
        held = writable if writable is None or active is None else writable.select(active)
        if held is not None:
            seen = held(seen)
        wanted = labels if active is None else labels[active]
        gradient, losses = input_gradient(surrogate, (part + seen).clamp_(0.0, 1.0), wanted, crop)
        if held is not None:
            gradient = held(gradient)
        if resize is not None:
            gradient = resize.adjoint(gradient)
        stepped = own.sub(gradient.sign_(), alpha=step_size).clamp_(-epsilon, epsilon)
        if held is not None:
            stepped = held.grey_in_greys(stepped)
        if tint is not None:
            stepped = tint(stepped, epsilon)
        if resize is None and (in_range or step + 1 < steps):
            stepped.add_(part).clamp_(0.0, 1.0).sub_(part)
        keep = losses >= skip_below
        if skip_below > 0.0 and images.device.type != "cpu":  # to ask how many are left would make the device wait
            stepped = torch.where(keep.view(-1, 1, 1, 1), stepped, own)
        elif skip_below > 0.0 and not bool(keep.all()):
            rows = torch.arange(len(images), device=images.device) if active is None else active
            active, stepped = rows[keep], stepped[keep]
            if len(active) == 0:
                break
        if active is None:
            result = stepped
        else:
            result[active] = stepped
    return result


def moved_sums(
    surrogate: FrozenSurrogate,
    images: Tensor,
    rows: Tensor,
    labels: Tensor,
    patterns: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int = 1,
    writable: Writable | None = None,
) -> Tensor:
    """The paper's class-wise update, as far as a block of images goes: each steps alone from the pattern of its class.

    Args:
        rows: int64 ``[B]``, the pattern that each image carries.
        labels: int64 ``[B]``, what the surrogate is to say.
        patterns: ``[k, 3, R, R]``; other arguments as in :func:`pgd_min`.

    Returns:
        ``[k, 3, R, R]``, of each pattern the sum of what its images end with, before that is brought into the range of
        the pictures.
    """
    own = pgd_min(
        surrogate, images, labels, patterns[rows], epsilon=epsilon, step_size=step_size, steps=steps, in_range=False,
        writable=writable,
    )  # fmt: skip
    return add_rows(torch.zeros_like(patterns), rows, own)


def class_means(total: Tensor, labels: Tensor, delta: Tensor, epsilon: float) -> Tensor:
    """What the patterns become: the mean over the images of each class.

    Args:
        total: ``[K, 3, R, R]``, the sums of :func:`moved_sums`.
        labels: int64 ``[N]``, of all images that were summed.
        delta: the patterns before; classes without an image keep theirs.
        epsilon: bound.
    """
    count = add_rows(torch.zeros(len(delta), device=delta.device), labels, torch.ones_like(labels, dtype=delta.dtype))
    mean = (total / count.clamp(min=1).view(-1, 1, 1, 1)).clamp(-epsilon, epsilon)
    return torch.where((count > 0).view(-1, 1, 1, 1), mean, delta)


def gradient_sums(
    surrogate: FrozenSurrogate,
    images: Tensor,
    rows: Tensor,
    labels: Tensor,
    seen: Tensor,
    *,
    crop: CropFlip | RandomCropFlip | None = None,
    writable: Writable | None = None,
) -> Tensor:
    """Gradient of the summed loss of a block of images with respect to the patterns as they reach the surrogate.

    Args:
        rows: int64 ``[B]``, the pattern that each image carries.
        labels: int64 ``[B]``, what the surrogate is to say.
        seen: ``[k, 3, R, R]``; other arguments as in :func:`pgd_min`.

    Returns:
        ``[k, 3, R, R]``; zero for patterns that no image carries.
    """
    arrived = seen[rows] if writable is None else writable(seen[rows])
    gradient, _ = input_gradient(surrogate, (images + arrived).clamp_(0.0, 1.0), labels, crop)
    return add_rows(torch.zeros_like(seen), rows, gradient if writable is None else writable(gradient))


def class_gradient(total: Tensor, resize: ResizeOperator | None = None) -> Tensor:
    """The gradient with respect to the class patterns, each row scaled to mean magnitude 1.

    Args:
        total: ``[K, 3, R, R]``, the sums of :func:`gradient_sums` over all blocks.
        resize: what the file does to a pattern before the surrogate sees it.
    """
    if resize is not None:
        total = resize.adjoint(total)
    return total / total.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-20)
