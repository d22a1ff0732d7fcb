"""Data sets of torch, torchvision and Hugging Face: their pictures, labels and keys; taken, or refused in plain words.

Neither torchvision nor Hugging Face ``datasets`` is imported: a data set is known by what it has.
"""

from __future__ import annotations

import hashlib
import logging
import operator
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np
import torch

from ..errors import ConfigError, FolderError, ImageError, LabelError
from ..records.config import MAX_PIXELS
from ..records.manifest import image_key
from ..records.places import read_regular, sha256_file
from ..records.text import some, some_counted
from .codec import decode, read_header
from .image_set import ImageSet, Writable, class_names, numbered_classes
from .loading import auto_resolution, load_image_set, median_size
from .perturb import opacity, squash
from .picture import Picture, as_picture, is_picture, is_tensor
from .scan import scan_source

logger = logging.getLogger(__name__)

Column: TypeAlias = str | int
"""Where something stands in an item: the name of a column, or a position."""

Label: TypeAlias = int | str
"""The number of a class, or its name."""

_IMAGE_NAMES: Final = ("image", "img", "pixel_values")
_LABEL_NAMES: Final = ("label", "labels", "target", "targets", "class")
_SHOWN: Final = 8
#: Items that are asked for twice, to see that the same picture comes.
_ASKED_TWICE: Final = 4


