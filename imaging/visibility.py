"""How visible a change is: structural similarity, and colour differences as people judge them, on pixels at 100 %.

Scaled down, much of a change averages out, so nothing is scaled. A large picture is looked at in places spread evenly
over it; each figure says which.

**SSIM** (Wang, Bovik, Sheikh, Simoncelli: *Image quality assessment*, IEEE TIP 13(4), 2004) in its usual form: Gaussian
window of 11 x 11 pixels, sigma 1.5, around a pixel, edges mirrored, averaged over pixels and channels. It equals the
mean of torchmetrics' full SSIM map and is tested against it. Of a picture of more than a million pixels the map is
computed in 48 tiles of 64 x 256 pixels, with their true surroundings: what is averaged there is part of the full map.

**CIEDE2000** on CIELAB: how far apart two colours look, side by side on large patches; 1 is about the least one sees.
After Sharma, Wu, Dalal, *The CIEDE2000 Color-Difference Formula: Implementation Notes, Supplementary Test Data, and
Mathematical Observations* (Color Research and Application 30(1), 2005), against whose 34 pairs it is tested. Of a large
picture nine tiles of 64 x 64 pixels are looked at, in three rows of three.

**FLIP** (Andersson et al., *FLIP: A Difference Evaluator for Alternating Images*, Proc. ACM Comput. Graph. Interact.
Tech. 3(2), 2020) on the same tiles: what one sees when the two pictures take turns on a screen, 0..1. It comes with the
extra ``flip`` and takes some ten times as long as the rest together, so it is measured on a sample of the pictures.

SSIM and CIEDE2000 are written out here because they are measured for every file of a folder: no small library does
whole pictures at once, and none as fast. Values are taken as sRGB, whatever the colour profile; 16 bits as an 8-bit
screen shows them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Final

import numpy as np

from ..errors import ConfigError
from .picture import FULLY_TRANSPARENT, Picture

_RADIUS: Final = 5
_SIGMA: Final = 1.5
_WINDOW: Final = 2 * _RADIUS + 1
_TILE_ROWS, _TILE_COLUMNS = 64, 256  # small enough to stay in the processor's cache
#: Pixels up to which every tile is looked at, and else how many down and across.
_ALL_OF: Final = 1 << 20
_LOOKED_AT: Final = (12, 4)

_OFFSETS = np.arange(_WINDOW) - _RADIUS
_GAUSS = np.exp(-(_OFFSETS**2) / (2 * _SIGMA**2))
_WEIGHTS: Final = [float(weight) for weight in _GAUSS / _GAUSS.sum()]


def structural_similarity(before: np.ndarray, after: np.ndarray, full_range: float) -> float:
    """Mean SSIM of two pictures; of those over a million pixels, the mean over 48 tiles spread evenly.

    Args:
        before: ``[H, W, C]`` of any number type; C may be 1 where the other's is 3.
        after: the same size.
        full_range: the value of white.

    Returns:
        At most 1.0, which equal pictures reach.
    """
    height, width = before.shape[:2]
    down, across = (None, None) if height * width <= _ALL_OF else _LOOKED_AT
    total, count = 0.0, 0
    for top in _starts(height, _TILE_ROWS, down):
        rows = _mirrored(top, min(top + _TILE_ROWS, height), height)
        for left in _starts(width, _TILE_COLUMNS, across):
            columns = _mirrored(left, min(left + _TILE_COLUMNS, width), width)
            tile = _ssim_map(*(_in_unit_range(pixels[rows][:, columns], full_range) for pixels in (before, after)))
            total += float(tile.sum(dtype=np.float64))
            count += tile.size
    return total / count


def _starts(size: int, tile: int, most: int | None) -> list[int]:
    """Where the tiles along one side begin: all, or at most so many, spread evenly."""
    starts = range(0, size, tile)
    if most is None or len(starts) <= most:
        return list(starts)
    return [starts[(2 * number + 1) * len(starts) // (2 * most)] for number in range(most)]


def _in_unit_range(pixels: np.ndarray, full_range: float) -> np.ndarray:
    values = pixels.astype(np.float32)
    values *= np.float32(1.0 / full_range)
    return values


def _mirrored(start: int, stop: int, size: int) -> np.ndarray | slice:
    """The positions start..stop and a window's radius around them, mirrored at the edges of ``size`` positions."""
    start, stop = start - _RADIUS, stop + _RADIUS
    if start >= 0 and stop <= size:
        return slice(start, stop)
    period = max(1, 2 * (size - 1))
    positions = np.arange(start, stop) % period
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


