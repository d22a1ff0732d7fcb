"""Putting a perturbation on a picture, measuring what that changed, and both at a working resolution.

Everything here works in blocks of rows, so that a large photo needs little memory besides itself.

The bound every perturbation keeps says how far a pixel may move, with the exact 8-bit rounding that respects it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from PIL import Image

from ..errors import BudgetExceeded, ConfigError
from ..records.config import Fit
from .picture import FULLY_TRANSPARENT, Picture
from .visibility import structural_similarity

if TYPE_CHECKING:
    from torch import Tensor

# Room for rounding: of 8 / 255 * 255 in float64, and of a float32 perturbation in levels. Far below one level.
EXACT_SLACK = 1e-6
FLOAT32_SLACK = 1e-4

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Budget:
    """The largest change of any one channel of any one pixel.

    Args:
        epsilon: bound as a fraction of the full range, in (0, 1]; ``8 / 255`` is eight 8-bit levels.
        norm: only ``"linf"``, the bound on the largest change.

    Raises:
        ConfigError: epsilon is not a number in (0, 1], or the norm is unknown.
    """

    epsilon: float
    norm: Literal["linf"] = "linf"

    def __post_init__(self) -> None:
        if self.norm != "linf":
            raise ConfigError(f"There is no norm named {self.norm!r}. Known: linf (the largest change of any pixel).")
        try:
            epsilon = float(self.epsilon)
        except (TypeError, ValueError):
            raise ConfigError(f"epsilon must be a number, not {self.epsilon!r}.") from None
        if not math.isfinite(epsilon) or not 0.0 < epsilon <= 1.0:
            hint = f" For {epsilon:g} levels use Budget.from_levels({epsilon:g})." if 1.0 < epsilon <= 255.0 else ""
            raise ConfigError(f"epsilon {epsilon:g} is outside (0, 1]: it is a fraction of the full range.{hint}")
        object.__setattr__(self, "epsilon", epsilon)

    @classmethod
    def from_levels(cls, levels: float) -> Budget:
        """The budget of this many 8-bit levels, as on the command line: ``--epsilon 8``.

        Raises:
            ConfigError: ``levels`` is outside 1..255. Below one level nothing survives in an 8-bit file.
        """
        try:
            value = float(levels)
        except (TypeError, ValueError):
            raise ConfigError(f"epsilon must be a number of levels, not {levels!r}.") from None
        if not 1.0 <= value <= 255.0:
            raise ConfigError(f"epsilon {value:g} is outside 1..255 levels. Usual values lie between 4 and 16.")
        return cls(value / 255.0)

    @property
    def levels(self) -> float:
        """The bound in 8-bit levels: epsilon * 255."""
        return self.epsilon * 255.0

    @property
    def whole_levels(self) -> int:
        """The largest whole number of 8-bit levels inside the bound."""
        return math.floor(self.levels + EXACT_SLACK)

    def project(self, delta: Tensor, images: Tensor | None = None) -> Tensor:
        """The nearest perturbation inside the budget.

        Args:
            delta: float, any shape, in units of the full range (1.0 = black to white).
            images: float in [0, 1], broadcastable to ``delta``. If given, ``images + delta`` also stays in [0, 1].

        Returns:
            A new tensor of the shape of ``delta``. NaN stays NaN, so that :meth:`violations` sees it.
        """
        bounded = delta.clamp(-self.epsilon, self.epsilon)
        if images is None:
            return bounded
        # Bounds on delta itself, not clamp(images + delta) - images: that difference can leave the budget by an ulp.
        return bounded.minimum(1.0 - images).maximum(-images)

    def quantise(self, delta: Tensor) -> Tensor:
        """Round a perturbation to whole 8-bit levels inside the budget.

        Args:
            delta: float, any shape, in units of the full range.

        Returns:
            int16 of the same shape, in levels, every entry within ``±whole_levels``.
        """
        import torch

        limit = float(self.whole_levels)
        return (delta * 255.0).round().clamp(-limit, limit).to(torch.int16)

    def violations(self, levels: Tensor | np.ndarray) -> int:
        """How many entries (in 8-bit levels, signed) lie outside the budget. NaN counts as outside."""
        limit = self.levels + FLOAT32_SLACK
        flat = levels.reshape(-1)
        inside = 0
        for start in range(0, len(flat), _BLOCK):  # in blocks: comparing whole numbers makes float copies of them
            part = flat[start : start + _BLOCK]
            # Two comparisons instead of abs(): abs(-128) of an int8 is -128.
            inside += int(((part <= limit) & (part >= -limit)).sum())
        return math.prod(levels.shape) - inside


#: Values (pixels times channels) worked on at once: bounds the memory of a 50-megapixel photo to some tens of MB.
BLOCK_VALUES: Final = 1 << 20


@dataclass(frozen=True)
class Change:
    """How far two pictures differ.

    Attributes:
        linf_levels: largest change of one channel of one pixel in 1/255 of the full range (of what is in use of it, in
            16-bit files).
        psnr: peak signal-to-noise ratio in dB over all channels; infinite for equal pictures.
        ssim: structural similarity, 1.0 for equal pictures.
    """

    linf_levels: float
    psnr: float
    ssim: float


def upsample_delta(delta: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear resize of a perturbation, half-pixel centres, edges clamped; never leaves the range of its input.

    The same function as ``torch.nn.functional.interpolate(mode="bilinear", align_corners=False)``.

    Args:
        delta: float ``[R, R, C]`` (any two sides do), in 8-bit levels.
        height: rows wanted.
        width: columns wanted.

    Returns:
        float32 ``[height, width, C]``; ``delta`` itself where the size is right already.
    """
    delta = np.asarray(delta, dtype=np.float32)
    if delta.shape[:2] == (height, width):
        return delta
    wide = _interpolate(delta, _Taps.of(delta.shape[1], width), axis=1)
    return _interpolate(wide, _Taps.of(delta.shape[0], height), axis=0)


