"""A decoded picture: its colours, its transparency, and all that has to go back into the file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from ..errors import ConfigError
from .metadata import Metadata

#: Alpha value of a pixel nobody sees.
FULLY_TRANSPARENT: Final = 0

#: Pixels compared at once.
_BLOCK: Final = 1 << 18


@dataclass(frozen=True, eq=False)
class Picture:
    """Pixels of one image file, upright.

    Attributes:
        pixels: uint8 or uint16 ``[H, W, C]``, C 1 (grey) or 3 (RGB), the orientation applied; colour only.
        alpha: uint8 ``[H, W]``, 0 transparent, 255 opaque; None where the file has no transparency.
        mode: Pillow's name of the mode on disk, for example ``"P"`` for a palette image that is RGB here.
        format: ``"PNG"``, ``"JPEG"``, ``"WEBP"``, ``"TIFF"``, ``"BMP"``, ``"PPM"``, ``"AVIF"``, ``"HEIF"`` or
            ``"JPEG2000"``.
        bit_depth: 8 or 16.
        white: the largest value in use, where that is less than the type holds: 4095 for 12 bits in a 16-bit file. See
            :func:`white_in_use`.
        metadata: colour profile, EXIF, XMP and so on.
        source: what messages call it.

    Raises:
        ConfigError: shapes or types do not fit together.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    mode: str = "RGB"
    format: str = "PNG"
    bit_depth: Literal[8, 16] = 8
    metadata: Metadata = field(default_factory=Metadata)
    source: str = "image"
    white: int | None = None

    def __post_init__(self) -> None:
        wanted = np.uint8 if self.bit_depth == 8 else np.uint16
        shape = self.pixels.shape
        if len(shape) != 3 or 0 in shape or shape[2] not in (1, 3) or self.pixels.dtype != wanted:
            raise ConfigError(
                f"A {self.bit_depth}-bit picture holds {np.dtype(wanted)} [H, W, 1 or 3] of at least one pixel, "
                f"not {self.pixels.dtype} {self.pixels.shape}."
            )
        if self.alpha is not None and (self.alpha.shape != self.pixels.shape[:2] or self.alpha.dtype != np.uint8):
            raise ConfigError(
                f"Alpha must be uint8 {self.pixels.shape[:2]}, not {self.alpha.dtype} {self.alpha.shape}."
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])

    @property
    def full_range(self) -> int:
        """The value of white: 255, 65535, or what is in use of it."""
        return self.white or (255 if self.bit_depth == 8 else 65535)

    @property
    def is_colourless(self) -> bool:
        """Whether it shows greys alone: one channel, or three that agree at every pixel that can be seen."""
        if self.pixels.shape[2] == 1:
            return True
        rows = max(1, _BLOCK // self.width)
        for start in range(0, self.height, rows):  # in blocks: most pictures have colour in the first, which is enough
            red, green, blue = self.pixels[start : start + rows].transpose(2, 0, 1)
            coloured = (red != green) | (green != blue)
            if self.alpha is not None:
                coloured &= self.alpha[start : start + rows] != FULLY_TRANSPARENT
            if coloured.any():
                return False
        return True

    def with_pixels(self, pixels: np.ndarray) -> Picture:
        """The same picture with other colours of the same shape and type."""
        return replace(self, pixels=pixels)

    def of_pixels(self, pixels: np.ndarray) -> Picture:
        """Pixels alone, a part of this picture's for example, that mean what this picture's mean."""
        return Picture(pixels, mode=self.mode, format=self.format, bit_depth=self.bit_depth, white=self.white)

    def rgb8(self) -> np.ndarray:
        """The colours as uint8 ``[H, W, 3]``: grey repeated, 16 bits rounded to 8 so that white is 255. May share
        memory with ``pixels``."""
        pixels = self.pixels
        if self.bit_depth == 16:
            # Exact rounding, in integers.
            white = self.full_range
            pixels = ((np.minimum(pixels, white).astype(np.uint32) * 510 + white) // (2 * white)).astype(np.uint8)
        return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels

    def digest(self) -> str:
        """sha256 of the colours, 8 bits, channels first, as 64 hexadecimal digits: what identifies a picture of which
        nobody knows the file. :meth:`ImageSet.from_tensors` makes the same."""
        return hashlib.sha256(np.ascontiguousarray(self.rgb8().transpose(2, 0, 1)).data).hexdigest()


def white_in_use(pixels: np.ndarray) -> int | None:
    """The value that stands for white in 16-bit pixels: the full scale of the fewest bits, 8 at least, that hold them.

    Cameras and microscopes store 10, 12 or 14 bits in 16-bit files, and programs stretch them to be seen: a change of 8
    of 255 levels of the file would be 128 of those in use.

    Args:
        pixels: uint8 or uint16, any shape.

    Returns:
        255, 511, ... 65535; ``None`` for 8-bit pixels, which are always taken as they are.
    """
    if pixels.dtype != np.uint16:
        return None
    return max(255, (1 << int(pixels.max()).bit_length()) - 1)
