"""Pictures with a planted wave, and a network that remembers what it was shown."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor, nn

from bitterant.attacks.adversaries import create_adversary

SIDE = 64


def grating(cycles: float, *, degrees: float = 0.0, phase: float = 0.7, side: int = SIDE) -> np.ndarray:
    """A wave of 20 levels, ``cycles`` from edge to edge along its own direction, float ``[side, side]``."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    angle = np.deg2rad(degrees)
    return 20 * np.sin(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) + phase)


def picture(pattern: np.ndarray, channels: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    """One gray picture of 128 with a pattern in some channels, uint8 ``[1, 3, side, side]``."""
    return np.rint(128 + np.stack([weight * pattern for weight in channels])).astype(np.uint8)[None]


def left(name: str, pattern: np.ndarray, channels: tuple[float, ...] = (1, 1, 1)) -> float:
    """Share of the energy of a planted pattern that an adversary leaves."""
    before = picture(pattern, channels)
    after = create_adversary(name).transform(before)
    energy = [float(((pictures.astype(float) - 128) ** 2).sum()) for pictures in (before, after)]
    return energy[1] / energy[0]


def photo(count: int = 3, side: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth random pictures with different colours, well inside 0..255."""
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(count, 3, side, side)), (0, 0, 3, 3), mode="wrap")
    smooth[:, 1:] += 0.7 * smooth[:, :1]
    scaled = smooth / np.abs(smooth).max(axis=(2, 3), keepdims=True)
    return np.rint(115 + 65 * scaled).astype(np.uint8)


BATCH_SIDE = 16


class Spy(nn.Module):
    """A linear classifier that remembers what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(0.1 * torch.randn(4, 3 * BATCH_SIDE * BATCH_SIDE, generator=generator))
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images.detach().clone())
        return images.flatten(1) @ self.weight.T


def a_batch(count: int = 12) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(count, 3, BATCH_SIDE, BATCH_SIDE, generator=generator), torch.arange(count) % 4
