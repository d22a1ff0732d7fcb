"""Images and labels from memory: what people have is taken, and what cannot be meant is refused in plain words."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bitterant.errors import BitterantError, ConfigError, LabelError
from bitterant.imaging import ImageSet

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3, 8, 8)).astype(np.uint8)
LABELS = [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    "images",
    [
        PIXELS,
        PIXELS.transpose(0, 2, 3, 1),
        torch.from_numpy(PIXELS).permute(0, 2, 3, 1),
        (PIXELS / 255).astype(np.float32),
        PIXELS / 255,
        torch.from_numpy(PIXELS / 255).requires_grad_(True),
        list(PIXELS),
        list(torch.from_numpy(PIXELS)),
        PIXELS[:, ::-1][:, ::-1],
    ],
    ids=["uint8", "uint8-hwc", "tensor-hwc", "float32", "float64", "gradient", "list", "tensors", "strides"],
)
def test_pictures_of_all_forms_are_the_same_pictures(images: Any) -> None:
    assert np.array_equal(ImageSet.from_tensors(images).images.numpy(), PIXELS)


@pytest.mark.parametrize(
    "labels",
    [LABELS, tuple(LABELS), np.array(LABELS), np.array(LABELS, np.uint16), torch.tensor(LABELS),
     np.array(LABELS, float), torch.tensor(LABELS, dtype=torch.uint8), np.array(LABELS, ">i4")],
)  # fmt: skip
def test_labels_of_all_forms_are_the_same_labels(labels: Any) -> None:
    found = ImageSet.from_tensors(PIXELS, labels).labels
    assert found is not None
    assert found.tolist() == LABELS


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (np.full((2, 3, 4, 4), np.nan), "not finite"),
        (np.full((2, 3, 4, 4), np.inf), "not finite"),
        (PIXELS.astype(np.float32), r"divide 8-bit values by 255"),
        (PIXELS.astype(np.int64), "of type int64"),
        (PIXELS > 4, "of type bool"),
        (PIXELS[:, :1], "repeat the channel"),
        (PIXELS[:, 0], "repeat the channel"),
        (PIXELS[0], "add an axis"),
        (PIXELS[:, :, :6], "squares"),
        (np.zeros((2, 4, 8, 8), np.uint8), "transparency"),
        (PIXELS[:0], "empty"),
        ([], "shape"),
        ("photos", "not str"),
        (None, "not NoneType"),
        ([PIXELS[0], PIXELS[0, :, :4]], "equally large"),
    ],
)
def test_other_pictures_are_refused_in_plain_words(images: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ImageSet.from_tensors(images)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0.5, 1, 2, 0, 1, 2], "0.5 is none"),
        (torch.tensor(LABELS) + 0.5, "whole numbers"),
        ([float("nan")] * 6, "not finite"),
        ([-1, 0, 1, 0, 1, 0], "-1 is not"),
        (LABELS[:5], r"shape \(5,\)"),
        (np.eye(6), r"argmax\(1\)"),
        (["cat"] * 6, "not names"),
        ([], "6 images but labels"),
        (3, r"shape \(\)"),
        ([None] * 6, "list of NoneType"),
    ],
)
def test_other_labels_are_refused_in_plain_words(labels: Any, words: str) -> None:
    with pytest.raises(LabelError, match=words):
        ImageSet.from_tensors(PIXELS, labels)


def test_a_label_without_a_name_is_refused() -> None:
    with pytest.raises(BitterantError, match=r"0\.\.1 for 2 classes"):
        ImageSet.from_tensors(PIXELS, LABELS, classes=["cat", "dog"])
