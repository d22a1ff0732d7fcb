"""The page for people: rows of its tables, which drawings it shows, and what the template is given.

One template serves every kind of verification; what a kind does not have is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ...imaging import render_page
from ..data import StealthFile
from ..evaluation.grading import BOUNDS, condition_grade
from ..schema import (
    ArmResult,
    CellRecord,
    Condition,
    Estimate,
    Gate,
    Grade,
    MixPoint,
    Retrieval,
    TrainerResult,
    VerificationReport,
    WorstCase,
)
from ..terms import ARM_WORDS, TASK_TITLES, Readout, Tier
from .drawing import (
    Mark,
    axis,
    confusion_matrix,
    histogram,
    learning_curves,
    mix_curve,
    power_picture,
    ring_chart,
    track,
)
from .measures import GAIN, LOW_FREQUENCY, Powers, Tile

_BEGINNINGS = ("a trainer who ", "a naive trainer who ")

_MOST_ISSUES = 50
_SHOWN_ROWS = 14
_WHITE_LOW_SHARE = math.pi * LOW_FREQUENCY**2
"""Random noise has its power spread evenly over all frequencies: the area of the circle of low ones."""

_TONES: dict[Grade, str] = {
    "strong": "ok",
    "moderate": "ok",
    "weak": "warn",
    "inconclusive": "warn",
    "none": "bad",
    "not graded": "",
    "not tested": "",
}
EFFORTS: dict[Tier, str] = {
    "naive": "takes the pictures as they are",
    "transforms": "first compresses, scales, blurs or turns them grey",
    "training": "trains harder: augments, trains adversarially, cleans the pictures",
    "prior": "has a trained model already, or a few clean pictures",
    "relabel": "sorts them under other labels",
    "mixing": "mixes them with clean pictures",
}
"""The tiers, so that they can follow "The trainer …"."""

_WORDS: dict[Grade, str] = {"none": "no protection"}
_GATES = {
    "pass": ("ok", "passed"),
    "warn": ("warn", "in doubt"),
    "fail": ("bad", "failed"),
}


def describe_condition(condition: Condition) -> str:
    """What the trainer does, so that it can follow "The trainer …"."""
    for beginning in _BEGINNINGS:
        if condition.phrase.startswith(beginning):
            return condition.phrase.removeprefix(beginning)
    return EFFORTS["naive"] if condition.adversary == "none" else condition.phrase


@dataclass(frozen=True)
class TrainerRow:
    """One condition.

    Attributes:
        words: what the trainer does.
        drawing: its accuracies on a scale.
        trainer, ceiling: the accuracies that count, in [0, 1]: on protected pictures, and on clean ones.
        rho: what is graded.
        grade: ``not graded`` where there are no grades.
    """

    condition: Condition
    words: str
    drawing: Markup
    trainer: float
    ceiling: float
    rho: Estimate
    grade: Grade


def trainer_rows(report: VerificationReport) -> list[TrainerRow]:
    """The conditions that count and are graded by residual learnability, first those that give the trainer most."""
    rows = [
        _row(condition, report.verdict.graded)
        for condition in report.conditions
        if condition.status == "ok" and condition.metric == "rho"
    ]
    return sorted(rows, key=lambda row: (-row.rho.estimate, -(row.condition.rho_upper or 0.0), -row.trainer))


def _row(condition: Condition, graded: bool) -> TrainerRow:
    clean, protected, rho = condition.clean, condition.protected, condition.rho
    assert clean is not None
    assert protected is not None
    assert rho is not None
    by_class = condition.basis == "balanced accuracy"
    trainer, ceiling = (arm.balanced if by_class else arm.accuracy for arm in (protected, clean))
    chance = (condition.balanced_chance if by_class else condition.chance) or 0.0
    value = trainer
    if condition.renamed and not by_class and protected.permuted_accuracy > trainer.estimate:
        value = _renamed(protected.permuted_accuracy, rho, ceiling.estimate, chance)
    marks = [
        Mark("ceiling", ceiling, "trained on clean pictures"),
        Mark("protected", value, "trained on protected ones"),
    ]
    if condition.noise is not None:
        noise = condition.noise.balanced if by_class else condition.noise.accuracy
        marks.insert(0, Mark("noise", noise, "trained on random noise"))
    return TrainerRow(
        condition=condition,
        words=describe_condition(condition),
        drawing=track(marks, chance),
        trainer=value.estimate,
        ceiling=ceiling.estimate,
        rho=rho,
        grade=condition_grade(condition) if graded and not condition.oracle else "not graded",
    )


def _renamed(accuracy: float, rho: Estimate, ceiling: float, chance: float) -> Estimate:
    """Accuracy after renaming, with the interval of the learnable share between chance and ceiling."""
    low, high = (chance + share * (ceiling - chance) for share in (rho.low, rho.high))
    return Estimate(estimate=accuracy, low=min(low, accuracy), high=max(high, accuracy))


@dataclass(frozen=True)
class ClassRow:
    """One class of the naive trainer.

    Attributes:
        tested: number of test pictures.
        drawing: its accuracies on a scale.
        clean, protected: the same in [0, 1].
    """

    name: str
    tested: int
    drawing: Markup
    clean: float
    protected: float


def plain_condition(report: VerificationReport) -> Condition | None:
    """The first victim without adversary, where it was tested."""
    first = report.plan.conditions[0].id
    return next((c for c in report.conditions if c.id == first and c.clean and c.protected), None)


def class_rows(report: VerificationReport) -> list[ClassRow]:
    """The classes that were tested, first those of which the naive trainer learns most."""
    condition = plain_condition(report)
    if condition is None:
        return []
    clean, protected = _by_class(condition.clean), _by_class(condition.protected)
    noise = _by_class(condition.noise)
    rows = []
    for label, name in enumerate(report.dataset.classes):
        before, after = clean.get(label), protected.get(label)
        if before is None or after is None:
            continue
        marks = [
            Mark("ceiling", before, "trained on clean pictures"),
            Mark("protected", after, "trained on protected ones"),
        ]
        if label in noise:
            marks.insert(0, Mark("noise", noise[label], "trained on random noise"))
        tested = report.dataset.test_counts[label]
        rows.append(ClassRow(name, tested, track(marks, condition.balanced_chance), before, after))
    return sorted(rows, key=lambda row: (-row.protected, row.clean, row.name))


def _by_class(arm: ArmResult | None) -> dict[int, float]:
    found = () if arm is None else arm.per_class
    return {label: value for label, value in enumerate(found) if value is not None}


_MOMENTS: dict[Readout, str] = {
    "final": "at the end",
    "peak": "at its best moment, chosen with the test answers",
    "validated": "at the moment chosen with clean pictures",
}


@dataclass(frozen=True)
class CaseRow:
    """A worst case in words.

    Attributes:
        crafting: among which adversaries it is the worst.
        words: what the trainer does.
        moment: when the victim was read out.
        most: whether it is the worst of the class.
    """

    crafting: str
    case: WorstCase
    words: str
    moment: str
    most: bool


@dataclass(frozen=True)
class ClassCases:
    """One class of trainers of which something was tested.

    Attributes:
        cases: among the adversaries that were seen in crafting and among those held out, where any were tested.
    """

    found: TrainerResult
    cases: tuple[CaseRow, ...]


def class_cases(report: VerificationReport) -> list[ClassCases]:
    """The classes of which something was tested; none where the run is INVALID and its figures show nothing."""
    if not report.verdict.valid:
        return []
    words = {condition.id: describe_condition(condition) for condition in report.conditions}
    return [
        ClassCases(
            found,
            tuple(
                CaseRow(crafting, case, words[case.id], _MOMENTS[case.moment], case == found.worst)
                for crafting, case in (("seen in crafting", found.seen), ("held out", found.held_out))
                if case is not None
            ),
        )
        for found in report.trainers
        if found.tested
    ]


@dataclass(frozen=True)
class CurveChart:
    """Learning curves of one condition. ``first``: shown at once; the others on demand."""

    condition: Condition
    words: str
    drawing: Markup
    first: bool


def curve_charts(report: VerificationReport) -> list[CurveChart]:
    """All conditions with trainings of their own; at once the naive trainers and the hardest case of each tier."""
    shown = {tier.worst for tier in report.verdict.tiers}
    charts = []
    for condition in report.conditions:
        cells = _cells(report, condition)
        if not condition.arms or not any(cell.curve for cell in cells):
            continue
        words = describe_condition(condition)
        label = f"Test accuracy along the training of {condition.victim}: {words}. {_told(condition)}"
        drawing = learning_curves(cells, condition.chance or 0.0, label)
        charts.append(CurveChart(condition, words, drawing, condition.adversary == "none" or condition.id in shown))
    return charts


def _cells(report: VerificationReport, condition: Condition) -> list[CellRecord]:
    return [c for c in report.cells if c.victim == condition.victim and c.adversary == condition.adversary]


def _told(condition: Condition) -> str:
    return "; ".join(f"{arm} ends at {_percent(_mean(result.final))}" for arm, result in condition.arms.items())


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.0f} %"


@dataclass(frozen=True)
class MixChart:
    """The mix curve of one victim, with the points it is drawn through."""

    victim: str
    points: tuple[MixPoint, ...]
    drawing: Markup


def mix_charts(report: VerificationReport) -> list[MixChart]:
    """One for each victim that was trained on mixes."""
    charts = []
    for victim in dict.fromkeys(point.victim for point in report.mixing):
        points = tuple(point for point in report.mixing if point.victim == victim)
        whole = next((c for c in report.conditions if c.victim == victim and c.adversary == "none"), None)
        drawing = mix_curve(points, {} if whole is None else whole.arms, None if whole is None else whole.chance)
        charts.append(MixChart(victim, points, drawing))
    return charts


@dataclass(frozen=True)
class Matrices:
    """Confusion matrices of one condition, clean beside protected. ``first``: shown at once."""

    condition: Condition
    words: str
    clean: Markup
    protected: Markup
    first: bool


def matrices(report: VerificationReport) -> list[Matrices]:
    """The naive trainer, then the hardest case of each tier, where the classes are those of the folders."""
    plain, classes = plain_condition(report), report.dataset.classes
    by_id = {condition.id: condition for condition in report.conditions}
    wanted = [plain.id] if plain is not None else []
    wanted += [tier.worst for tier in report.verdict.tiers if tier.worst is not None and tier.tier != "relabel"]
    found = []
    for identity in dict.fromkeys(wanted):
        condition = by_id[identity]
        clean, treated = condition.clean, condition.treated
        drawn = [_matrix(arm, classes, colour, condition) for arm, colour in ((clean, "clean"), (treated, "protected"))]
        if drawn[0] is not None and drawn[1] is not None:
            found.append(Matrices(condition, describe_condition(condition), drawn[0], drawn[1], identity == wanted[0]))
    return found


def _matrix(arm: ArmResult | None, classes: Sequence[str], colour: str, condition: Condition) -> Markup | None:
    if arm is None or arm.confusion is None or len(arm.confusion) != len(classes):
        return None
    pictures = "clean and protected" if colour == "protected" and condition.metric == "mv" else colour
    label = (
        f"Confusion matrix, trained on {pictures} pictures by a trainer who {describe_condition(condition)}: "
        f"{_percent(arm.accuracy.estimate)} of the test pictures on the diagonal"
    )
    return confusion_matrix(arm.confusion, classes, colour, label)


@dataclass(frozen=True)
class ClassTable:
    """Accuracy within each class, for every condition that learned the classes of the folders.

    Attributes:
        rows: condition, what the trainer does, and one value a class for the arm with protected pictures.
    """

    classes: tuple[str, ...]
    rows: tuple[tuple[Condition, str, tuple[float | None, ...]], ...]

    @classmethod
    def of(cls, report: VerificationReport) -> ClassTable:
        """Conditions in the order of the plan."""
        return cls(report.dataset.classes, tuple(_class_lines(report)))


def _class_lines(report: VerificationReport) -> Iterator[tuple[Condition, str, tuple[float | None, ...]]]:
    for condition in report.conditions:
        treated = condition.treated
        if treated is None or condition.tier == "relabel" or len(treated.per_class) != len(report.dataset.classes):
            continue
        yield condition, describe_condition(condition), treated.per_class


Figure = Callable[[StealthFile], "float | None"]

_VISIBILITY: tuple[tuple[str, str, str, Figure], ...] = (
    ("largest change", "in levels of 255", ".3g", lambda file: file.distances.linf_levels),
    ("PSNR", "in dB; more is less visible", ".1f", lambda file: file.distances.psnr),
    ("SSIM", "1 is equal", ".3f", lambda file: file.distances.ssim),
    ("LPIPS", "0 is equal", ".3f", lambda file: file.distances.lpips),
    ("Euclidean length of the change", "values in 0 to 1", ".2f", lambda file: file.distances.l2),
    ("values moved to black or white", "in %", ".2f", lambda file: 100 * file.distances.clipped),
    ("size on disk", "times the original's", ".2f", lambda file: file.size_ratio),
)


def visibility_charts(files: Sequence[StealthFile]) -> list[tuple[str, str, Markup]]:
    """Histograms with their titles and units; what was not measured has none."""
    charts = []
    for title, unit, form, figure in _VISIBILITY:
        drawing = histogram(title, [value for file in files if (value := figure(file)) is not None], form)
        if drawing is not None:
            charts.append((title, unit, drawing))
    return charts


@dataclass(frozen=True)
class RankRow:
    """How well one arm ranks.

    Attributes:
        words: what was trained on.
        hits: Hit@k and its standard deviation over the seeds, by k; no deviation for one seed, nor for guessing.
        rank: median rank.
    """

    words: str
    hits: tuple[tuple[float, float | None], ...]
    rank: float


@dataclass(frozen=True)
class RankTable:
    """One way to ask: arms down, cut-offs across, guessing last."""

    title: str
    found: Retrieval
    rows: tuple[RankRow, ...]


def rank_tables(report: VerificationReport) -> list[RankTable]:
    """One table for each way in which captions and pictures were asked for."""
    tables = []
    for condition in report.conditions:
        found = condition.retrieval
        if found is None:
            continue
        rows = [
            RankRow(
                ARM_WORDS.get(arm, arm), tuple((ranking.hit(k), ranking.deviation(k)) for k in found.chance),
                ranking.median_rank,
            )
            for arm, ranking in found.arms.items()
        ]  # fmt: skip
        rows.append(RankRow("guessing", tuple((value, None) for value in found.chance.values()), found.chance_rank))
        tables.append(RankTable(TASK_TITLES[found.task], found, tuple(rows)))
    return tables


def recipe_words(recipe: Mapping[str, Any]) -> str:
    """The settings of a training in words: names without underscores, numbers without noise."""
    return "; ".join(f"{name.replace('_', ' ')} {_value(value)}" for name, value in recipe.items())


def _value(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def render_report(
    report: VerificationReport,
    *,
    files: Sequence[StealthFile] = (),
    tiles: Sequence[Tile] = (),
    powers: Powers | None = None,
) -> str:
    """The HTML page: one file, nothing loaded from elsewhere.

    Args:
        report: the result.
        files: for the histograms of how visible the change is.
        tiles: pictures to show.
        powers: for the picture of the spectrum.
    """
    tested = [condition for condition in report.conditions if condition.arms]
    retrieval = report.kind == "retrieval"
    rows, by_class, confusions = trainer_rows(report), class_rows(report), matrices(report)
    curves, visibility = curve_charts(report), visibility_charts(files)
    owners = class_cases(report)
    mixing = [condition for condition in tested if condition.metric == "mv"]
    return render_page(
        __package__ or "bitterant.attacks",
        "verify.html.j2",
        report=report,
        verdict=report.verdict,
        measure="questions answered at the cut-off that is judged" if retrieval else "accuracy on clean test pictures",
        retrieval=retrieval,
        rank_tables=rank_tables(report),
        recipes={name: recipe_words(recipe) for name, recipe in report.plan.recipes.items()},
        advice=advice(report),
        headline=report.verdict.headline.replace(" %", "\u00a0%"),  # a number keeps its sign on its line
        dataset=report.dataset,
        stealth=report.stealth,
        plan=report.plan,
        tones=_TONES,
        grade_words={grade: _WORDS.get(grade, grade) for grade in _TONES},
        tone=tone_of(report),
        tiers=_tiers(report),
        bounds=BOUNDS,
        owners=owners,
        unowned=[found for found in report.trainers if not found.tested],
        unequal=len(set(report.dataset.test_counts)) > 1,
        tiles=tiles,
        gain=GAIN,
        tested=tested,
        axis=axis(),
        rows=rows[:_SHOWN_ROWS],
        more_rows=rows[_SHOWN_ROWS:],
        not_counted=[c for c in report.conditions if c.status != "ok" and c.metric == "rho"],
        learned=[condition for condition in tested if condition.metric == "rho"],
        has_noise=any(condition.noise is not None for condition in tested),
        has_untrained=any("untrained" in condition.arms for condition in tested),
        by_class=any(condition.basis == "balanced accuracy" for condition in tested),
        curves=curves,
        mixing=mixing,
        mix_charts=mix_charts(report),
        matrices=confusions,
        class_rows=by_class,
        class_table=ClassTable.of(report),
        visibility=visibility,
        separability=report.separability,
        spectrum=report.spectrum,
        power_picture=power_picture(powers.protected) if powers is not None and powers.protected.any() else None,
        ring_chart=ring_chart(report.spectrum) if report.spectrum is not None else None,
        noise_low_share=_WHITE_LOW_SHARE,
        gates=_gates(report.gates),
        notable_gates=[gate for gate in report.gates if gate.status != "pass"],
        gate_words=_GATES,
        issues=report.dataset.issues[:_MOST_ISSUES],
        minutes=report.wall_seconds / 60,
    )


def advice(report: VerificationReport) -> str:
    """What follows from the verdict, for whoever has the pictures."""
    verdict = report.verdict
    if not verdict.valid:
        return "Believe none of these figures. Mend what the verdict names, and verify again."
    grades = [tier.grade for tier in verdict.tiers if tier.upper is not None]
    if not verdict.graded or not grades:
        again = "three seeds or more" if report.kind == "retrieval" else "the preset quick or standard"
        return f"This was a smoke test: it runs, and says no more. For a grade, verify with {again}."
    if "none" in grades:
        return (
            "Do not rely on this protection: at least one trainer still learns. Protect again with more strength or "
            "another method, or publish fewer, smaller, or no pictures."
        )
    if {"inconclusive", "not graded"} & set(grades):
        return "Too little was tested to tell. Give more test pictures, or repeat each training more often."
    told = [
        "It makes training harder, not impossible." if "weak" in grades else "",
        "Publish the copies alone, and keep originals, banks and keys to yourself: whoever has pairs of both can "
        "learn to undo the protection.",
        _ahead(report),
    ]
    return " ".join(filter(None, told))


def _ahead(report: VerificationReport) -> str:
    """What to verify next."""
    if report.kind == "retrieval":
        return "One trainer was tried. Where the pictures have classes, verify with bitterant verify too."
    return (
        "" if report.plan.preset in ("standard", "full") else "Verify with the preset standard before you rely on it."
    )


def tone_of(report: VerificationReport) -> str:
    """The colour of a verdict: ``ok``, ``warn`` or ``bad``."""
    verdict = report.verdict
    if not verdict.valid:
        return "bad"
    grades = {tier.grade for tier in verdict.tiers if tier.upper is not None}
    if "none" in grades:
        return "bad"
    # Green would say more than was tested where a kind of trainer was left out.
    whole = verdict.graded and all(tier.complete for tier in verdict.tiers)
    return "ok" if whole and grades <= {"strong", "moderate"} else "warn"


def _tiers(report: VerificationReport) -> list[dict[str, Any]]:
    """The rows of the traffic-light table, with the hardest case in words."""
    by_id = {condition.id: condition for condition in report.conditions}
    rows = []
    for tier in report.verdict.tiers:
        worst = by_id.get(tier.worst or "")
        rows.append(
            {
                "verdict": tier,
                "title": EFFORTS[tier.tier],
                "worst": worst,
                "case": None if worst is None else describe_condition(worst),
                "share": None if tier.upper is None else min(1.0, max(0.0, tier.upper)),
            }
        )
    return rows


def _gates(gates: Sequence[Gate]) -> list[dict[str, Any]]:
    """One row a gate: how often it was passed."""
    found: dict[str, list[Gate]] = {}
    for gate in gates:
        found.setdefault(gate.id, []).append(gate)
    return [
        {
            "id": name,
            "title": group[0].title,
            "first": group[0],
            "total": len(group),
            "passed": sum(gate.status == "pass" for gate in group),
            "worst": next(status for status in ("fail", "warn", "pass") if any(g.status == status for g in group)),
        }
        for name, group in found.items()
    ]
