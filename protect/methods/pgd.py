"""The inner problem: perturbations descend the loss of a frozen surrogate. Pure functions on tensors.

All gradients are taken with respect to the clamped image itself, not through the clamp, whose gradient vanishes at
black and white. Losses are summed, not averaged: near the end they are so small that a mean over the batch would
underflow and ``sign`` would return 0.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging.image_set import Writable
from ...surrogates import FrozenSurrogate, add_rows, class_losses
from .written import ResizeOperator, TintBound


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
        side, p = images.shape[-1], self.padding
        top, left = (int(v) for v in torch.randint(0, 2 * p + 1, (2,), generator=self._generator))
        moved = F.pad(images, (p, p, p, p), mode="reflect")[:, :, top : top + side, left : left + side]
        half = len(images) // 2
        return torch.cat([moved[:half], moved[half:].flip(3)])


def input_gradient(
    surrogate: FrozenSurrogate, images: Tensor, labels: Tensor, crop: RandomCropFlip | None = None
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
    crop: RandomCropFlip | None = None,
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


def pgd_min_class_mean(
    surrogate: FrozenSurrogate,
    images: Tensor,
    labels: Tensor,
    delta: Tensor,
    *,
    epsilon: float,
    step_size: float,
    steps: int = 1,
    writable: Writable | None = None,
) -> Tensor:
    """The paper's class-wise update: each image steps alone, its class takes the mean of what they end with, before
    that is brought into the range of the pictures.

    Args:
        delta: ``[K, 3, R, R]``, a row a class; other arguments as in :func:`pgd_min`.

    Returns:
        New ``[K, 3, R, R]``; classes without an image in the batch keep theirs.
    """
    own = pgd_min(
        surrogate, images, labels, delta[labels], epsilon=epsilon, step_size=step_size, steps=steps, in_range=False,
        writable=writable,
    )  # fmt: skip
    total = add_rows(torch.zeros_like(delta), labels, own)
    count = add_rows(torch.zeros(len(delta), device=delta.device), labels, torch.ones_like(labels, dtype=delta.dtype))
    mean = (total / count.clamp(min=1).view(-1, 1, 1, 1)).clamp(-epsilon, epsilon)
    return torch.where((count > 0).view(-1, 1, 1, 1), mean, delta)


def class_gradient(
    surrogate: FrozenSurrogate,
    images: Tensor,
    labels: Tensor,
    delta: Tensor,
    *,
    crop: RandomCropFlip | None = None,
    batch_size: int = 128,
    resize: ResizeOperator | None = None,
    writable: Writable | None = None,
) -> Tensor:
    """Gradient of the summed loss with respect to the class patterns, each row scaled to mean magnitude 1.

    Args:
        delta: ``[K, 3, R, R]``; other arguments as in :func:`pgd_min`.
        batch_size: images a pass; the result does not depend on it beyond rounding and the shifts drawn.
        resize: what the file does to a pattern before the surrogate sees it.
        writable: what of a pattern the files of these images can hold.

    Returns:
        ``[K, 3, R, R]``; zero rows for classes without an image.
    """
    total = torch.zeros_like(delta)
    seen = delta if resize is None else resize(delta)
    for start in range(0, len(images), batch_size):
        part, own = images[start : start + batch_size], labels[start : start + batch_size]
        held = None if writable is None else writable.select(slice(start, start + batch_size))
        arrived = seen[own] if held is None else held(seen[own])
        gradient, _ = input_gradient(surrogate, (part + arrived).clamp_(0.0, 1.0), own, crop)
        if held is not None:
            gradient = held(gradient)
        add_rows(total, own, gradient)
    if resize is not None:
        total = resize.adjoint(total)
    return total / total.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-20)
