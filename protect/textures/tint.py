"""The tint of one picture: a shift between blue and yellow over broad areas that says its class a second time.

Waves of brightness are undone by what flattens everything finer than large areas. A tint has no edges but those of the
picture itself, so there it stays; what takes a tint away, grayscale or strong compression of colours, leaves the waves.
Blue has a ninth of brightness, so a tint on blue alone, with the full budget, costs the waves next to nothing.

Where a picture turns blue and where yellow follows a cosine of half a period or a whole one: over its brightness,
ranked from dark to bright; over its height; or over its width, and there the same from both sides, because trainers
mirror; or it is blue all over. Pictures have much of these five by nature, and classes differ in them: so a class can
get a tint that points, on a clean picture, to another class. Courses of more periods, of which pictures have little,
are easier to read, and protect less (docs/methods/texture.md).

numpy and Pillow alone, without BLAS, as in :mod:`.wave`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ...imaging.perturb import upsample_delta
from ...records.secrets import derive
from .code_book import TextureRecipe
from .wave import row_blocks, small_brightness

#: Courses that a tint can take over a picture (:func:`courses`); each stands for two tints, blue first or yellow first.
COURSES: Final = 5
TINTS: Final = 2 * COURSES

_BLUE: Final = slice(2, 3)
#: A cosine that is 0 but for rounding is 0, on every machine and from both sides.
_DIGITS: Final = 9


def courses(small: np.ndarray) -> np.ndarray:
    """How a tint can run over a picture: everywhere; from dark to bright; from both ends of brightness to its middle;
    from top to bottom; from both sides to the middle.

    Args:
        small: float ``[h, w]``, brightness.

    Returns:
        float64 ``[5, h, w]`` in -1..1.
    """
    height, width = small.shape
    ordered = np.sort(small, axis=None)
    # The middle of equal ones, so that a plain area has one tint.
    rank = np.searchsorted(ordered, small, "left") + np.searchsorted(ordered, small, "right")
    dark_to_bright = rank * (math.pi / (2.0 * small.size))
    down = (np.arange(height) + 0.5)[:, None] * (math.pi / height)
    across = (np.arange(width) + 0.5) * (2.0 * math.pi / width)
    runs = (1.0, np.cos(dark_to_bright), np.cos(2.0 * dark_to_bright), np.cos(down), np.cos(across))
    found = np.stack([np.broadcast_to(run, small.shape) for run in runs])
    return np.round(found, _DIGITS)


def tint(pixels: np.ndarray, number: int, recipe: TextureRecipe, *, soft: bool, white: int | None = None) -> np.ndarray:
    """What a tint does to blue.

    Args:
        pixels: uint8 or uint16 ``[H, W, 3]``.
        number: of the tint, below :data:`TINTS`.
        recipe: on how many px a picture is looked at, and how soft the passage from blue to yellow is.
        soft: whether it passes softly; else it is -1 and +1 only.
        white: the value of white; what the type holds if left out.

    Returns:
        float32 ``[H, W]`` in -1..1.
    """
    course, yellow_first = divmod(number, 2)
    run = courses(small_brightness(pixels, recipe.side, white=white))[course].astype(np.float32)
    # Looked at small and enlarged: the grain of a photo must not decide from pixel to pixel.
    result = upsample_delta(run[:, :, None], *pixels.shape[:2])[:, :, 0]
    sign = np.float32(-1 if yellow_first else 1)
    if not soft:
        return np.where(result >= 0, sign, -sign)
    scale = sign / np.float32(math.tanh(recipe.softness))
    for rows in row_blocks(*result.shape):
        result[rows] = np.tanh(result[rows] * np.float32(recipe.softness)) * scale
    return np.clip(result, -1.0, 1.0, out=result)


def natural_tints(pixels: np.ndarray, side: int) -> np.ndarray:
    """How far a picture has the tint of each course by nature.

    Args:
        pixels: uint8 ``[H, W, 3]``.
        side: it is looked at on at most so many px a side.

    Returns:
        float64 ``[5]``: mean of blue less brightness where the course is positive, less that where it is not, in
        8-bit levels.
    """
    small = small_brightness(pixels, side)
    blueness = small_brightness(pixels[:, :, _BLUE], side).astype(np.float64) - small
    signs = np.where(courses(small) >= 0, 1.0, -1.0)
    return np.add.reduce((signs * blueness).reshape(COURSES, -1), axis=1) / small.size


def deal_tints(count: int, secret: bytes) -> tuple[int, ...]:
    """A tint for each of so many classes, dealt by the key; all are used before one is used again."""

    def turn(number: int) -> tuple[int, bytes]:
        return number // TINTS, derive(secret, f"tint:{number}")

    return tuple(number % TINTS for number in sorted(range(TINTS * math.ceil(count / TINTS)), key=turn)[:count])


def check_tints(tints: Sequence[int], classes: int, recipe: TextureRecipe) -> str | None:
    """What is wrong with the tints of a bank; ``None`` where nothing is."""
    if bool(tints) != (recipe.colour > 0.0):
        return "A bank has tints where its recipe gives colour a share, and only there."
    if tints and (len(tints) != classes or not all(0 <= number < TINTS for number in tints)):
        return f"A bank of {classes} classes needs a tint of 0..{TINTS - 1} for each, not {tuple(tints)}."
    return None
