"""What the networks that purify pictures share: a block, how they are fitted, and pictures at a side they can halve."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import epoch_order

__all__ = ["BLOCK", "STEPS", "ResidualBlock", "fit_purifier", "padded", "purifier_steps"]

STEPS, MOST_STEPS = 1.5, 6000
"""Steps of a fit relative to those of the victim's recipe, and at most so many."""

BATCH, RATE_OF_LEARNING, WARM_STEPS = 16, 3e-3, 50

BLOCK = 256
"""Pictures that go through a fitted network at once."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions on ``[B, width, H, W]``, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def padded(images: Tensor, multiple: int) -> Tensor:
    """Float pictures in [0, 1] of a side that is a multiple of this, grown at the right and at the bottom.

    Args:
        images: of any integer type in levels, ``[N, 3, R, R]``.
        multiple: in px.
    """
    extra = -images.shape[-1] % multiple
    return F.pad(images.float() / 255.0, (0, extra, 0, extra), mode="replicate")


def purifier_steps(length: float, recipe_steps: int) -> int:
    """Steps of a fit whose length is relative to the recipe's, at least 1 and at most :data:`MOST_STEPS`."""
    return min(max(1, round(length * recipe_steps)), MOST_STEPS)


def fit_purifier(
    model: nn.Module, loss_of: Callable[[Tensor], Tensor], count: int, *, steps: int, generator: torch.Generator
) -> None:
    """Minimise a loss of random batches in place, then leave the model in evaluation mode.

    Adam with gradients clipped at norm 1; the rate rises over 50 steps and falls to zero along a half cosine.

    Args:
        model: on its device.
        loss_of: indices int64 ``[B]`` on the CPU, of at most 16 pictures, to their loss.
        count: number of pictures.
        steps: of the optimiser.
        generator: of the order.
    """
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=RATE_OF_LEARNING)
    batches: list[Tensor] = []
    for step in range(steps):
        if not batches:
            batches = epoch_order(count, min(BATCH, count), generator)
        loss = loss_of(batches.pop())
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / WARM_STEPS)
            group["lr"] = RATE_OF_LEARNING * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()
