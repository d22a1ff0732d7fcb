"""The script that a module tests, and pictures in the format that the scripts read."""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
CLASSES = 4


def _write_pictures(path: Path, *, train: int, test: int) -> Path:
    """Gratings, a direction a class, in the format of the CIFAR-10 copy."""
    generator = np.random.default_rng(0)
    labels = np.arange(train + test) % CLASSES
    rows, columns = np.mgrid[:32, :32] / 32
    parts = []
    for label in labels:
        turn = np.pi * label / CLASSES
        wave = np.sin(14 * (rows * np.sin(turn) + columns * np.cos(turn)) + generator.uniform(0, 6))
        pixels = 128 + 60 * wave[..., None] * generator.uniform(0.5, 1, 3) + generator.normal(0, 12, (32, 32, 3))
        stream = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, format="JPEG", quality=75)
        parts.append(stream.getvalue())
    np.savez(
        path,
        blob=np.frombuffer(b"".join(parts), dtype=np.uint8),
        offsets=np.cumsum([0, *map(len, parts)]),
        y_train=labels[:train],
        y_test=labels[train:],
        classes=np.array(["east", "north-east", "north", "north-west"]),
    )
    return path


@pytest.fixture
def write_pictures() -> Callable[..., Path]:
    """Writes gratings, a direction a class, in the format of the CIFAR-10 copy."""
    return _write_pictures


@pytest.fixture(scope="module")
def script(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The module under ``benchmarks/`` that a test module is named after."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module(request.path.stem.removeprefix("test_"))
