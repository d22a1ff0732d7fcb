"""Perturbations on many pictures at once: the same pixels as one by one, with less to do for each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from ..errors import ConfigError, LabelError
from ..imaging.perturb import place_delta
from ..imaging.picture import as_picture, is_tensor, picture_like
from ..records.manifest import image_key

if TYPE_CHECKING:
    from torch import Tensor

    from .bank import Bank


_Images = TypeVar("_Images", "Tensor", np.ndarray)
#: Pictures uint8 ``[N, H, W, C]`` and their keys, to the protected pictures.
_Change = Callable[[np.ndarray, Sequence[str]], np.ndarray]

_BLOCK: Final = 1 << 22
"""Values of pictures that are worked on at once: bounds the memory to some tens of MB."""


def apply_set(
    images: _Images,
    keys: Sequence[str] | None,
    labels: Sequence[int] | Sequence[str] | Tensor | np.ndarray | None,
    change: _Change,
) -> _Images:
    """See :meth:`Bank.apply_set`. ``change`` puts the perturbations on pictures of one size."""
    if not (is_tensor(images) or isinstance(images, np.ndarray)) or images.ndim != 4:
        shape = f" of shape {tuple(images.shape)}" if hasattr(images, "shape") else ""
        raise ConfigError(
            f"Expected a tensor [N, 3, H, W] or an array [N, H, W, 3], not {type(images).__name__}{shape}. "
            "Single pictures go to apply."
        )
    if not len(images):
        return images
    made: list[Any] = []
    names = None if labels is None else _names(labels, len(images))
    if keys is not None and (isinstance(keys, str) or len(keys) != len(images)):
        given = "one text" if isinstance(keys, str) else f"{len(keys)} keys"
        raise ConfigError(f"{len(images)} images but {given}. Give one key an image.")
    for rows in _blocks(images):
        part = images[rows]
        pictures = [as_picture(image, name=f"image {rows.start + row}") for row, image in enumerate(part)]
        block = np.stack([picture.pixels for picture in pictures])
        wanted = _keys(
            [picture.digest for picture in pictures],
            None if keys is None else keys[rows],
            None if names is None else names[rows],
        )
        changed = change(block, wanted)
        made += [
            picture_like(image, picture.with_pixels(pixels))
            for image, picture, pixels in zip(part, pictures, changed, strict=True)
        ]
    if isinstance(images, np.ndarray):
        return np.stack(made)
    import torch

    return torch.stack(made)


def _keys(digests: Sequence[Callable[[], str]], keys: Sequence[str] | None, names: Sequence[str] | None) -> list[str]:
    """The keys of some pictures: as given; with their class where that is given, too; of their pixels where none are.

    Args:
        digests: what computes the digest of each one's pixels.
        keys: as given.
        names: of the classes.
    """
    contents = [digest() for digest in digests] if keys is None else list(keys)
    if names is None:
        return contents
    return [image_key(name, content.rpartition("/")[2]) for name, content in zip(names, contents, strict=True)]


def stored(bank: Bank, pixels: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """Stored perturbations on pictures of one size, as :func:`~bitterant.imaging.add_delta` puts each on its own.

    Args:
        bank: of perturbations.
        pixels: uint8 ``[N, H, W, C]``.
        keys: of each.

    Returns:
        uint8 of the same shape.

    Raises:
        BankError: it has nothing for a key.
    """
    number, height, width, channels = pixels.shape
    colourless = np.ones(number, dtype=bool)
    if channels == 3:
        red, green, blue = np.moveaxis(pixels, 3, 0)
        colourless = ((red == green) & (green == blue)).all(axis=(1, 2))
    result = np.empty_like(pixels)
    for row in np.flatnonzero(colourless).tolist():  # greys stay grey, which is not done alike for colours
        result[row] = bank.apply(pixels[row], keys[row])
    coloured: list[int] = np.flatnonzero(~colourless).tolist()
    if not coloured:
        return result
    # Each perturbation is resized once, side by side with the others: channels do not meet in a resize.
    distinct = {key: place for place, key in enumerate(dict.fromkeys(keys[row] for row in coloured))}
    side_by_side = np.concatenate([bank.levels_for(key) for key in distinct], axis=2)
    placed = np.rint(place_delta(side_by_side, height, width, "stretch"))
    limit = bank.budget.whole_levels
    np.clip(placed, -limit, limit, out=placed)
    for row in coloured:
        first = 3 * distinct[keys[row]]
        changed = placed[:, :, first : first + 3] + pixels[row]  # whole numbers below 2**24: float32 adds them exactly
        result[row] = np.clip(changed, 0, 255, out=changed)
    return result


def one_by_one(apply: Callable[[np.ndarray, str], np.ndarray], pixels: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """The same with what protects one picture, where no two have anything in common."""
    return np.stack([apply(image, key) for image, key in zip(pixels, keys, strict=True)])


def _names(labels: Any, images: int) -> list[str]:
    """Names of classes, one an image; a number is the name of its class where nobody gave another."""
    values = labels.tolist() if is_tensor(labels) or isinstance(labels, np.ndarray) else list(labels)
    if len(values) != images:
        raise LabelError(f"{images} images but {len(values)} labels. Give one label an image.")
    for value in values:
        if not isinstance(value, str | int | np.integer) or isinstance(value, bool):
            raise LabelError(f"A label is the name of a class or its number, not {value!r}.")
    return [str(value) for value in values]


def _blocks(images: Tensor | np.ndarray) -> Iterator[slice]:
    values = max(1, int(np.prod(images.shape[1:])))
    step = max(1, _BLOCK // values)
    for start in range(0, len(images), step):
        yield slice(start, min(start + step, len(images)))
