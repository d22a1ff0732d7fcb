"""``bitterant merge``: words to a call and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.cli import main


def test_shares_are_written_and_joined(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for index in range(6):
        path = tmp_path / "src" / "ab"[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    shares = [str(tmp_path / f"share{number}") for number in (1, 2)]
    words = ["--method", "noise", "--device", "cpu", "--resolution", "16", "--quiet"]
    for number, share in enumerate(shares, start=1):
        assert main(["protect", str(tmp_path / "src"), share, *words, "--shard", f"{number}/2"]) == 0
    assert main(["merge", shares[0], str(tmp_path / "whole")]) == 2
    assert "The share 2/2 of the run is missing" in " ".join(capfd.readouterr().err.split())
    assert main(["merge", shares[0]]) == 2
    assert main(["merge", *shares, str(tmp_path / "whole"), "--json", "--quiet"]) == 0
    told: dict[str, Any] = json.loads(capfd.readouterr().out)
    assert told["counts"] == {"protected": 6, "copied": 0, "skipped": 0, "failed": 0}
    assert len(list((tmp_path / "whole").rglob("*.png"))) == 6
    assert main(["protect", str(tmp_path / "src"), str(tmp_path / "x"), *words, "--shard", "3/2"]) == 2
    assert "shard 3/2 is no share" in capfd.readouterr().err
