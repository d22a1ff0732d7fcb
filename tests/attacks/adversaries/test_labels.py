"""Other labels on the same pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from bitterant.attacks.adversaries import (
    create_adversary,
)
from bitterant.errors import ConfigError, LabelError


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
