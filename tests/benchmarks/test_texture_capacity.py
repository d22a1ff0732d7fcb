"""The capacity of a code book, small: the table is whole, and what it measures is the textures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitterant.imaging.picture import Picture
from bitterant.protect import TextureBank


def test_a_row_for_each_number_of_classes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    script: Any,
    write_pictures: Callable[..., Path],
) -> None:
    data = write_pictures(tmp_path / "pictures.npz", train=24, test=12)
    script.main(
        [
            "--data", str(data), "--classes", "2", "3", "--images", "24", "--tests", "12", "--adversaries", "none",
            "grayscale", "--scale", "0.02", "--seeds", "2",
        ]
    )  # fmt: skip
    rows = [[part.strip() for part in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[3:]]
    assert [row[:3] for row in rows] == [["32", "2", "50.0"], ["32", "3", "33.3"]]
    for row in rows:
        for cell in row[3:]:
            mean, least, most = (
                float(part) for part in cell.replace("(", "").replace(")", "").replace("-", " ").split()
            )
            assert 0.0 <= least <= mean <= most <= 100.0


def test_copies_are_within_the_budget_and_of_their_own_class(script: Any) -> None:
    plain = Picture(np.full((32, 32, 3), 128, np.uint8))
    bank = TextureBank.of_classes(["0000", "0001"], bytes(range(16)))
    copies = script.protected([plain] * 2, [0, 1], bank, 32).astype(int) - 128
    assert copies.shape == (2, 3, 32, 32)
    assert np.abs(copies).max() <= bank.budget.whole_levels
    spectra = np.abs(np.fft.fft2(copies[:, 0]))
    strongest = [np.unravel_index(spectrum.argmax(), spectrum.shape) for spectrum in spectra]
    assert strongest[0] != strongest[1]
