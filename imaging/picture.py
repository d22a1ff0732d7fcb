"""A decoded picture: its colours, its transparency, and all that has to go back into the file; and pictures as people
have them in memory, a Pillow image, an array or a tensor, and what each became, as the same.

Works without torch, which is asked only where a tensor was given.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .metadata import Metadata

if TYPE_CHECKING:
    from torch import Tensor


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


_Given = TypeVar("_Given")

#: What Pillow's modes become. A palette cannot hold the colours that a perturbation makes.
_PLAIN_MODES: Final = {"L": "L", "LA": "LA", "RGB": "RGB", "RGBA": "RGBA", "P": "RGB", "RGBX": "RGB", "1": "L"}
_KINDS: Final = "a Pillow image, a uint8 array [H, W, 3], or a tensor [3, H, W], uint8 or floating point in [0, 1]"


def is_tensor(value: object) -> bool:
    """Whether it is a tensor; never loads torch to find out."""
    return any(cls.__module__ == "torch" and cls.__name__ == "Tensor" for cls in type(value).__mro__)


def is_picture(value: object) -> bool:
    """Whether it may be a picture by its type and number of axes; see :func:`as_picture`."""
    if isinstance(value, Image.Image):
        return True
    return (isinstance(value, np.ndarray) or is_tensor(value)) and cast("np.ndarray", value).ndim in (2, 3)


def as_picture(image: object, *, name: str = "image") -> Picture:
    """The 8-bit pixels of one picture.

    Args:
        image: a Pillow image (8 bits; a palette becomes colours); an array ``[H, W]`` or ``[H, W, C]`` or a tensor
            ``[H, W]`` or ``[C, H, W]``, C 1 or 3, uint8 or floating point in [0, 1], which is rounded to 8 bits.
        name: what messages call it.

    Raises:
        ConfigError: anything else; the message says what it is and what would do.
    """
    if isinstance(image, Image.Image):
        return _of_pillow(image, name)
    if isinstance(image, np.ndarray):
        return Picture(_levels(_channels_last(image, name, channels="last"), name), source=name)
    if is_tensor(image):
        tensor = cast("Tensor", image).detach()
        if tensor.is_floating_point() and tensor.element_size() < 4:
            tensor = tensor.float()  # half precision cannot tell all 256 levels apart, and numpy has no bfloat16
        return Picture(_levels(_channels_last(tensor.cpu().numpy(), name, channels="first"), name), source=name)
    raise ConfigError(f"{name} is {_a(type(image).__name__)}, not a picture. Expected {_KINDS}.")


def picture_like(image: _Given, picture: Picture) -> _Given:
    """A picture as what another one was given as: type, shape, floating-point type and device are the same.

    Args:
        image: what :func:`as_picture` was given.
        picture: what became of it, of the same size and channels.

    Returns:
        A Pillow image keeps its mode, but for a palette (then ``RGB`` or ``RGBA``) and 1-bit pixels (then ``L``), and
        all that it says beside its pixels.
    """
    if isinstance(image, Image.Image):
        return cast("_Given", _to_pillow(image, picture))
    pixels = picture.pixels
    if isinstance(image, np.ndarray):
        shaped = pixels.reshape(image.shape)
        if image.dtype == np.uint8:
            return cast("_Given", shaped)
        exact = np.promote_types(image.dtype, np.float32)
        return cast("_Given", (shaped.astype(exact) / exact.type(255.0)).astype(image.dtype))
    import torch

    given = cast("Tensor", image)
    made = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))).reshape(given.shape)
    if given.is_floating_point():
        exact_type = given.dtype if given.dtype == torch.float64 else torch.float32
        made = made.to(exact_type).div(255.0)
    made = made.to(given.device, given.dtype)
    if type(given) is torch.Tensor:
        return cast("_Given", made)
    from torchvision import tv_tensors

    return cast("_Given", tv_tensors.wrap(made, like=given) if isinstance(given, tv_tensors.TVTensor) else made)  # pyright: ignore[reportCallIssue]


def _channels_last(values: np.ndarray, name: str, *, channels: str) -> np.ndarray:
    """``[H, W, 1 or 3]``."""
    shape = values.shape
    if values.ndim == 3 and channels == "first" and shape[0] in (1, 3):
        values = values.transpose(1, 2, 0)
    elif values.ndim == 2:
        values = values[:, :, None]
    elif values.ndim != 3 or channels == "first" or shape[2] not in (1, 3):
        expected = "[H, W, 3] for an array" if channels == "last" else "[3, H, W] for a tensor"
        raise ConfigError(f"{name} has the shape {tuple(shape)}. Expected {expected}.{_hint(shape, channels)}")
    if 0 in values.shape:
        raise ConfigError(f"{name} has the shape {tuple(shape)}: it holds no pixel.")
    return values


def _hint(shape: tuple[int, ...], channels: str) -> str:
    """What may be meant by another shape."""
    if len(shape) == 4:
        return " That is a batch: give one picture at a time, or the whole batch to apply_set."
    if len(shape) != 3:
        return ""
    if channels == "last" and shape[0] in (1, 3):
        return " Its channels come first: image.transpose(1, 2, 0)."
    if channels == "first" and shape[2] in (1, 3):
        return " Its channels come last: image.permute(2, 0, 1)."
    return " Take transparency off first." if 4 in (shape[0], shape[2]) else ""


def _levels(values: np.ndarray, name: str) -> np.ndarray:
    """Values as uint8."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if not np.issubdtype(values.dtype, np.floating):
        raise ConfigError(
            f"{name} is of type {values.dtype}, which could mean anything. Give 8-bit values as uint8, or floating "
            "point in [0, 1]."
        )
    values = values.astype(np.promote_types(values.dtype, np.float32), copy=False)
    low, high = float(values.min()), float(values.max())
    if not low >= 0.0 or not high <= 1.0:  # also where they are no numbers
        if not np.isfinite(values).all():
            raise ConfigError(f"Some values of {name} are not finite numbers (NaN or infinite).")
        raise ConfigError(
            f"{name} lies in {low:g}..{high:g}, and floating-point pictures in [0, 1]. Divide 8-bit values by 255; "
            "take normalisation off, it belongs after the protection; and clamp what a resize lets overshoot."
        )
    return np.ascontiguousarray(np.rint(values * values.dtype.type(255.0)).astype(np.uint8))