def read_folder(
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
    """See :meth:`ImageSet.from_folder`."""
    scan = scan_source(Path(path), follow_links=follow_links)
    if not scan.entries:
        raise FolderError(f"There are no pictures in {path}. Check the path, and the types of the files.")
    for note in scan.notes:
        logger.warning("%s", note)
    if resolution == "auto":
        accelerated = torch.cuda.is_available() or torch.backends.mps.is_available()
        side = auto_resolution(scan, "gpu" if accelerated else "cpu")
    else:
        side = _checked_resolution(resolution)
    found, _, problems = load_image_set(
        scan, side, workers=workers, progress=progress, with_labels=labels, max_pixels=max_pixels
    )
    if problems:
        told = some_counted([f"{problem.relative}: {problem.reason}" for problem in problems], _SHOWN, joint="; ")
        if not len(found):
            raise FolderError(f"None of the {len(problems)} pictures in {path} can be read. {told}")
        if strict:
            others = f" (and {len(problems) - 1} other files)" if len(problems) > 1 else ""
            raise ImageError(problems[0].relative, problems[0].reason + others)
        logger.warning("%d of %d pictures in %s were left out. %s", len(problems), len(scan.entries), path, told)
    return found


def read_dataset(
    dataset: Any,
    resolution: int | None = None,
    *,
    labels: bool = True,
    image_column: Column | None = None,
    label_column: Column | None = None,
    classes: Sequence[str] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """See :meth:`ImageSet.from_dataset`."""
    side = None if resolution is None else _checked_resolution(resolution)
    reader = DatasetReader(
        dataset, image_column=image_column, label_column=label_column, classes=classes, labels=labels
    )
    reader.check_repeatable()
    total = len(reader)
    images: np.ndarray | None = None
    told: list[Label] = []
    contents: list[str] = []
    sizes: list[tuple[int, int]] = []
    greys: list[bool] = []
    masks: list[np.ndarray | None] = []
    for row in range(total):
        picture, label = reader.read(row)
        size = (picture.height, picture.width)
        if resolution is None:
            _check_own_size(size, sizes[0] if sizes else None, row)
        if images is None:
            side = side or size[0]
            images = np.empty((total, 3, side, side), dtype=np.uint8)
        assert side is not None
        images[row] = squash(picture, side).transpose(2, 0, 1)
        contents.append(reader.file_digest(row, picture) or picture.digest())
        sizes.append(size)
        greys.append(picture.is_colourless)
        masks.append(opacity(picture, side))
        if label is not None:
            told.append(label)
        if progress is not None:
            progress(row + 1, total)
    assert images is not None
    assert side is not None
    names = reader.names_for(told) if labels else ()
    numbers = {name: number for number, name in enumerate(names)}
    values = [numbers[label] if isinstance(label, str) else label for label in told]
    keys = (
        [image_key(names[value], content) for value, content in zip(values, contents, strict=True)]
        if labels
        else contents
    )
    return ImageSet(
        images=torch.from_numpy(images),
        labels=torch.tensor(values, dtype=torch.int64) if labels else None,
        classes=names,
        keys=tuple(keys),
        native_size=None if set(sizes) <= {(side, side)} else median_size(sizes),
        writable=Writable.of(greys, masks, side),
    )


@dataclass(frozen=True)
class Places:
    """Where picture and label stand in an item; ``None`` for a picture that is the item, and for no label."""

    image: Column | None
    label: Column | None


class DatasetReader:
    """A map-style data set, looked at: which part of an item is the picture, which the label, and what identifies it.

    Args:
        dataset: see :meth:`ImageSet.from_dataset`.
        image_column: where the picture stands in an item; found where left out.
        label_column: where its label stands; found where left out.
        classes: class names, in the order of the labels; found where left out.
        labels: whether labels are needed (True), not looked at (False), or taken where there are any (``None``).

    Raises:
        ConfigError: it is no map-style data set, is empty, or it is not clear which columns are meant.
        LabelError: labels are needed and there are none.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        image_column: Column | None = None,
        label_column: Column | None = None,
        classes: Sequence[str] | None = None,
        labels: bool | None = True,
    ) -> None:
        _refuse_others(dataset)
        self.dataset = dataset
        if not len(dataset):
            raise ConfigError("There are no images: the data set is empty.")
        self._table = _is_table(dataset)
        if self._table and (getattr(dataset, "format", None) or {}).get("type") == "custom":
            raise ConfigError(
                "This data set has a transform of its own (set_transform or with_transform), and nobody can tell what "
                "it makes of a picture. Give dataset.with_format(None), and transform what comes out of the protection."
            )
        features = dataset.features if self._table else {}
        image_column, label_column = _from_features(features, image_column, label_column, labels=labels)
        self.places = find_places(
            self.item(0), image_column=image_column, label_column=label_column, labels=labels, name="item 0"
        )
        self._optional = labels is None
        self._files: Any = None
        if self._table and type(features.get(self.places.image)).__name__ == "Image":
            # The bytes of the files themselves, whatever form the pictures are handed out in.
            column, feature = self.places.image, features[self.places.image]
            self._files = dataset.with_format(None).cast_column(column, type(feature)(decode=False))
        self.classes = class_names(classes) if classes is not None else self._found_classes(features)
        if self.classes is not None and (twice := _repeated(self.classes)) is not None:
            raise LabelError(f"Two classes are both named {twice!r}. Give them names of their own: classes=[...].")

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> tuple[Picture, Label | None]:
        """Picture and label at a position; the label is ``None`` where labels are not looked at.

        Raises:
            ConfigError: what stands there is no picture that can be taken.
            ImageError: it cannot be read.
            LabelError: its label is none.
        """
        name = f"item {index}"
        if self._files is not None:
            item = self._files[index]
            picture = _from_file(item[self.places.image], name)
        else:
            item = self.item(index)
            picture = as_picture(self.picture_in(item, index), name=name)
        return picture, self.label_in(item, index)

    def item(self, index: int) -> Any:
        """What the data set gives at a position.

        Raises:
            ImageError: it cannot.
        """
        try:
            return self.dataset[index]
        except (ConfigError, ImageError):
            raise
        except Exception as error:  # whatever a loader or a transform of the user's raises
            why = f"the data set cannot give it ({type(error).__name__}: {error})"
            raise ImageError(f"item {index}", why) from error

    def picture_in(self, item: Any, index: int) -> Any:
        """The picture in an item, as it is."""
        return _part(item, self.places.image, f"item {index}")

    def label_in(self, item: Any, index: int) -> Label | None:
        """The label in an item; ``None`` where labels are not looked at.

        Raises:
            LabelError: it is none.
        """
        if self.places.label is None:
            return None
        name = f"item {index}"
        try:
            return label_of(_part(item, self.places.label, name), name)
        except LabelError:
            if self._optional:
                return None
            raise

    def file_digest(self, index: int, picture: Picture) -> str | None:
        """sha256 of the file that holds this very picture; ``None`` where nobody knows one, or it shows the picture
        turned or in another size: a perturbation made for the one would not lie right on the other."""
        if self._files is not None:
            data = self._files[index][self.places.image]
            content = data["bytes"]
            return hashlib.sha256(content).hexdigest() if content is not None else sha256_file(Path(data["path"]))
        path = _file_of(self.dataset, index)
        if path is None:
            return None
        try:
            head = read_header(path)
            same = head.upright and (head.height, head.width) == (picture.height, picture.width)
            return sha256_file(path) if same else None
        except (ImageError, OSError):
            return None

    def keys(self, index: int, picture: Picture, label: Label | None) -> Iterator[str]:
        """What a bank may know a picture by: its file, else its pixels; with its class, else without."""
        names = [None] if label is None else [class_of(label, self.classes), None]
        content = self.file_digest(index, picture)
        if content is not None:
            yield from (image_key(name, content) for name in names)
        content = picture.digest()
        yield from (image_key(name, content) for name in names)

    def names_for(self, labels: Sequence[Label]) -> tuple[str, ...]:
        """Names of the classes, in the order of their numbers, where these are the labels of all pictures."""
        named = [label for label in labels if isinstance(label, str)]
        if named and len(named) != len(labels):
            raise LabelError("Some labels are names and some are numbers. Give all of one kind.")
        if self.classes is not None:
            for label in sorted(set(labels), key=str):
                class_of(label, self.classes)
            return self.classes
        if named:
            return tuple(sorted(set(named)))
        return numbered_classes(max(int(label) for label in labels))

    def check_repeatable(self) -> None:
        """Make sure that the same position gives the same picture.

        Raises:
            ConfigError: it does not.
        """
        if self._files is not None:
            return
        for index in sorted({round(i * (len(self) - 1) / (_ASKED_TWICE - 1)) for i in range(_ASKED_TWICE)}):
            first, second = (self.read(index)[0].pixels for _ in range(2))
            if first.shape != second.shape or not np.array_equal(first, second):
                raise ConfigError(
                    f"Item {index} of the data set is another picture each time it is asked for: its transform draws "
                    "at random. Protection belongs on the picture itself. Take the augmentation off "
                    "(dataset.transform = None), and apply it to what comes out of the protection."
                )

    def _found_classes(self, features: Mapping[Any, Any]) -> tuple[str, ...] | None:
        names = getattr(features.get(self.places.label), "names", None) if self._table else _classes_of(self.dataset)
        if not isinstance(names, Sequence) or isinstance(names, str) or not names:
            return None
        # Some data sets of torchvision give several names for a class.
        return tuple(", ".join(map(str, name)) if isinstance(name, tuple | list) else str(name) for name in names)


def find_places(
    item: Any,
    *,
    image_column: Column | None = None,
    label_column: Column | None = None,
    labels: bool | None = True,
    name: str = "the sample",
) -> Places:
    """Where picture and label stand in an item.

    Args:
        item: a picture; a tuple or list of which one part is a picture, and the next its label; or a mapping.
        image_column: where the picture stands, if it is known.
        label_column: where its label stands, if it is known.
        labels: whether a label is needed (True), not looked for (False), or taken where there is one (``None``).
        name: what messages call the item.

    Raises:
        ConfigError: it is not clear which part is the picture.
        LabelError: a label is needed, and there is none.
    """
    if isinstance(item, Mapping):
        image = _named(item, image_column, name) if image_column is not None else _only_picture(item, name)
        if label_column is not None:
            return Places(image, _named(item, label_column, name))
        known = [column for column in item if str(column).lower() in _LABEL_NAMES]
        if labels and len(known) != 1:
            raise LabelError(_which_label(list(item), known))
        return Places(image, known[0] if labels is not False and len(known) == 1 else None)
    if isinstance(item, tuple | list):
        image = image_column
        if image is None:
            found = [place for place, part in enumerate(item) if is_picture(part)]
            if not found:
                raise ConfigError(
                    f"{name} holds no picture but {_kinds(item)}. A data set gives (picture, label): a Pillow image, a "
                    "uint8 array [H, W, 3], or a tensor [3, H, W]."
                )
            image = found[0]
        label = label_column if label_column is not None else int(image) + 1
        for place in (image, label):
            if not isinstance(place, int):
                raise ConfigError(f"{name} has no column {place!r}: it is a {type(item).__name__}. Give a position.")
            if not -len(item) <= place < len(item) and (place == image or label_column is not None):
                raise ConfigError(f"{name} has {len(item)} parts, so there is none at position {place}.")
        there = isinstance(label, int) and label < len(item)
        if labels and not there:
            raise LabelError(_no_label(f"{name} is a picture without a label"))
        return Places(image, label if labels is not False and there else None)
    if not is_picture(item):
        as_picture(item, name=name)  # says what is wrong with it
    if labels:
        raise LabelError(_no_label(f"{name} is a picture without a label"))
    return Places(None, None)


def label_of(value: Any, name: str) -> Label:
    """A label as a data set gives it, as the number or the name of a class.

    Raises:
        LabelError: it is neither.
    """
    if isinstance(value, str):
        if not value:
            raise LabelError(f"The label of {name} is an empty text.")
        return value
    if value is None:
        raise LabelError(_no_label(f"{name} has no label (None)"))
    plain: Any = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else value
    if isinstance(plain, float) and plain.is_integer():
        plain = int(plain)
    try:
        number = operator.index(cast("Any", plain))
    except (TypeError, RuntimeError):
        shape = f" of shape {tuple(value.shape)}" if hasattr(value, "shape") else ""
        one_hot = " For one-hot labels take their argmax." if shape else ""
        raise LabelError(
            f"The label of {name} is {value!r}." if isinstance(value, float) else
            f"The label of {name} is a {type(value).__name__}{shape}, and not one class: a whole number from 0, or a "
            f"name.{one_hot}"
        ) from None  # fmt: skip
    if number < 0:
        raise LabelError(
            f"The label of {name} is {number}, and classes are numbered from 0. Where that means 'no label', as in "
            "test splits, leave these pictures out, or read the set with labels=False."
        )
    return number


def class_of(label: Label, classes: Sequence[str] | None) -> str:
    """The name of a label's class; where nobody knows names, its number.

    Raises:
        LabelError: there is no such class.
    """
    if classes is None:
        return str(label)
    if isinstance(label, str):
        if label not in classes:
            raise LabelError(f"There is no class {label!r}. Known: {_listed(classes)}.")
        return label
    if label >= len(classes):
        raise LabelError(f"Labels must lie in 0..{len(classes) - 1} for {len(classes)} classes; {label} does not.")
    return classes[label]


def _from_file(data: Any, name: str) -> Picture:
    """The picture of a file as tables hold it: its bytes, or its path."""
    if data is None or (data["bytes"] is None and not data["path"]):
        raise ImageError(name, "it holds no picture; leave it out: dataset.filter(...)")
    try:
        content = data["bytes"] if data["bytes"] is not None else read_regular(Path(data["path"]))
    except OSError as error:
        raise ImageError(name, f"its file {data['path']} cannot be read: {error.strerror or error}") from error
    return decode(content, name=name)


def _checked_resolution(resolution: object) -> int:
    if not isinstance(resolution, int) or isinstance(resolution, bool) or resolution < 1:
        raise ConfigError(f"The resolution is a side in pixels, at least 1, not {resolution!r}.")
    return resolution


def _check_own_size(size: tuple[int, int], first: tuple[int, int] | None, row: int) -> None:
    height, width = size
    if first is not None and size != first:
        raise ConfigError(
            f"The pictures differ in size: item 0 has {first[1]} x {first[0]} pixels, item {row} has "
            f"{width} x {height}. Say at which side a model is to see them all, for example resolution=64."
        )
    if height != width:
        raise ConfigError(
            f"Item {row} has {width} x {height} pixels and is no square. Say at which side a model is to see the "
            "pictures, for example resolution=64."
        )


def _refuse_others(dataset: Any) -> None:
    """What is taken for a data set and is none."""
    if isinstance(dataset, str | os.PathLike):
        raise ConfigError(f"{os.fspath(dataset)} is a path. ImageSet.from_folder reads folders.")
    if isinstance(dataset, ImageSet):
        raise ConfigError("This is an ImageSet already: methods and verify_sets take it as it is.")
    if is_tensor(dataset) or isinstance(dataset, np.ndarray):
        raise ConfigError("This is a tensor or an array. ImageSet.from_tensors takes it.")
    if hasattr(dataset, "batch_sampler") and hasattr(dataset, "dataset"):
        raise ConfigError("This is a DataLoader, which gives batches in an order of its own. Give its loader.dataset.")
    if isinstance(dataset, Mapping):
        first = next(iter(dataset), "train")
        raise ConfigError(
            f"This holds several data sets: {_listed(list(dataset))}. Give one of them, such as dataset[{first!r}]."
        )
    streaming = isinstance(dataset, torch.utils.data.IterableDataset)
    if streaming or not hasattr(dataset, "__getitem__") or not hasattr(dataset, "__len__"):
        raise ConfigError(
            f"{type(dataset).__name__} is a stream: its pictures have no numbers and come once. A perturbation belongs "
            "to a picture that can be found again. Load it whole (streaming=False), or take a part into a list: "
            "list(itertools.islice(dataset, 1000))."
        )


def _is_table(dataset: Any) -> bool:
    """Whether it is a data set of Hugging Face."""
    return isinstance(getattr(dataset, "features", None), Mapping) and hasattr(dataset, "column_names")


def _from_features(
    features: Mapping[Any, Any], image: Column | None, label: Column | None, *, labels: bool | None
) -> tuple[Column | None, Column | None]:
    """Columns that the features of a table tell by their kind."""
    for column in (image, label):
        if features and column is not None and column not in features:
            raise ConfigError(f"There is no column {column!r}. There are: {_listed(list(features))}.")
    pictures = [name for name, feature in features.items() if type(feature).__name__ == "Image"]
    if image is None and len(pictures) > 1:
        raise ConfigError(
            f"Several columns hold pictures: {_listed(pictures)}. Say which: image_column={pictures[0]!r}."
        )
    numbered = [name for name, feature in features.items() if type(feature).__name__ == "ClassLabel"]
    if labels and label is None and len(numbered) > 1:
        raise LabelError(f"Several columns hold labels: {_listed(numbered)}. Say which: label_column={numbered[0]!r}.")
    return (
        image if image is not None else next(iter(pictures), None),
        label if label is not None or labels is False or len(numbered) != 1 else numbered[0],
    )


def _only_picture(item: Mapping[Any, Any], name: str) -> Column:
    found = [column for column, value in item.items() if is_picture(value)]
    usual = [column for column in found if str(column).lower() in _IMAGE_NAMES]
    if len(found) == 1 or len(usual) == 1:
        return (usual or found)[0]
    if not found:
        kinds = ", ".join(f"{column} ({type(value).__name__})" for column, value in item.items())
        raise ConfigError(
            f"No column of {name} holds a picture: {kinds}. In a data set of Hugging Face, "
            "dataset.cast_column(NAME, datasets.Image()) makes pictures of paths or bytes."
        )
    raise ConfigError(
        f"Several columns of {name} may be the picture: {_listed(found)}. Say which: image_column={found[0]!r}."
    )


def _named(item: Mapping[Any, Any], column: Column, name: str) -> Column:
    if column not in item:
        raise ConfigError(f"{name} has no column {column!r}. It has: {_listed(list(item))}.")
    return column


def _which_label(columns: Sequence[Any], known: Sequence[Any]) -> str:
    if known:
        return f"Several columns may be the label: {_listed(known)}. Say which: label_column={known[0]!r}."
    return _no_label(f"No column is known as the label among {_listed(columns)}: name it with label_column")


def _no_label(what: str) -> str:
    return f"{what}. Where there are no labels, say labels=False; methods such as uc need none."


def _part(item: Any, place: Column | None, name: str) -> Any:
    if place is None:
        return item
    try:
        return item[place]
    except (IndexError, KeyError, TypeError):
        raise ConfigError(f"{name} has no part {place!r}, as other items do: it is a {type(item).__name__}.") from None


def _classes_of(dataset: Any) -> Any:
    """The class names of a data set, or of what it is a part of."""
    parts = getattr(dataset, "datasets", None)
    if isinstance(parts, list) and parts:
        found = [_classes_of(part) for part in parts]
        return found[0] if all(names == found[0] for names in found) else None
    names = getattr(dataset, "classes", None)
    if names is None and hasattr(dataset, "dataset"):
        return _classes_of(dataset.dataset)
    return names


def _file_of(dataset: Any, index: int) -> Path | None:
    """The file of an item, where a folder data set of torchvision (or a part of one) says so."""
    ends = getattr(dataset, "cumulative_sizes", None)
    if isinstance(ends, list):
        part = bisect_right(ends, index)
        return _file_of(dataset.datasets[part], index - (ends[part - 1] if part else 0))
    if hasattr(dataset, "dataset") and hasattr(dataset, "indices"):
        return _file_of(dataset.dataset, int(dataset.indices[index]))
    samples = getattr(dataset, "samples", None)
    if not isinstance(samples, list) or len(samples) != len(dataset):
        return None
    sample = samples[index]
    path = sample[0] if isinstance(sample, tuple) and sample else None
    return Path(path) if isinstance(path, str | Path) and Path(path).is_file() else None


def _repeated(names: Sequence[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _kinds(item: Sequence[Any]) -> str:
    return ", ".join(type(part).__name__ for part in item) or "nothing"


def _listed(names: Sequence[Any]) -> str:
    return some(map(str, names), _SHOWN) or "none"
