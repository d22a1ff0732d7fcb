"""The comparison of tints, small: a row for each training, made once, and copies that differ where they should."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def test_the_table_is_whole_and_goes_on(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    script: Any,
    write_pictures: Callable[..., Path],
) -> None:
    data = write_pictures(tmp_path / "pictures.npz", train=24, test=12)
    rows = tmp_path / "rows.jsonl"
    words = [
        "--data", str(data), "--images", "24", "--tests", "12", "--scale", "0.02", "--copies", "clean", "0", "1",
        "--victims", "small-cnn", "--rows", str(rows), "--adversaries", "none", "projection",
    ]  # fmt: skip
    script.main(words)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| small-cnn")]
    assert [line.split(" | ")[1] for line in table] == ["none", "projection"]
    kept = rows.read_text()
    assert len(kept.splitlines()) == 6
    script.main([*words[:-1], "mixup"])
    assert rows.read_text().startswith(kept)
    made = [json.loads(line) for line in rows.read_text().splitlines()]
    assert all(row["best"] == max(row["curve"]) and row["end"] == row["curve"][-1] for row in made)
    clean, plain, tinted = (script.copies(copy, data, 24, 12).astype(int) for copy in ("clean", "0", "1"))
    assert np.abs(tinted - clean).max() == 8
    assert np.array_equal(tinted[:, :2], plain[:, :2])
    assert (tinted[:, 2] != plain[:, 2]).mean() > 0.2
