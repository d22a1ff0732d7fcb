"""The tensor-resident data set that methods fit on and victims train on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import ConfigError, LabelError
from .given import content_keys, images_of, labels_of
from .writable import Origin, Writable

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Features", "ImageSet"]


@dataclass(frozen=True)
class Features:
    """What a network made of each picture itself, at more detail than the working resolution keeps.

    Attributes:
        values: float32 ``[N, D]``, on the CPU.
        side: in px, of the squares that the network was shown.
        maker: identity of the network: features of different makers cannot be compared.
    """

    values: Tensor
    side: int
    maker: str

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
            classes: class names; ``"0"``, ``"1"``, ... if left out.
            keys: identities; if left out, ``class/sha256`` of each image's bytes.

        Raises:
            ConfigError: shape, type or range is wrong, or there are no images.
            LabelError: labels do not fit the images or the class names.
        """
        pixels = images_of(images)
        names: tuple[str, ...] = ()
        numbers = None
        if labels is not None:
            numbers = labels_of(labels, len(pixels))
            names = tuple(str(i) for i in range(int(numbers.max()) + 1)) if classes is None else tuple(classes)
            _check_labels(numbers, len(pixels), len(names))  # here too: the keys below are made of them
        made = content_keys(pixels, numbers, names) if keys is None else tuple(keys)
        return cls(images=pixels, labels=numbers, classes=names, keys=made)

    def select(self, indices: Tensor | Sequence[int]) -> ImageSet:
        """The sub-set at these positions, in this order."""
        index = torch.as_tensor(indices, dtype=torch.int64)
        return ImageSet(
            images=self.images[index],
            labels=None if self.labels is None else self.labels[index],
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
