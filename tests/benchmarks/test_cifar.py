"""Where the scripts find CIFAR-10."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_a_file_that_is_missing_is_told_and_how_to_name_one(script: Any, tmp_path: Path) -> None:
    for file, words in (
        (None, "No file of CIFAR-10 was named"),
        (tmp_path / "none.npz", "There is no file .*none.npz"),
    ):
        with pytest.raises(SystemExit, match=f"{words}.*--data.*BITTERANT_CIFAR.*npz"):
            script.Cifar(file)


def test_the_environment_names_it(
    script: Any, write_pictures: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BITTERANT_CIFAR", str(write_pictures(tmp_path / "pictures.npz", train=8, test=4)))
    images, labels = importlib.reload(script).Cifar().train(0, 6)
    assert images.shape == (6, 3, 32, 32)
    assert len(labels) == 6
    monkeypatch.setenv("BITTERANT_CIFAR", "")
    assert importlib.reload(script).DEFAULT_FILE is None
