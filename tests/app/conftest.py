"""Small folders for the window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakePictures = Callable[..., Path]


@pytest.fixture
def make_pictures(tmp_path: Path) -> MakePictures:
    """``make_pictures({"cats": 3, "dogs": 2}, side=20)`` -> a folder of noisy pictures; class ``""`` is the root."""

    def make(classes: Mapping[str, int], *, name: str = "photos", side: int = 20) -> Path:
        rng = np.random.default_rng(0)
        root = tmp_path / name
        for row, (label, count) in enumerate(classes.items()):
            (root / label).mkdir(parents=True, exist_ok=True)
            for i in range(count):
                pixels = rng.integers(40, 200, (side, side, 3), dtype=np.uint8)
                pixels[:, 4 * row : 4 * row + 4] = 220
                Image.fromarray(pixels).save(root / label / f"{i:03d}.png")
        return root

    return make
