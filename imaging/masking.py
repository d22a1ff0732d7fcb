"""How much of a change the eye overlooks at each place of a picture: little on sky and skin, much in leaves and gravel.

A just-noticeable-difference model in the line of Chou and Li, *A Perceptually Tuned Subband Image Coder Based on the
Measure of Just-Noticeable-Distortion Profile* (IEEE TCSVT 5(6), 1995), whose filters for background and gradient and
whose luminance curve are used here; Yang, Lin, Lu, Ong, Yao, *Motion-compensated Residue Preprocessing in Video Coding
Based on Just-noticeable-distortion Profile* (IEEE TCSVT 15(6), 2005), whose rule combines the two kinds of masking; and
Liu, Lin, Paul, Deng, Zhang, *Just Noticeable Difference for Images with Decomposition Model for Separating Edge and
Textured Regions* (IEEE TCSVT 20(11), 2010), who let texture mask three times what Chou and Li allow.

Where it differs from them, and why:

- Lone contours must not count as texture: what lies beside them is smooth, and shows a change. Yang et al. find
  contours by Canny's detector, Liu et al. by total variation. Here activity is pooled by its *harmonic* mean over a
  window, which is high only where the whole neighbourhood is busy. That is smooth, cheap, and (sums, products,
  quotients and roots only) the same on every machine.
- Chou and Li's threshold in black, 20 levels, is that of a cathode ray tube; a plain dark wall shows blotches on
  screens of today. So the dark end is as the bright end, 6 levels, and brightness adds to what texture masks, never
  alone: a plain area masks nothing, however dark.
- The map is averaged over a window, so that no step in it can be seen.
- A pixel's distance to its background counts as activity too: the four gradients are blind to the finest grain.

Windows are in pixels of the file, because that is how a picture is seen at 100 %. They shrink on pictures below 128
pixels, which people look at enlarged. Works tile by tile: a large photo takes little memory besides the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from ..errors import ConfigError

#: Rec. 709: the weights of red, green and blue in brightness.
_LUMA: Final = (0.2126, 0.7152, 0.0722)

#: Chou and Li's curve: the threshold on middle grey, and how much it grows to black and to white, in levels.
_MIDDLE, _PLAIN, _ADAPTATION = 127.0, 3.0, 3.0
#: Levels masked for each level of activity: Chou and Li's 0.115 times the factor 3 of Liu et al. for texture.
_TEXTURE: Final = 0.115 * 3
#: Added to activity before its harmonic mean, in levels: single plain pixels in a texture do not silence it.
_SOFTNESS: Final = 3.0
#: Yang et al.: the share of the smaller of two kinds of masking that the other already contains.
_OVERLAP: Final = 0.3
#: The change, in levels, that has to be masked for a map of 1.
_FULL: Final = 8.0

_REACH: Final = 2  # of Chou and Li's 5 x 5 filters
#: Small enough to stay in the processor's cache, large enough that the margins of the windows cost little.
_TILE_ROWS, _TILE_COLUMNS = 128, 512


def luma_709(pixels: np.ndarray, *, white: int | None = None) -> np.ndarray:
    """Brightness in 8-bit levels: Rec. 709 luma of the values in the file.

    Args:
        pixels: uint8 or uint16 ``[H, W, 1 or 3]``.
        white: the value of white; what the type holds if left out.

    Returns:
        float32 ``[H, W]`` in 0..255. A grey picture gives its own values.

    Raises:
        ConfigError: another type or shape.
    """
    scale = 255.0 / (_full_range(pixels) if white is None else white)
    if pixels.shape[2] == 1:
        return pixels[..., 0].astype(np.float32) * np.float32(scale)
    result = np.zeros(pixels.shape[:2], dtype=np.float32)
    for channel, weight in enumerate(_LUMA):
        result += pixels[..., channel] * np.float32(weight * scale)
    return result


def masking_map(pixels: np.ndarray, *, rows: slice | None = None, white: int | None = None) -> np.ndarray:
    """How far the picture masks a change of brightness of 8 levels at each pixel.

    Depends on the brightness of the picture alone: colour and grey of one brightness give one map.

    Args:
        pixels: uint8 or uint16 ``[H, W, 1 or 3]``, the clean picture; the type tells its range.
        rows: only these rows (a block of them, step 1), for a caller that works in blocks. They see their neighbours:
            the result is that part of the whole map.
        white: the value of white; what the type holds if left out.

    Returns:
        float32 ``[H, W]`` (or ``[len(rows), W]``) in [0, 1]: 0 where the picture is plain, 1 where the full change is
        masked. From one pixel to the next it changes by at most ``1 / (2 r + 1)``, r the radius of the windows.

    Raises:
        ConfigError: another type or shape.
    """
    _full_range(pixels)
    height, width = pixels.shape[:2]
    first, last, _ = (rows or slice(None)).indices(height)
    radius = pooling_radius(height, width)
    reach = _REACH + 2 * radius
    result = np.empty((max(0, last - first), width), dtype=np.float32)
    for top, bottom in _parts(first, last, _TILE_ROWS):
        strip = pixels[_mirrored(top - reach, bottom + reach, height)]
        for left, right in _parts(0, width, _TILE_COLUMNS):
            tile = luma_709(strip[:, _mirrored(left - reach, right + reach, width)], white=white)
            result[top - first : bottom - first, left:right] = _map_of(tile, radius)
    return result


def amplitude(pixels: np.ndarray, *, floor: float, rows: slice | None = None, white: int | None = None) -> np.ndarray:
    """The factor for a perturbation at each pixel: ``floor`` on plain areas, 1 where the full change is masked.

    Args:
        pixels: as in :func:`masking_map`.
        floor: what is left of the perturbation on plain areas, in [0, 1].
        rows: as in :func:`masking_map`.
        white: as in :func:`masking_map`.

    Returns:
        float32 ``[H, W]`` (or ``[len(rows), W]``) in [floor, 1].

    Raises:
        ConfigError: ``floor`` is outside [0, 1], or the picture has another type or shape.
    """
    if not 0.0 <= floor <= 1.0:
        raise ConfigError(f"The floor of an amplitude is in [0, 1], not {floor}.")
    result = masking_map(pixels, rows=rows, white=white)
    result *= np.float32(1.0 - floor)
    result += np.float32(floor)
    # floor + (1 - floor) may miss 1 by rounding.
    return np.minimum(result, np.float32(1.0), out=result)


def pooling_radius(height: int, width: int) -> int:
    """Radius in pixels of the box windows, of activity and of the map: 4, less on pictures below 128 pixels."""
    return max(1, min(4, min(height, width) // 32))


def _full_range(pixels: np.ndarray) -> int:
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.dtype not in (np.uint8, np.uint16):
        raise ConfigError(f"A picture is uint8 or uint16 [H, W, 1 or 3], not {pixels.dtype} {pixels.shape}.")
    return int(np.iinfo(pixels.dtype).max)


def _parts(start: int, stop: int, longest: int) -> Iterator[tuple[int, int]]:
    """start..stop in parts of about the same length, none longer than ``longest``."""
    count = -(-max(0, stop - start) // longest)
    for number in range(count):
        yield start + (stop - start) * number // count, start + (stop - start) * (number + 1) // count


def _mirrored(start: int, stop: int, size: int) -> np.ndarray | slice:
    """The positions start..stop of ``size``, folded back at the edges; the edge pixel is repeated once."""
    if start >= 0 and stop <= size:
        return slice(start, stop)  # most tiles: nothing is copied
    place = np.arange(start, stop) % (2 * size)
    return np.minimum(place, 2 * size - 1 - place)


def _map_of(levels: np.ndarray, radius: int) -> np.ndarray:
    """The map of a tile whose margin is the reach of all windows, in 8-bit levels."""
    # The harmonic mean of activity plus a little, less that little.
    soft = np.float32(_SOFTNESS)
    texture = np.maximum(1 / _mean(1 / (_activity(levels) + soft), radius) - soft, 0)
    texture *= np.float32(_TEXTURE)
    light = _mean(levels[_REACH:-_REACH, _REACH:-_REACH], radius)
    darker = 1 - np.sqrt(np.minimum(light, np.float32(_MIDDLE)) * np.float32(1 / _MIDDLE))
    lighter = np.maximum(light - np.float32(_MIDDLE), 0) * np.float32(1 / (255 - _MIDDLE))
    adapted = np.float32(_ADAPTATION) * (darker + lighter)
    plain = adapted + np.float32(_PLAIN)
    # Yang et al.'s sum less the threshold of a plain area; brightness counts as far as there is texture.
    masked = texture - np.float32(_OVERLAP) * np.minimum(texture, plain)
    masked += adapted * texture / (texture + np.float32(_PLAIN))
    masked *= np.float32(1 / (_FULL - _PLAIN))
    # The last mean is what bounds the step from one pixel to the next. Rounding may leave it an ulp above 1.
    result = _mean(np.minimum(masked, 1), radius)
    return np.minimum(result, 1, out=result)


def _activity(levels: np.ndarray) -> np.ndarray:
    """Largest of Chou and Li's four gradients and of the distance to the background: ``[H - 4, W - 4]``."""

    def at(row: int, column: int) -> np.ndarray:
        """The tile seen from ``row`` and ``column`` beside each pixel."""
        height, width = levels.shape
        return levels[_REACH + row : height - _REACH + row, _REACH + column : width - _REACH + column]

    def ridge(values: np.ndarray) -> np.ndarray:
        """1 3 8 3 1 along the rows, all of them."""
        width = values.shape[1] - 4
        near, far = values[:, 1 : 1 + width] + values[:, 3 : 3 + width], values[:, :width] + values[:, 4 : 4 + width]
        return 8 * values[:, 2 : 2 + width] + 3 * near + far

    along, across = ridge(levels), ridge(levels.T).T
    result = np.abs(along[1:-3] - along[3:-1])
    np.maximum(result, np.abs(across[:, 1:-3] - across[:, 3:-1]), out=result)
    upright, level = at(-1, 0) - at(1, 0), at(0, -1) - at(0, 1)
    far_upright, far_level = at(-2, 0) - at(2, 0), at(0, -2) - at(0, 2)
    falling = 8 * (at(-1, -1) - at(1, 1)) + 3 * (upright + level) + far_upright + far_level
    np.maximum(result, np.abs(falling), out=result)
    rising = 8 * (at(-1, 1) - at(1, -1)) + 3 * (upright - level) + far_upright - far_level
    np.maximum(result, np.abs(rising), out=result)
    result *= np.float32(1 / 16)
    # The background weighs the 16 outer neighbours once, the 8 inner ones twice, the pixel itself not at all.
    inner, outer = _box(levels[1:-1, 1:-1], 1), _box(levels, 2)
    background = (outer + inner - 2 * at(0, 0)) * np.float32(1 / 32)
    return np.maximum(result, np.abs(at(0, 0) - background), out=result)


def _mean(values: np.ndarray, radius: int) -> np.ndarray:
    result = _box(values, radius)
    result *= np.float32(1.0 / (2 * radius + 1) ** 2)
    return result


def _box(values: np.ndarray, radius: int) -> np.ndarray:
    """Sums over each window of ``2 radius + 1`` pixels a side that lies inside."""
    return _box_rows(_box_rows(values, radius).T, radius).T


def _box_rows(values: np.ndarray, radius: int) -> np.ndarray:
    # Twice the width with each addition, then the last row: no running sum, whose rounding depends on where it began.
    width, sums = 1, values
    while 2 * width <= 2 * radius:
        sums, width = sums[:-width] + sums[width:], 2 * width
    total = len(values) - 2 * radius
    result = sums[:total].copy() if width == 1 else sums[:total]
    place = width
    while place <= 2 * radius:
        result = result + values[place : place + total]
        place += 1
    return result