#: sRGB (IEC 61966-2-1) primaries to XYZ, divided by its white (D65): white is 1, 1, 1.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)

_CODES = np.arange(256) / 255
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
#: What each value of each channel adds to X, Y and Z: ``[channel of sRGB, channel of XYZ, 256]``.
_SHARES = (_TO_XYZ.T[:, :, None] * _LINEAR).astype(np.float32)

_FAR = 25.0**7


def linear_light(rgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values.

    Args:
        rgb: uint8 ``[..., 3]``.

    Returns:
        float32 ``[3, ...]``: X, Y and Z, white 1, 1, 1.
    """
    result = np.empty((3, *rgb.shape[:-1]), dtype=np.float32)
    for target in range(3):
        for source in range(3):
            share = _SHARES[source, target][rgb[..., source]]
            result[target] = share if source == 0 else result[target] + share
    return result


def xyz_to_lab(xyz: np.ndarray) -> np.ndarray:
    """CIELAB of X, Y and Z over those of white: ``[3, ...]`` to ``[3, ...]`` (L 0..100, a, b)."""
    # numpy's cube root takes several times as long.
    root = np.exp(np.log(np.maximum(xyz, 1e-6)) * (1 / 3))
    dark = xyz <= (6 / 29) ** 3
    if dark.any():
        root[dark] = xyz[dark] * ((29 / 6) ** 2 / 3) + 4 / 29
    return np.stack([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CIEDE2000 colour difference, all weights 1.

    Args:
        first: float CIELAB ``[3, ...]``.
        second: the same shape.

    Returns:
        The differences ``[...]``, of the inputs' precision.
    """
    (l1, a1, b1), (l2, a2, b2) = first, second
    chroma = (np.sqrt(a1 * a1 + b1 * b1) + np.sqrt(a2 * a2 + b2 * b2)) * 0.5
    stretch = 1.5 - 0.5 * np.sqrt(_seventh(chroma))  # 1 + G
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = np.sqrt(a1 * a1 + b1 * b1), np.sqrt(a2 * a2 + b2 * b2)
    h1, h2 = _hue(a1, b1), _hue(a2, b2)
    # The shorter way round from the one hue to the other, and the hue half-way along it.
    turn = h2 - h1
    turn -= 2 * np.pi * np.round(turn * (0.5 / np.pi))
    product = c1 * c2
    grey = product == 0  # no hue: the formula adds the angles, of which one is zero
    hue = np.where(grey, h1 + h2, h1 + 0.5 * turn)
    d_hue = 2 * np.sqrt(product) * np.sin(0.5 * turn)
    d_light, d_chroma = l2 - l1, c2 - c1
    light, chroma = 0.5 * (l1 + l2) - 50, 0.5 * (c1 + c2)
    light *= light
    one, two = np.cos(hue), np.sin(hue)
    # cos(2h), sin(2h) and so on from cos(h) and sin(h): trigonometry is the slow part.
    cos2, sin2 = one * one - two * two, 2 * one * two
    cos3, sin3 = cos2 * one - sin2 * two, sin2 * one + cos2 * two
    cos4, sin4 = cos2 * cos2 - sin2 * sin2, 2 * sin2 * cos2
    weight = 1 - _turned(one, two, -30, 0.17) + 0.24 * cos2 + _turned(cos3, sin3, 6, 0.32)
    weight -= _turned(cos4, sin4, -63, 0.20)
    s_light = 1 + 0.015 * light / np.sqrt(20 + light)
    s_chroma = 1 + 0.045 * chroma
    s_hue = 1 + 0.015 * chroma * weight
    # Between -180 and 540 degrees; from 275, the blue at which it all happens, the bell sees no further than 180.
    away = hue * (180 / np.pi) - 275
    away -= 360 * np.round(away * (1 / 360))
    blue = np.exp(-((away * (1 / 25)) ** 2)) * (np.pi / 3)  # twice the angle of 30 degrees
    rotation = -2 * np.sqrt(_seventh(chroma)) * np.sin(blue)
    d_light /= s_light
    d_chroma /= s_chroma
    d_hue /= s_hue
    squares = d_light * d_light + d_chroma * d_chroma + d_hue * d_hue + rotation * d_chroma * d_hue
    return np.sqrt(np.maximum(squares, 0))


def _hue(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in 0..2 pi."""
    angle = np.arctan2(b, a)
    return angle + (angle < 0) * angle.dtype.type(2 * np.pi)


def _seventh(chroma: np.ndarray) -> np.ndarray:
    """``c^7 / (c^7 + 25^7)``."""
    square = chroma * chroma
    power = square * square * square * chroma
    return power / (power + _FAR)


def _turned(cosine: np.ndarray, sine: np.ndarray, degrees: float, gain: float) -> np.ndarray:
    """``gain * cos(angle + degrees)`` of the angle with this cosine and sine."""
    angle = float(np.deg2rad(degrees))
    return cosine * (gain * float(np.cos(angle))) - sine * (gain * float(np.sin(angle)))


#: Mean CIEDE2000 of patches from which on a change is called visible: twice what is hardly seen.
SEEN: Final = 2.0

#: Why there is no FLIP.
FLIP_MISSING = "the package flip-evaluator is not installed: pip install 'bitterant[flip]'"

_TILE: Final = 64
_TILES: Final = 3
_PATCH: Final = 8
#: Standard deviation in levels up to which a patch is plain: sky, wall, paper, the flat colours of drawings.
_PLAIN: Final = 3.0
#: Less of a picture than this is no plain area.
_FLAT_SHARE: Final = 0.05
#: Pictures that are named.
_NAMED: Final = 3
#: FLIP's own default: a 0.7 m wide screen of 3840 pixels seen from 0.7 m.
_PIXELS_PER_DEGREE: Final = 67.0206


@dataclass(frozen=True)
class Visibility:
    """How visible a change is; 0 everywhere for equal pictures.

    Attributes:
        ciede: mean CIEDE2000 difference of the pixels looked at.
        ciede_p95: that of the pixel at the 95th percentile.
        ciede_patches: mean CIEDE2000 difference of patches of 8 x 8 pixels, averaged in linear light: what is left of
            grain from a distance, and all of stains and casts.
        flip: mean FLIP error, or ``None`` where it was not measured.
        ciede_flat: the mean of the patches that are plain in the original, where the eye sees most; ``None`` where
            fewer than a twentieth are.
    """

    ciede: float
    ciede_p95: float
    ciede_patches: float
    flip: float | None = None
    ciede_flat: float | None = None


@dataclass(frozen=True)
class Sight:
    """Of one picture: its name, and ``ciede_patches`` and ``ciede_flat`` of its change."""

    name: str
    patches: float
    flat: float | None


class Sights:
    """Where changes can be seen, and in which pictures most; pictures are added one by one and not kept."""

    def __init__(self) -> None:
        self._pictures = 0
        self._whole = _Worst()
        self._flat = _Worst()

    def add(self, sight: Sight) -> None:
        """Look at one picture more."""
        self._pictures += 1
        self._whole.add(sight.name, sight.patches)
        if sight.flat is not None:
            self._flat.add(sight.name, sight.flat)

    def tell(self) -> list[str]:
        """Up to two sentences: on whole pictures, and on plain areas; nothing where it is hardly seen in any."""
        told = []
        if self._whole.count:
            told.append(
                f"The change can be seen in {self._whole.count} of {self._pictures} pictures: colours of small patches "
                f"differ by {SEEN:g} or more (CIEDE2000; 1 is hardly seen side by side). Most of all: {self._whole}."
            )
        if self._flat.count:
            told.append(
                f"{'It' if told else 'The change'} is visible as stains on flat areas (skies, walls, drawings) of "
                f"{self._flat.count} of {self._pictures} pictures. Most of all: {self._flat}."
            )
        return told


class _Worst:
    """How many values can be seen, and the names of the largest."""

    def __init__(self) -> None:
        self.count = 0
        self._ranked: list[tuple[float, str]] = []

    def add(self, name: str, value: float) -> None:
        if value >= SEEN:
            self.count += 1
            self._ranked = sorted([*self._ranked, (-value, name)])[:_NAMED]

    def __str__(self) -> str:
        return ", ".join(f"{name} ({-value:.1f})" for value, name in self._ranked)


def tell_sights(sights: Iterable[Sight]) -> list[str]:
    """See :class:`Sights`, for all pictures at once."""
    seen = Sights()
    for sight in sights:
        seen.add(sight)
    return seen.tell()


@lru_cache(maxsize=1)
def _flip() -> ModuleType | None:
    try:
        # An extra; its module is compiled.
        from flip_evaluator import nbflip  # pyright: ignore[reportMissingImports, reportAttributeAccessIssue]
    except ImportError:
        return None
    return nbflip


def flip_available() -> bool:
    """Whether FLIP can be measured here: the extra ``flip``."""
    return _flip() is not None


def measure_visibility(before: Picture, after: Picture, *, with_flip: bool = False) -> Visibility:
    """How visible the difference of two pictures is.

    Fully transparent pixels are left out. A grey picture compares with a colour one as grey repeated.

    Args:
        before: the original.
        after: the copy, of the same size.
        with_flip: measure FLIP too, where its package is installed.

    Raises:
        ConfigError: the sizes differ.
    """
    if before.pixels.shape[:2] != after.pixels.shape[:2]:
        raise ConfigError(
            f"Cannot compare {before.width} x {before.height} pixels with {after.width} x {after.height}."
        )
    rows, columns = _bands(before.height), _bands(before.width)
    pair = np.stack([_part(picture, rows, columns, before.full_range) for picture in (before, after)])
    alpha = None if before.alpha is None else before.alpha[rows][:, columns]
    seen = np.ones(pair.shape[1:3], bool) if alpha is None else alpha != FULLY_TRANSPARENT
    if not seen.any() or np.array_equal(pair[0], pair[1]):
        return Visibility(0.0, 0.0, 0.0, 0.0 if with_flip and flip_available() else None)
    light = linear_light(pair)
    whole = _patches(light)
    # One pass over pixels and patches together: on small pictures it is the number of passes that takes time.
    count = light[0, 0].size
    lab = xyz_to_lab(np.concatenate([light.reshape(3, 2, -1), whole.reshape(3, 2, -1)], axis=2))
    found = ciede2000(lab[:, 0], lab[:, 1])
    pixels, patches = found[:count], found[count:]
    plain = _plain(pair[0])
    if alpha is not None:
        pixels = pixels[seen.ravel()]
        shown = _patches(seen[None, None].astype(np.float32)).ravel() > 0
        patches, plain = patches[shown], plain[shown]
    rank = int(0.95 * (len(pixels) - 1))
    return Visibility(
        ciede=float(pixels.mean(dtype=np.float64)),
        ciede_p95=float(np.partition(pixels, rank)[rank]),
        ciede_patches=float(patches.mean(dtype=np.float64)),
        flip=_mean_flip(pair[0], pair[1], seen) if with_flip else None,
        ciede_flat=float(patches[plain].mean(dtype=np.float64)) if plain.mean() >= _FLAT_SHARE else None,
    )


def _bands(size: int) -> np.ndarray:
    """The positions looked at along one side: all of a short one, else tiles in the middle of its thirds."""
    if size <= _TILE * _TILES:
        return np.arange(size)
    starts = [((2 * number + 1) * size - _TILES * _TILE) // (2 * _TILES) for number in range(_TILES)]
    return np.concatenate([np.arange(start, start + _TILE) for start in starts])


def _part(picture: Picture, rows: np.ndarray, columns: np.ndarray, white: int) -> np.ndarray:
    depth = picture.bit_depth
    return Picture(picture.pixels[rows][:, columns], bit_depth=depth, white=white if depth == 16 else None).rgb8()


def _patches(values: np.ndarray) -> np.ndarray:
    """Means of patches ``[..., H, W]`` to ``[..., H // 8, W // 8]``; the last of a side take what is left over."""
    for axis in (-2, -1):
        starts, counts = _patches_of(values.shape[axis])
        values = np.add.reduceat(values, starts, axis=axis) / (counts[:, None] if axis == -2 else counts)
    return values


@lru_cache(maxsize=64)
def _patches_of(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the patches of a side begin, and how many pixels each has."""
    starts = np.arange(max(1, size // _PATCH)) * _PATCH
    return starts, np.diff(starts, append=size).astype(np.float32)


def _plain(pixels: np.ndarray) -> np.ndarray:
    """Which patches of uint8 ``[H, W, 3]`` hardly vary, in the order of :func:`_patches`: bool ``[P]``."""
    values = pixels.transpose(2, 0, 1).astype(np.float32)
    variance = _patches(values * values) - _patches(values) ** 2
    return (variance.max(axis=0) <= _PLAIN**2).ravel()


def _mean_flip(before: np.ndarray, after: np.ndarray, seen: np.ndarray) -> float | None:
    flip = _flip()
    if flip is None:
        return None
    first, second = (np.ascontiguousarray(pixels, dtype=np.float32) / np.float32(255) for pixels in (before, after))
    # Not HDR, sRGB in, no colour map, no mean: its sum depends on the number of threads.
    errors, _, _ = flip.evaluate(first, second, False, True, False, False, {"ppd": _PIXELS_PER_DEGREE})
    return float(errors[..., 0][seen].mean(dtype=np.float64))
