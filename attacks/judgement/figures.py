"""The two figures that are graded, each with its interval and an upper bound that holds for a whole tier."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..schema import Estimate, Metric
from ..statistics import MV_LIMIT, Draws, interval, mv_draws, mv_estimate, rho_draws, rho_estimate, upper_bound
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
        upper: the bound that holds for all conditions of the tier together.
        sides: a lower and an upper bound of 95 % each, for this condition alone.
    """

    figure: Estimate
    upper: float
    sides: tuple[float, float]

    def within(self, margin: float) -> bool:
        """Two one-sided tests: whether the figure is shown to be within the margin of nothing, either way."""
        return -margin <= self.sides[0] and self.sides[1] <= margin


def residual(protected: Accuracy, clean: Accuracy, chance: float, alpha: float, comparisons: int = 1) -> Figure:
    """Residual learnability of one condition; see :func:`bitterant.attacks.statistics.rho_estimate`."""
    value = rho_estimate(protected.value, clean.value, chance)
    draws = rho_draws(protected.draws, clean.draws, chance)
    found = interval(value, draws, alpha=alpha)
    upper = max(value, upper_bound(draws, alpha=alpha, comparisons=comparisons))
    sides = float(np.quantile(draws, alpha)), upper_bound(draws, alpha=alpha)
    return Figure(Estimate(estimate=found.estimate, low=found.low, high=found.high), upper, sides)


def marginal_value(mixed: Accuracy, part: Accuracy, clean: Accuracy, alpha: float, comparisons: int = 1) -> Figure:
    """Marginal value of one condition; see :func:`bitterant.attacks.statistics.mv_estimate`."""
    value = mv_estimate(mixed.value, part.value, clean.value)
    lower, higher = (
        mv_draws(mixed.draws, part.draws, clean.draws, without_gap=side * MV_LIMIT) for side in (-1.0, 1.0)
    )
    low, high = float(np.quantile(lower, alpha / 2)), float(np.quantile(higher, 1 - alpha / 2))
    upper = max(value, upper_bound(higher, alpha=alpha, comparisons=comparisons))
    sides = float(np.quantile(lower, alpha)), upper_bound(higher, alpha=alpha)
    return Figure(Estimate(estimate=value, low=min(low, value), high=max(high, value)), upper, sides)


def worst_of(found: Mapping[Key, Figure], metric: Metric) -> Key:
    """Which of several figures is worst for the protection; the first of equals."""
    return max(found, key=lambda key: badness(found[key].figure, found[key].upper, metric))
