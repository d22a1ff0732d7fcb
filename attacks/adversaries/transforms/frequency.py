"""Sharpening with random kernels, then a low-pass: made against noise that is a convolution."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from ..base import Adversary, Pixels
from ..parameters import real_number
from .blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["SharpenLowPass", "dct_matrix", "low_pass"]

STRENGTHS = (0.5, 1.5)
_SEED = 0x45B


def dct_matrix(side: int) -> Tensor:
    """The orthonormal DCT-II ``[side, side]``: row k holds the k-th cosine, and the transpose is the inverse."""
    import torch

    points = torch.arange(side, dtype=torch.float64)
    matrix = torch.cos(math.pi / side * (points[None, :] + 0.5) * points[:, None]) * math.sqrt(2.0 / side)
    matrix[0] /= math.sqrt(2.0)
    return matrix.float()


def low_pass(batch: Tensor, kept: int) -> Tensor:
    """Pictures ``[B, 3, R, R]`` with only the ``kept`` lowest frequencies of the DCT along each axis."""
    rows = dct_matrix(batch.shape[-1])[:kept]
    projector = rows.T @ rows
    return projector @ batch @ projector


class SharpenLowPass(Adversary):
    """Sharpens each picture with a 3 x 3 kernel of random strength, then drops the highest frequencies of its DCT.

    After "random sharpening kernels and frequency filtering" (arXiv 2411.01742), which recovers pictures protected by a
    class-wise blur. The n-th picture has the same strength, 0.5 to 1.5, in every arm.

    Args:
        parameter: share of the frequencies kept along each axis, 0.1 to 1; a half where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "sharpen-lowpass"
    tier = "transforms"
    source = "after arXiv 2411.01742 (random sharpening kernels, frequency filtering)"
    description = "sharpened at random, high frequencies dropped (sharpen-lowpass:0.6 sets the share kept, 0.5)"

    def __init__(self, parameter: str | None = None) -> None:
        self.share = real_number(self.prefix, parameter, default=0.5, least=0.1, most=1.0)

    @property
    def name(self) -> str:
        return f"sharpen-lowpass:{self.share:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who sharpens them and drops high frequencies"

    def transform(self, images: Pixels) -> Pixels:
        import torch
        import torch.nn.functional as F

        strengths = torch.from_numpy(np.random.default_rng(_SEED).uniform(*STRENGTHS, len(images)).astype(np.float32))
        kept = max(1, round(self.share * images.shape[-1]))

        def change(batch: Tensor, start: int) -> Tensor:
            mean = F.avg_pool2d(F.pad(batch, (1, 1, 1, 1), mode="reflect"), 3, stride=1)
            strength = strengths[start : start + len(batch), None, None, None]
            return low_pass((batch + strength * (batch - mean)).clamp(0, 1), kept)

        return in_blocks(images, change)
