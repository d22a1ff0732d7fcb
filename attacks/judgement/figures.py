"""The two figures that are graded, each with its interval and the upper bounds that grades rest on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..schema import Estimate, Metric
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
from .grading import badness

__all__ = ["Accuracy", "Figure", "marginal_value", "residual", "worst_of"]

Key = TypeVar("Key")


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


def worst_of(found: Mapping[Key, Figure], metric: Metric) -> Key:
    """Which of several figures is worst for the protection; the first of equals."""
    return max(found, key=lambda key: badness(found[key].figure, found[key].upper, metric))
