"""What the frontier looks at: photographs of every class, and figures that follow the budget."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_larger_budget_is_seen_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    frontier = importlib.import_module("frontier")
    generator = np.random.default_rng(0)
    for number in range(9):
        folder = tmp_path / "photos" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(60, 190, (6, 6, 3), dtype=np.uint8))
        small.resize((48, 48), Image.Resampling.BICUBIC).save(folder / f"{number}.png")

    photos = frontier.sample_photos(tmp_path / "photos", 6, tmp_path / "sample")
    assert sorted(path.parent.name for path in photos.rglob("*.png")) == ["a", "a", "b", "b", "c", "c"]

    rows = [frontier.looks(photos, tmp_path / f"out-{levels}", "texture", levels) for levels in (4.0, 16.0)]
    subtle, strong = ([cell.strip() for cell in row.split("|")] for row in rows)
    assert float(subtle[0]) < float(strong[0])
    assert float(subtle[1]) < float(strong[1])
    assert float(subtle[3]) > float(strong[3])
