"""Images and labels as people have them in memory: tensors, NumPy arrays, lists; taken, or refused in plain words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, LabelError

__all__ = ["content_keys", "images_of", "labels_of"]


def images_of(given: Any) -> Tensor:
    """Square RGB pictures as uint8 ``[N, 3, R, R]``.

    Args:
        given: uint8 in 0..255, or floating point in [0, 1]; a tensor, an array or a sequence of them; ``[N, 3, R, R]``
            or ``[N, R, R, 3]``.

    Raises:
        ConfigError: anything else; the message says what it is and what would do.
    """
    values = _tensor(given, "Images").detach()
    if values.ndim == 4 and values.shape[1] != 3 and values.shape[3] == 3:
        values = values.permute(0, 3, 1, 2)
    if values.ndim != 4 or values.shape[1] != 3 or values.shape[2] != values.shape[3]:
        raise ConfigError(
            f"Expected square RGB images [N, 3, R, R] or [N, R, R, 3], got shape {tuple(values.shape)}.{_hint(values)}"
        )
    if not len(values) or not values.shape[2]:
        raise ConfigError("There are no images: the set is empty.")
    if values.dtype == torch.uint8:
        return values.contiguous()
    if not values.dtype.is_floating_point:
        raise ConfigError(
            f"Images of type {_type(values)} could mean anything. Give 8-bit values as uint8, or floating point in "
            "[0, 1]."
        )
    for part in values:  # one at a time: a mask of everything would take a quarter of its memory
        if not bool(part.isfinite().all()):
            raise ConfigError("Some values of the images are not finite numbers (NaN or infinite).")
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 1.0:
        raise ConfigError(
            f"Float images must lie in [0, 1], not in {low:g}..{high:g}; divide 8-bit values by 255, and take "
            "normalisation off."
        )
    return values.float().mul(255.0).round().to(torch.uint8).contiguous()


def labels_of(given: Any, images: int) -> Tensor:
    """Labels as int64 ``[N]``.

    Args:
        given: a whole number of at least 0 for each image: a tensor, an array, or a list such as the ``targets`` of
            torchvision's data sets.
        images: N.

    Raises:
        LabelError: anything else.
    """
    listed = given if isinstance(given, Sequence) else ()
    if any(isinstance(label, str) for label in listed):
        raise LabelError(
            "Labels are numbers, not names. Number the classes from 0 and give their names as classes=[...]."
        )
    try:
        values = _tensor(given, "Labels")
    except ConfigError as error:
        raise LabelError(str(error)) from error
    if tuple(values.shape) != (images,):
        one_hot = " For one-hot labels take argmax(1) of them." if values.ndim == 2 else ""
        raise LabelError(
            f"{images} images but labels of shape {tuple(values.shape)}. Give one label an image.{one_hot}"
        )
    if values.dtype.is_complex:
        raise LabelError("Labels must be whole numbers, not complex ones.")
    if values.dtype.is_floating_point:
        if not bool(values.isfinite().all()):
            raise LabelError("Some labels are not finite numbers (NaN or infinite).")
        odd = values[values != values.round()]
        if len(odd):
            raise LabelError(f"Labels must be whole numbers; {float(odd[0]):g} is none.")
    whole = values.to(torch.int64)
    if len(whole) and int(whole.min()) < 0:
        raise LabelError(
            f"Labels must be 0 or more; {int(whole.min())} is not. Leave pictures without a label out, or give no "
            "labels."
        )
    return whole


def content_keys(images: Tensor, labels: Tensor | None, names: Sequence[str]) -> tuple[str, ...]:
    """``class/sha256`` of each image's bytes, or the hash alone where there are no labels."""
    digests = [hashlib.sha256(row.numpy().tobytes()).hexdigest() for row in images.cpu()]
    if labels is None:
        return tuple(digests)
    return tuple(f"{names[label]}/{digest}" for label, digest in zip(labels.tolist(), digests, strict=True))


def _tensor(given: Any, what: str) -> Tensor:
    if isinstance(given, Tensor):
        return given
    try:
        if isinstance(given, Sequence) and given and isinstance(given[0], Tensor):
            return torch.stack(list(given))
        array = np.asarray(given)
        if array.dtype.byteorder == ">":
            array = array.astype(array.dtype.newbyteorder("="))
        if array.dtype in (np.uint16, np.uint32, np.uint64):  # torch can hardly calculate with them
            array = array.astype(np.int64)
        return torch.from_numpy(np.ascontiguousarray(array) if array.ndim else array)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(
            f"{what} must be a tensor, an array, or a list of equally large ones, not {_kind(given)}."
        ) from error


def _kind(given: Any) -> str:
    if isinstance(given, Sequence) and not isinstance(given, str) and given:
        return f"a {type(given).__name__} of {type(given[0]).__name__}"
    return type(given).__name__


def _type(values: Tensor) -> str:
    return str(values.dtype).removeprefix("torch.")


def _hint(values: Tensor) -> str:
    """What may be meant by another shape."""
    shape = tuple(values.shape)
    if len(shape) == 3 and 3 in (shape[0], shape[2]):
        return " For a single image add an axis: images[None]."
    if len(shape) == 3 or (len(shape) == 4 and 1 in (shape[1], shape[3])):
        return " Grey images have three equal channels here: repeat the channel."
    if len(shape) == 4 and 4 in (shape[1], shape[3]):
        return " Take transparency off first."
    if len(shape) == 4 and 3 in (shape[1], shape[3]):
        return " Resize or crop them to squares; protect_folder takes pictures of any shape."
    return ""
