"""Sets in memory, and the arm of random noise."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitterant.attacks.data.checking import stealth_csv
from bitterant.attacks.data.folders import load_folders
from bitterant.attacks.data.sets import VerificationData, largest_change, load_sets, noise_arm, placebo_levels
from bitterant.errors import ConfigError, LabelError
from bitterant.imaging import ImageSet

Plant = Callable[..., ImageSet]


SaveFolder = Callable[..., Path]


def silent(*_: object) -> None:
    pass


def load(clean: Path, protected: Path, test: Path | None = None, **options: object) -> VerificationData:
    settings = {"resolution": "auto", "seed": 0, "device_type": "cpu", "epsilon": None, **options}
    return load_folders(clean, protected, test=test, step=silent, **settings)  # type: ignore[arg-type]


def test_the_noise_arm_has_the_amplitude_and_follows_the_key() -> None:
    images = np.full((3, 3, 8, 8), 100, dtype=np.uint8)
    noisy = noise_arm(images, ["a", "b", "a"], 8.0, seed=0)
    assert set(np.unique(noisy)) == {92, 108}
    assert abs(noisy.mean() - 100) < 1
    assert (noisy[0] == noisy[2]).all()
    assert (noisy[0] != noisy[1]).any()
    assert (noise_arm(images[::-1], ["a", "b", "a"], 8.0, seed=0) == noisy[::-1]).all()
    assert (noise_arm(images, ["a", "b", "a"], 8.0, seed=1) != noisy).any()
    assert (noise_arm(images, ["a", "b", "a"], 0.0, seed=0) == images).all()
    white = noise_arm(np.full((1, 3, 8, 8), 255, dtype=np.uint8), ["a"], 8.0, seed=0)
    assert set(np.unique(white)) == {247, 255}
    assert largest_change(images, noisy).tolist() == [8, 8, 8]


def test_the_placebo_is_as_large_as_promised_or_as_usual() -> None:
    assert placebo_levels([6, 6, 31], 8.0) == 8.0
    assert placebo_levels([6, 6, 31], None) == 6.0
    assert placebo_levels([], None) == 0.0


def test_files_on_disk_are_checked(tmp_path: Path, train_set: ImageSet, plant: Plant, write_folder: SaveFolder) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(plant(train_set, 3), tmp_path / "out")
    (protected / "bar" / "0000.png").write_bytes(b"broken")
    Image.new("RGB", (17, 16)).save(protected / "bar" / "0004.png")
    Image.open(clean / "bar" / "0008.png").convert("L").save(protected / "bar" / "0008.png")
    over = np.asarray(Image.open(clean / "disc" / "0002.png")).astype(int)
    Image.fromarray(np.where(over < 128, over + 40, over - 40).astype(np.uint8)).save(protected / "disc" / "0002.png")
    data = load(clean, protected, epsilon=8 / 255)
    assert {issue.path: issue.kind for issue in data.issues} == {
        "bar/0000.png": "unreadable",
        "bar/0004.png": "resized",
        "bar/0008.png": "resized",
    }
    assert len(data.files) == 237
    stealth = data.stealth()
    assert stealth.over_budget == ("disc/0002.png",)
    assert (stealth.linf.max, stealth.linf.p50) == (40, 3)
    assert stealth.ssim_files == 237
    rows = list(csv.DictReader(stealth_csv(data.files, budget_levels=8.0).decode().splitlines()))
    assert len(rows) == 237
    assert [row["output"] for row in rows if row["over_budget"] == "yes"] == ["disc/0002.png"]
    assert all(int(row["bytes_clean"]) == (clean / row["source"]).stat().st_size for row in rows)


def test_sets_must_fit_together(train_set: ImageSet, test_set: ImageSet) -> None:
    unlabelled = ImageSet(train_set.images, None, (), train_set.keys)
    with pytest.raises(LabelError, match="protected set has no labels"):
        load_sets(train_set, unlabelled, test_set)
    with pytest.raises(ConfigError, match="pairs"):
        load_sets(train_set, train_set.select([0, 1]), test_set)
    with pytest.raises(ConfigError, match="empty"):
        load_sets(train_set, train_set, test_set.select([]))
    small = ImageSet.from_tensors(torch.zeros(4, 3, 8, 8), torch.arange(4), classes=train_set.classes)
    with pytest.raises(ConfigError, match="one resolution"):
        load_sets(train_set, train_set, small)
    renamed = ImageSet(test_set.images, test_set.labels, ("w", "x", "y", "z"), test_set.keys)
    with pytest.raises(LabelError, match="same class names"):
        load_sets(train_set, train_set, renamed)
    with pytest.raises(ConfigError, match="Tensor and no ImageSet"):
        load_sets(train_set.images, train_set, test_set)  # type: ignore[arg-type]
    assert train_set.labels is not None
    assert test_set.labels is not None
    first = [row for row, label in enumerate(test_set.labels.tolist()) if label == 0]
    with pytest.raises(LabelError, match="test images are of one class"):
        load_sets(train_set, train_set, test_set.select(first))
    only = train_set.select([row for row, label in enumerate(train_set.labels.tolist()) if label == 0])
    with pytest.raises(LabelError, match="train on are of one class"):
        load_sets(only, only, test_set)
    moved = train_set.labels.clone()
    moved[:2] = moved[:2].flip(0)
    data = load_sets(train_set, ImageSet(train_set.images, moved, train_set.classes, train_set.keys), test_set)
    assert [issue.kind for issue in data.issues if issue.kind != "near"] == ["relabelled"] * 2
    assert len(data.labels) == len(train_set) - 2
