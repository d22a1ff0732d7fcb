"""Which drawings the page shows, and which of them at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ..data import StealthFile
from ..schema import ArmResult, CellRecord, Condition, MixPoint, VerificationReport
from .drawing import confusion_matrix, histogram, learning_curves, mix_curve
from .rows import plain_condition, plain_words

__all__ = [
    "ClassTable",
    "CurveChart",
    "Matrices",
    "MixChart",
    "curve_charts",
    "matrices",
    "mix_charts",
    "visibility_charts",
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
        words = plain_words(condition)
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
            found.append(Matrices(condition, plain_words(condition), drawn[0], drawn[1], identity == wanted[0]))
    return found


def _matrix(arm: ArmResult | None, classes: Sequence[str], colour: str, condition: Condition) -> Markup | None:
    if arm is None or arm.confusion is None or len(arm.confusion) != len(classes):
        return None
    pictures = "clean and protected" if colour == "protected" and condition.metric == "mv" else colour
    label = (
        f"Confusion matrix, trained on {pictures} pictures by a trainer who {plain_words(condition)}: "
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
        yield condition, plain_words(condition), treated.per_class


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
