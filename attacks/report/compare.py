"""Several reports side by side: methods as columns; conditions, tiers, classes of trainers and visibility as rows.

Reports may be anybody's: what they say is taken for text and figures, never trusted to be well made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ValidationError

from ...errors import ConfigError, FolderError
from ...imaging import render_page
from ...records.places import read_regular
from ..evaluation.grading import condition_grade
from ..facts import Spread
from ..schema import RULE_VERSION, SCHEMA_VERSION, Condition, Estimate, TierVerdict, VerificationReport
from ..terms import TIER_TITLES, TIERS
from .page import describe_condition

REPORT_NAME = "report.json"
FEWEST_REPORTS = 2


class _Head(BaseModel):
    """What says whether the rest can be read."""

    class Plan(BaseModel):
        class Rule(BaseModel):
            version: str

        rule: Rule

    schema_version: int
    plan: Plan


@dataclass(frozen=True)
class Column:
    """One report.

    Attributes:
        source: the file, as it was named.
        name: what tells it from the others, for people.
        method: how the pictures were protected.
        headline: its verdict.
        valid: False where its figures show nothing.
    """

    source: str
    name: str
    method: str
    headline: str
    valid: bool


@dataclass(frozen=True)
class Cell:
    """One figure, or several, of one report.

    Attributes:
        value: accuracy, residual learnability or another figure, with its interval; ``None`` where it has none.
        rho: residual learnability beside an accuracy, or the marginal value.
        grade: the grade; ``None`` where nothing is graded.
        words: the same for people; a dash where the report has nothing.
    """

    words: str
    value: Estimate | None = None
    rho: Estimate | None = None
    grade: str | None = None


@dataclass(frozen=True)
class Row:
    """One line: what it is about, and one cell a report."""

    name: str
    detail: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Section:
    """Rows of one kind."""

    title: str
    note: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Comparison:
    """Reports of one kind, about one test set, by one rule.

    Attributes:
        columns: the reports, in the order in which they were named.
        sections: tables under these columns.
        warnings: what differs between them, beside the protection.
    """

    columns: tuple[Column, ...]
    sections: tuple[Section, ...]
    warnings: tuple[str, ...]


def read_report(path: Path) -> VerificationReport:
    """The report in a file, or in a folder that ``verify`` wrote.

    Raises:
        FolderError: there is none, or it cannot be read.
        ConfigError: it is no report of bitterant, or was written under another schema or verdict rule.
    """
    file = path / REPORT_NAME if path.is_dir() else path
    try:
        content = read_regular(file)
    except OSError as error:
        raise FolderError(
            f"No report can be read from {path}: {error.strerror or error}. Name a folder that verify --report wrote, "
            f"or the {REPORT_NAME} in it."
        ) from error
    try:
        head = _Head.model_validate_json(content)
    except ValidationError as error:
        raise ConfigError(
            f"{file} is no report of bitterant verify. Name a folder that verify --report wrote."
        ) from error
    if head.plan.rule.version != RULE_VERSION:
        raise ConfigError(
            f"{file} was judged by the verdict rule {head.plan.rule.version!r}, and this version compares reports by "
            f"{RULE_VERSION!r}. Verify again."
        )
    if head.schema_version != SCHEMA_VERSION:
        raise ConfigError(
            f"{file} has the schema version {head.schema_version}, and this version compares {SCHEMA_VERSION}. "
            "Verify again."
        )
    try:
        return VerificationReport.model_validate_json(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{file} is not whole: {where}: {first['msg']}. Verify again.") from error


def compare_reports(paths: Sequence[Path]) -> Comparison:
    """Read reports and put them side by side.

    Args:
        paths: two or more files, or folders of reports.

    Raises:
        FolderError: one cannot be read.
        ConfigError: there are fewer than two, one is no report, or they cannot be compared: other kinds, rules, classes
            or test pictures.
    """
    if len(paths) < FEWEST_REPORTS:
        raise ConfigError("Name two reports or more, or there is nothing to compare.")
    reports = [read_report(path) for path in paths]
    for path, report in zip(paths[1:], reports[1:], strict=True):
        for what, fact in _MUST_AGREE:
            ours, theirs = fact(reports[0]), fact(report)
            if ours != theirs:
                raise ConfigError(f"{path} cannot be compared with {paths[0]}: {what} differ ({theirs}, not {ours}).")
    columns = tuple(_column(path, report) for path, report in zip(paths, reports, strict=True))
    sections = (_tiers(reports), _conditions(reports), _trainers(reports), _visibility(reports))
    return Comparison(columns, tuple(s for s in sections if s.rows), tuple(_warnings(columns, reports)))


def render_comparison(comparison: Comparison) -> str:
    """The page: one file, nothing loaded from elsewhere."""
    return render_page(__package__ or "bitterant.attacks.report", "compare.html.j2", comparison=comparison)


def _short(sha256: str | None) -> str:
    return "none" if not sha256 else sha256[:12]


def _test_set(report: VerificationReport) -> str:
    """What tells test sets apart, in words."""
    dataset = report.dataset
    clean = dataset.folders.get("clean")
    if dataset.test_source == "folder":
        return f"{dataset.test_images} pictures of a folder, sha256 {_short(dataset.test_sha256)}"
    if dataset.test_source == "split":
        files = _short(clean.sha256) if clean is not None else "none"
        return f"{dataset.test_images} pictures held out by seed {dataset.split_seed} of files, sha256 {files}"
    return f"{dataset.test_images} pictures given as a set"


_MUST_AGREE: tuple[tuple[str, Callable[[VerificationReport], str]], ...] = (
    ("the kinds of verification", lambda report: report.kind),
    ("the thresholds of the verdict rule", lambda report: report.plan.rule.model_dump_json()),
    ("the classes", lambda report: ", ".join(report.dataset.classes) or "none"),
    ("the groups that pictures without classes were sorted into", lambda report: report.dataset.grouping or "none"),
    ("the test pictures", _test_set),
)

_BETTER_AGREE: tuple[tuple[str, Callable[[VerificationReport], object]], ...] = (
    ("seeds of the trainings", lambda report: report.plan.victim_seeds),
    ("victims", lambda report: sorted({planned.victim for planned in report.plan.conditions})),
    ("adversaries", lambda report: sorted({planned.adversary for planned in report.plan.conditions})),
    ("recipes", lambda report: (report.plan.recipes, report.plan.epochs)),
    ("working resolutions", lambda report: report.plan.resolution),
    ("sizes of the noise of the control", lambda report: report.plan.noise_levels),
    ("numbers of training pictures", lambda report: report.plan.train_images),
)
"""What may differ, and then tells less of the protection."""


def _warnings(columns: Sequence[Column], reports: Sequence[VerificationReport]) -> list[str]:
    notes = [f"{column.name} is INVALID: its figures show nothing." for column in columns if not column.valid]
    different = [
        what for what, fact in _BETTER_AGREE if any(fact(report) != fact(reports[0]) for report in reports[1:])
    ]
    if different:
        notes.append(f"Not the protection alone differs: other {', '.join(different)}.")
    if reports[0].dataset.test_source == "given":
        notes.append("Test pictures were given as sets in memory, so nobody knows whether they are the same.")
    return notes


def _column(path: Path, report: VerificationReport) -> Column:
    made = report.protection
    method = "not known" if made is None else made.method or "not known"
    if made is not None and made.granularity:
        method += f", {made.granularity}-wise"
    if made is not None and made.epsilon is not None:
        method += f", {255 * made.epsilon:.3g} levels"
    folder = path if path.name != REPORT_NAME else path.parent
    return Column(str(path), folder.name or str(path), method, report.verdict.headline, report.verdict.valid)


_NOTHING = Cell("–")


def _told(value: Estimate) -> str:
    return f"{100 * value.estimate:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"


def _tiers(reports: Sequence[VerificationReport]) -> Section:
    by_name = [{tier.tier: tier for tier in report.verdict.tiers} for report in reports]
    rows = []
    for name in TIERS:
        found = [known.get(name) for known in by_name]
        if any(tier is not None and tier.grade != "not tested" for tier in found):
            rows.append(Row(name, TIER_TITLES[name], tuple(_tier(tier) for tier in found)))
    return Section("Grades by tier", "What is shown for every condition of the tier at 95 %.", tuple(rows))


def _tier(found: TierVerdict | None) -> Cell:
    if found is None or found.grade == "not tested":
        return Cell("not tested", grade="not tested")
    return Cell(found.grade + ("" if found.complete else ", partly tested"), grade=found.grade)


def _conditions(reports: Sequence[VerificationReport]) -> Section:
    by_id = [{condition.id: condition for condition in report.conditions} for report in reports]
    names = dict.fromkeys(identity for known in by_id for identity in known)
    rows = []
    for identity in names:
        first = next(known[identity] for known in by_id if identity in known)
        cells = tuple(_condition(known.get(identity), report) for known, report in zip(by_id, reports, strict=True))
        rows.append(Row(identity, describe_condition(first), cells))
    note = "Accuracy with protected pictures, with its 95 % interval; what is still learnable, or added; the grade."
    return Section("Conditions", note, tuple(rows))


def _condition(condition: Condition | None, report: VerificationReport) -> Cell:
    if condition is None:
        return _NOTHING
    if condition.status != "ok":
        return Cell(condition.status)
    reading, figure = condition.readings.get(condition.readout), condition.figure
    graded = report.verdict.graded and not condition.oracle
    grade = condition_grade(condition) if graded and figure is not None and condition.upper is not None else None
    parts = [] if reading is None else [_told(reading.accuracy)]
    if figure is not None:
        rho = condition.metric == "rho"
        parts.append(f"still learnable {_told(figure)}" if rho else f"marginal value {figure.estimate:.2f}")
    parts += [] if grade is None else [grade]
    return Cell("; ".join(parts) or "–", None if reading is None else reading.accuracy, figure, grade)


def _trainers(reports: Sequence[VerificationReport]) -> Section:
    by_class = [{found.trainer: found for found in report.trainers} for report in reports]
    rows = []
    for trainer in dict.fromkeys(name for known in by_class for name in known):
        found = [known.get(trainer) for known in by_class]
        cases = [None if one is None else one.worst for one in found]
        if not any(cases):
            continue
        meaning = next(one.meaning for one in found if one is not None)
        cells = tuple(
            _NOTHING if case is None else Cell(f"{_told(case.accuracy)}; {case.id}", case.accuracy, case.rho)
            for case in cases
        )
        rows.append(Row(trainer, meaning, cells))
    return Section("Worst case by class of trainer", "The most that a trainer of the class gets.", tuple(rows))


def _visibility(reports: Sequence[VerificationReport]) -> Section:
    def line(name: str, detail: str, tell: Callable[[VerificationReport], str]) -> Row:
        return Row(name, detail, tuple(Cell(tell(report)) for report in reports))

    def median(spread: Spread | None, form: str) -> str:
        return "–" if spread is None else format(spread.p50, form)

    rows = (
        line("largest change", "in levels of 255", lambda report: f"{report.stealth.linf_max:g}"),
        line("PSNR", "median in dB; more is less visible", lambda report: median(report.stealth.psnr, ".1f")),
        line("SSIM", "median; 1 is equal", lambda report: median(report.stealth.ssim, ".3f")),
        line("LPIPS", "median; 0 is equal", lambda report: median(report.stealth.lpips, ".3f")),
        line("over budget", "files", lambda report: str(len(report.stealth.over_budget))),
    )
    return Section("Visibility", "Measured on the files.", rows)
