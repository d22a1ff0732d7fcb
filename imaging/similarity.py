"""Structural similarity of two pictures (Wang, Bovik, Sheikh, Simoncelli: Image quality assessment, 2004).

The usual form: Gaussian window of 11 x 11 pixels, sigma 1.5, around every pixel, edges mirrored, averaged over pixels
and channels. It equals the mean of torchmetrics' full SSIM map and is tested against it. It is written out here because
it is measured for every file of a folder: with a separable window, tile by tile, a 12-megapixel photo takes a tenth of
torchmetrics' time, and no more memory than a few tiles.
"""

from __future__ import annotations

from typing import Final

import numpy as np

__all__ = ["structural_similarity"]

_RADIUS: Final = 5
_SIGMA: Final = 1.5
_WINDOW: Final = 2 * _RADIUS + 1
_TILE_ROWS, _TILE_COLUMNS = 64, 256  # small enough to stay in the processor's cache

_OFFSETS = np.arange(_WINDOW) - _RADIUS
_GAUSS = np.exp(-(_OFFSETS**2) / (2 * _SIGMA**2))
_WEIGHTS: Final = [float(weight) for weight in _GAUSS / _GAUSS.sum()]


def structural_similarity(before: np.ndarray, after: np.ndarray, full_range: float) -> float:
    """Mean SSIM of two pictures.

    Args:
        before: ``[H, W, C]`` of any number type; C may be 1 where the other's is 3.
        after: the same size.
        full_range: the value of white.

    Returns:
        At most 1.0, which equal pictures reach.
    """
    height, width = before.shape[:2]
    total, count = 0.0, 0
    for top in range(0, height, _TILE_ROWS):
        rows = _mirrored(top, min(top + _TILE_ROWS, height), height)
        x, y = (_strip(pixels, rows, full_range) for pixels in (before, after))
        for left in range(0, width, _TILE_COLUMNS):
            columns = slice(left, min(left + _TILE_COLUMNS, width) + 2 * _RADIUS)
            tile = _ssim_map(x[:, columns], y[:, columns])
            total += float(tile.sum(dtype=np.float64))
            count += tile.size
    return total / count


def _strip(pixels: np.ndarray, rows: np.ndarray, full_range: float) -> np.ndarray:
    """These rows in [0, 1], with the mirrored columns of a window's radius on both sides."""
    values = pixels[rows].astype(np.float32)
    values *= np.float32(1.0 / full_range)
    return np.pad(values, ((0, 0), (_RADIUS, _RADIUS), (0, 0)), mode="reflect")


def _mirrored(start: int, stop: int, size: int) -> np.ndarray:
    """The positions start..stop and a window's radius around them, mirrored at the edges of ``size`` positions."""
    if size == 1:
        return np.zeros(stop - start + 2 * _RADIUS, dtype=np.int64)
    period = 2 * (size - 1)
    positions = np.arange(start - _RADIUS, stop + _RADIUS) % period
    return np.minimum(positions, period - positions)


def _ssim_map(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """SSIM of every window inside the tile, for values in [0, 1]."""
    c1, c2 = 0.01**2, 0.03**2
    mean_x, mean_y = _smooth(x), _smooth(y)
    product = mean_x * mean_y
    squares = mean_x * mean_x + mean_y * mean_y
    # Only the sum of the two variances is needed: one smoothing saved.
    variances = np.maximum(_smooth(x * x + y * y) - squares, 0.0)
    covariance = _smooth(x * y) - product
    return (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))


def _smooth(values: np.ndarray) -> np.ndarray:
    """Gaussian mean over each window that lies inside: ``[H, W, C]`` to ``[H - 10, W - 10, C]``."""
    return _smooth_axis(_smooth_axis(values.swapaxes(0, 1)).swapaxes(0, 1))


def _smooth_axis(values: np.ndarray) -> np.ndarray:
    length = len(values) - 2 * _RADIUS
    result = values[_RADIUS : _RADIUS + length] * np.float32(_WEIGHTS[_RADIUS])
    pair = np.empty_like(result)
    for near in range(_RADIUS):
        far = 2 * _RADIUS - near
        np.add(values[near : near + length], values[far : far + length], out=pair)
        pair *= np.float32(_WEIGHTS[near])
        result += pair
    return result
