"""Small folders of pictures, and a way to run the command in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bitterant.cli.app import app

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]


@pytest.fixture
def run() -> Run:
    """``run("protect", src, out)`` -> result with ``exit_code``, ``stdout`` and ``stderr``; lines are not folded."""

    def invoke(*words: object) -> Result:
        result = CliRunner().invoke(app, [str(word) for word in words], env={"COLUMNS": "500"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return invoke


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """``make_folder({"cats": 3, "dogs": 2})`` -> a folder of noisy 20 x 16 pictures; class ``""`` is the root."""

    def make(classes: dict[str, int], name: str = "src", seed: int = 0) -> Path:
        rng = np.random.default_rng(seed)
        root = tmp_path / name
        root.mkdir()
        for row, (label, count) in enumerate(classes.items()):
            (root / label).mkdir(exist_ok=True)
            for i in range(count):
                pixels = rng.integers(40, 200, (16, 20, 3), dtype=np.uint8)
                pixels[:, 4 * row : 4 * row + 4] = 220
                Image.fromarray(pixels).save(root / label / f"{i:03d}.png")
        return root

    return make
