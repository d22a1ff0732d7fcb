"""The texture of one picture: a wave of its class that follows what the picture itself has of that wave.

Where the picture has stripes of the class's period and direction, the texture falls in with their phase; where it has
none, a plain wave is left. So it changes least what is there, and no average over pictures shows it.

numpy and Pillow alone, without BLAS, and the small sums in float64: the bytes of a protected picture should not depend
on the machine. A large photo is worked on in blocks of rows.

The tint of a picture is a shift between blue and yellow over broad areas that says its class a second time. Waves of
brightness are undone by what flattens everything finer than large areas. A tint has no edges but those of the picture
itself, so there it stays; what takes a tint away, grayscale or strong compression of colours, leaves the waves. Blue
has a ninth of brightness, so a tint on blue alone, with the full budget, costs the waves next to nothing.

Where a picture turns blue and where yellow follows a cosine of half a period or a whole one: over its brightness,
ranked from dark to bright; over its height; or over its width, and there the same from both sides, because trainers
mirror; or it is blue all over. Pictures have much of these five by nature, and classes differ in them: so a class can
get a tint that points, on a clean picture, to another class. Courses of more periods, of which pictures have little,
are easier to read, and protect less (docs/methods/texture.md).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ...imaging.perturb import upsample_delta
from ...records.secrets import derive
from .code_book import Code, TextureRecipe, Wave

#: Pixels worked on at once, few enough to stay in the processor's cache.
_BLOCK: Final = 1 << 17
#: Rec. 601: the weights of red, green and blue in brightness.
_LUMA: Final = (0.299, 0.587, 0.114)
#: Below so many levels a picture has nothing of a wave but rounding errors, which differ from machine to machine.
_NOTHING: Final = 1e-3
#: Of a Gaussian's largest value.
_NEGLIGIBLE: Final = 1e-6


@dataclass(frozen=True)
class DrawnWave:
    """The wave of a class as it is drawn for one picture: its frequency and direction, and the turn of its phase.

    Attributes:
        cycles: a side.
        angle: in radians, between 0 and a right angle.
        phase: in radians.
        swing: phase of a bent wave's swing along a crest, in radians.
    """

    cycles: float
    angle: float
    phase: float = 0.0
    swing: float = 0.0


def draw_waves(
    code: Code, recipe: TextureRecipe, secret: bytes, content: str, scale: float = 1.0
) -> tuple[DrawnWave, ...]:
    """The waves of a code for one picture, jittered by the key.

    Args:
        code: of the class.
        recipe: how far they may stray.
        secret: the key.
        content: identity of the picture, sha256 of its file: draws depend on no position and no name.
        scale: of all frequencies, at most 1, where the picture has too few pixels for the book as it is.
    """
    drawn = []
    for number, wave in enumerate(code):
        digest = derive(secret, f"wave:{number}:{content}")
        stray = [int.from_bytes(digest[8 * i : 8 * i + 8], "big") / 2**63 - 1.0 for i in range(4)]
        drawn.append(
            DrawnWave(
                wave.cycles * scale * (1.0 + recipe.frequency_jitter * stray[0]),
                math.radians(wave.angle + recipe.angle_jitter * stray[1]),
                recipe.spread * stray[2],
                math.pi * stray[3],
            )
        )
    return tuple(drawn)


def plain_waves(code: Sequence[Wave]) -> tuple[DrawnWave, ...]:
    """Waves as the book has them, without a key's part in them."""
    return tuple(DrawnWave(wave.cycles, math.radians(wave.angle)) for wave in code)


def luma_601(pixels: np.ndarray, *, white: int | None = None) -> np.ndarray:
    """Brightness in 8-bit levels, Rec. 601.

    Args:
        pixels: uint8 or uint16 ``[H, W, 1 or 3]``.
        white: the value of white; what the type holds if left out.

    Returns:
        float32 ``[H, W]`` in 0..255.
    """
    scale = 255.0 / (white or np.iinfo(pixels.dtype).max)
    if pixels.shape[2] == 1:
        return pixels[..., 0] * np.float32(scale)
    result = pixels[..., 0] * np.float32(_LUMA[0] * scale)
    result += pixels[..., 1] * np.float32(_LUMA[1] * scale)
    result += pixels[..., 2] * np.float32(_LUMA[2] * scale)
    return result


