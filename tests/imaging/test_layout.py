"""Which folders are classes, in the layouts that data sets come in."""

from __future__ import annotations

import pytest

from bitterant.imaging.scan import LOOSE, find_layout

CLASSES = ("cats", "dogs")


def below(*folders: str, names: tuple[str, ...] = CLASSES, count: int = 2) -> list[str]:
    return [f"{folder}/{name}/{i}.jpg" for folder in folders for name in names for i in range(count)]


@pytest.mark.parametrize(
    "folders",
    [
        ("train", "val", "test"),
        ("Train", "TEST"),
        ("training", "validation"),
        ("train", "valid"),
        ("train", "dev"),
        ("training", "testing"),
        ("train2017", "val2017"),
        ("train_set", "test_set"),
        ("train",),
        ("test",),
        ("cub/train", "cub/test"),
        ("images/train", "images/val"),
        ("train/images", "val/images"),
    ],
    ids="+".join,
)
def test_classes_lie_below_the_parts_of_a_data_set(folders):
    layout = find_layout(below(*folders))
    for relative, name in layout.class_of.items():
        assert name == relative.split("/")[-2]
    assert {relative.rsplit("/", 2)[0] for relative in layout.class_of} <= set(layout.parts)
    assert layout.notes == ()


@pytest.mark.parametrize(
    "relatives",
    [
        [f"{part}/{i}.jpg" for part in ("train", "test") for i in range(3)],
        [f"images/{i}.jpg" for i in range(3)],
        [f"{part}/images/{i}.jpg" for part in ("train", "valid") for i in range(3)],
        [f"images/{part}/{i}.jpg" for part in ("train", "val") for i in range(3)],
        ["1.jpg", "2.jpg"],
    ],
    ids=["parts", "images", "parts/images", "images/parts", "plain"],
)
def test_parts_and_wrappers_without_class_folders_are_flat(relatives):
    layout = find_layout(relatives)
    assert set(layout.class_of.values()) == {None}
    assert layout.notes == ()


@pytest.mark.parametrize(
    ("relatives", "classes"),
    [
        (["test/1.jpg", "cats/1.jpg"], {"test", "cats"}),  # a class that happens to be called test
        (["images/1.jpg", "dogs/1.jpg"], {"images", "dogs"}),
        (["cats/2020/1.jpg", "cats/2021/1.jpg"], {"cats"}),
        (["trains/1.jpg", "tests/1.jpg"], {"trains", "tests"}),
        (["train/cats/1.jpg", "train/test/1.jpg"], {"cats", "test"}),  # parts have no parts
        (["cats/images/1.jpg", "dogs/images/1.jpg"], {"cats", "dogs"}),
    ],
)
def test_other_folders_are_classes(relatives, classes):
    layout = find_layout(relatives)
    assert set(layout.class_of.values()) == classes
    assert layout.notes == ()


def test_a_further_folder_beside_train_and_test_is_a_part_if_it_holds_the_same_classes():
    layout = find_layout([*below("train", "test", "extra"), "unlabelled/1.jpg"])
    assert set(layout.class_of.values()) == {*CLASSES, "unlabelled"}
    assert layout.class_of["extra/dogs/1.jpg"] == "dogs"
    assert layout.parts == ("extra", "test", "train")


def test_a_test_part_without_classes_is_a_class_of_its_own():
    layout = find_layout([*below("train"), "test/1.jpg", "test/2.jpg"])
    assert layout.class_of["test/1.jpg"] == LOOSE
    assert set(layout.class_of.values()) == {*CLASSES, LOOSE}
    assert "2 of 6" in layout.notes[0]
    assert "in test" in layout.notes[0]


def test_one_sub_folder_beside_loose_pictures_is_no_class():
    layout = find_layout([*(f"{i}.jpg" for i in range(2)), *(f"holiday/{i}.jpg" for i in range(30))])
    assert set(layout.class_of.values()) == {None}
    assert "holiday" in layout.notes[0]


@pytest.mark.parametrize(
    "folders",
    [("dataset",), ("archive/dataset",), ("train/dataset", "val/dataset"), ("dataset/images/deep",)],
    ids="+".join,
)
def test_a_folder_around_the_classes_is_none(folders):
    layout = find_layout(below(*folders))
    for relative, name in layout.class_of.items():
        assert name == relative.split("/")[-2]
    assert set(folders) <= set(layout.parts)
    (note,) = layout.notes
    assert note.startswith(f"{folders[0].rpartition('/')[2]} is the only folder")


@pytest.mark.parametrize(
    "folders",
    [("dataset/train", "dataset/val"), ("dataset/train",), ("a/b/train", "a/b/val", "a/b/test")],
    ids="+".join,
)
def test_a_folder_around_the_parts_needs_no_note(folders):
    layout = find_layout(below(*folders))
    assert set(layout.class_of.values()) == set(CLASSES)
    assert layout.notes == ()


@pytest.mark.parametrize("beside", ["", "dataset/"])
def test_few_pictures_beside_the_classes_do_not_hide_them(beside):
    layout = find_layout([*below("dataset"), f"{beside}cover.jpg"])
    assert layout.class_of["dataset/dogs/0.jpg"] == "dogs"
    assert layout.class_of[f"{beside}cover.jpg"] == LOOSE
    assert len(layout.notes) == 2


@pytest.mark.parametrize(
    "relatives",
    [
        [*below("cats", names=("grey", "black")), *(f"cats/{i}.jpg" for i in range(4))],  # as many lie in it as below
        below("cats", names=("2019", "2020-05", "20210517")),
        below("cats/pets", names=("home",)),  # nothing divides
    ],
    ids=["loose", "dates", "chain"],
)
def test_one_class_with_folders_of_its_own_stays_one(relatives):
    layout = find_layout(relatives)
    assert set(layout.class_of.values()) == {"cats"}
