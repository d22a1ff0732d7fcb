"""How far one picture is from another, by every measure of the report."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ...imaging import Picture, measure_change
from .lpips import PictureDistance

__all__ = ["Distances", "measure_distances"]

_SSIM_SIDE = 1500
_LPIPS_SIDE = 512
_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True)
class Distances:
    """How far two pictures are from each other.

    Attributes:
        linf_levels: largest change of any value, in 1/255.
        l2: Euclidean length of the change, values in [0, 1].
        psnr: in dB; ``None`` where nothing changed.
        clipped: share of the values that the change moved to black or white. What it wanted beyond is lost.
        ssim: structural similarity; ``None`` where it was not measured.
        lpips: learned perceptual distance; ``None`` where it was not measured.
    """

    linf_levels: float
    l2: float
    psnr: float | None
    clipped: float
    ssim: float | None = None
    lpips: float | None = None


def measure_distances(before: Picture, after: Picture, *, with_ssim: bool, lpips: PictureDistance | None) -> Distances:
    """Compare two pictures of one size, channels and bit depth.

    Both slow measures look at the middle of large pictures only, at its own size: SSIM at 1500 x 1500 pixels, LPIPS at
    512 x 512, so that a photo takes no longer than a screenshot.

    Args:
        before: the original.
        after: the copy.
        with_ssim: whether SSIM is wanted.
        lpips: the network, where LPIPS is wanted.
    """
    largest, squares, clipped = _sums(before, after)
    full, count = before.full_range, before.pixels.size
    ssim = measure_change(_middle(before, _SSIM_SIDE), _middle(after, _SSIM_SIDE)).ssim if with_ssim else None
    distance = None
    if lpips is not None:
        distance = lpips(_middle(before, _LPIPS_SIDE).rgb8(), _middle(after, _LPIPS_SIDE).rgb8())
    return Distances(
        linf_levels=largest * 255.0 / full,
        l2=math.sqrt(squares) / full,
        psnr=None if squares == 0 else 10.0 * math.log10(full * full * count / squares),
        clipped=clipped / count,
        ssim=ssim,
        lpips=distance,
    )


def _sums(before: Picture, after: Picture) -> tuple[int, float, int]:
    """Largest change, sum of squares, and number of values moved to an end; in bands, so that memory stays small."""
    largest, squares, clipped = 0, 0.0, 0
    rows = max(1, _BLOCK_VALUES // max(1, before.width * before.pixels.shape[2]))
    for start in range(0, before.height, rows):
        band = slice(start, start + rows)
        after_band = after.pixels[band]
        delta = after_band.astype(np.int64) - before.pixels[band]
        largest = max(largest, int(np.abs(delta).max(initial=0)))
        squares += float(np.square(delta).sum())
        at_end = (after_band == 0) | (after_band == after.full_range)
        clipped += int(np.count_nonzero(at_end & (delta != 0)))
    return largest, squares, clipped


def _middle(picture: Picture, side: int) -> Picture:
    top, left = (max(0, (size - side) // 2) for size in (picture.height, picture.width))
    pixels = picture.pixels[top : top + side, left : left + side]
    return picture.of_pixels(pixels)
