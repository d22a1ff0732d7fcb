"""Where the report lies when nobody says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bitterant.attacks.beside import report_beside


def place(folder: Path) -> Path | None:
    return report_beside(folder)[0]


@pytest.mark.parametrize(
    ("folders", "protected", "report"),
    [
        ([], "copies", "copies-report"),
        ([], "public/train", "public-train-report"),
        ([], "public/train2017", "public-train2017-report"),
        (["public/train"], "public/val", "public-val-report"),
        ([], "public/test", "public/test-report"),  # nothing says that public is a data set
        ([], "public/trains", "public/trains-report"),
    ],
)
def test_the_report_is_not_published_with_the_data_set(
    tmp_path: Path, folders: list[str], protected: str, report: str
) -> None:
    for folder in [*folders, protected]:
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
    assert place(tmp_path / protected) == tmp_path / report


def test_a_relative_name_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "public/train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert place(Path("public/train")) == Path("public-train-report")
    monkeypatch.chdir(tmp_path / "public")
    assert place(Path("train")) == Path("../public-train-report")


def test_a_finished_one_stays_and_an_unfinished_one_goes_on(tmp_path: Path) -> None:
    (tmp_path / "public/train").mkdir(parents=True)
    first = tmp_path / "public-train-report"
    (first / "cells").mkdir(parents=True)
    (first / "plan.json").touch()
    assert place(tmp_path / "public/train") == first
    (first / "report.json").touch()
    assert report_beside(tmp_path / "public/train") == (tmp_path / "public-train-report-2", first / "cells")


def test_where_nothing_can_be_made_beside_the_data_set_it_lies_beside_the_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "public/train").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    assert place(tmp_path / "public/train") == tmp_path / "public/train-report"
