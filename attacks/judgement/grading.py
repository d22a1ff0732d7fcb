"""From a figure with its bounds to a grade, and which of two figures is worse."""

from __future__ import annotations

from ..schema import Condition, Estimate, Grade, GradeBounds, Metric
from .rule import RULE

__all__ = ["BOUNDS", "badness", "condition_badness", "condition_grade", "figure_grade", "grade_of"]


def _ladder(bounds: GradeBounds) -> tuple[tuple[Grade, float], ...]:
    return ("strong", bounds.strong), ("moderate", bounds.moderate), ("weak", bounds.weak)


BOUNDS: dict[Metric, tuple[tuple[Grade, float], ...]] = {"rho": _ladder(RULE.rho), "mv": _ladder(RULE.mv)}
"""A grade is given where the simultaneous 95 % upper bound is at most this."""

_FROM_BEST_TO_WORST: tuple[Grade, ...] = ("strong", "moderate", "weak", "inconclusive", "none")


def grade_of(upper: float, metric: Metric = "rho") -> Grade:
    """The class an upper bound falls in."""
    for grade, bound in BOUNDS[metric]:
        if upper <= bound:
            return grade
    return "none"


def figure_grade(figure: Estimate, upper: float, metric: Metric = "rho") -> Grade:
    """The grade of a figure, ``inconclusive`` where its interval straddles two classes and is wide."""
    grade = grade_of(upper, metric)
    if grade == "none" and grade_of(figure.estimate, metric) == "none":
        return grade  # nothing is claimed for the protection, so nothing has to be proven
    straddles = grade_of(figure.low, metric) != grade
    return "inconclusive" if straddles and upper - figure.low > RULE.widest else grade


def badness(figure: Estimate, upper: float, metric: Metric = "rho") -> tuple[int, float, float]:
    """Sorts figures from the best for the protection to the worst.

    The grade comes first: upper bounds of rho end at 1, where a failure that is proven and a wide interval that proves
    nothing would look the same.
    """
    return _FROM_BEST_TO_WORST.index(figure_grade(figure, upper, metric)), upper, figure.estimate


def _measured(condition: Condition) -> tuple[Estimate, float]:
    assert condition.figure is not None
    assert condition.upper is not None
    return condition.figure, condition.upper


def condition_grade(condition: Condition) -> Grade:
    """The grade of a condition that was tested."""
    return figure_grade(*_measured(condition), condition.metric)


def condition_badness(condition: Condition) -> tuple[int, float, float]:
    """:func:`badness` of a condition that was tested."""
    return badness(*_measured(condition), condition.metric)
