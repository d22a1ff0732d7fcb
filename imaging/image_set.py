"""The tensor-resident data set that methods fit on and victims train on; what may go in, and what files can hold of it.

Images and labels are taken as people have them in memory (tensors, NumPy arrays, lists), or refused in plain words. A
set knows what of a perturbation its files can hold: one channel in greys, nothing where nobody sees a pixel.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError, LabelError
from ..records.config import MAX_PIXELS

#: Classes without names are as many as the highest label says, and no more than this: what is higher is an identity.
MOST_NUMBERED: Final = 1_000_000


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


def class_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names of classes, of which keys and banks are made.

    Args:
        given: distinct texts.

    Raises:
        LabelError: anything else.
    """
    names = tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise LabelError(
                f"The name of a class is a text, not {name!r}. For numbers: classes=[str(name) for name in names]."
            )
        if not _is_text(name):
            raise LabelError(f"The class name {name!r} is not valid text. Give it another.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LabelError(f"Two classes are both named {twice!r}. Give them names of their own: classes=[...].")
    return names


def _is_text(value: Any) -> bool:
    """Whether it is one that a file can hold."""
    try:
        return isinstance(value, str) and bool(value.encode() or not value)
    except UnicodeEncodeError:
        return False


def _given_keys(keys: Sequence[str]) -> tuple[str, ...]:
    found = tuple(keys)
    for key in found:
        if not _is_text(key):
            raise ConfigError(f"A key is a text, not {key!r}. For numbers: keys=[str(key) for key in keys].")
    return found


def numbered_classes(highest: int) -> tuple[str, ...]:
    """Names of classes that nobody named.

    Args:
        highest: of the labels.

    Raises:
        LabelError: a number so high that it is none of a class.
    """
    if highest >= MOST_NUMBERED:
        raise LabelError(
            f"Classes are numbered from 0, and there is a label {highest}. Number them anew: "
            "numpy.unique(labels, return_inverse=True)[1]."
        )
    return tuple(str(number) for number in range(highest + 1))


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


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that an image was read from, and the format that its copy will have.

    Attributes:
        path: of the original.
        encoder: Pillow's name of the format; ``JPEG`` loses something, all others nothing.
    """

    path: Path
    encoder: str = "PNG"


@dataclass(frozen=True)
class Writable:
    """What :func:`~bitterant.imaging.add_delta` leaves of perturbations, picture by picture, before clipping.

    Calling it gives what is left. That is linear and its own adjoint, so a gradient goes back through it likewise.

    Attributes:
        grey: bool ``[N]``, pictures without colour: all channels change alike.
        opaque: uint8 ``[N, R, R]``, the share in 255ths of each place that is not fully transparent; ``None`` where
            all of every picture can be seen.
    """

    grey: Tensor
    opaque: Tensor | None = None

    def __call__(self, delta: Tensor) -> Tensor:
        """What of perturbations ``[N, 3, R, R]``, float, a row a picture, gets into the files."""
        delta = self.grey_in_greys(delta)
        return delta if self.opaque is None else delta * (self.opaque.unsqueeze(1) / 255.0)

    def grey_in_greys(self, delta: Tensor) -> Tensor:
        """The same perturbations with equal channels for the pictures that have no colour."""
        if self.grey.device.type == "cpu" and not bool(self.grey.any()):  # to ask would make a device wait
            return delta
        level = delta.mean(dim=1, keepdim=True).expand_as(delta)
        return torch.where(self.grey.view(-1, 1, 1, 1), level, delta)

    def select(self, index: Tensor | slice) -> Writable:
        """That of the pictures at these positions."""
        if isinstance(index, Tensor):
            index = index.to(self.grey.device)
        return replace(self, grey=self.grey[index], opaque=None if self.opaque is None else self.opaque[index])

    def to(self, device: torch.device | str) -> Writable:
        """The same on a device."""
        return Writable(self.grey.to(device), None if self.opaque is None else self.opaque.to(device))

    @classmethod
    def of(cls, grey: Sequence[bool], opaque: Sequence[np.ndarray | None], resolution: int) -> Writable | None:
        """That of pictures one by one; ``None`` where everything can be written.

        Args:
            grey: whether each has no colour.
            opaque: as :func:`~bitterant.imaging.perturb.opacity` gives it.
            resolution: R in px.
        """
        if not any(grey) and all(mask is None for mask in opaque):
            return None
        masks = None
        if any(mask is not None for mask in opaque):
            masks = torch.full((len(opaque), resolution, resolution), 255, dtype=torch.uint8)
            for row, mask in enumerate(opaque):
                if mask is not None:
                    masks[row] = torch.from_numpy(mask)
        return cls(torch.tensor(list(grey), dtype=torch.bool), masks)


@dataclass(frozen=True)
class Features:
    """What a network made of each picture itself, at more detail than the working resolution keeps.

    Attributes:
        values: float32 ``[N, D]``, on the CPU.
        side: in px, of the squares that the network was shown.
        fingerprint: identity of the network: features of different networks cannot be compared.
    """

    values: Tensor
    side: int
    fingerprint: str

    def __post_init__(self) -> None:
        if self.values.ndim != 2 or self.side < 1:
            raise ConfigError(f"Features are [N, D] of squares, not {tuple(self.values.shape)} of {self.side} px.")


@dataclass(frozen=True)
class ImageSet:
    """Images at one working resolution, whole in memory.

    Attributes:
        images: uint8 ``[N, 3, R, R]``; ``images / 255`` is the [0, 1] range all mathematics lives in.
        labels: int64 ``[N]`` with values in ``range(len(classes))``, or ``None`` where there are none.
        classes: class names; their order is that of the labels. Empty where there are no labels.
        keys: the identity of each image (``N`` strings), independent of its place in the set. From a folder:
            ``class/sha256-of-the-file``; perturbations are tied to these, never to positions.
        native_size: height and width in px of the typical picture that the images were resized from (the medians), or
            ``None`` where they were not resized. It tells what a file leaves of a perturbation.
        features: what a network made of the pictures while they were read; ``None`` where none looked.
        captions: what each picture shows, in words; ``None`` where nobody said.
        writable: what of a perturbation the files can hold; ``None`` where they hold all of it.
        origins: the files that the images were read from; ``None`` where there are none.
    """

    images: Tensor
    labels: Tensor | None
    classes: tuple[str, ...]
    keys: tuple[str, ...]
    native_size: tuple[int, int] | None = None
    features: Features | None = None
    captions: tuple[str, ...] | None = None
    writable: Writable | None = None
    origins: tuple[Origin, ...] | None = None

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ConfigError(
                f"An image set holds uint8 [N, 3, R, R], not {self.images.dtype} {tuple(self.images.shape)}. "
                "For float images in [0, 1] use ImageSet.from_tensors."
            )
        n = len(self.images)
        if len(self.keys) != n:
            raise ConfigError(f"{n} images but {len(self.keys)} keys.")
        if self.features is not None and len(self.features.values) != n:
            raise ConfigError(f"{n} images but features of shape {tuple(self.features.values.shape)}.")
        if self.captions is not None and len(self.captions) != n:
            raise ConfigError(f"{n} images but {len(self.captions)} captions.")
        if self.writable is not None and len(self.writable.grey) != n:
            raise ConfigError(f"{n} images, but what can be written is known of {len(self.writable.grey)}.")
        if self.origins is not None and len(self.origins) != n:
            raise ConfigError(f"{n} images of {len(self.origins)} files.")
        if self.labels is not None:
            _check_labels(self.labels, n, len(self.classes))

    def __len__(self) -> int:
        return len(self.images)

    @property
    def resolution(self) -> int:
        """Side length R of the working resolution, in pixels."""
        return int(self.images.shape[-1])

    @classmethod
    def from_tensors(
        cls,
        images: Tensor | np.ndarray | Sequence[Any],
        labels: Tensor | np.ndarray | Sequence[int] | None = None,
        *,
        classes: Sequence[str] | None = None,
        keys: Sequence[str] | None = None,
    ) -> ImageSet:
        """Build a set from tensors, NumPy arrays or lists of them, without any folder.

        Args:
            images: float in [0, 1] (rounded to the 8-bit grid) or uint8, ``[N, 3, R, R]`` or ``[N, R, R, 3]``.
            labels: whole numbers from 0, ``[N]``, such as the ``targets`` of torchvision's data sets.
            classes: class names, distinct texts; ``"0"``, ``"1"``, ... if left out.
            keys: identities, texts; if left out, ``class/sha256`` of each image's bytes.

        Raises:
            ConfigError: shape, type or range is wrong, there are no images, or a key is no text.
            LabelError: labels do not fit the images or the class names, or these are no distinct texts.
        """
        pixels = images_of(images)
        names: tuple[str, ...] = ()
        numbers = None
        if labels is not None:
            numbers = labels_of(labels, len(pixels))
            names = numbered_classes(int(numbers.max())) if classes is None else class_names(classes)
            _check_labels(numbers, len(pixels), len(names))  # here too: the keys below are made of them
        made = content_keys(pixels, numbers, names) if keys is None else _given_keys(keys)
        return cls(images=pixels, labels=numbers, classes=names, keys=made)

    @classmethod
    def from_folder(
        cls,
        path: Path | str,
        resolution: int | Literal["auto"] = "auto",
        *,
        labels: bool = True,
        strict: bool = False,
        follow_links: bool = False,
        max_pixels: int = MAX_PIXELS,
        workers: int = 0,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImageSet:
        """Read a folder of pictures, whose sub-folders are the classes, as ``protect_folder`` does.

        Keys are those of the folder commands, ``class/sha256`` of each file: a bank made here serves ``apply_folder``,
        and one of ``fit_folder`` serves the pictures read here.

        Args:
            path: the folder, or one picture.
            resolution: side R in px to which pictures are resized, whatever their shape; ``auto``: their own where all
                are squares of one size of 16 to 96 px, else 64, or 224 where there is a GPU.
            labels: False leaves labels out.
            strict: fail where a file cannot be read. Otherwise such files are left out, and a warning names them.
            follow_links: go through symbolic links.
            max_pixels: refuse larger pictures.
            workers: threads; 0 reads in the calling thread. The result does not depend on it.
            progress: called with the number of files done and of all.

        Raises:
            FolderError: no such folder, or no picture in it that can be read.
            ImageError: with ``strict``, a file cannot be read.
            ConfigError: ``resolution`` or ``workers`` is out of range.
        """
        from .datasets import read_folder

        return read_folder(
            path, resolution, labels=labels, strict=strict, follow_links=follow_links, max_pixels=max_pixels,
            workers=workers, progress=progress,
        )  # fmt: skip

    @classmethod
    def from_dataset(
        cls,
        dataset: Any,
        resolution: int | None = None,
        *,
        labels: bool = True,
        image_column: str | int | None = None,
        label_column: str | int | None = None,
        classes: Sequence[str] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> ImageSet:
        """Read a data set of torchvision, any map-style one of torch, or one of Hugging Face.

        A key is ``class/sha256``: of the file where the data set tells it and hands out the picture as it is stored
        (torchvision's ``ImageFolder``, images of Hugging Face), so that it is that of the folder commands; else of the
        pixels, as in :meth:`from_tensors`.

        Args:
            dataset: items are ``(picture, label)`` or mappings of columns. A picture is a Pillow image, a uint8 array
                ``[H, W, 3]``, or a tensor ``[3, H, W]``, uint8 or floating point in [0, 1]; greys are taken, too. A
                label is the number of a class or its name.
            resolution: side R in px to which pictures are resized, whatever their shape; without it all must be squares
                of one size.
            labels: False leaves labels out, and needs none.
            image_column: column, or position, of the picture; found where there is but one.
            label_column: the same for the label.
            classes: class names in the order of the labels; without it those that the data set tells, else the numbers.
            progress: called with the number of items done and of all.

        Raises:
            ConfigError: a stream, several data sets in one, a transform that draws at random, values outside [0, 1],
                sizes that differ without a resolution, or columns that must be named.
            LabelError: labels are missing, or are none.
            ImageError: an item cannot be read.
        """
        from .datasets import read_dataset

        return read_dataset(
            dataset, resolution, labels=labels, image_column=image_column, label_column=label_column, classes=classes,
            progress=progress,
        )  # fmt: skip

    def select(self, indices: Tensor | np.ndarray | Sequence[int] | Sequence[bool]) -> ImageSet:
        """The sub-set at these positions, in this order; or where a mask, one truth an image, is true.

        Raises:
            ConfigError: they are neither positions nor a mask of this set.
        """
        index = self._positions(indices)
        return ImageSet(
            images=self.images[index.to(self.images.device)],
            labels=None if self.labels is None else self.labels[index.to(self.labels.device)],
            classes=self.classes,
            keys=tuple(self.keys[i] for i in index.tolist()),
            native_size=self.native_size,
            features=None
            if self.features is None
            else replace(self.features, values=self.features.values[index.cpu()]),
            captions=None if self.captions is None else tuple(self.captions[i] for i in index.tolist()),
            writable=None if self.writable is None else self.writable.select(index),
            origins=None if self.origins is None else tuple(self.origins[i] for i in index.tolist()),
        )

    def _positions(self, indices: Any) -> Tensor:
        try:
            index = torch.as_tensor(indices)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ConfigError(f"Positions are whole numbers, or a mask, not {_kind(indices)}.") from error
        if index.ndim == 1 and not len(index):
            return index.to(torch.int64)
        if index.dtype == torch.bool and index.shape == (len(self),):
            return index.nonzero().flatten()
        if index.ndim != 1 or index.dtype == torch.bool or index.is_floating_point() or index.is_complex():
            raise ConfigError(
                f"Positions are whole numbers [M], or a mask of truths [{len(self)}], not {_type(index)} "
                f"{list(index.shape)}."
            )
        return index.to(torch.int64)

    def to(self, device: torch.device | str) -> ImageSet:
        """The same set with images and labels on a device."""
        labels = None if self.labels is None else self.labels.to(device)
        writable = None if self.writable is None else self.writable.to(device)
        return replace(self, images=self.images.to(device), labels=labels, writable=writable)


def _check_labels(labels: Tensor, images: int, classes: int) -> None:
    if labels.shape != (images,):
        raise LabelError(f"{images} images but labels of shape {tuple(labels.shape)}. Give one label an image.")
    if images and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        low, high = int(labels.min()), int(labels.max())
        raise LabelError(f"Labels must lie in 0..{classes - 1} for {classes} classes, not in {low}..{high}.")
