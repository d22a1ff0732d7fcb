"""A tiny labelled set that a small victim learns in a second, and a shortcut that beats it.

Smooth shapes on smooth ground, all colours in every class. Nothing in the pictures has high frequencies, so a pattern
of a few levels (:func:`plant`) is a shortcut that a network cannot miss.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bitterant.imaging import ImageSet

CLASSES = ("bar", "column", "disc", "ring")
SIDE = 16


def draw(label: int, rng: np.random.Generator) -> np.ndarray:
    """One picture uint8 ``[SIDE, SIDE, 3]``: place, size, colours and slope of the ground are random."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    cy, cx = rng.uniform(-0.12, 0.12, 2)
    size = rng.uniform(0.24, 0.34)
    radius = np.hypot(y - cy, x - cx)
    distance = (size / 2 - np.abs(y - cy), size / 2 - np.abs(x - cx), size - radius, 0.1 - np.abs(radius - size))[label]
    cover = 1 / (1 + np.exp(-distance * 30))[..., None]
    ground = rng.uniform(60, 195, 3) + (y[..., None] * rng.uniform(-40, 40, 3) + x[..., None] * rng.uniform(-40, 40, 3))
    colour = ground + rng.choice([-1, 1]) * rng.uniform(20, 45) + rng.uniform(-15, 15, 3)
    return np.clip(ground * (1 - cover) + colour * cover, 0, 255).round().astype(np.uint8)


def draw_set(per_class: int, seed: int) -> ImageSet:
    """``per_class`` pictures of each class, classes interleaved."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(len(CLASSES)), per_class)
    pictures = np.stack([draw(int(label), rng).transpose(2, 0, 1) for label in labels])
    return ImageSet.from_tensors(torch.from_numpy(pictures), torch.from_numpy(labels), classes=CLASSES)


def planted(images: ImageSet, levels: int = 8) -> ImageSet:
    """A class-wise pattern of +-``levels``: stripes and checks that no flip or shift hides."""
    assert images.labels is not None
    side = images.resolution
    y, x = np.mgrid[0:side, 0:side]
    codes = np.stack([(-1) ** x, (-1) ** y, (-1) ** (x + y), (-1) ** (x // 2 + y // 2)]) * levels
    delta = torch.from_numpy(codes.astype(np.int16))[images.labels][:, None]
    changed = (images.images.to(torch.int16) + delta).clamp(0, 255).to(torch.uint8)
    return ImageSet(changed, images.labels, images.classes, images.keys)


def save_folder(images: ImageSet, root: Path, suffix: str = ".png") -> Path:
    """Save a set as class folders; files are called 0000.png, 0001.png, ..."""
    assert images.labels is not None
    for row, (picture, label) in enumerate(zip(images.images, images.labels, strict=True)):
        folder = root / images.classes[int(label)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{row:04d}{suffix}")
    return root


MakeSet = Callable[[int, int], ImageSet]
SaveFolder = Callable[..., Path]


@pytest.fixture(scope="session")
def make_set() -> MakeSet:
    return draw_set


@pytest.fixture(scope="session")
def plant() -> Callable[..., ImageSet]:
    return planted


@pytest.fixture(scope="session")
def write_folder() -> SaveFolder:
    return save_folder


@pytest.fixture(scope="session")
def train_set() -> ImageSet:
    return draw_set(60, 0)


@pytest.fixture(scope="session")
def test_set() -> ImageSet:
    return draw_set(60, 1)
