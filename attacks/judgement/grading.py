"""From a figure with its bounds to a grade, and which of two figures is worse."""

from __future__ import annotations

from ..schema import Condition, Estimate, Grade, GradeBounds, Metric
from .rule import RULE

__all__ = ["BOUNDS", "badness", "condition_badness", "condition_grade", "figure_grade", "grade_of"]


def _ladder(bounds: GradeBounds) -> tuple[tuple[Grade, float], ...]:
    return ("strong", bounds.strong), ("moderate", bounds.moderate), ("weak", bounds.weak)


BOUNDS: dict[Metric, tuple[tuple[Grade, float], ...]] = {"rho": _ladder(RULE.rho), "mv": _ladder(RULE.mv)}
"""A grade is given where the one-sided 95 % upper bound is at most this."""

_FROM_BEST_TO_WORST: tuple[Grade, ...] = ("strong", "moderate", "weak", "inconclusive", "none")


def grade_of(upper: float, metric: Metric = "rho") -> Grade:
    """The class an upper bound falls in."""
    for grade, bound in BOUNDS[metric]:
        if upper <= bound:
            return grade
    return "none"


def figure_grade(figure: Estimate, upper: float, metric: Metric = "rho") -> Grade:
    """The grade of a figure; ``inconclusive`` where none is shown and it is not shown either that there is none.

    A grade claims that the figure is at most its bound. That is shown or not, however far below the figure may lie: a
    wide interval costs the better grade and does not make the weaker claim less true.
    """
    grade = grade_of(upper, metric)
    if grade != "none" or grade_of(figure.estimate, metric) == "none":
        return grade  # nothing is claimed for the protection where the estimate speaks against it
    refuted = grade_of(figure.low, metric) == "none" or upper - figure.low <= RULE.widest
    return "none" if refuted else "inconclusive"


def badness(figure: Estimate, upper: float, metric: Metric = "rho") -> tuple[int, float, float]:
    """Sorts figures from the best for the protection to the worst.

    The grade comes first: upper bounds of rho end at 1, where a failure that is proven and a wide interval that proves
    nothing would look the same.
    """
    return _FROM_BEST_TO_WORST.index(figure_grade(figure, upper, metric)), upper, figure.estimate


def _measured(condition: Condition, *, joint: bool = False) -> tuple[Estimate, float]:
    assert condition.figure is not None
    assert condition.upper is not None
    wider = condition.joint_upper if joint else None
    return condition.figure, condition.upper if wider is None else wider


def condition_grade(condition: Condition, *, joint: bool = False) -> Grade:
    """The grade of a condition that was tested; ``joint``: by the bound that holds at once with those of all tiers."""
    return figure_grade(*_measured(condition, joint=joint), condition.metric)


def condition_badness(condition: Condition, *, joint: bool = False) -> tuple[int, float, float]:
    """:func:`badness` of a condition that was tested."""
    return badness(*_measured(condition, joint=joint), condition.metric)