def _of_pillow(image: Image.Image, name: str) -> Picture:
    mode = _PLAIN_MODES.get(image.mode)
    if mode is None:
        deep = " Folders keep 16 bits: protect_folder." if image.mode.startswith("I") else ""
        raise ConfigError(
            f"{name} is a Pillow image of mode {image.mode}, which is not supported; take image.convert('RGB').{deep}"
        )
    if image.mode == "P" and "transparency" in image.info:
        mode = "RGBA"
    values = np.array(image if image.mode == mode else image.convert(mode))
    if not values.size:
        raise ConfigError(f"{name} is a Pillow image of {image.width} x {image.height} pixels: it holds none.")
    if values.ndim == 2:
        values = values[:, :, None]
    if mode in ("LA", "RGBA"):
        pixels, alpha = np.ascontiguousarray(values[:, :, :-1]), np.ascontiguousarray(values[:, :, -1])
        return Picture(pixels, alpha, mode=image.mode, source=name)
    return Picture(values, mode=image.mode, source=name)


def _to_pillow(image: Image.Image, picture: Picture) -> Image.Image:
    values = picture.pixels
    if picture.alpha is not None:
        values = np.concatenate([values, picture.alpha[:, :, None]], axis=2)
    made = Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))
    made.info = {name: value for name, value in image.info.items() if name != "transparency" or image.mode != "P"}
    return made


def _a(word: str) -> str:
    return f"an {word}" if word[:1].lower() in "aeiou" else f"a {word}"