@dataclass(frozen=True)
class _Taps:
    """For each output position its two neighbours in the input and the share of the second."""

    low: np.ndarray
    high: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, size_in: int, size_out: int) -> _Taps:
        centre = np.maximum((np.arange(size_out) + 0.5) * (size_in / size_out) - 0.5, 0.0)
        low = np.minimum(centre.astype(np.int64), size_in - 1)
        return cls(low, np.minimum(low + 1, size_in - 1), (centre - low).astype(np.float32))

    @classmethod
    def centred(cls, size_in: int, size_out: int, square: int) -> _Taps:
        """As :meth:`of` over the middle ``square`` positions of ``size_out``, mirrored at its edges outside."""
        inside = cls.of(size_in, square)
        # Positions from the edge of the square, folded back and forth: edge pixels are repeated once.
        place = (np.arange(size_out) - (size_out - square) // 2) % (2 * square)
        return inside._at(np.minimum(place, 2 * square - 1 - place))

    def _at(self, places: np.ndarray) -> _Taps:
        return _Taps(self.low[places], self.high[places], self.share[places])

    def __getitem__(self, rows: slice) -> _Taps:
        return _Taps(self.low[rows], self.high[rows], self.share[rows])


def _interpolate(values: np.ndarray, taps: _Taps, axis: int) -> np.ndarray:
    shape = [1] * values.ndim
    shape[axis] = -1
    low = values.take(taps.low, axis=axis)
    # low + share * (high - low), reusing one buffer
    step = values.take(taps.high, axis=axis)
    step -= low
    step *= taps.share.reshape(shape)
    step += low
    return step


def place_delta(delta: np.ndarray, height: int, width: int, fit: Fit) -> np.ndarray:
    """A perturbation at the size of a picture, as :func:`add_delta` puts it on one.

    Args:
        delta: float ``[R, R, C]``, in 8-bit levels.
        height: rows wanted.
        width: columns wanted.
        fit: see :func:`add_delta`.

    Returns:
        float32 ``[height, width, C]``, not rounded, inside the range of its input.
    """
    delta = np.asarray(delta, dtype=np.float32)
    rows, columns = _placement(delta, height, width, fit)
    wide = delta if columns is None else _interpolate(delta, columns, axis=1)
    return wide if rows is None else _interpolate(wide, rows, axis=0)


def _placement(delta: np.ndarray, height: int, width: int, fit: Fit) -> tuple[_Taps | None, _Taps | None]:
    """Where rows and columns of a picture look into a perturbation; ``None`` where they are the same."""
    if fit == "center" and delta.shape[:2] != (height, width):
        square = min(height, width)
        return _Taps.centred(delta.shape[0], height, square), _Taps.centred(delta.shape[1], width, square)
    sizes = zip(delta.shape[:2], (height, width), strict=True)
    rows, columns = (None if before == after else _Taps.of(before, after) for before, after in sizes)
    return rows, columns


def add_delta(picture: Picture, delta_levels: np.ndarray, budget: Budget, *, fit: Fit = "stretch") -> Picture:
    """The picture with a perturbation on it, rounded to its own bit depth and inside the budget.

    The perturbation is resized to the picture, averaged over the channels for a picture without colour (stored as grey,
    or with three channels that agree everywhere), added, clipped to black and white, and rounded. Fully transparent
    pixels are left alone. For 8 bits the change is a whole number of levels, at most ``budget.whole_levels``; for 16
    bits at most ``budget.levels`` times 1/255 of the range in use
    (:func:`~bitterant.imaging.picture.white_in_use`), which stays the same.

    Args:
        picture: any size, 8 or 16 bits.
        delta_levels: float ``[R, R, 3]`` in 8-bit levels, or ``[R, R, 1]`` where all channels change alike.
        budget: the bound.
        fit: ``stretch`` resizes the perturbation to the whole picture; ``center`` resizes a square one to the largest
            centred square, which is what a trainer's resize and centre crop keep, and mirrors it outside.

    Raises:
        ConfigError: ``delta_levels`` is not ``[R, R, 1 or 3]``.
        BudgetExceeded: it holds values over the budget, or NaN. The method that made it is wrong.
    """
    delta = np.asarray(delta_levels, dtype=np.float32)
    if delta.ndim != 3 or delta.shape[2] not in (1, 3) or not delta.size:
        raise ConfigError(f"A perturbation is [R, R, 1 or 3], not {delta.shape}.")
    over = budget.violations(delta)
    if over:
        raise BudgetExceeded(f"{picture.source}: {over} values of the perturbation exceed {budget.levels:g} levels.")
    scale = picture.full_range / 255
    limit = budget.whole_levels if picture.bit_depth == 8 else int(budget.levels * scale + 1e-6)
    if picture.is_colourless:
        delta = delta.mean(axis=2, keepdims=True)
    height, width = picture.height, picture.width
    taps, columns = _placement(delta, height, width, fit)
    wide = delta if columns is None else _interpolate(delta, columns, axis=1)
    result = np.empty_like(picture.pixels)
    for rows in _row_blocks(picture.pixels):
        change = wide[rows] if taps is None else _interpolate(wide, taps[rows], axis=0)
        change = np.rint(change * scale if scale != 1 else change)
        np.clip(change, -limit, limit, out=change)
        if picture.alpha is not None:
            change[picture.alpha[rows] == FULLY_TRANSPARENT] = 0
        # Whole numbers below 2**24: float32 adds them exactly.
        if change.shape[2] == picture.pixels.shape[2]:
            change += picture.pixels[rows]
        else:  # greys stored as colours
            change = change + picture.pixels[rows]
        np.clip(change, 0, picture.full_range, out=change)
        if picture.white is not None and picture.white > 255:
            # What lies above half of the range tells how many bits are in use; it must go on doing so.
            half = picture.white // 2
            np.maximum(change, half + 1, out=change, where=np.broadcast_to(picture.pixels[rows] > half, change.shape))
        result[rows] = change
    return picture.with_pixels(result)


def share_kept(before: Picture, meant: Picture, found: Picture) -> float:
    """How much of a change a file format left over: the part of what is found that points the way it was meant.

    Args:
        before: the original.
        meant: the picture that was written.
        found: the picture that was read back, of the same size and channels.

    Returns:
        0 where nothing is left, 1 where all of it is, or where nothing was meant.
    """
    both = wanted = 0.0
    for rows in _row_blocks(meant.pixels):
        change = np.subtract(meant.pixels[rows], before.pixels[rows], dtype=np.float64).ravel()
        left = np.subtract(found.pixels[rows], before.pixels[rows], dtype=np.float64).ravel()
        both += float(change @ left)
        wanted += float(change @ change)
    return min(1.0, max(0.0, both / wanted)) if wanted else 1.0


def _row_blocks(pixels: np.ndarray) -> Iterator[slice]:
    height, width, channels = pixels.shape
    rows = max(1, BLOCK_VALUES // max(1, width * channels))
    for start in range(0, height, rows):
        yield slice(start, min(start + rows, height))


def measure_change(before: Picture, after: Picture) -> Change:
    """Compare two pictures of one size, block by block, so that large photos need little memory.

    A grey picture compares with a colour one as grey repeated. Transparency is not looked at.

    Raises:
        ConfigError: sizes or bit depths differ.
    """
    if before.pixels.shape[:2] != after.pixels.shape[:2] or before.bit_depth != after.bit_depth:
        raise ConfigError(
            f"Cannot compare {before.width} x {before.height} pixels of {before.bit_depth} bits "
            f"with {after.width} x {after.height} of {after.bit_depth} bits."
        )
    largest, squares = 0.0, 0.0
    for rows in _row_blocks(after.pixels):
        # float64 holds these whole numbers, and the sum of their squares, exactly.
        difference = np.subtract(after.pixels[rows], before.pixels[rows], dtype=np.float64).ravel()
        largest = max(largest, float(difference.max()), -float(difference.min()))
        squares += float(difference @ difference)
    count = before.height * before.width * max(before.pixels.shape[2], after.pixels.shape[2])
    full = before.full_range
    psnr = float("inf") if squares == 0 else 10.0 * float(np.log10(full * full * count / squares))
    ssim = 1.0 if squares == 0 else structural_similarity(before.pixels, after.pixels, full)
    return Change(largest * 255.0 / full, psnr, ssim)


def squash(picture: Picture, resolution: int) -> np.ndarray:
    """Resize to a square, changing the shape but cutting nothing off (bilinear, antialiased).

    Grey is repeated over the channels, 16 bits are rounded to 8, and transparent pixels show their stored colour.

    Args:
        picture: any size.
        resolution: side length R in pixels.

    Returns:
        uint8 ``[R, R, 3]``: the picture's own pixels where it is R x R already.

    Raises:
        ConfigError: ``resolution`` is below 1.
    """
    if resolution < 1:
        raise ConfigError(f"The working resolution must be at least 1 pixel, not {resolution}.")
    pixels = picture.rgb8()
    if pixels.shape[:2] == (resolution, resolution):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((resolution, resolution), Image.Resampling.BILINEAR))


def opacity(picture: Picture, resolution: int) -> np.ndarray | None:
    """How much of each place of a picture is not fully transparent, as a trainer sees it who shrinks the picture.

    Args:
        picture: any size.
        resolution: side length R in px.

    Returns:
        uint8 ``[R, R]`` in 255ths, or ``None`` where no pixel is fully transparent.
    """
    if picture.alpha is None or not (picture.alpha == FULLY_TRANSPARENT).any():
        return None
    seen = np.where(picture.alpha == FULLY_TRANSPARENT, 0, 255).astype(np.uint8)
    return squash(Picture(seen[..., None]), resolution)[..., 0]


def shrink_delta(delta: np.ndarray, height: int, width: int, fit: Fit) -> np.ndarray:
    """A perturbation no larger than the place it goes to: antialiased, and raised to its largest value again.

    Plain bilinear sampling would skip most of a large pattern. Antialiasing averages, which weakens what is left, so
    the result is scaled until its largest value is that of the input.

    Args:
        delta: float ``[R, R, C]``, in 8-bit levels.
        height: of the picture, in px.
        width: of the picture, in px.
        fit: ``center`` where it goes on the centred square of the picture, ``stretch`` on the whole.

    Returns:
        float32 ``[r, s, C]`` with r and s at most those of the place; ``delta`` itself where it is not too large.
    """
    delta = np.asarray(delta, dtype=np.float32)
    if delta.shape[:2] == (height, width):
        return delta
    place = (min(height, width),) * 2 if fit == "center" else (height, width)
    rows, columns = min(delta.shape[0], place[0]), min(delta.shape[1], place[1])
    if (rows, columns) == delta.shape[:2]:
        return delta
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((columns, rows), Image.Resampling.BILINEAR))
        for plane in np.moveaxis(delta, 2, 0)
    ]
    small = np.stack(planes, axis=2)
    before, after = float(np.abs(delta).max()), float(np.abs(small).max())
    return np.clip(small * (before / after), -before, before) if after > 0 else small