def small_brightness(pixels: np.ndarray, side: int, *, white: int | None = None) -> np.ndarray:
    """Brightness squashed to at most ``side`` px each way, antialiased, never enlarged.

    Args:
        pixels: uint8 or uint16 ``[H, W, 1 or 3]``.
        side: in px.
        white: as in :func:`luma_601`.

    Returns:
        float32 ``[min(side, H), min(side, W)]``.
    """
    height, width = pixels.shape[:2]
    rows, columns = min(side, height), min(side, width)
    if (rows, columns) == (height, width):
        return luma_601(pixels, white=white)
    # Pillow resizes rows, then columns. Here the former in blocks: the same, without a float copy of the whole picture.
    narrow = np.empty((height, columns), dtype=np.float32)
    for block in row_blocks(height, width):
        levels = Image.fromarray(luma_601(pixels[block], white=white))
        narrow[block] = np.asarray(levels.resize((columns, levels.height), Image.Resampling.BILINEAR))
    return np.asarray(Image.fromarray(narrow).resize((columns, rows), Image.Resampling.BILINEAR))


@dataclass(frozen=True)
class Envelope:
    """How strong the texture is, and with which phase, at each place of a small picture.

    Attributes:
        values: complex128 ``[h, w]``, smooth; times the carrier it is the texture before its sign is taken.
        across: cycles of the carrier over the width.
        down: cycles over the height; its sign is that of the wave's angle.
    """

    values: NDArray[np.complex128]
    across: float
    down: float


def envelope(small: np.ndarray, wave: DrawnWave, recipe: TextureRecipe, bend: float = 0.0) -> Envelope:
    """What a picture has of a wave, under the sign of the angle that it has more of, and the plain wave added.

    Args:
        small: float ``[h, w]``, brightness.
        wave: of the class.
        recipe: the window, and how much plain wave.
        bend: by so many radians of its phase the plain wave swings along a crest.
    """
    return _envelope(_row_spectra(small), wave, recipe, bend)


def _row_spectra(small: np.ndarray) -> np.ndarray:
    """Of each row, without the picture's mean and with half a row mirrored at both ends: complex128 ``[h, 2 w]``."""
    levels = small.astype(np.float64)
    levels -= np.add.reduce(levels, axis=None) / levels.size
    return np.fft.fft(levels[:, _mirrored(small.shape[1])], axis=1)


def _envelope(spectra: np.ndarray, wave: DrawnWave, recipe: TextureRecipe, bend: float) -> Envelope:
    height, width = len(spectra), (spectra.shape[1] + 1) // 2  # a row of odd length grows by one less than itself
    top, left = height // 2, width // 2
    across, down = wave.cycles * math.cos(wave.angle), wave.cycles * math.sin(wave.angle)
    # The Gaussian is a product, one for the rows and one for the columns, and next to nothing outside a few columns.
    window = _window(width, across, recipe.sigma)
    kept = np.flatnonzero(window > _NEGLIGIBLE)
    columns = (spectra[:, kept] * window[kept])[_mirrored(height)]
    signs = np.stack([_window(height, down, recipe.sigma), _window(height, -down, recipe.sigma)])
    filtered = np.fft.ifft(np.fft.fft(columns, axis=0) * signs[:, :, None], axis=1)[:, top : top + height]
    rows = np.zeros((2, height, spectra.shape[1]), dtype=np.complex128)
    rows[:, :, kept] = filtered
    fields = np.fft.ifft(rows, axis=2)[:, :, left : left + width]
    rising, falling = np.add.reduce(fields.real**2 + fields.imag**2, axis=(1, 2)).tolist()
    sign, field = (1.0, fields[0]) if falling <= rising + height * width * _NOTHING**2 else (-1.0, fields[1])
    values = field * _carrier(height, -sign * down)[:, None]
    values *= _carrier(width, -across)
    mean = complex(np.add.reduce(values, axis=None)) / values.size
    plain = recipe.carrier_level * (mean / abs(mean) if abs(mean) > _NOTHING else 1.0)
    if bend:
        # Places along a crest, in sides of the picture: at right angles to the way the wave runs.
        along = _middles(height)[:, None] * (across / wave.cycles) - _middles(width) * (sign * down / wave.cycles)
        turns = bend * np.sin(2.0 * math.pi * along + wave.swing)
        values += plain * np.cos(turns) + (1j * plain) * np.sin(turns)
    else:
        values += plain
    if wave.phase:
        values *= complex(math.cos(wave.phase), math.sin(wave.phase))
    return Envelope(values, across, sign * down)


