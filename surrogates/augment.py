"""Random crop and flip on a whole batch at once, straight from resident uint8 images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Crops", "crop_flip", "draw_crops", "pad_images", "take_batch"]

Crops = tuple[Tensor, Tensor, Tensor]
"""Row offsets int64 [B], column offsets int64 [B], flips bool [B]."""


def pad_images(images: Tensor, padding: int) -> Tensor:
    """Reflect-pad ``[N, 3, R, R]`` of any dtype by ``padding`` pixels on each side.

    Zero padding, the habit at 32 px, draws a frame that no photo has; reflection keeps the statistics of the image.
    """
    if padding == 0:
        return images
    if not images.is_floating_point():  # reflection is a copy: do it by indexing, which needs no float detour
        side = images.shape[-1]
        index = torch.arange(-padding, side + padding).abs()
        index = torch.where(index >= side, 2 * (side - 1) - index, index).to(images.device)
        return images[:, :, index][:, :, :, index]
    return F.pad(images, (padding, padding, padding, padding), mode="reflect")


def draw_crops(count: int, padding: int, flip: bool, generator: torch.Generator) -> Crops:
    """Random crop offsets in ``0..2*padding`` and flips for ``count`` images."""
    rows = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    cols = torch.randint(0, 2 * padding + 1, (count,), generator=generator)
    flips = torch.rand(count, generator=generator) < 0.5 if flip else torch.zeros(count, dtype=torch.bool)
    return rows, cols, flips


def crop_flip(padded: Tensor, index: Tensor, crops: Crops, side: int) -> Tensor:
    """The crops ``[B, 3, side, side]`` of ``padded[index]``; one gather, any dtype, differentiable in ``padded``."""
    rows, cols, flips = (part.to(padded.device) for part in crops)
    span = torch.arange(side, device=padded.device)
    row_index = rows[:, None] + span
    col_span = torch.where(flips[:, None], span.flip(0), span)
    col_index = cols[:, None] + col_span
    channel = torch.arange(padded.shape[1], device=padded.device)
    return padded[index[:, None, None, None], channel[None, :, None, None], row_index[:, None, :, None],
                  col_index[:, None, None, :]]  # fmt: skip


def take_batch(padded: Tensor, index: Tensor, crops: Crops, side: int) -> Tensor:
    """A float batch in [0, 1], channels last, cropped and flipped from padded uint8 images."""
    batch = crop_flip(padded, index, crops, side)
    return batch.contiguous(memory_format=torch.channels_last).float().mul_(1.0 / 255.0)
