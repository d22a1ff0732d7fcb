"""What the frontier looks at: photographs of every class, and figures that follow the budget."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image


def test_a_larger_budget_is_seen_more(tmp_path: Path, script: Any) -> None:
    generator = np.random.default_rng(0)
    for number in range(9):
        folder = tmp_path / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(60, 190, (6, 6, 3), dtype=np.uint8))
        small.resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{number}.png")

    photos = script.sample_photos(tmp_path / "photos", 6, tmp_path / "sample")
    assert sorted(path.parent.name for path in photos.rglob("*.png")) == ["a", "a", "b", "b", "c", "c"]

    rows = [script.looks(photos, tmp_path / f"out-{levels}", "texture", levels) for levels in (4.0, 16.0)]
    subtle, strong = ([cell.strip() for cell in row.split("|")] for row in rows)
    assert float(subtle[0]) < float(strong[0])
    assert float(subtle[1]) < float(strong[1])
    assert float(subtle[3]) > float(strong[3])


def test_hyper_parameters_stand_behind_the_method_and_mistakes_are_told_at_once(script: Any) -> None:
    assert script.keywords("texture,colour=0.5")["parameters"] == {"colour": 0.5}
    assert script.keywords(script.method_named("emn-class")) == {
        "method": "emn", "granularity": "class", "parameters": {},
    }  # fmt: skip
    for wrong in ("no-such-method", "texture,colour"):
        with pytest.raises(argparse.ArgumentTypeError):
            script.method_named(wrong)
