"""The sample pictures: drawn the same each time, learnable, and not by their colours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitterant.cli.demo_pictures import CLASSES, draw_picture, write_pictures
from bitterant.imaging import load_image_set, scan_folder
from bitterant.surrogates import create_surrogate, recipe_for, train_classifier

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def pixels(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*.*"))}


def test_the_same_seed_draws_the_same_and_a_smaller_set_is_a_part_of_a_larger_one(tmp_path: Path) -> None:
    assert write_pictures(tmp_path / "a", per_class=3, seed=5) == 3 * len(CLASSES)
    write_pictures(tmp_path / "b", per_class=1, seed=5)
    write_pictures(tmp_path / "c", per_class=1, seed=6)
    a, b, c = (pixels(tmp_path / name) for name in "abc")
    assert b.items() < a.items()
    assert not set(c.values()) & set(a.values())


def test_existing_pictures_are_left_alone(tmp_path: Path) -> None:
    write_pictures(tmp_path, per_class=1, seed=0)
    first = next(tmp_path.rglob("*.jpg"))
    first.write_bytes(b"mine")
    write_pictures(tmp_path, per_class=1, seed=0)
    assert first.read_bytes() == b"mine"


def test_sizes_vary_and_stay_small() -> None:
    sizes = [draw_picture(name, np.random.default_rng(i)).size for i, name in enumerate(CLASSES * 2)]
    assert len(set(sizes)) > 10
    assert all(96 <= side <= 200 for size in sizes for side in size)


def test_progress_ends_at_one(tmp_path: Path) -> None:
    told: list[float] = []
    write_pictures(tmp_path, per_class=1, seed=0, progress=told.append)
    assert told == sorted(told)
    assert told[-1] == 1.0


def test_colour_does_not_give_the_class_away() -> None:
    """The nearest mean colour of a class guesses the class hardly better than chance."""

    def colours(seed: int) -> np.ndarray:
        """Mean and spread of each channel, ``[class, picture, 6]``."""
        rows = []
        for name in CLASSES:
            drawn = [np.asarray(draw_picture(name, np.random.default_rng([seed, i]))) for i in range(20)]
            rows.append([np.concatenate([p.mean((0, 1)), p.std((0, 1))]) for p in drawn])
        return np.array(rows)

    centres = colours(0).mean(axis=1)
    distance = ((colours(1)[:, :, None] - centres) ** 2).sum(axis=-1)
    right = (distance.argmin(axis=2) == np.arange(len(CLASSES))[:, None]).mean()
    assert right < 0.35


def test_the_committed_pictures_are_those_that_the_script_draws(tmp_path: Path) -> None:
    """Compared after decoding and with some room, since JPEG encoders differ in their last bits."""
    folder = SAMPLES / "pictures"
    names = {p.relative_to(folder).as_posix() for p in folder.rglob("*.*")}
    write_pictures(tmp_path, per_class=len(names) // len(CLASSES), seed=0)
    assert names == set(pixels(tmp_path))
    for name in sorted(names)[::7]:
        drawn, kept = (np.asarray(Image.open(root / name), dtype=float) for root in (tmp_path, folder))
        assert drawn.shape == kept.shape
        assert abs(drawn - kept).mean() < 2.0


@pytest.mark.slow
def test_a_small_victim_learns_them(tmp_path: Path) -> None:
    write_pictures(tmp_path / "train", per_class=50, seed=0)
    write_pictures(tmp_path / "test", per_class=30, seed=1)
    train, _, _ = load_image_set(scan_folder(tmp_path / "train"), 32)
    test, _, _ = load_image_set(scan_folder(tmp_path / "test"), 32)
    assert train.labels is not None
    victim = create_surrogate("small-cnn", num_classes=len(CLASSES), resolution=32, seed=0)
    result = train_classifier(
        victim,
        train.images,
        train.labels,
        recipe_for("small-cnn"),
        seed=0,
        test_images=test.images,
        test_labels=test.labels,
    )
    assert result.predictions is not None
    assert float((torch.as_tensor(result.predictions) == test.labels).float().mean()) >= 0.9
