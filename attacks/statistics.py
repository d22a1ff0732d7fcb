"""Intervals for accuracies that were measured with a few seeds on a finite test set.

The unit of analysis is (seed, test example). Every victim of a condition is tested on the same examples, so seeds and
examples are crossed. One draw of the two-level bootstrap

1. draws test examples with replacement within each class, the same ones for every condition and seed. Of n examples
   the variance of a mean comes out as (n - 1)/n of what it is, so each class is stretched by sqrt(n/(n - 1)), or
   intervals of small test sets would be too narrow;
2. gives the seeds random weights that sum to one. With three seeds a plain bootstrap of the seeds covers the truth in
   about 78 % of the cases where it promises 95 % (measured by tests/attacks/test_statistics.py), so the weights have
   Student t tails with S - 1 degrees of freedom, and the part of the spread between seeds that the test examples
   already explain is taken out (one-way analysis of variance).

Because all conditions share the draws, differences and ratios between arms are paired by seed and by example.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float64]
_CHUNK_ENTRIES = 2_000_000
_DIGITS = 10

ALPHA = 0.05
"""Level of every verification: one-sided for what grades claim, two-sided for intervals."""

MV_LIMIT = 10.0
"""Marginal values are cut to this either way: a small gap between two accuracies makes ratios of any size."""


@dataclass(frozen=True)
class Interval:
    """A point estimate with a two-sided interval."""

    estimate: float
    low: float
    high: float


def chance_level(labels: NDArray[np.int64]) -> float:
    """Share of the largest class of the test set: what a trainer gets without looking at any picture."""
    return float(np.bincount(labels).max() / len(labels))


def balanced_chance(labels: NDArray[np.int64]) -> float:
    """Mean accuracy over the classes of a trainer who does not look: one over the number of classes tested."""
    return 1.0 / len(np.unique(labels))


def balancing_weights(labels: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Weights ``[N]`` with mean 1 under which every class of the test set counts alike; ``None`` where it does anyway.

    A trainer who learns the small classes and gives up on a large one stays below the rate of the majority class, which
    plain accuracy would call nothing learned.
    """
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if len(set(counts.tolist())) == 1:
        return None
    return (len(labels) / (len(classes) * counts))[index]


