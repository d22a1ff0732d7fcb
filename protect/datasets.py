"""Protection where pictures are loaded: a data set of protected pictures, and a transform."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch.utils.data import Dataset
from torchvision.transforms import v2

from ..errors import BankError, ConfigError, LabelError
from ..imaging import Picture, add_delta, image_key
from ..imaging.datasets import Column, DatasetReader, Label, class_of, find_places, label_of
from ..imaging.image_set import class_names
from ..imaging.picture import as_picture, is_tensor, picture_like
from ..records.text import some
from .bank import Bank
from .textures import TextureBank


class ProtectedDataset(Dataset[Any]):
    """The pictures of a map-style data set with their perturbations on: what goes in comes out, all but the pixels.

    Items keep their form (tuple, list, mapping), the picture its type, size and mode, and labels are not touched. The
    same position gives the same picture, in any worker of a ``DataLoader``. Nothing is kept in memory.

    A bank with one pattern a class and one of textures serve every picture of their classes. Any other knows only the
    pictures that it was fitted on, each by its content: the data set must hand them out as they were then, before any
    augmentation. Augment what comes out.

    Args:
        dataset: as :meth:`ImageSet.from_dataset` takes it.
        bank: of any kind.
        image_column: column, or position, of the picture in an item; found where there is but one.
        label_column: the same for the label.
        classes: class names in the order of the labels, as the bank knows them; without it those that the data set
            tells, else the numbers.

    Raises:
        BankError: the bank knows none of the classes, or not the first picture.
        ConfigError: it is no map-style data set; or draws at random, where the bank has to know each picture.
        LabelError: labels are needed, and there are none.
    """

    def __init__(
        self,
        dataset: Any,
        bank: Bank | TextureBank,
        *,
        image_column: Column | None = None,
        label_column: Column | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.bank = _checked(bank)
        by_class = _serves_classes(bank)
        self._reader = DatasetReader(
            dataset, image_column=image_column, label_column=label_column, classes=classes, labels=by_class or None
        )
        if not by_class:
            self._reader.check_repeatable()
        elif self._reader.classes is not None:
            _check_classes(bank, self._reader.classes)
        self[0]  # what cannot work is told here, and not by a worker in the middle of an epoch

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Class names in the order of the labels; ``None`` where nobody knows them."""
        return self._reader.classes

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, index: int) -> Any:
        """The item at a position, protected.

        Raises:
            BankError: the bank has nothing for this picture.
            ImageError: it cannot be read, or is too small for a texture.
            IndexError: there is no such position.
        """
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"There is no item {index} among {count}.")
        index = int(index) % count
        reader, name = self._reader, f"item {index}"
        item = reader.item(index)
        given = reader.picture_in(item, index)
        picture, label = as_picture(given, name=name), reader.label_in(item, index)
        keys = _class_key(self.bank, label, reader.classes) or reader.keys(index, picture, label)
        return _replaced(item, reader.places.image, picture_like(given, _protected(self.bank, picture, keys)))


