"""How well bfloat16 keeps signs, of fresh and of trained weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_the_table_has_fresh_and_trained_weights(
    script: Any, tmp_path: Path, write_pictures: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_pictures(tmp_path / "data.npz", train=32, test=8)
    script.main(["--data", str(data), "--networks", "small-cnn", "--images", "32", "--steps", "2"])
    (found,) = [line for line in capsys.readouterr().out.splitlines() if "small-cnn" in line]
    fresh, trained, own = (float(cell.strip(" *")) for cell in found.split("|")[3:6])
    assert all(50 < value <= 100 for value in (fresh, trained, own))
    assert fresh != trained
