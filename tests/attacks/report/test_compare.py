"""Reports side by side: the figures of each, what cannot be compared, and that others' texts act nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bitterant.attacks.report.compare import Comparison, compare_reports, render_comparison
from bitterant.attacks.report.files import report_bytes
from bitterant.attacks.schema import VerificationReport
from bitterant.errors import ConfigError, FolderError


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, report: VerificationReport) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "report.json").write_bytes(report_bytes(report))
        return folder

    return write


@pytest.fixture(scope="module")
def weak(report_maker: Callable[..., Any]) -> VerificationReport:
    return report_maker(["jpeg:10"], protected={"jpeg:10": 0.85, "none": 0.3}).report


@pytest.fixture(scope="module")
def good(report_maker: Callable[..., Any]) -> VerificationReport:
    return report_maker(["jpeg:10"], protected={"jpeg:10": 0.3, "none": 0.05}).report


def cells(found: Comparison, title: str, name: str) -> tuple[Any, ...]:
    (section,) = [section for section in found.sections if section.title == title]
    (row,) = [row for row in section.rows if row.name == name]
    return row.cells


def test_each_column_has_the_figures_of_its_report(
    save: Callable[..., Path], weak: VerificationReport, good: VerificationReport
) -> None:
    found = compare_reports([save("weak", weak), save("good", good) / "report.json"])
    assert [column.name for column in found.columns] == ["weak", "good"]
    for report, cell in zip((weak, good), cells(found, "Conditions", "small-cnn/jpeg:10"), strict=True):
        condition = report.condition("small-cnn/jpeg:10")
        assert cell.value == condition.readings["final"].accuracy
        assert cell.rho == condition.rho
        assert cell.grade == next(tier.grade for tier in report.verdict.tiers if tier.tier == "transforms")
    for report, cell in zip((weak, good), cells(found, "Worst case by class of trainer", "W1"), strict=True):
        worst = report.trainers[0].worst
        assert worst is not None
        assert cell.value == worst.accuracy
    assert cells(found, "Grades by tier", "transforms")[0].words == "none"
    assert [cell.words for cell in cells(found, "Visibility", "largest change")] == ["8", "8"]


def test_what_differs_beside_the_protection_is_told(
    save: Callable[..., Path], weak: VerificationReport, report_maker: Callable[..., Any]
) -> None:
    plan = weak.plan.model_copy(update={"victim_seeds": (7, 8, 9)})
    broken = report_maker(["jpeg:10"], shares={"clean": 0.1}).report.model_copy(update={"plan": plan})
    told = " ".join(compare_reports([save("one", weak), save("two", broken)]).warnings)
    assert "two is INVALID" in told
    assert "other seeds of the trainings." in told
    assert "INVALID" not in " ".join(compare_reports([save("three", weak), save("four", weak)]).warnings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda report: {"kind": "retrieval"}, "the kinds of verification differ"),
        (
            lambda report: {"dataset": report.dataset.model_copy(update={"classes": ("a", "b", "c", "d")})},
            "the classes differ",
        ),
        (
            lambda report: {"dataset": report.dataset.model_copy(update={"grouping": "2 groups by colours"})},
            "the groups that pictures without classes were sorted into differ",
        ),
        (
            lambda report: {"dataset": report.dataset.model_copy(update={"test_images": 7})},
            "the test pictures differ",
        ),
        (
            lambda report: {
                "plan": report.plan.model_copy(
                    update={"rule": report.plan.rule.model_copy(update={"noise_margin": 0.5})}
                )
            },
            "the thresholds of the verdict rule differ",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused_with_the_reason(
    save: Callable[..., Path], weak: VerificationReport, change: Callable[[Any], dict[str, Any]], reason: str
) -> None:
    other = weak.model_copy(update=change(weak))
    with pytest.raises(ConfigError, match=f"two cannot be compared with .*one: {reason}"):
        compare_reports([save("one", weak), save("two", other)])


def test_test_folders_are_told_apart_by_their_files(save: Callable[..., Path], weak: VerificationReport) -> None:
    def tested(sha256: str) -> VerificationReport:
        changes = {"test_source": "folder", "test_sha256": sha256}
        return weak.model_copy(update={"dataset": weak.dataset.model_copy(update=changes)})

    first = save("one", tested("a" * 64))
    assert compare_reports([first, save("same", tested("a" * 64))]).columns
    with pytest.raises(ConfigError, match="the test pictures differ"):
        compare_reports([first, save("other", tested("b" * 64))])


def test_other_versions_and_other_files_are_refused(
    save: Callable[..., Path], weak: VerificationReport, tmp_path: Path
) -> None:
    one = save("one", weak)
    content = json.loads(report_bytes(weak))
    file = tmp_path / "other.json"
    for change, words in (
        ({"schema_version": 6}, "schema version 6"),
        ({"plan": {**content["plan"], "rule": {**content["plan"]["rule"], "version": "v3"}}}, "verdict rule 'v3'"),
        ({"gates": "none"}, "is not whole: gates"),
    ):
        file.write_text(json.dumps({**content, **change}), encoding="utf-8")
        with pytest.raises(ConfigError, match=words):
            compare_reports([one, file])
    for text in ("", "[1, 2]", "{", "[" * 100_000):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match="is no report"):
            compare_reports([one, file])
    with pytest.raises(FolderError, match="No report can be read"):
        compare_reports([one, tmp_path])
    with pytest.raises(ConfigError, match="two reports or more"):
        compare_reports([one])


def test_names_that_others_chose_are_escaped(save: Callable[..., Path], weak: VerificationReport) -> None:
    evil = "<script>alert(1)</script>\u202e"
    verdict = weak.verdict.model_copy(update={"headline": evil})
    conditions = tuple(c.model_copy(update={"id": evil + c.id, "phrase": evil}) for c in weak.conditions)
    other = weak.model_copy(update={"verdict": verdict, "conditions": conditions})
    page = render_comparison(compare_reports([save("one", weak), save("two", other)]))
    assert "<script" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;" in page