def _example_draws(labels: NDArray[np.int64], draws: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """What each example weighs, ``[draws, N]``: how often it was drawn, stretched within its class."""
    weights = np.ones((draws, len(labels)))
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = len(members)
        if count == 1:  # one example says nothing of the spread within its class
            continue
        picks = rng.integers(0, count, size=(draws, count))
        flat = picks + np.arange(draws)[:, None] * count
        tally = np.bincount(flat.ravel(), minlength=draws * count).reshape(draws, count)
        weights[:, members] += np.sqrt(count / (count - 1)) * (tally - 1)
    return weights


def _seed_deviations(seeds: int, draws: int, rng: np.random.Generator) -> Draws:
    """Random weights ``[draws, S]`` that sum to zero: times S accuracies, a t variate with their standard error."""
    if seeds < 2:
        return np.zeros((draws, seeds))
    normal = rng.standard_normal((draws, seeds))
    normal -= normal.mean(axis=1, keepdims=True)
    scale = np.sqrt(rng.chisquare(seeds - 1, size=draws) / (seeds - 1))
    return normal / (np.sqrt(seeds * (seeds - 1)) * scale[:, None])


def _between_seed_share(correct: NDArray[np.float64]) -> NDArray[np.float64]:
    """Square root of the share of the variance between seeds that is not example noise; ``[K]``, in [0, 1]."""
    examples = correct.shape[2]
    between = correct.mean(axis=2).var(axis=1, ddof=1)
    residual = correct.var(axis=1, ddof=1).mean(axis=1) / examples
    share = np.divide(np.maximum(between - residual, 0.0), between, out=np.zeros_like(between), where=between > 0)
    return np.sqrt(share)


def bootstrap_accuracies(
    correct: NDArray[np.bool_] | NDArray[np.floating], labels: NDArray[np.int64], *, draws: int = 2000, seed: int = 0
) -> Draws:
    """Two-level bootstrap of the accuracies of several conditions with shared draws.

    Args:
        correct: ``[K, S, N]``: condition, seed, test example; true and false, or weights for the true ones.
        labels: true classes ``[N]``.
        draws: number of bootstrap draws B.
        seed: of the draws.

    Returns:
        Accuracies ``[B, K]``. They may leave [0, 1] a little: the tails are those of a t distribution.
    """
    conditions, seeds, examples = correct.shape
    rng = np.random.default_rng(seed)
    deviations = _seed_deviations(seeds, draws, rng)
    matrix = np.asarray(correct, dtype=np.float64)
    share = _between_seed_share(matrix) if seeds > 1 else np.zeros(conditions)
    flat = matrix.reshape(conditions * seeds, examples).T
    chunk = max(1, _CHUNK_ENTRIES // max(1, examples))
    result = np.empty((draws, conditions))
    for start in range(0, draws, chunk):
        rows = slice(start, min(draws, start + chunk))
        weights = _example_draws(labels, rows.stop - rows.start, rng)
        # Equal rows have to give equal draws, though a matrix product may add them up in another order.
        by_seed = np.round((weights @ flat).reshape(-1, conditions, seeds) / examples, _DIGITS)
        moved = np.einsum("bks,bs->bk", by_seed, deviations[rows])
        result[rows] = by_seed.mean(axis=2) + share * moved
    return result


def interval(estimate: float, draws: Draws, *, alpha: float = 0.05, low: float = 0.0, high: float = 1.0) -> Interval:
    """Two-sided percentile interval of level ``1 - alpha``, cut to [low, high]."""
    bounds = np.clip(np.quantile(draws, [alpha / 2, 1 - alpha / 2]), low, high)
    return Interval(estimate, min(float(bounds[0]), estimate), max(float(bounds[1]), estimate))


def upper_bound(draws: Draws, *, alpha: float = 0.05, claims: int = 1) -> float:
    """One-sided upper bound of level ``1 - alpha``.

    Args:
        draws: of the figure.
        alpha: how often the bound may be too low.
        claims: number of separate claims that are to hold at once, each with a bound of its own (Bonferroni). That all
            of several figures are at most one bound is a single claim, made where each figure alone is shown to be: it
            is wrong no more often than the test of a figure that lies above (intersection-union test, R. L. Berger,
            Technometrics 24, 1982), so it needs no correction.
    """
    return float(np.quantile(draws, 1 - alpha / max(1, claims)))


def lower_bound(draws: Draws, *, alpha: float = 0.05) -> float:
    """One-sided lower bound of level ``1 - alpha``."""
    return float(np.quantile(draws, alpha))


def sufficient_draws(claims: int, *, alpha: float = 0.05, least: int = 2000, beyond: int = 20) -> int:
    """Draws for bounds of so many claims that hold at once: at least ``beyond`` of them lie above one on the average,
    or it would rest on a handful."""
    return max(least, math.ceil(beyond * max(1, claims) / alpha))


def rho_estimate(protected: float, clean: float, chance: float) -> float:
    """Residual learnability ``clip((A_prot - c) / (A_clean - c), 0, 1)``.

    Where the clean arm is not above chance the ratio means nothing; 1 is returned, the answer least kind to us.
    """
    gap = clean - chance
    return 1.0 if gap <= 0 else float(np.clip((protected - chance) / gap, 0.0, 1.0))


def rho_draws(protected: Draws, clean: Draws, chance: float) -> Draws:
    """Residual learnability of each draw, ``[B]``; see :func:`rho_estimate`."""
    gap = clean - chance
    ratio = np.divide(protected - chance, gap, out=np.ones_like(gap), where=gap > 0)
    return np.clip(ratio, 0.0, 1.0)


def mv_estimate(mixed: float, part: float, clean: float) -> float:
    """Marginal value of a share of the pictures: what they add to the rest, over what clean ones would add.

    Args:
        mixed: accuracy with the rest clean and the share as it is.
        part: accuracy with the rest alone, at equal optimiser steps.
        clean: accuracy with all pictures clean.

    Returns:
        1 where they are as good as clean ones, 0 where they add nothing, less where they do harm; in
        [-10, 10]. Where clean pictures add nothing either, the least kind answer.
    """
    gap = clean - part
    return MV_LIMIT if gap <= 0 else float(np.clip((mixed - part) / gap, -MV_LIMIT, MV_LIMIT))


def mv_draws(mixed: Draws, part: Draws, clean: Draws, *, without_gap: float) -> Draws:
    """Marginal value of each draw, ``[B]``; see :func:`mv_estimate`.

    Args:
        without_gap: the value of draws in which clean pictures add nothing. The ratio tells nothing there, so an upper
            bound takes ``MV_LIMIT`` and a lower one ``-MV_LIMIT``.
    """
    gap = clean - part
    ratio = np.divide(mixed - part, gap, out=np.full_like(gap, without_gap), where=gap > 0)
    return np.clip(ratio, -MV_LIMIT, MV_LIMIT)


def best_permutation(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int, *, balanced: bool = False
) -> NDArray[np.int64]:
    """The one-to-one renaming of predicted classes that agrees most with ``labels``: ``renamed = table[predicted]``.

    With ``balanced`` the agreement is that of the mean accuracy over the classes.
    """
    from scipy.optimize import linear_sum_assignment  # a second to load, which commands without trainings spare

    confusion = np.zeros((classes, classes))
    weights = balancing_weights(labels) if balanced and len(labels) else None
    np.add.at(confusion, (predictions, labels), 1.0 if weights is None else weights)
    # Among equally good renamings the one that changes least is taken.
    confusion[np.diag_indices(classes)] += 0.5 / (classes + 1) if weights is None else 1e-6
    rows, columns = linear_sum_assignment(confusion, maximize=True)
    table = np.empty(classes, dtype=np.int64)
    table[rows] = columns
    return table


def _halves(labels: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """A fixed split of the test set into two halves, within each class."""
    rng = np.random.default_rng(seed)
    first = np.zeros(len(labels), dtype=bool)
    odd = 0
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        first[members[: (len(members) + odd) // 2]] = True
        odd ^= len(members) & 1
    return first


def permuted_correct(
    predictions: Sequence[NDArray[np.int64]] | NDArray[np.int64],
    labels: NDArray[np.int64],
    classes: int,
    *,
    balanced: bool = False,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Correctness ``[S, N]`` after the best renaming of the predicted classes, seed by seed.

    A trainer with a handful of labelled pictures finds that renaming; it undoes protections that only shuffle the
    classes. It is cross-fitted: found on one half of the test set and judged on the other, and the other way round.
    Found and judged on the same pictures it would lift a victim at chance level above chance.
    """
    first = _halves(labels, seed)
    result = np.zeros((len(predictions), len(labels)), dtype=bool)
    for row, predicted in enumerate(predictions):
        for fit, judge in ((first, ~first), (~first, first)):
            table = best_permutation(predicted[fit], labels[fit], classes, balanced=balanced)
            result[row, judge] = table[predicted[judge]] == labels[judge]
    return result
