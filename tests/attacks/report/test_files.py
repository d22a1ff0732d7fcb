"""The files of a report: one schema, read back whole, and tables that agree with it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import BaseModel, ValidationError

from bitterant.attacks import VerificationReport
from bitterant.attacks.facts import Captions, FolderFacts
from bitterant.attacks.report import write_report
from bitterant.attacks.report.files import curves_csv, predictions_npz, report_bytes
from bitterant.attacks.schema import (
    SCHEMA_VERSION,
    ArmResult,
    Dataset,
    Environment,
    MixPoint,
    Protection,
    Ranking,
    Reading,
    Retrieval,
    Spectrum,
    Stealth,
    TrainerResult,
    WorstCase,
)


@pytest.fixture(scope="module")
def folder(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("report")
    tables = {
        "curves.csv": curves_csv(made.report.cells),
        "predictions.npz": predictions_npz(made.cells, made.data.test_labels, made.labels),
    }
    write_report(place, made.report, made.data, tables, made.powers)
    return place


def test_all_files_are_there(folder: Path) -> None:
    names = {path.name for path in folder.iterdir()}
    assert names == {"plan.json", "report.json", "report.html", "stealth.csv", "curves.csv", "predictions.npz"}


def test_the_report_reads_back_as_it_was(made: Any, folder: Path) -> None:
    text = (folder / "report.json").read_text(encoding="utf-8")
    assert VerificationReport.model_validate_json(text) == made.report
    content = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert content["schema_version"] == SCHEMA_VERSION == 7
    assert content == json.loads(made.report.model_dump_json()), "compact lists change nothing"


def test_lists_of_numbers_stand_on_one_line_and_texts_are_left_alone(made: Any) -> None:
    text = "[\n  1,\n  2\n]"
    changed = made.report.model_copy(update={"command": text})
    written = report_bytes(changed).decode()
    assert json.loads(written)["command"] == text
    row = made.report.conditions[0].arms["clean"].confusion[0]
    assert json.dumps(list(row)) in written


def test_lpips_is_either_measured_or_absent_with_a_reason(made: Any) -> None:
    assert made.report.stealth.lpips is None
    assert made.report.stealth.lpips_reason == "it was not asked for"
    values = made.report.stealth.model_dump()
    with pytest.raises(ValidationError, match="absent with a reason"):
        Stealth(**{**values, "lpips_reason": None})
    with pytest.raises(ValidationError, match="absent with a reason"):
        Stealth(**{**values, "lpips": values["linf"]})


def test_curves_are_those_of_the_cells(made: Any, folder: Path) -> None:
    rows = list(csv.DictReader((folder / "curves.csv").read_text().splitlines()))
    assert len(rows) == sum(len(cell.curve) for cell in made.report.cells)
    first = made.report.cells[0]
    assert [float(row["test_accuracy"]) for row in rows[: len(first.curve)]] == pytest.approx(
        [point.test_accuracy for point in first.curve], abs=1e-5
    )
    assert {row["arm"] for row in rows} >= {"clean", "protected", "mixed", "part"}


def test_the_stealth_table_has_every_file(made: Any, folder: Path) -> None:
    rows = list(csv.DictReader((folder / "stealth.csv").read_text().splitlines()))
    assert len(rows) == len(made.data.files) == made.report.stealth.files
    psnr = [float(row["psnr"]) for row in rows]
    assert np.median(psnr) == pytest.approx(made.report.stealth.psnr.p50, abs=1e-3)
    assert {row["lpips"] for row in rows} == {""}
    assert {row["over_budget"] for row in rows} == {"no"}


def test_predictions_give_the_accuracies(made: Any, folder: Path) -> None:
    with np.load(io.BytesIO((folder / "predictions.npz").read_bytes()), allow_pickle=False) as saved:
        for cell in made.report.cells:
            labels = saved[f"labels|{cell.adversary}" if cell.adversary == "regroup:2" else "labels"]
            name = f"{cell.victim}|{cell.adversary}|{cell.arm}|{cell.seed_index}"
            assert (saved[f"{name}|final"] == labels).mean() == cell.accuracy


def test_mixing_points_are_those_of_the_conditions(made: Any) -> None:
    assert [(point.id, point.share) for point in made.report.mixing] == [
        ("small-cnn/mix:0.5", 0.5), ("small-cnn/mix:0.8", 0.8),
    ]  # fmt: skip
    for point in made.report.mixing:
        condition = made.report.condition(point.id)
        assert condition.share == point.share
        assert point.mixed == condition.arms["mixed"].accuracy
        assert point.mv == condition.mv


PARTS = (
    VerificationReport, ArmResult, Captions, Dataset, Environment, FolderFacts, MixPoint, Protection, Ranking, Reading,
    Retrieval, Spectrum, Stealth, TrainerResult, WorstCase,
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
def test_the_documentation_names_every_field(part: type[BaseModel]) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "file-formats.md").read_text(encoding="utf-8")
    section = text[text.index("### report.json") : text.index("### The tables")]
    obvious = {"id", "victim", "clean", "tool"}
    assert [name for name in part.model_fields if f"`{name}" not in section and name not in obvious] == []
