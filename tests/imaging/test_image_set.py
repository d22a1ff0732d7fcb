"""The set of images methods fit on: what it accepts, and that identity is content, not place."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bitterant.errors import ConfigError, LabelError
from bitterant.imaging import ImageSet


def pixels(count: int = 4, side: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_floats_are_rounded_to_the_8_bit_grid_and_come_back_exactly():
    images = pixels()
    made = ImageSet.from_tensors(images.float() / 255)
    assert torch.equal(made.images, images)
    assert len(made) == 4
    assert made.resolution == 5


def test_labels_name_their_classes_and_enter_the_keys():
    made = ImageSet.from_tensors(pixels(), torch.tensor([0, 1, 1, 0]), classes=["cat", "dog"])
    assert made.classes == ("cat", "dog")
    assert [key.split("/")[0] for key in made.keys] == ["cat", "dog", "dog", "cat"]
    assert ImageSet.from_tensors(pixels(), torch.tensor([0, 2, 1, 0])).classes == ("0", "1", "2")


def test_keys_follow_the_content_not_the_place():
    images, labels = pixels(), torch.tensor([0, 1, 1, 0])
    order = torch.tensor([2, 0, 3, 1])
    first = ImageSet.from_tensors(images, labels)
    second = ImageSet.from_tensors(images[order], labels[order])
    assert second.keys == tuple(first.keys[i] for i in order.tolist())
    assert second.keys == first.select(order).keys
    assert len(set(first.keys)) == 4


def test_select_takes_rows_in_the_order_asked_for():
    made = ImageSet.from_tensors(pixels(), torch.tensor([0, 1, 1, 0]))
    part = made.select([3, 1])
    assert torch.equal(part.images, made.images[[3, 1]])
    assert part.labels is not None
    assert part.labels.tolist() == [0, 1]
    assert part.classes == made.classes
    assert len(made.select([])) == 0


@pytest.mark.parametrize(
    "images",
    [
        torch.zeros(2, 1, 4, 4),
        torch.zeros(2, 3, 4, 5),
        torch.zeros(3, 4, 4),
        torch.full((2, 3, 4, 4), 1.5),
        torch.full((2, 3, 4, 4), -0.1),
        torch.full((2, 3, 4, 4), float("nan")),
    ],
)
def test_other_tensors_are_refused(images):
    with pytest.raises(ConfigError):
        ImageSet.from_tensors(images)


@pytest.mark.parametrize(
    ("labels", "classes", "words"),
    [
        ([0, 1], None, "4 images but labels of shape"),
        ([0, 1, 1, 0, 0], ["a", "b"], "4 images but labels of shape"),
        ([[0], [1], [1], [0]], None, "4 images but labels of shape"),
        ([0, 1, 2, 0], ["a", "b"], r"0\.\.1 for 2 classes, not in 0\.\.2"),
        ([0, -1, 1, 0], ["a", "b"], "0 or more; -1 is not"),
    ],
)
def test_labels_that_do_not_fit_are_said_to_be_so(labels, classes, words):
    with pytest.raises(LabelError, match=words):
        ImageSet.from_tensors(pixels(), torch.tensor(labels), classes=classes)


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(ConfigError, match="uint8"):
        ImageSet(torch.zeros(2, 3, 4, 4), None, (), ("a", "b"))
    with pytest.raises(ConfigError, match="4 images but 1 keys"):
        ImageSet(pixels(), None, (), ("a",))
    with pytest.raises(LabelError, match="shape"):
        ImageSet(pixels(), torch.zeros(3, dtype=torch.int64), ("a",), tuple("abcd"))
    with pytest.raises(LabelError, match=r"0\.\.1"):
        ImageSet(pixels(), torch.tensor([0, 1, 2, 0]), ("a", "b"), tuple("abcd"))


@pytest.mark.parametrize("classes", [[0, 1], [None, "dog"], [b"cat", b"dog"], ["cat", "cat"], ["cat", "\ud800"]])
def test_class_names_that_no_bank_could_keep_are_refused_before_any_work(classes):
    with pytest.raises(LabelError, match=r"text|both named 'cat'"):
        ImageSet.from_tensors(pixels(), [0, 1, 1, 0], classes=classes)
    with pytest.raises(LabelError, match=r"text|both named 'cat'"):
        ImageSet.from_dataset([(pixels()[0], 0), (pixels()[1], 1)], classes=classes)


@pytest.mark.parametrize("keys", [range(4), [None] * 4, ["a", "b", "c", "\ud800"]])
def test_so_are_keys(keys):
    with pytest.raises(ConfigError, match="A key is a text"):
        ImageSet.from_tensors(pixels(), keys=keys)


def test_identities_are_not_taken_for_numbers_of_classes():
    with pytest.raises(LabelError, match="numbered from 0, and there is a label 1099511627776"):
        ImageSet.from_tensors(pixels(), [0, 1, 1, 2**40])
    with pytest.raises(LabelError, match="numbered from 0, and there is a label 1099511627776"):
        ImageSet.from_dataset([(pixels()[0], 0), (pixels()[1], 2**40)])


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_a_mask_selects_where_it_is_true(kind):
    made = ImageSet.from_tensors(pixels())
    chosen = made.select(kind([False, True, False, True]))
    assert chosen.keys == (made.keys[1], made.keys[3])
    assert torch.equal(chosen.images, made.images[[1, 3]])
    assert made.select(kind([3, 1])).keys == (made.keys[3], made.keys[1])
    assert len(made.select(kind([]))) == 0


@pytest.mark.parametrize("indices", [[True, False], [0.5, 1.0], slice(0, 2), 1, [[0, 1]], ["a"]])
def test_what_is_neither_positions_nor_a_mask_is_refused(indices):
    with pytest.raises(ConfigError, match="Positions are whole numbers"):
        ImageSet.from_tensors(pixels()).select(indices)
