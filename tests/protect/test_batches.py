"""Many images at once: bit for bit what each alone becomes, whatever the bank, the size and the type."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from bitterant.errors import BankError, ConfigError, LabelError
from bitterant.imaging import ImageSet
from bitterant.protect import Bank, TextureBank, batches, create_method

NAMES = ("cat", "T-shirt/top", "dog")


def data(count: int = 12, height: int = 24, width: int = 24, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """uint8 images, the fourth without colour, and labels."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=generator)
    images[3] = images[3, :1]
    return images, torch.arange(count) % 3


IMAGES, LABELS = data()
SET = ImageSet.from_tensors(IMAGES, LABELS, classes=NAMES)
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sample": ("noise", "sample", {}),
    "class": ("noise", "class", {}),
    "cluster": ("uc", "cluster", {"surrogate": "small-cnn", "rounds": 1, "attempts": 0, "clusters": 2}),
    "texture": ("texture", "sample", {}),
    "texture cluster": ("texture", "cluster", {"surrogate": "small-cnn", "clusters": 2}),
}


@pytest.fixture(scope="module", params=KINDS)
def bank(request: pytest.FixtureRequest) -> Any:
    """A bank of each kind, fitted on ``SET``."""
    name, granularity, options = KINDS[request.param]
    return create_method(name, granularity=granularity, device="cpu", **options).fit(SET)  # type: ignore[arg-type]


def one_by_one(bank: Any, images: Any, keys: Any) -> Any:
    made = [bank.apply(image, key) for image, key in zip(images, keys, strict=True)]
    return torch.stack(made) if isinstance(images, torch.Tensor) else np.stack(made)


def test_a_batch_is_its_images_one_by_one(bank: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "_BLOCK", 5 * 3 * 24 * 24)  # several blocks, the last one short
    wanted = one_by_one(bank, IMAGES, SET.keys)
    assert not torch.equal(wanted, IMAGES)
    assert torch.equal(bank.apply_set(IMAGES, SET.keys), wanted)
    assert np.array_equal(
        bank.apply_set(IMAGES.permute(0, 2, 3, 1).numpy(), SET.keys), wanted.permute(0, 2, 3, 1).numpy()
    )
    for dtype in (torch.float32, torch.float64, torch.float16):
        made = bank.apply_set(IMAGES.to(dtype) / 255, SET.keys)
        assert made.dtype == dtype
        assert torch.equal((made.double() * 255).round().to(torch.uint8), wanted)


def test_other_sizes_than_that_of_the_fit(bank: Any) -> None:
    images = data(height=37, width=50, seed=1)[0]
    assert torch.equal(bank.apply_set(images, SET.keys), one_by_one(bank, images, SET.keys))
    grey = images[:, :1]
    assert torch.equal(bank.apply_set(grey, SET.keys), one_by_one(bank, grey, SET.keys))


def test_keys_that_are_left_out_are_made_of_pixels_and_labels(bank: Any) -> None:
    wanted = bank.apply_set(IMAGES, SET.keys)
    names = [NAMES[label] for label in LABELS.tolist()]
    assert torch.equal(bank.apply_set(IMAGES, labels=names), wanted)
    assert torch.equal(bank.apply_set(IMAGES, [key.rpartition("/")[2] for key in SET.keys], names), wanted)


def test_numbers_are_names_where_nobody_gave_others() -> None:
    numbered = ImageSet.from_tensors(IMAGES, LABELS)
    for granularity in ("class", "sample"):
        bank = create_method("noise", granularity=granularity, device="cpu").fit(numbered)  # type: ignore[arg-type]
        for labels in (LABELS, LABELS.numpy(), LABELS.tolist()):
            assert torch.equal(bank.apply_set(IMAGES, labels=labels), bank.apply_set(IMAGES, numbered.keys))


def test_class_names_alone_are_keys_where_a_bank_serves_classes() -> None:
    names = [NAMES[label] for label in LABELS.tolist()]
    for method, granularity in (("noise", "class"), ("texture", "sample")):
        bank = create_method(method, granularity=granularity, device="cpu").fit(SET)  # type: ignore[arg-type]
        assert torch.equal(bank.apply_set(IMAGES, names), bank.apply_set(IMAGES, SET.keys))


def test_an_image_that_the_bank_does_not_know_is_told_with_what_to_do(bank: Any) -> None:
    other = data(seed=7)[0]
    if bank.granularity == "class" or (isinstance(bank, TextureBank) and bank.clusters is None):
        assert bank.apply_set(other, labels=[NAMES[0]] * 12).shape == other.shape
        with pytest.raises(BankError, match=r"class 'bird'\. It knows: "):
            bank.apply_set(other, labels=["bird"] * 12)
        return
    words = "never assigned.*apply_folder" if bank.clusters is not None else "knows only the 12 images.*textures"
    with pytest.raises(BankError, match=words):
        bank.apply_set(other)


@pytest.mark.parametrize(
    ("images", "keys", "labels", "error", "words"),
    [
        (IMAGES[0], SET.keys[:1], None, ConfigError, r"\[N, 3, H, W\].*apply"),
        ([IMAGES], SET.keys, None, ConfigError, "not list"),
        (IMAGES, SET.keys[:3], None, ConfigError, "12 images but 3 keys"),
        (IMAGES, "cat", None, ConfigError, "12 images but one text"),
        (IMAGES, None, ["cat"], LabelError, "12 images but 1 labels"),
        (IMAGES, None, [0.5] * 12, LabelError, r"not 0\.5"),
        (IMAGES.float(), SET.keys, None, ConfigError, r"image 0 .*255"),
        (torch.cat([IMAGES / 255, torch.full((1, 3, 24, 24), -1.0)]), [*SET.keys, "x"], None, ConfigError, "image 12"),
        (IMAGES.long(), SET.keys, None, ConfigError, "int64"),
    ],
)
def test_misfits_are_refused(images: Any, keys: Any, labels: Any, error: type[Exception], words: str) -> None:
    bank = create_method("noise", granularity="class", device="cpu").fit(SET)
    with pytest.raises(error, match=words):
        bank.apply_set(images, keys, labels)


def test_nothing_becomes_nothing() -> None:
    bank = create_method("noise", granularity="class", device="cpu").fit(SET)
    assert isinstance(bank, Bank)
    assert bank.apply_set(IMAGES[:0], []).shape == (0, 3, 24, 24)
