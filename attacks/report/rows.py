"""Rows of the tables that are drawn: one a trainer, sorted by what the trainer gets, and one a class."""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from ..judgement.grading import condition_grade
from ..schema import ArmResult, Condition, Estimate, Grade, VerificationReport
from .drawing import Mark, track

__all__ = ["ClassRow", "TrainerRow", "class_rows", "plain_condition", "plain_words", "trainer_rows"]

_NAIVE = "takes the pictures as they are"
_BEGINNINGS = ("a trainer who ", "a naive trainer who ")


def plain_words(condition: Condition) -> str:
    """What the trainer does, so that it can follow "The trainer …"."""
    for beginning in _BEGINNINGS:
        if condition.phrase.startswith(beginning):
            return condition.phrase.removeprefix(beginning)
    return _NAIVE if condition.adversary == "none" else condition.phrase


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
        words=plain_words(condition),
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
