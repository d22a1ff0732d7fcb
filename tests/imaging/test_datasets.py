"""Folders and data sets as sets of images: equal pictures have equal keys, and misfits are told in plain words."""

from __future__ import annotations

import logging
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset
from torchvision import transforms
from torchvision.datasets import FakeData, ImageFolder

from bitterant.errors import BitterantError, ConfigError, FolderError, ImageError, LabelError
from bitterant.imaging import ImageSet, load_image_set, scan_folder


def same(a: ImageSet, b: ImageSet) -> bool:
    assert a.labels is not None
    assert b.labels is not None
    return (
        torch.equal(a.images, b.images)
        and torch.equal(a.labels, b.labels)
        and (a.keys, a.classes) == (b.keys, b.classes)
    )


# ---------------------------------------------------------------------- folders
def test_a_folder_is_read_as_the_folder_commands_read_it(datasets: Any, tmp_path: Path) -> None:
    root = datasets.files(tmp_path / "src", datasets.colours(6, 24, 24))
    found = ImageSet.from_folder(root)
    wanted, _, _ = load_image_set(scan_folder(root), 24)
    assert same(found, wanted)
    assert found.classes == ("cat", "dog")
    assert ImageSet.from_folder(str(root), 16, workers=2).images.shape == (6, 3, 16, 16)
    flat = ImageSet.from_folder(root, labels=False)
    assert (flat.labels, flat.classes, flat.keys) == (None, (), wanted.keys)


