"""A verification that was stopped goes on to the very report it would have written, and several share trainings."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitterant.attacks import VerificationReport, verify_folder, verify_sets
from bitterant.attacks.training import grid
from bitterant.attacks.training.cells import Cell, CellResult, CellTask
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

SHORT = Recipe(steps=3, batch_size=16)
OF_THE_CLOCK = ("created", "wall_seconds", "seconds", "reused_cells")
Plant = Callable[..., ImageSet]
SaveFolder = Callable[..., Path]


def timeless(value: Any) -> Any:
    """A report without what depends on the clock."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in OF_THE_CLOCK}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """What was trained in this process, in order."""
    cells: list[Cell] = []
    original = grid.run_cell

    def watched(task: CellTask) -> CellResult:
        cells.append(task.cell)
        return original(task)

    monkeypatch.setattr(grid, "run_cell", watched)
    return cells


def test_a_stopped_verification_writes_the_report_of_one_that_was_not(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, plant: Plant, write_folder: SaveFolder, trained: list[Cell]
) -> None:
    few = list(range(80))
    clean = write_folder(train_set.select(few), tmp_path / "clean")
    protected = write_folder(plant(train_set.select(few)), tmp_path / "protected")
    test = write_folder(test_set.select(few), tmp_path / "test")

    def run(**options: Any) -> VerificationReport:
        options = {"progress": None, **options}
        return verify_folder(
            clean, protected, test=test, report=tmp_path / "report", victims=["small-cnn"], seeds=2,
            adversaries=["early-stop", "jpeg", "last-layer"], recipe=SHORT, workers=1, **options,
        )  # fmt: skip

    def stop(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "verify" and message.startswith("5/"):
            raise KeyboardInterrupt

    whole = run()
    (tmp_path / "report").rename(tmp_path / "whole")
    trained.clear()
    with pytest.raises(KeyboardInterrupt):
        run(progress=stop)
    assert len(trained) == 5
    assert {path.name for path in (tmp_path / "report").iterdir()} == {"plan.json", "cells"}
    resumed = run()
    assert len(trained) == len(set(trained)) == len(whole.cells), "nothing was trained twice"
    assert (whole.reused_cells, resumed.reused_cells) == (0, 5)
    texts = [(tmp_path / name / "report.json").read_text(encoding="utf-8") for name in ("whole", "report")]
    first, second = (json.loads(text) for text in texts)
    assert timeless(first) == timeless(second)
    assert second["reused_cells"] == 5
    for name in ("predictions.npz", "plan.json", "stealth.csv", "curves.csv"):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "report" / name).read_bytes()
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert f"{len(whole.cells)} trainings, 5 of them done in earlier runs, in " in " ".join(page.split())
    again = run()
    assert again.reused_cells == len(again.cells)
    assert sum(cell.seconds for cell in again.cells) == sum(cell.seconds for cell in resumed.cells), "as measured then"
    trained.clear()
    assert run(resume=False).reused_cells == 0
    assert len(trained) == len(whole.cells)

    def plans(report: VerificationReport) -> None:
        written = (tmp_path / "report" / "plan.json").read_bytes()
        assert hashlib.sha256(written).hexdigest() == report.plan_hash, "of the report beside it"

    with pytest.raises(KeyboardInterrupt):
        run(progress=stop, seed=5)
    plans(VerificationReport.model_validate_json((tmp_path / "report" / "report.json").read_bytes()))
    assert '"seed": 5' in (tmp_path / "report" / "plan-next.json").read_text(encoding="utf-8")
    plans(run(seed=5))
    assert not (tmp_path / "report" / "plan-next.json").exists()


def test_verifications_that_share_a_folder_train_the_clean_arm_once(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, plant: Plant, trained: list[Cell]
) -> None:
    few = list(range(80))
    clean, test = train_set.select(few), test_set.select(few)

    def run(protected: ImageSet, *, seed: int = 0, **options: Any) -> VerificationReport:
        trained.clear()
        return verify_sets(
            clean, protected, test, victims=["small-cnn"], adversaries=["jpeg", "recover:0.5", "mix:0.5"], seeds=2,
            epsilon=8 / 255, recipe=SHORT, workers=1, seed=seed, **options,
        )  # fmt: skip

    first = run(plant(clean), cells=tmp_path / "cells")
    assert len(trained) == len(first.cells)
    second = run(plant(clean, 6), cells=tmp_path / "cells")
    assert {cell.arm for cell in trained} == {"protected", "mixed"}
    assert second.reused_cells == len(second.cells) - len(trained) > len(trained)
    alone = run(plant(clean, 6))
    assert timeless(alone.model_dump(mode="json"))["cells"] == timeless(second.model_dump(mode="json"))["cells"]
    assert alone.verdict == second.verdict
    run(plant(clean, 6), cells=tmp_path / "cells", seed=1)
    assert len(trained) == len(second.cells), "other seeds are other trainings"
    assert [path.name for path in tmp_path.iterdir()] == ["cells"], "there is no report"