class Protect(v2.Transform):
    """A transform of torchvision (v2) that puts perturbations on pictures, for banks that need no more than the picture
    and its label: one pattern a class, or textures.

    It belongs before all augmentation, and gets the label with the picture: ``protect(image, label)`` in a data set of
    your own, or on a batch in ``collate_fn``, where ``MixUp`` stands, too. (A ``transform=`` of torchvision's data sets
    gets the picture alone: there use :class:`ProtectedDataset`.) A sample, alone or in several arguments, is a picture,
    a tuple or list of a picture and its label, or a mapping; of a batch, ``[N, 3, H, W]`` and ``[N]``. All but the
    picture is handed on as it is.

    Any other bank finds a picture by the content of its pixels: it must be one that the bank was fitted on, as it was
    then. Where files are known, :class:`ProtectedDataset` finds them by these, too.

    Args:
        bank: of any kind.
        image_column: column, or position, of the picture in a sample; found where there is but one.
        label_column: the same for the label.
        classes: class names in the order of the labels; without it, that of a numbered label is its number.
    """

    def __init__(
        self,
        bank: Bank | TextureBank,
        *,
        image_column: Column | None = None,
        label_column: Column | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        self.bank = _checked(bank)
        self.image_column, self.label_column = image_column, label_column
        self.classes = None if classes is None else class_names(classes)
        if self.classes is not None and _serves_classes(bank):
            _check_classes(bank, self.classes)

    def forward(self, *inputs: Any) -> Any:
        """The sample, protected.

        Raises:
            BankError: the bank has nothing for this picture.
            ConfigError: the sample holds no picture, or several.
            ImageError: the picture is too small for a texture.
            LabelError: the bank needs a label, and there is none.
        """
        sample: Any = inputs[0] if len(inputs) == 1 else inputs
        for place, part in _parts(sample):
            if is_tensor(part) and part.ndim == 4:
                return self._batch(sample, place)
        by_class = _serves_classes(self.bank)
        try:
            places = find_places(
                sample, image_column=self.image_column, label_column=self.label_column, labels=by_class or None
            )
        except LabelError as error:
            raise LabelError(f"{error} {self._hint()}") from error
        given = sample if places.image is None else sample[places.image]
        label = None if places.label is None else self._label(sample[places.label], needed=by_class)
        picture = as_picture(given, name="the picture")
        keys = _class_key(self.bank, label, self.classes)
        if keys is None:
            content = picture.digest()
            names = [None] if label is None else [class_of(label, self.classes), None]
            keys = [image_key(name, content) for name in names]
        return _replaced(sample, places.image, picture_like(given, _protected(self.bank, picture, keys)))

    def extra_repr(self) -> str:
        """The bank in short; never what it holds."""
        return f"method={self.bank.method!r}, granularity={self.bank.granularity!r}"

    def _label(self, value: Any, *, needed: bool) -> Label | None:
        try:
            return label_of(value, "the sample")
        except LabelError:
            if needed:
                raise
            return None

    def _batch(self, sample: Any, place: Column | None) -> Any:
        labels: list[str] | None = None
        usual = place + 1 if isinstance(place, int) else "label"
        values = dict(_parts(sample)).get(usual if self.label_column is None else self.label_column)
        if values is not None:
            listed: Iterable[Any] = values.tolist() if hasattr(values, "tolist") else values
            labels = [class_of(label_of(value, f"picture {row}"), self.classes) for row, value in enumerate(listed)]
        elif _serves_classes(self.bank):
            raise LabelError(f"The batch has no labels. {self._hint()}")
        images = sample if place is None else sample[place]
        return _replaced(sample, place, self.bank.apply_set(images, None, labels))

    def _hint(self) -> str:
        return (
            "This bank's patterns are those of classes, so Protect needs the label beside the picture: protect(image, "
            "label), on a sample or on a batch in collate_fn. A transform= of torchvision's data sets gets the picture "
            "alone: there use ProtectedDataset."
        )


def _checked(bank: Bank | TextureBank) -> Bank | TextureBank:
    if not isinstance(bank, Bank | TextureBank):
        raise ConfigError(f"Expected a bank, not {type(bank).__name__}. load_bank reads one from its file.")
    return bank


def _serves_classes(bank: Bank | TextureBank) -> bool:
    """Whether it serves every picture of its classes, also those that it never saw."""
    return bank.granularity == "class" or (isinstance(bank, TextureBank) and bank.clusters is None)


def _check_classes(bank: Bank | TextureBank, classes: Sequence[str]) -> None:
    known = bank.classes if isinstance(bank, TextureBank) else bank.keys
    if not set(known) & set(classes):
        raise BankError(
            f"The bank knows the classes {some(known, 5)}, and the data set has others: "
            f"{some(classes, 5)}. Where they are the same under other names, give the bank's in the order of the "
            "labels: classes=[...]."
        )


def _class_key(bank: Bank | TextureBank, label: Label | None, classes: Sequence[str] | None) -> list[str] | None:
    """What is enough for a bank of one pattern a class, so that nobody computes a digest for it."""
    return [image_key(class_of(label, classes), "")] if bank.granularity == "class" and label is not None else None


def _protected(bank: Bank | TextureBank, picture: Picture, keys: Iterable[str]) -> Picture:
    """A picture by the first of its keys that the bank knows.

    Raises:
        BankError: it knows none.
    """
    asked: list[str] = []
    for key in keys:
        found = bank.key_for(key)
        if found is not None:
            return add_delta(picture, bank.levels_on(picture, found), bank.budget)
        asked.append(key)
    try:
        bank.levels_on(picture, asked[0].removesuffix("/"))
    except BankError as error:
        raise BankError(f"{picture.source}: {error}{_known_otherwise(bank, asked)}") from error
    raise RuntimeError("A bank has levels for a key that it does not know.")


def _known_otherwise(bank: Bank | TextureBank, asked: Sequence[str]) -> str:
    """A hint where the bank knows this very picture as one of another class."""
    contents = {key.rpartition("/")[2] for key in asked}
    for key in bank.keys if isinstance(bank, Bank) and bank.granularity == "sample" else ():
        name, _, content = key.rpartition("/")
        if content in contents:
            return f" It knows this picture as one of the class {name!r}: give its class names, classes=[...]."
    return ""


def _replaced(item: Any, place: Column | None, image: Any) -> Any:
    """The item with another picture in its place; the item itself is left alone."""
    if place is None:
        return image
    if isinstance(item, Mapping):
        return {**item, place: image}
    parts = list(item)
    parts[place] = image  # type: ignore[index]
    if isinstance(item, list):
        return parts
    return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)


def _parts(sample: Any) -> Iterable[tuple[Column | None, Any]]:
    """Places and parts of a sample; a picture alone has no place."""
    if isinstance(sample, Mapping):
        return sample.items()
    return enumerate(sample) if isinstance(sample, tuple | list) else [(None, sample)]