def test_the_resolution_of_a_folder_of_large_pictures_is_chosen(
    datasets: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = datasets.files(tmp_path, datasets.colours(2, 100, 120))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for there, side in ((False, 64), (True, 224)):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        found = ImageSet.from_folder(root)
        assert found.resolution == side
        assert found.native_size == (100, 120)


def test_unreadable_files_are_named_or_refused(datasets: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = datasets.files(tmp_path / "src", datasets.colours(4, 16, 16))
    (root / "cat" / "bad.png").write_bytes(b"no picture")
    with caplog.at_level(logging.WARNING, "bitterant"):
        assert len(ImageSet.from_folder(root)) == 4
    assert "1 of 5" in caplog.text
    assert "cat/bad.png" in caplog.text
    with pytest.raises(ImageError, match=r"cat/bad\.png"):
        ImageSet.from_folder(root, strict=True)
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(FolderError, match=r"None of the 5 pictures.*0 bytes"):
        ImageSet.from_folder(root)


def test_a_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no pictures"):
        ImageSet.from_folder(tmp_path)
    with pytest.raises(FolderError, match="no folder"):
        ImageSet.from_folder(tmp_path / "absent")
    (tmp_path / "a.png").touch()
    with pytest.raises(ConfigError, match="resolution"):
        ImageSet.from_folder(tmp_path, 0)


# ---------------------------------------------------------------------- data sets: forms
def test_all_forms_of_an_item_give_the_set_of_the_tensors(datasets: Any) -> None:
    pixels, labels = datasets.colours(), [0, 1, 2, 1, 0, 2]
    chw = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    wanted = ImageSet.from_tensors(chw, labels)
    pair = namedtuple("pair", "picture label")
    forms: dict[str, Any] = {
        "pillow": [(Image.fromarray(x), y) for x, y in zip(pixels, labels, strict=True)],
        "arrays": list(zip(pixels, labels, strict=True)),
        "lists": [[x, torch.tensor(y)] for x, y in zip(pixels, labels, strict=True)],
        "namedtuples": [pair(x, np.int32(y)) for x, y in zip(pixels, labels, strict=True)],
        "uint8 tensors": TensorDataset(chw, torch.tensor(labels)),
        "float tensors": TensorDataset(chw.double() / 255, torch.tensor(labels, dtype=torch.float32)),
        "mappings": [{"image": x, "label": y} for x, y in zip(pixels, labels, strict=True)],
        "more parts": [("id", x, y, 3.5) for x, y in zip(pixels, labels, strict=True)],
    }
    different = [name for name, form in forms.items() if not same(ImageSet.from_dataset(form), wanted)]
    assert not different
    turned = [(y, x) for x, y in zip(pixels, labels, strict=True)]
    assert same(ImageSet.from_dataset(turned, image_column=1, label_column=0), wanted)
    assert ImageSet.from_dataset(list(pixels), labels=False).keys == ImageSet.from_tensors(chw).keys


def test_classes_are_those_that_the_data_set_tells() -> None:
    class Fashion(Dataset[Any]):
        classes = ("T-shirt/top", ("boot", "ankle boot"))

        def __len__(self) -> int:
            return 4

        def __getitem__(self, index: int) -> Any:
            return np.full((8, 8, 3), 60 * index, np.uint8), index % 2

    whole = ImageSet.from_dataset(Fashion())
    assert whole.classes == ("T-shirt/top", "boot, ankle boot")
    assert ImageSet.from_dataset(Subset(Fashion(), [3, 1])).keys == (whole.keys[3], whole.keys[1])
    assert ImageSet.from_dataset(ConcatDataset([Fashion(), Fashion()])).keys == whole.keys * 2
    assert ImageSet.from_dataset(Fashion(), classes=["a", "b"]).keys[0].startswith("a/")


def test_labels_may_be_names(datasets: Any) -> None:
    named = list(zip(datasets.colours(3), ["dog", "cat", "dog"], strict=True))
    found = ImageSet.from_dataset(named)
    assert found.classes == ("cat", "dog")
    assert found.labels is not None
    assert found.labels.tolist() == [1, 0, 1]


def test_pictures_of_any_size_are_resized_as_files_are(datasets: Any, tmp_path: Path) -> None:
    pixels = [datasets.colours(1, 10 + i, 20 - i, seed=i)[0] for i in range(4)]
    root = datasets.files(tmp_path, pixels)
    folder = ImageSet.from_folder(root, 12)
    found = ImageSet.from_dataset(ImageFolder(root), 12)
    assert same(found, folder)
    assert found.native_size == folder.native_size


def test_greys_and_transparency_are_noted_as_for_files(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images = [
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)),
        Image.fromarray(
            np.dstack([rng.integers(0, 256, (8, 8, 3)), rng.integers(0, 2, (8, 8)) * 255]).astype(np.uint8)
        ),
    ]
    for number, image in enumerate(images):
        (tmp_path / "ab"[number]).mkdir()
        image.save(tmp_path / "ab"[number] / "x.png")
    found, folder = ImageSet.from_dataset(list(zip(images, [0, 1], strict=True))), ImageSet.from_folder(tmp_path, 8)
    assert torch.equal(found.images, folder.images)
    assert found.writable is not None
    assert folder.writable is not None
    assert found.writable.grey.tolist() == folder.writable.grey.tolist() == [True, False]
    assert found.writable.opaque is not None
    assert folder.writable.opaque is not None
    assert torch.equal(found.writable.opaque, folder.writable.opaque)


# ---------------------------------------------------------------------- data sets: keys
def test_a_folder_has_the_same_keys_by_torchvision_by_tables_and_by_us(
    datasets: Any, tables: Any, tmp_path: Path
) -> None:
    root = datasets.files(tmp_path, datasets.colours(6, 16, 16))
    wanted = ImageSet.from_folder(root)
    assert same(ImageSet.from_dataset(ImageFolder(root)), wanted)
    assert same(ImageSet.from_dataset(ImageFolder(root, transforms.ToTensor())), wanted)
    for embedded in (True, False):
        assert same(ImageSet.from_dataset(tables.table_of(root, embedded=embedded)), wanted)
    part = ImageSet.from_dataset(Subset(ConcatDataset([ImageFolder(root), ImageFolder(root)]), [7, 2]))
    assert part.keys == (wanted.keys[1], wanted.keys[2])


def test_what_is_not_as_the_file_stores_it_is_known_by_its_pixels(datasets: Any, tmp_path: Path) -> None:
    root = datasets.files(tmp_path, datasets.colours(2, 16, 16))
    # Stored turned by EXIF: torchvision hands it out as stored, the folder commands upright.
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(datasets.colours(1, 16, 16, seed=9)[0]).save(root / "cat" / "000.png", exif=exif)
    folder, found = ImageSet.from_folder(root), ImageSet.from_dataset(ImageFolder(root))
    assert not torch.equal(folder.images[0], found.images[0])
    assert found.keys[0] == "cat/" + ImageSet.from_tensors(found.images[:1]).keys[0] != folder.keys[0]
    assert found.keys[1] == folder.keys[1]
    cropped = ImageSet.from_dataset(ImageFolder(root, transforms.CenterCrop(12)))
    assert cropped.keys[1] == "dog/" + ImageSet.from_tensors(cropped.images[1:]).keys[0] != folder.keys[1]


def test_a_table_shows_files_upright_as_the_folder_commands_do(datasets: Any, tables: Any, tmp_path: Path) -> None:
    root = datasets.files(tmp_path, datasets.colours(2, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(datasets.colours(1, 16, 16, seed=9)[0]).save(root / "cat" / "000.png", exif=exif)
    assert same(ImageSet.from_dataset(tables.table_of(root)), ImageSet.from_folder(root))


# ---------------------------------------------------------------------- data sets: refusals
class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield np.zeros((8, 8, 3), np.uint8), 0


def pairs(*items: Any) -> list[Any]:
    return list(items)


X = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
REFUSED: list[tuple[str, Any, type[BitterantError], str]] = [
    ("a stream", Stream(), ConfigError, "stream.*streaming=False"),
    ("an iterator", iter([(X, 0)]), ConfigError, "stream"),
    ("a loader", DataLoader(pairs((X, 0))), ConfigError, r"loader\.dataset"),  # type: ignore[arg-type]
    ("parts", {"train": pairs((X, 0))}, ConfigError, r"dataset\['train'\]"),
    ("a path", "photos", ConfigError, "from_folder"),
    ("a tensor", torch.zeros(2, 3, 8, 8), ConfigError, "from_tensors"),
    ("a set", ImageSet.from_tensors(X[None]), ConfigError, "ImageSet already"),
    ("nothing", [], ConfigError, "empty"),
    ("no pictures", pairs(("a.jpg", 0)), ConfigError, "holds no picture but str, int"),
    ("a picture alone", pairs(X), LabelError, "without a label.*labels=False"),
    ("a picture in a tuple", pairs((X,)), LabelError, "without a label"),
    ("no label", pairs((X, None)), LabelError, "no label"),
    ("unlabelled split", pairs((X, -1)), LabelError, "-1.*labels=False"),
    ("captions", pairs((X, ["a cat"])), LabelError, "a list"),
    ("one-hot", pairs((X, torch.eye(3)[0])), LabelError, "argmax"),
    ("half a class", pairs((X, 0.5)), LabelError, r"0\.5"),
    ("names and numbers", pairs((X, 0), (X[::-1], "cat")), LabelError, "some are numbers"),
    ("8-bit floats", pairs((torch.full((3, 8, 8), 200.0), 0)), ConfigError, r"item 0 lies in 200.*\[0, 1\].*255"),
    ("normalised", pairs((X, 0), (torch.randn(3, 8, 8), 1)), ConfigError, "item 1.*normalisation"),
    ("sizes", pairs((X, 0), (X[:6, :6], 1)), ConfigError, "item 1 has 6 x 6.*resolution=64"),
    ("no square", pairs((X[:6], 0)), ConfigError, "8 x 6.*no square.*resolution=64"),
    ("an odd item", pairs((X, 0), {"image": X}), ConfigError, "item 1 has no part 0"),
    ("columns", pairs({"left": X, "right": X, "label": 0}), ConfigError, "image_column='left'"),
    ("no column", pairs({"picture": X, "id": 0}), LabelError, "picture, id.*label_column"),
    ("two labels", pairs({"image": X, "label": 0, "target": 1}), LabelError, "label_column='label'"),
    ("no picture in columns", pairs({"image": "a.jpg", "label": 0}), ConfigError, r"image \(str\).*cast_column"),
]  # fmt: skip


@pytest.mark.parametrize(("dataset", "error", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_misfits_are_told_in_plain_words(dataset: Any, error: type[BitterantError], words: str) -> None:
    with pytest.raises(error, match=words):
        ImageSet.from_dataset(dataset)


def test_pictures_that_are_drawn_at_random_are_refused() -> None:
    augmented = FakeData(
        8, (3, 16, 16), transform=transforms.Compose([transforms.RandomCrop(12), transforms.ToTensor()])
    )
    with pytest.raises(ConfigError, match=r"another picture each time.*augmentation off"):
        ImageSet.from_dataset(augmented)
    augmented.transform = transforms.ToTensor()
    assert len(ImageSet.from_dataset(augmented)) == 8


def test_an_item_that_cannot_be_read_is_named(datasets: Any, tables: Any, tmp_path: Path) -> None:
    root = datasets.files(tmp_path, datasets.colours(4, 16, 16))
    (root / "dog" / "003.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"item 3.*cannot give it \(UnidentifiedImageError"):
        ImageSet.from_dataset(ImageFolder(root))
    with pytest.raises(ImageError, match="item 3"):
        ImageSet.from_dataset(tables.table_of(root))
    (root / "dog" / "003.png").unlink()
    table = tables.table_of(root, embedded=False)
    (root / "dog" / "001.png").unlink()
    with pytest.raises(ImageError, match=r"item 2.*001\.png"):
        ImageSet.from_dataset(table)


def test_columns_of_tables_are_found_or_asked_for(datasets: Any, tables: Any, tmp_path: Path) -> None:
    files, labels, _ = datasets.samples(datasets.files(tmp_path, datasets.colours(4, 16, 16)))
    images = [{"bytes": path.read_bytes(), "path": None} for path in files]
    columns = {"id": [7, 8, 9, 10], "img": images, "fine_label": labels, "coarse_label": [0, 0, 0, 1]}
    named = {"fine_label": ["cat", "dog"], "coarse_label": ["pet", "other"]}
    table = tables.table(columns, images=["img"], classes=named)
    with pytest.raises(LabelError, match=r"fine_label, coarse_label.*label_column='fine_label'"):
        ImageSet.from_dataset(table)
    assert ImageSet.from_dataset(table, label_column="coarse_label").classes == ("pet", "other")
    assert ImageSet.from_dataset(table, labels=False).labels is None
    with pytest.raises(ConfigError, match=r"no column 'label'.*coarse_label"):
        ImageSet.from_dataset(table, label_column="label")
    unlabelled = tables.table({"img": images, "id": [1, 2, 3, 4]}, images=["img"])
    with pytest.raises(LabelError, match="img, id"):
        ImageSet.from_dataset(unlabelled)
    two = tables.table({"before": images, "after": images, "label": labels}, images=["before", "after"])
    with pytest.raises(ConfigError, match="image_column='before'"):
        ImageSet.from_dataset(two)
    assert len(ImageSet.from_dataset(two, image_column="after")) == 4
    missing = tables.table({"image": [*images[:2], None, images[3]], "label": labels}, images=["image"])
    with pytest.raises(ImageError, match=r"item 2.*holds no picture"):
        ImageSet.from_dataset(missing)


def test_a_table_with_a_transform_of_its_own_is_refused(datasets: Any, tables: Any, tmp_path: Path) -> None:
    table = tables.table_of(datasets.files(tmp_path, datasets.colours(2, 16, 16)))
    with pytest.raises(ConfigError, match=r"with_format\(None\)"):
        ImageSet.from_dataset(table.with_transform(lambda batch: batch))


def test_two_classes_of_one_name_are_refused(datasets: Any) -> None:
    items = list(zip(datasets.colours(2), [0, 1], strict=True))
    with pytest.raises(LabelError, match="both named 'crane'"):
        ImageSet.from_dataset(items, classes=["crane", "crane"])
    with pytest.raises(LabelError, match=r"0\.\.0 for 1 classes; 1 does not"):
        ImageSet.from_dataset(items, classes=["crane"])


def test_progress_counts_the_items(datasets: Any) -> None:
    told: list[tuple[int, int]] = []
    ImageSet.from_dataset(list(zip(datasets.colours(3), [0, 1, 0], strict=True)), progress=lambda *at: told.append(at))
    assert told == [(1, 3), (2, 3), (3, 3)]
