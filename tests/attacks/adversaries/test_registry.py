"""Adversaries change pictures as they say, and new ones can be added in a few lines."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bitterant.attacks.adversaries import (
    Adversary,
    adversary_classes,
    adversary_names,
    create_adversaries,
    create_adversary,
    register_adversary,
    registry,
)
from bitterant.attacks.presets import PRESETS
from bitterant.attacks.terms import TIERS, Pixels
from bitterant.errors import ConfigError, LabelError, UnknownNameError


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 3, 16, 16), dtype=np.uint8)


NEW = ["mix", "regroup", "finer", "linear-probe", "knn", "rotate", "staged", "noise-denoise", "few-denoise", "equalize"]


@pytest.mark.parametrize("name", ["none", "early-stop", "jpeg", "grayscale", *NEW])
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
    assert adversary.readout == "peak"
    assert {adversary.trained_by(arm) for arm in adversary.arms} == {"none"}


@pytest.mark.parametrize("name", ["jpeg:0", "jpeg:101", "jpeg:x", "jpeg:", "jpeg:5.5", "grayscale:2", "none:"])
def test_wrong_parameters(name: str) -> None:
    with pytest.raises(ConfigError):
        create_adversary(name)


@pytest.mark.parametrize(
    ("name", "canonical", "tier"),
    [
        ("mix", "mix:0.5", "mixing"),
        ("mix:.80", "mix:0.8", "mixing"),
        ("regroup", "regroup:2", "relabel"),
        ("finer:3", "finer:3", "relabel"),
        ("linear-probe", "linear-probe:efficientnet-lite0", "prior"),
        ("knn:resnet18", "knn:resnet18", "prior"),
    ],
)
def test_names_are_spelled_out(name: str, canonical: str, tier: str) -> None:
    adversary = create_adversary(name)
    assert (adversary.name, adversary.tier) == (canonical, tier)
    assert create_adversary(canonical).name == canonical


@dataclass
class FakeMaterial:
    """Four classes, each picture of another one."""

    classes: tuple[str, ...] = ("cat", "dog", "rose", "oak")
    seed: int = 0

    @property
    def labels(self) -> np.ndarray:
        return np.array([0, 1, 2, 3, 0])

    @property
    def test_labels(self) -> np.ndarray:
        return np.array([3, 0])


@pytest.mark.parametrize(
    ("suffix", "text"),
    [
        ("json", '{"cat": "animal", "dog": "animal", "rose": "plant", "oak": "plant", "unused": "x"}'),
        ("toml", 'cat = "animal"\ndog = "animal"\nrose = "plant"\noak = "plant"\n'),
    ],
)
def test_superclasses_come_from_a_file(tmp_path: Path, suffix: str, text: str) -> None:
    path = tmp_path / f"map.{suffix}"
    path.write_text(text)
    found = create_adversary(f"superclass:{path}").relabel(FakeMaterial())  # type: ignore[arg-type]
    assert found.train.tolist() == [0, 0, 1, 1, 0]
    assert found.test.tolist() == [1, 0]
    assert (found.classes, found.detail) == (2, "animal: cat, dog; plant: rose, oak")


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("{", ConfigError, "it is no JSON"),
        ("[1]", ConfigError, "must map"),
        ('{"cat": ["a"]}', ConfigError, "must map"),
        ('{"cat": "a", "dog": "b"}', LabelError, "rose, oak"),
        ('{"cat": "a", "dog": "a", "rose": "a", "oak": "a"}', LabelError, "two superclasses"),
    ],
)
def test_wrong_superclasses(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    path = tmp_path / "map.json"
    path.write_text(text)
    with pytest.raises(error, match=words):
        create_adversary(f"superclass:{path}").relabel(FakeMaterial())  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["superclass", "superclass:/no/such/file.json", "mix:0", "mix:1", "mix:x", "mix:nan"])
def test_more_wrong_parameters(name: str) -> None:
    with pytest.raises(ConfigError):
        create_adversary(name)


@pytest.mark.parametrize("name", ["regroup:1", "regroup:x", "finer:1", "finer:", "linear-probe:resnet-18", "knn:"])
def test_wrong_numbers_and_networks(name: str) -> None:
    with pytest.raises(ConfigError):
        create_adversary(name)


def test_groups_are_balanced_and_follow_the_seed() -> None:
    many = [f"c{i}" for i in range(7)]
    tables = set()
    for seed in range(8):
        material = FakeMaterial(tuple(many), seed)
        found = create_adversary("regroup:3").relabel(material)  # type: ignore[arg-type]
        sizes = sorted(len(part.split(":")[1].split(",")) for part in (found.detail or "").split(";"))
        assert sizes == [2, 2, 3]
        tables.add(found.detail)
    assert len(tables) > 5
    again = create_adversary("regroup:3").relabel(FakeMaterial(tuple(many), 0))  # type: ignore[arg-type]
    assert again.detail in tables


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'grayscale'"):
        create_adversary("greyscale")


def test_none_always_comes_first_and_repeats_are_dropped() -> None:
    names = [adversary.name for adversary in create_adversaries(["jpeg:10", "jpeg", "early-stop", "none"])]
    assert names == ["none", "jpeg:10", "early-stop"]


def test_presets_name_adversaries_that_exist_and_quick_stays_as_it_was() -> None:
    for preset in PRESETS.values():
        made = create_adversaries(preset.adversaries)
        assert len(made) == len(preset.adversaries) + 1, f"{preset.name} names one twice"
    added = {"bandstop:4-9", "coin:2", "equalize", "compose:grayscale+jpeg:10", "lowpass:8"}
    assert added <= set(PRESETS["standard"].adversaries)
    assert not added & set(PRESETS["quick"].adversaries)
    assert set(PRESETS["standard"].adversaries) <= set(PRESETS["full"].adversaries)


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
