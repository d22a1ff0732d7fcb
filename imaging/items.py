"""One picture as people have it in memory: a Pillow image, an array or a tensor; and what it became, as the same.

Works without torch, which is asked only where a tensor was given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar, cast

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .picture import Picture

if TYPE_CHECKING:
    from torch import Tensor


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
