"""Adversaries change pictures as they say, and new ones can be added in a few lines."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from bitterant.attacks.adversaries import (
    TIERS,
    Adversary,
    Pixels,
    adversary_classes,
    adversary_names,
    create_adversaries,
    create_adversary,
    register_adversary,
    registry,
)
from bitterant.errors import ConfigError, UnknownNameError


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("name", ["none", "early-stop", "jpeg", "grayscale"])
def test_the_table_of_adversaries(name: str, images: np.ndarray) -> None:
    adversary = create_adversary(name)
    assert name in adversary_names()
    assert adversary.tier in TIERS
    assert adversary.source
    assert adversary.description
    assert adversary.phrase.startswith("a ")
    before = images.copy()
    changed = adversary.transform(images)
    assert changed.shape == images.shape
    assert changed.dtype == np.uint8
    assert (images == before).all(), "the cached pictures of an arm must not be written to"
    assert (changed != images).any() == (adversary.tier == "transforms")


def test_grayscale_is_the_luma_of_pillow(images: np.ndarray) -> None:
    changed = create_adversary("grayscale").transform(images)
    for before, after in zip(images, changed, strict=True):
        luma = np.asarray(Image.fromarray(before.transpose(1, 2, 0)).convert("L"))
        assert (after == luma).all()


@pytest.mark.parametrize(("name", "quality"), [("jpeg", 10), ("jpeg:10", 10), ("jpeg:75", 75)])
def test_jpeg_is_what_a_file_would_be(name: str, quality: int, images: np.ndarray) -> None:
    adversary = create_adversary(name)
    assert adversary.name == f"jpeg:{quality}"
    stream = io.BytesIO()
    Image.fromarray(images[3].transpose(1, 2, 0)).save(stream, "JPEG", quality=quality)
    expected = np.asarray(Image.open(stream).convert("RGB")).transpose(2, 0, 1)
    assert (adversary.transform(images)[3] == expected).all()


def test_early_stop_is_free_and_reads_the_plain_trainings() -> None:
    adversary = create_adversary("early-stop")
    assert (adversary.cost, adversary.runs_as, adversary.readout) == (0.0, "none", "peak")


@pytest.mark.parametrize("name", ["jpeg:0", "jpeg:101", "jpeg:x", "jpeg:", "jpeg:5.5", "grayscale:2", "none:"])
def test_wrong_parameters(name: str) -> None:
    with pytest.raises(ConfigError):
        create_adversary(name)


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'grayscale'"):
        create_adversary("greyscale")


def test_none_always_comes_first_and_repeats_are_dropped() -> None:
    names = [adversary.name for adversary in create_adversaries(["jpeg:10", "jpeg", "early-stop", "none"])]
    assert names == ["none", "jpeg:10", "early-stop"]


def test_a_new_adversary_is_one_class(monkeypatch: pytest.MonkeyPatch, images: np.ndarray) -> None:
    monkeypatch.setattr(registry, "_REGISTRY", adversary_classes())

    @register_adversary
    class Mirror(Adversary):
        prefix = "mirror"
        tier = "transforms"
        source = "a test"
        description = "left and right changed"

        def transform(self, images: Pixels) -> Pixels:
            return images[..., ::-1].copy()

    assert (create_adversary("mirror").transform(images) == images[..., ::-1]).all()
    assert register_adversary(Mirror) is Mirror
    with pytest.raises(ConfigError, match="already"):
        register_adversary(type("Other", (Mirror,), {}))
    with pytest.raises(ConfigError, match="colon"):
        register_adversary(type("Other", (Mirror,), {"prefix": "a:b"}))
