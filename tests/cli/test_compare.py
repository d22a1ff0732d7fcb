"""``bitterant compare`` as a user meets it. What it compares is tested in attacks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from bitterant.attacks.report import compare
from bitterant.attacks.report.compare import Cell, Column, Comparison, Row, Section
from bitterant.attacks.schema import Estimate

Run = Callable[..., Result]
EVIL = "\x1b[2Jcleared"


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    def fake(paths: list[Path]) -> Comparison:
        columns = tuple(Column(str(path), path.name, EVIL, "Hinders.", True) for path in paths)
        value = Estimate(estimate=0.5, low=0.4, high=0.6)
        rows = (Row(f"victim/{EVIL}", "tries", (Cell("50.0 %", value), Cell("–"))),)
        return Comparison(columns, (Section("Conditions", "A note.", rows),), (f"other {EVIL}",))

    monkeypatch.setattr(compare, "compare_reports", fake)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_table_for_people_with_nothing_that_acts_on_a_terminal(run: Run, told: Path) -> None:
    result = run("compare", "one", f"two{EVIL}")
    assert result.exit_code == 0
    assert "50.0 %" in result.stdout
    assert "warning: other" in result.stderr
    assert "\x1b" not in result.stdout + result.stderr


def test_one_object_for_programs(run: Run, told: Path) -> None:
    content = json.loads(run("compare", "one", "two", "--json").stdout)
    assert [column["name"] for column in content["columns"]] == ["one", "two"]
    cell: dict[str, Any] = content["sections"][0]["rows"][0]["cells"][0]
    assert cell["value"] == {"estimate": 0.5, "low": 0.4, "high": 0.6}


def test_a_page_that_is_never_overwritten(run: Run, told: Path) -> None:
    assert run("compare", "one", "two", "--output", "page.html").exit_code == 0
    page = (told / "page.html").read_text(encoding="utf-8")
    assert "Comparison of verifications" in page
    assert "\x1b" not in page
    again = run("compare", "one", "three", "--output", "page.html")
    assert again.exit_code == 2
    assert "exists already" in again.stderr
    assert (told / "page.html").read_text(encoding="utf-8") == page


def test_no_report_is_told(run: Run, tmp_path: Path) -> None:
    result = run("compare", str(tmp_path), str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "No report can be read" in result.stderr
