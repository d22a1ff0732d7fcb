"""How visible a change is: colour differences as people judge them, on pixels at 100 %.

Scaled down, much of a change averages out, so nothing is scaled: of a large picture nine tiles of 64 x 64 pixels are
looked at, in three rows of three spread evenly over it. Three figures are CIEDE2000 (1 is about the least one sees on
large patches side by side), the fourth is NVIDIA's FLIP (Andersson et al., *FLIP: A Difference Evaluator for
Alternating Images*, Proc. ACM Comput. Graph. Interact. Tech. 3(2), 2020): what one sees when the two pictures take
turns on a screen, 0..1. FLIP comes with the extra ``flip`` and takes some ten times as long as the rest together, so
it is measured on a sample.

Values are taken as sRGB, whatever the colour profile; 16 bits as an 8-bit screen shows them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Final

import numpy as np

from ..errors import ConfigError
from .colour_difference import ciede2000, linear_light, xyz_to_lab
from .picture import FULLY_TRANSPARENT, Picture

__all__ = ["FLIP_MISSING", "SEEN", "Sight", "Visibility", "flip_available", "measure_visibility", "tell_sights"]

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


def tell_sights(sights: Sequence[Sight]) -> list[str]:
    """Where a change can be seen, and in which pictures most; nothing where it is hardly seen in any.

    Args:
        sights: all pictures.

    Returns:
        Up to two sentences: on whole pictures, and on plain areas.
    """
    told = []
    whole = [(sight.patches, sight.name) for sight in sights if sight.patches >= SEEN]
    if whole:
        told.append(
            f"The change can be seen in {len(whole)} of {len(sights)} pictures: colours of small patches differ by "
            f"{SEEN:g} or more (CIEDE2000; 1 is hardly seen side by side). Most of all: {_worst(whole)}."
        )
    flat = [(sight.flat, sight.name) for sight in sights if sight.flat is not None and sight.flat >= SEEN]
    if flat:
        told.append(
            f"{'It' if told else 'The change'} is visible as stains on flat areas (skies, walls, drawings) of "
            f"{len(flat)} of {len(sights)} pictures. Most of all: {_worst(flat)}."
        )
    return told


def _worst(found: list[tuple[float, str]]) -> str:
    ranked = sorted(found, key=lambda item: (-item[0], item[1]))[:_NAMED]
    return ", ".join(f"{name} ({value:.1f})" for value, name in ranked)


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
        starts = np.arange(max(1, values.shape[axis] // _PATCH)) * _PATCH
        counts = np.diff(starts, append=values.shape[axis]).astype(np.float32)
        values = np.add.reduceat(values, starts, axis=axis) / (counts[:, None] if axis == -2 else counts)
    return values


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
