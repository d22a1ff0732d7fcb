"""Random windows of a picture, as trainers take them: noise that is crafted through them survives them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ....surrogates import crop_flip, draw_crops

__all__ = ["Zoom", "enlarged_crops"]


class Zoom:
    """One random window for a batch, resized back, its second half mirrored.

    The window covers between ``least`` and all of the area at an aspect ratio between 3:4 and 4:3, as in the random
    resized crop that is usual in training.

    Args:
        generator: source of the windows.
        least: smallest share of the area.
    """

    def __init__(self, generator: torch.Generator, *, least: float = 0.5) -> None:
        self._generator, self.least = generator, least

    def __call__(self, images: Tensor) -> Tensor:
        """Windows of the same shape ``[B, 3, R, R]``; differentiable."""
        side = images.shape[-1]
        area, ratio, down, right = torch.rand(4, generator=self._generator).tolist()
        share = self.least + (1 - self.least) * area
        stretch = math.exp((2 * ratio - 1) * math.log(4 / 3) / 2)
        height, width = (min(side, max(1, round(side * math.sqrt(share) * f))) for f in (stretch, 1 / stretch))
        top, left = round(down * (side - height)), round(right * (side - width))
        window = images[:, :, top : top + height, left : left + width]
        if (height, width) != (side, side):
            window = F.interpolate(window, (side, side), mode="bilinear", align_corners=False)
        half = len(images) // 2
        return torch.cat([window[:half], window[half:].flip(3)])


def enlarged_crops(images: Tensor, generator: torch.Generator) -> Tensor:
    """A random crop of each picture, mirrored by chance, of the same shape ``[B, 3, R, R]``.

    The paper crops 224 px out of 256: pictures are enlarged by a seventh and cropped back, each at a place of its own.

    Args:
        images: float ``[B, 3, R, R]``.
        generator: source of places and mirrorings.
    """
    side = images.shape[-1]
    margin = max(1, round(side / 14))
    large = F.interpolate(images, (side + 2 * margin, side + 2 * margin), mode="bilinear", align_corners=False)
    crops = draw_crops(len(images), margin, True, generator)
    return crop_flip(large, torch.arange(len(images), device=images.device), crops, side)
