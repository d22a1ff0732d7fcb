"""The thresholds of the verdict rule, the two figures that are graded, and how a figure becomes a grade.

The thresholds stand here and nowhere else; they are written into the plan before the first training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..schema import Condition, Estimate, Grade, GradeBounds, Metric, Rule
from ..statistics import (
    MV_LIMIT,
    Draws,
    interval,
    lower_bound,
    mv_draws,
    mv_estimate,
    rho_draws,
    rho_estimate,
    upper_bound,
)

RULE = Rule(
    learned_share=0.3,
    # A CLIP from scratch, on as few pictures as people have, ranks far above guessing and is far from always right.
    times_guessing=3.0,
    noise_margin=0.05,
    # Then noise does at most a fifth of the harm.
    times_noise=4.0,
    fitted_share=0.9,
    shuffled_margin=0.1,
    # One training of two classes moves by more than two of them too often: about one in eight.
    shuffled_errors=3.0,
    # Were all of them known by heart, no accuracy could be off by more, and that is what G2 allows noise. CIFAR-10
    # itself has 3.3 % (arXiv 1902.00423).
    near_share=0.05,
    rho=GradeBounds(strong=0.15, moderate=0.40, weak=0.75),
    mv=GradeBounds(strong=0.10, moderate=0.40, weak=0.80),
    widest=0.25,
    equivalence_margin=0.1,
)


def _ladder(bounds: GradeBounds) -> tuple[tuple[Grade, float], ...]:
    return ("strong", bounds.strong), ("moderate", bounds.moderate), ("weak", bounds.weak)


BOUNDS: dict[Metric, tuple[tuple[Grade, float], ...]] = {"rho": _ladder(RULE.rho), "mv": _ladder(RULE.mv)}
"""A grade is given where the one-sided 95 % upper bound is at most this."""

Key = TypeVar("Key")

_FROM_BEST_TO_WORST: tuple[Grade, ...] = ("strong", "moderate", "weak", "inconclusive", "none")


@dataclass(frozen=True)
class Accuracy:
    """A mean accuracy and its bootstrap draws ``[B]``."""

    value: float
    draws: Draws


@dataclass(frozen=True)
class Figure:
    """What is graded.

    Attributes:
        figure: an estimate with its 95 % interval.
        upper: one-sided 95 % bound of this condition alone, which the grade of its tier rests on.
        joint: the wider bound that holds at once with those of all other tiers.
        sides: a lower and an upper bound of 95 % each, for this condition alone.
    """

    figure: Estimate
    upper: float
    joint: float
    sides: tuple[float, float]

    def within(self, margin: float) -> bool:
        """Two one-sided tests: whether the figure is shown to be within the margin of nothing, either way."""
        return -margin <= self.sides[0] and self.sides[1] <= margin


def residual(protected: Accuracy, clean: Accuracy, chance: float, alpha: float, claims: int = 1) -> Figure:
    """Residual learnability of one condition; see :func:`bitterant.attacks.statistics.rho_estimate`."""
    value = rho_estimate(protected.value, clean.value, chance)
    draws = rho_draws(protected.draws, clean.draws, chance)
    found = interval(value, draws, alpha=alpha)
    sides = lower_bound(draws, alpha=alpha), upper_bound(draws, alpha=alpha)
    upper, joint = max(value, sides[1]), max(value, upper_bound(draws, alpha=alpha, claims=claims))
    return Figure(Estimate(estimate=found.estimate, low=found.low, high=found.high), upper, joint, sides)


def marginal_value(mixed: Accuracy, part: Accuracy, clean: Accuracy, alpha: float, claims: int = 1) -> Figure:
    """Marginal value of one condition; see :func:`bitterant.attacks.statistics.mv_estimate`."""
    value = mv_estimate(mixed.value, part.value, clean.value)
    lower, higher = (
        mv_draws(mixed.draws, part.draws, clean.draws, without_gap=side * MV_LIMIT) for side in (-1.0, 1.0)
    )
    low, high = float(np.quantile(lower, alpha / 2)), float(np.quantile(higher, 1 - alpha / 2))
    sides = lower_bound(lower, alpha=alpha), upper_bound(higher, alpha=alpha)
    upper, joint = max(value, sides[1]), max(value, upper_bound(higher, alpha=alpha, claims=claims))
    return Figure(Estimate(estimate=value, low=min(low, value), high=max(high, value)), upper, joint, sides)


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


def worst_of(found: Mapping[Key, Figure], metric: Metric) -> Key:
    """Which of several figures is worst for the protection; the first of equals."""
    return max(found, key=lambda key: badness(found[key].figure, found[key].upper, metric))
