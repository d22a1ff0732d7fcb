"""Small folders of real image files, made with Pillow, and what to compare of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from bitterant.imaging import ImageSet
from bitterant.protect.methods.base import FitContext, Method
from bitterant.protect.methods.minimization import SelfCheck
from bitterant.records.run_file import records_of


@pytest.fixture(autouse=True)
def brief_self_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Victims that fits train to check themselves: as many as ever, with hardly a step each. Whoever tests what they
    find says how long."""
    defaults = SelfCheck.__init__.__kwdefaults__
    assert defaults is not None
    monkeypatch.setitem(defaults, "steps", 5)


class FolderKit:
    """Helpers of the tests of folder runs; ``kit`` hands it out, with a fresh folder to work in."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @staticmethod
    def draw(path: Path, seed: int, size: tuple[int, int] = (20, 24), mode: str = "RGB", **options: Any) -> None:
        """Write one picture of smooth random colours, so that JPEG treats it kindly."""
        rng = np.random.default_rng(seed)
        small = Image.fromarray(rng.integers(20, 236, (4, 4, 3), dtype=np.uint8))
        path.parent.mkdir(parents=True, exist_ok=True)
        small.resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, **options)

    def folder(self, name: str = "src", *, classes: int = 2, each: int = 3) -> Path:
        """PNG files of several sizes in class folders."""
        for label in range(classes):
            for index in range(each):
                self.draw(self.root / name / f"class{label}" / f"{index}.png", 10 * label + index, (20 + index, 24))
        return self.root / name

    @staticmethod
    def tree(root: Path) -> dict[str, bytes]:
        """Every file below a folder with its bytes."""
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    @staticmethod
    def rows(root: Path) -> list[dict[str, Any]]:
        """The manifest as plain JSON, without the one field that may differ."""
        lines = records_of(root).manifest.read_bytes().splitlines()
        return [{**json.loads(line), "seconds": None} for line in lines]

    def result(self, root: Path) -> dict[str, Any]:
        """What two runs must agree on: all files but run file and report, and the manifest's rows."""
        ours = ("bitterant-run.json", "bitterant-report.html", "bitterant-manifest.jsonl")
        files = {name: data for name, data in self.tree(root).items() if name not in ours}
        return {**files, "rows": self.rows(root)}


@pytest.fixture
def kit(tmp_path: Path) -> FolderKit:
    """Helpers and a fresh folder."""
    return FolderKit(tmp_path)


class Labelled(Method):
    """A method that needs labels and costs nothing: signs drawn from the key."""

    name: ClassVar[str] = "labelled"
    needs = "labels"
    granularities = ("sample", "class")

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        rows = []
        for key in dataset.keys if self.granularity == "sample" else dataset.classes:
            generator = torch.Generator().manual_seed(int(hashlib.sha256(key.encode()).hexdigest()[:8], 16) + self.seed)
            shape = (3, dataset.resolution, dataset.resolution)
            rows.append((torch.randint(0, 2, shape, generator=generator) * 2 - 1) * self.budget.epsilon)
        context.report.update(stop_rule="at once", self_check={"accuracy": 0.25, "chance": 0.5})
        return torch.stack(rows)


@pytest.fixture
def labelled() -> type[Method]:
    """The class of a cheap method that needs labels."""
    return Labelled
