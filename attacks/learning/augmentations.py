"""Augmentations of a batch as objectives: cutout, mixup, CutMix, rotation and TrivialAugment."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .randomness import seeded

if TYPE_CHECKING:
    from torchvision.transforms.v2 import TrivialAugmentWide

__all__ = [
    "CutMixObjective",
    "CutoutObjective",
    "MixupObjective",
    "RotateObjective",
    "TrivialAugmentObjective",
    "boxes",
    "rotated",
    "trivial_augment",
]

GROUP = 8


def boxes(rows: Tensor, columns: Tensor, sides: Tensor, side: int) -> Tensor:
    """Which pixels lie in a square about a centre, bool ``[B, 1, side, side]``; what sticks out is cut off.

    Args:
        rows, columns: centres int64 ``[B]``.
        sides: int64 ``[B]``; a square of side s covers ``centre - s // 2 .. centre - s // 2 + s - 1``.
        side: of the pictures.
    """
    span = torch.arange(side, device=rows.device)

    def inside(centre: Tensor) -> Tensor:
        first = (centre - sides // 2)[:, None]
        return (span >= first) & (span < first + sides[:, None])

    return (inside(rows)[:, :, None] & inside(columns)[:, None, :])[:, None]


def _centres(count: int, side: int, generator: torch.Generator, device: torch.device) -> tuple[Tensor, Tensor]:
    rows, columns = torch.randint(side, (2, count), generator=generator)
    return rows.to(device), columns.to(device)


@dataclass(frozen=True)
class CutoutObjective:
    """A black square in every picture (arXiv 1708.04552).

    Attributes:
        share: its side relative to the picture's: 16 of 32 px.
    """

    share: float = 0.5

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        side = batch.shape[-1]
        rows, columns = _centres(len(batch), side, generator, batch.device)
        sides = torch.full_like(rows, max(1, round(self.share * side)))
        logits = model(batch.masked_fill(boxes(rows, columns, sides, side), 0.0)).float()
        return F.cross_entropy(logits, target), logits


def _mixed_loss(logits: Tensor, target: Tensor, other: Tensor, weight: Tensor) -> Tensor:
    """Cross-entropy with two labels a picture; ``weight`` float ``[B]`` is that of the first."""
    losses = F.cross_entropy(logits, target, reduction="none"), F.cross_entropy(logits, other, reduction="none")
    return (weight * losses[0] + (1 - weight) * losses[1]).mean()


@dataclass(frozen=True)
class MixupObjective:
    """Each picture blended with another one, labels in the same proportion (arXiv 1710.09412).

    The proportion is uniform in [0, 1], Beta(1, 1), and drawn for every picture.
    """

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        weight = torch.rand(len(batch), generator=generator).to(batch.device)
        order = torch.randperm(len(batch), generator=generator).to(batch.device)
        blended = torch.lerp(batch[order], batch, weight[:, None, None, None])
        logits = model(blended.contiguous(memory_format=torch.channels_last)).float()
        return _mixed_loss(logits, target, target[order], weight), logits


@dataclass(frozen=True)
class CutMixObjective:
    """A square of another picture in each, labels in proportion to the area (arXiv 1905.04899), which is uniform."""

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        side = batch.shape[-1]
        kept = torch.rand(len(batch), generator=generator)
        sides = ((1 - kept).sqrt() * side).long().to(batch.device)
        rows, columns = _centres(len(batch), side, generator, batch.device)
        order = torch.randperm(len(batch), generator=generator).to(batch.device)
        box = boxes(rows, columns, sides, side)
        weight = 1 - box.float().mean(dim=(1, 2, 3))  # what is left after cutting off, not what was drawn
        pasted = torch.where(box, batch[order], batch).contiguous(memory_format=torch.channels_last)
        logits = model(pasted).float()
        return _mixed_loss(logits, target, target[order], weight), logits


def rotated(batch: Tensor, degrees: Tensor) -> Tensor:
    """Pictures ``[B, 3, R, R]`` turned counter-clockwise about their middle, bilinear; corners reflect the inside.

    Args:
        degrees: one angle a picture, float ``[B]``.
    """
    angles = degrees.to(batch.device) * (math.pi / 180)
    cosine, sine, zero = angles.cos(), angles.sin(), torch.zeros_like(angles)
    turns = torch.stack([torch.stack([cosine, -sine, zero], 1), torch.stack([sine, cosine, zero], 1)], 1)
    grid = F.affine_grid(turns, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


@dataclass(frozen=True)
class RotateObjective:
    """Each picture turned by an angle of its own, drawn anew in every step, after flip and crop.

    Attributes:
        degrees: the largest angle, to either side; angles are uniform.
    """

    degrees: float = 30.0

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        angles = self.degrees * (2 * torch.rand(len(batch), generator=generator) - 1)
        logits = model(rotated(batch, angles).contiguous(memory_format=torch.channels_last)).float()
        return F.cross_entropy(logits, target), logits


@lru_cache(maxsize=1)
def _trivial() -> TrivialAugmentWide:
    from torchvision.transforms.v2 import TrivialAugmentWide

    return TrivialAugmentWide()


@torch.no_grad()
def trivial_augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """One random operation of random strength on every eight pictures (torchvision's TrivialAugmentWide).

    The paper draws for every picture; a group is as good over a training, and eight times as fast.
    """
    levels = batch.mul(255.0).round().clamp(0, 255).to(torch.uint8)
    with seeded(generator, batch.device):
        levels = torch.cat([_trivial()(group) for group in levels.split(GROUP)])
    return levels.float().mul_(1.0 / 255.0).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class TrivialAugmentObjective:
    """TrivialAugment (arXiv 2103.10158) after flip and crop."""

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        logits = model(trivial_augment(batch, generator)).float()
        return F.cross_entropy(logits, target), logits
