"""What staging costs: a row a transform, and figures for a whole set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bitterant.attacks.adversaries import Adversary


def test_a_row_for_each_transform_and_the_sum_for_a_whole_set(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], script: Any, write_pictures: Callable[..., Path]
) -> None:
    data = write_pictures(tmp_path / "pictures.npz", train=40, test=4)
    threads = torch.get_num_threads()
    script.main(["--data", str(data), "--images", "32", "--workers", "1", "2", "--repeats", "1"])
    assert torch.get_num_threads() == threads
    lines = capsys.readouterr().out.splitlines()
    rows = {cells[0]: cells[1:] for line in lines if line.startswith("|") and (cells := line.strip("|").split(" | "))}
    rows = {name.strip(): [float(cell.strip(" |")) for cell in cells] for name, cells in [*rows.items()][2:]}
    expected = {"jpeg:10", "webp:30", "median", "tv:0.1", "nlm:12", "destripe:10", "compose:grayscale+jpeg:10"}
    assert expected < set(rows)
    assert not {"cutout:0.5", "projection", "none", "knn:efficientnet-lite0"} & set(rows)
    *conditions, total, whole = rows.values()
    assert np.allclose(np.sum(conditions, axis=0), total, atol=0.02)
    assert np.allclose(np.array(whole), np.array(total) * 110_000 / 32, atol=20)
    assert lines[-1].endswith("times as fast as 1")


def test_pictures_that_depend_on_the_threads_are_told(script: Any) -> None:
    class Fickle(Adversary):
        prefix = "fickle"

        def transform(self, images: np.ndarray) -> np.ndarray:
            return images + np.uint8(torch.get_num_threads())

    threads = torch.get_num_threads()
    try:
        with pytest.raises(SystemExit, match="fickle: other pictures with 2 threads"):
            script.measure(Fickle(), np.zeros((2, 3, 8, 8), dtype=np.uint8), [1, 2], 1)
    finally:
        torch.set_num_threads(threads)