def energies(small: np.ndarray, waves: Sequence[Wave], sigma: float) -> np.ndarray:
    """What a picture has of each wave, under the sign of the angle that it has more of.

    The energy of the field that :func:`envelope` demodulates, by Parseval without going back to pixels.

    Args:
        small: float ``[h, w]``, brightness in 8-bit levels.
        waves: of a code book.
        sigma: width of the window, in cycles a side.

    Returns:
        float64 ``[W]``, in squared levels a pixel.
    """
    spectra = _row_spectra(small)
    spectrum = np.fft.fft(spectra[_mirrored(len(spectra))], axis=0)
    power = (spectrum.real**2 + spectrum.imag**2) / spectrum.size**2
    rows, columns = _windows(*small.shape, tuple(waves), sigma)
    # Sums without BLAS, whose order of adding differs from machine to machine.
    return np.einsum("ksh,kh->ks", rows, np.einsum("hw,kw->kh", power, columns)).max(axis=1)


@lru_cache(maxsize=4)
def _windows(height: int, width: int, waves: tuple[Wave, ...], sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Squared windows of each wave: over the rows under both signs ``[W, 2, h']``, and over the columns ``[W, w']``."""
    rows, columns = [], []
    for wave in plain_waves(waves):
        across, down = wave.cycles * math.cos(wave.angle), wave.cycles * math.sin(wave.angle)
        columns.append(_window(width, across, sigma) ** 2)
        rows.append([_window(height, down, sigma) ** 2, _window(height, -down, sigma) ** 2])
    return _fixed(np.array(rows)), _fixed(np.array(columns))


def texture(
    pixels: np.ndarray, waves: Sequence[DrawnWave], recipe: TextureRecipe, *, white: int | None = None
) -> np.ndarray:
    """The texture of a picture.

    Where a period of the wave has few pixels, it is -1 and +1 only: the most that the budget admits. Where it has many,
    the eye would follow those edges, so the wave passes from the one to the other: :attr:`TextureRecipe.softness`.
    There the plain wave is bent, too, except on thumbnails, which are followed closely: what is straight can be taken
    out along its direction (``destripe``).

    Args:
        pixels: uint8 or uint16 ``[H, W, 1 or 3]``, at least 8 px a side.
        waves: one, or two that share the range.
        recipe: how it follows the picture.
        white: as in :func:`luma_601`.

    Returns:
        float32 ``[H, W]`` in -1..1.
    """
    height, width = pixels.shape[:2]
    small = small_brightness(pixels, recipe.side, white=white)
    spectra = _row_spectra(small)
    soft = is_soft(waves, recipe, min(height, width))
    bend = recipe.bend if soft and min(height, width) >= recipe.side else 0.0
    parts = [part for wave in waves for part in _parts(_envelope(spectra, wave, recipe, bend), height, width)]
    low, high, share = _taps(small.shape[0], height)
    result = np.empty((height, width), dtype=np.float32)
    for block in row_blocks(height, width):
        near, far = low[block], high[block]
        total = np.zeros(1, dtype=np.float32)
        for values, weights in parts:
            if len(values) == height:
                total = total + values[block] * weights[block, None]
            else:
                second = share[block] * weights[block]
                total = total + values[near] * (weights[block] - second)[:, None]
                total += values[far] * second[:, None]
        result[block] = total
    if soft:
        result *= np.float32(recipe.softness)
        np.tanh(result, out=result)
        result *= np.float32(1.0 / math.tanh(recipe.softness))
        return np.clip(result, -1.0, 1.0, out=result)
    # In two steps rather than by np.where, which would make copies: 0 counts as +1.
    np.greater_equal(result, 0, out=result, casting="unsafe")
    result *= 2
    result -= 1
    return result


def is_soft(waves: Sequence[DrawnWave], recipe: TextureRecipe, short: int) -> bool:
    """Whether the waves have soft edges on a picture whose short side has so many px."""
    return short >= recipe.soft_period * max(wave.cycles for wave in waves)


def _parts(found: Envelope, height: int, width: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The real part of carrier times the envelope's phase as a sum: of rows ``[h, W]`` that are resized down, times
    ``[H]``. The phase alone, so that the wave is as strong where the picture has little of it as where it has much."""
    strength = np.abs(found.values)
    values = found.values / np.maximum(strength, _NOTHING)
    planes = np.stack([values.real, values.imag], axis=2).astype(np.float32)
    wide = upsample_delta(planes, len(values), width)
    across = _carrier(width, found.across)
    cos, sin = across.real.astype(np.float32), across.imag.astype(np.float32)
    real = wide[..., 0] * cos - wide[..., 1] * sin
    imaginary = wide[..., 0] * sin + wide[..., 1] * cos
    down = _carrier(height, found.down)
    return [(real, down.real.astype(np.float32)), (imaginary, -down.imag.astype(np.float32))]


def row_blocks(height: int, width: int) -> Iterator[slice]:
    """Rows in blocks of bounded size."""
    step = max(1, _BLOCK // width)
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _taps(size_in: int, size_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Bilinear, half-pixel centres: both neighbours of each output row, and the share of the second."""
    centre = np.maximum((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0.0)
    low = np.minimum(centre.astype(np.int64), size_in - 1)
    return low, np.minimum(low + 1, size_in - 1), (centre - low).astype(np.float32)


def _carrier(size: int, cycles: float) -> NDArray[np.complex128]:
    """exp(2 pi i cycles u) at the middles of ``size`` pixels: complex128."""
    turns = _middles(size) * (2.0 * math.pi * cycles)
    result = np.empty(size, dtype=np.complex128)
    result.real, result.imag = np.cos(turns), np.sin(turns)
    return result


def _window(size: int, cycles: float, sigma: float) -> np.ndarray:
    """The Gaussian around a frequency, over those of a mirrored picture of ``size`` px."""
    return np.exp((_frequencies(size) - cycles) ** 2 * (-0.5 / sigma**2))


@lru_cache(maxsize=64)
def _mirrored(size: int) -> np.ndarray:
    """Positions of a row with half its length mirrored before and behind; the edge pixel is not repeated."""
    place = np.abs(np.arange(-(size // 2), size + size // 2))
    return _fixed(np.minimum(place, 2 * (size - 1) - place))


@lru_cache(maxsize=64)
def _frequencies(size: int) -> np.ndarray:
    """Of a mirrored row of ``size`` px, in cycles over its unmirrored part."""
    return _fixed(np.fft.fftfreq(size + 2 * (size // 2)) * size)


@lru_cache(maxsize=8)
def _middles(size: int) -> np.ndarray:
    return _fixed((np.arange(size) + 0.5) / size)


def _fixed(values: np.ndarray) -> np.ndarray:
    """Read-only: many pictures share it."""
    values.flags.writeable = False
    return values


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
