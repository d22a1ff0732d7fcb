"""Intervals must cover as often as they say; the best renaming must be the best and must not flatter."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.stats import norm

from bitterant.attacks.statistics import (
    balanced_chance,
    balancing_weights,
    best_permutation,
    bootstrap_accuracies,
    chance_level,
    interval,
    lower_bound,
    mv_draws,
    mv_estimate,
    permuted_correct,
    rho_draws,
    rho_estimate,
    sufficient_draws,
    upper_bound,
)

RUNS, EXAMPLES, CLASSES = 1500, 200, 5
LABELS = np.repeat(np.arange(CLASSES), EXAMPLES // CLASSES)


def simulate(
    rng: np.random.Generator, seeds: int, spread: float, difficulty: float, mean: float = 0.0, examples: int = EXAMPLES
) -> tuple[np.ndarray, float]:
    """Correctness ``[RUNS, S, N]`` of a probit model with random seeds and examples, and the true accuracy."""
    example = mean + difficulty * rng.standard_normal((RUNS, 1, examples))
    seed = spread * rng.standard_normal((RUNS, seeds, 1))
    truth = norm.cdf(mean / np.sqrt(1 + spread**2 + difficulty**2))
    return rng.random((RUNS, seeds, examples)) < norm.cdf(example + seed), float(truth)


# From no spread between seeds to a spread that dwarfs the sampling error.
@pytest.mark.parametrize(
    ("seeds", "spread", "difficulty", "mean"),
    [(3, 0.0, 0.5, 0.0), (3, 0.1, 1.5, 0.0), (3, 0.4, 0.5, 0.0), (5, 0.15, 1.0, -0.8), (5, 0.4, 0.5, 0.0)],
)
def test_95_percent_intervals_cover_95_percent(seeds: int, spread: float, difficulty: float, mean: float) -> None:
    correct, truth = simulate(np.random.default_rng(7), seeds, spread, difficulty, mean)
    draws = bootstrap_accuracies(correct, LABELS, draws=2000, seed=3)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97
    # One-sided bounds are what grades rest on.
    assert 0.93 <= np.mean(truth <= np.quantile(draws, 0.95, axis=0)) <= 0.97


@pytest.mark.parametrize("classes", [2, 5, 10])
@pytest.mark.parametrize("each", [5, 10])
@pytest.mark.parametrize(("seeds", "spread", "difficulty"), [(3, 0.0, 0.5), (3, 0.1, 1.5), (3, 0.4, 0.5)])
def test_small_test_sets_cover_nearly_as_often(
    each: int, classes: int, seeds: int, spread: float, difficulty: float
) -> None:
    """Down to the fewest test pictures that are taken. With a large spread between seeds a little is lost."""
    labels = np.repeat(np.arange(classes), each)
    correct, truth = simulate(np.random.default_rng(7), seeds, spread, difficulty, examples=len(labels))
    draws = bootstrap_accuracies(correct, labels, draws=1000, seed=3)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    assert (0.9 if spread > 0.3 else 0.93) <= np.mean((low <= truth) & (truth <= high)) <= 0.975
    assert 0.92 <= np.mean(truth <= np.quantile(draws, 0.95, axis=0)) <= 0.975


@pytest.mark.parametrize(("each", "least"), [(5, 0.9), (20, 0.93)])
def test_upper_bounds_of_guessing_hold(each: int, least: float) -> None:
    """What grades rest on: a victim at chance among ten classes. Skewness costs a little with few test pictures."""
    labels, mean = np.repeat(np.arange(10), each), float(norm.ppf(0.1) * np.sqrt(1 + 0.2**2 + 1))
    correct, truth = simulate(np.random.default_rng(7), 3, 0.2, 1.0, mean, examples=len(labels))
    draws = bootstrap_accuracies(correct, labels, draws=1000, seed=3)
    assert truth == pytest.approx(0.1)
    assert least <= np.mean(truth <= np.quantile(draws, 0.95, axis=0)) <= 0.97


def test_two_examples_a_class_would_be_too_few() -> None:
    """Why so small test sets are refused."""
    labels = np.repeat(np.arange(2), 2)
    correct, truth = simulate(np.random.default_rng(7), 3, 0.1, 1.5, examples=len(labels))
    low, high = np.quantile(bootstrap_accuracies(correct, labels, draws=1000, seed=3), [0.025, 0.975], axis=0)
    assert np.mean((low <= truth) & (truth <= high)) < 0.88


def test_a_mean_varies_from_draw_to_draw_as_it_should() -> None:
    """Of three of five right: the sampling variance of a mean, with n - 1 below."""
    correct = np.array([1, 1, 1, 0, 0], dtype=bool)
    draws = bootstrap_accuracies(np.broadcast_to(correct, (1, 1, 5)), np.zeros(5, dtype=np.int64), draws=40_000)
    assert draws.mean() == pytest.approx(0.6, abs=0.005)
    assert draws.var() == pytest.approx(correct.var(ddof=1) / 5, rel=0.03)


def test_a_lone_example_of_a_class_is_taken_as_it_is() -> None:
    draws = bootstrap_accuracies(np.array([[[True, True, False]]]), np.array([0, 1, 2]))
    np.testing.assert_allclose(draws, 2 / 3)


def test_bounds_for_many_claims_rest_on_more_draws() -> None:
    assert [sufficient_draws(k) for k in (0, 1, 5, 6, 13)] == [2000, 2000, 2000, 2400, 5200]
    assert sufficient_draws(1, alpha=0.001) == 20_000


def test_a_plain_bootstrap_of_three_seeds_would_not_do() -> None:
    """The reason for the t weights: resampling three seeds covers in about 78 % of the cases."""
    correct, truth = simulate(np.random.default_rng(7), 3, 0.4, 0.5)
    by_seed = correct.mean(axis=2)
    picks = np.random.default_rng(0).integers(0, 3, size=(2000, 3))
    low, high = np.quantile(by_seed[:, picks].mean(axis=2), [0.025, 0.975], axis=1)
    assert np.mean((low <= truth) & (truth <= high)) < 0.85


def test_one_seed_covers_the_sampling_of_examples() -> None:
    correct, truth = simulate(np.random.default_rng(5), 1, 0.0, 0.5)
    draws = bootstrap_accuracies(correct, LABELS)
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    assert 0.93 <= np.mean((low <= truth) & (truth <= high)) <= 0.97


def test_classes_are_resampled_within_themselves() -> None:
    """A victim that always says class 0 has exactly the share of class 0, with no uncertainty."""
    correct = np.broadcast_to(LABELS == 0, (1, 3, EXAMPLES))
    draws = bootstrap_accuracies(correct, LABELS)
    np.testing.assert_allclose(draws, 1 / CLASSES)


def test_arms_are_paired_by_seed_and_example() -> None:
    """The difference of an arm with itself is zero in every draw, whatever the spread."""
    correct, _ = simulate(np.random.default_rng(1), 3, 0.5, 1.0)
    pair = np.stack([correct[0], correct[0], correct[1]])
    draws = bootstrap_accuracies(pair, LABELS)
    assert np.abs(draws[:, 0] - draws[:, 1]).max() == 0
    assert np.abs(draws[:, 0] - draws[:, 2]).std() > 0


def test_draws_repeat_and_follow_the_seed() -> None:
    correct, _ = simulate(np.random.default_rng(1), 3, 0.5, 1.0)
    first, again, other = (bootstrap_accuracies(correct[:2], LABELS, draws=50, seed=s) for s in (4, 4, 5))
    assert (first == again).all()
    assert (first != other).any()


def test_large_test_sets_are_drawn_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    correct, _ = simulate(np.random.default_rng(1), 3, 0.2, 1.0)
    monkeypatch.setattr("bitterant.attacks.statistics._CHUNK_ENTRIES", 7 * EXAMPLES)
    draws = bootstrap_accuracies(correct[:1], LABELS, draws=2000)
    assert abs(draws.mean() - correct[0].mean()) < 0.02
    assert np.isfinite(draws).all()


@pytest.mark.parametrize(
    ("protected", "clean", "chance", "rho"),
    [
        (0.5, 0.9, 0.1, 0.5),
        (0.9, 0.9, 0.1, 1.0),
        (0.1, 0.9, 0.1, 0.0),
        (0.05, 0.9, 0.1, 0.0),  # below chance is no better than chance
        (0.95, 0.9, 0.1, 1.0),
        (0.1, 0.1, 0.1, 1.0),  # a clean arm at chance: nothing shown, so the least kind answer
        (0.1, 0.05, 0.1, 1.0),
    ],
)
def test_rho(protected: float, clean: float, chance: float, rho: float) -> None:
    assert rho_estimate(protected, clean, chance) == pytest.approx(rho)
    draws = rho_draws(np.full(3, protected), np.full(3, clean), chance)
    np.testing.assert_allclose(draws, rho)


def test_bounds_that_hold_at_once_grow_with_the_number_of_claims() -> None:
    draws = np.linspace(0, 1, 2001)
    assert upper_bound(draws) == pytest.approx(0.95)
    assert upper_bound(draws, claims=5) == pytest.approx(0.99)
    assert lower_bound(draws) == pytest.approx(0.05)


def test_a_claim_about_all_needs_no_correction_and_one_about_several_does() -> None:
    """Five figures lie just above a bound. That all are below it is said almost never, though each bound is one of 5 %;
    that one of them is below is said too often unless corrected for their number."""
    rng = np.random.default_rng(0)
    uppers = rng.standard_normal((20_000, 5)) + norm.ppf(0.95)  # bounds of figures that are truly 0
    assert np.mean((uppers <= 0).all(axis=1)) < 0.001
    assert np.mean((uppers <= 0).any(axis=1)) > 0.2
    alone = np.column_stack([uppers[:, 0], np.full((20_000, 4), -1.0)])  # the others are far below
    assert np.mean((alone <= 0).all(axis=1)) == pytest.approx(0.05, abs=0.006)
    wider = uppers - norm.ppf(0.95) + norm.ppf(1 - 0.05 / 5)
    assert np.mean((wider <= 0).any(axis=1)) < 0.055


def test_an_interval_holds_its_estimate_and_stays_in_range() -> None:
    found = interval(0.0, np.linspace(-0.3, 0.2, 100))
    assert found.low == 0.0
    assert 0 < found.high < 0.2
    assert interval(0.9, np.full(10, 0.5)).high == 0.9


def test_chance_is_the_share_of_the_largest_class() -> None:
    assert chance_level(np.array([0, 0, 0, 1, 2])) == pytest.approx(0.6)


def brute_force(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    return max((np.array(table)[predictions] == labels).mean() for table in itertools.permutations(range(classes)))


@pytest.mark.parametrize("seed", range(20))
def test_best_permutation_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(2, 6))
    labels = rng.integers(0, classes, 60)
    predictions = np.where(rng.random(60) < 0.5, (labels + 1) % classes, rng.integers(0, classes, 60))
    table = best_permutation(predictions, labels, classes)
    assert sorted(table) == list(range(classes))
    assert (table[predictions] == labels).mean() == pytest.approx(brute_force(predictions, labels, classes))


def test_renaming_is_found_on_one_half_and_judged_on_the_other() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 400)
    shuffled = (labels + 1) % 4  # always wrong, but only by its names
    assert permuted_correct([shuffled], labels, 4).mean() == 1.0
    assert (shuffled == labels).mean() == 0.0


def test_renaming_does_not_lift_a_guessing_victim_above_chance() -> None:
    """Found and judged on the same pictures it would: by several points here."""
    rng = np.random.default_rng(0)
    labels = np.tile(np.arange(10), 20)
    guesses = rng.integers(0, 10, (200, 200))
    fitted = np.mean([(best_permutation(g, labels, 10)[g] == labels).mean() for g in guesses])
    crossed = permuted_correct(guesses, labels, 10).mean()
    assert fitted > 0.15
    assert abs(crossed - 0.1) < 0.01


def test_renaming_copes_with_tiny_test_sets() -> None:
    correct = permuted_correct([np.array([0, 1])], np.array([0, 1]), 2)
    assert correct.shape == (1, 2)


def test_a_majority_class_does_not_hide_what_was_learned() -> None:
    """All of the small class and half of the large one: below the majority rate, and far from nothing."""
    labels = np.array([0] * 80 + [1] * 20)
    correct = np.array([True] * 40 + [False] * 40 + [True] * 20)
    assert rho_estimate(float(correct.mean()), 1.0, chance_level(labels)) == 0.0
    weights = balancing_weights(labels)
    assert weights is not None
    naive = (correct[:80].mean() + correct[80:].mean()) / 2
    assert float((correct * weights).mean()) == pytest.approx(naive) == pytest.approx(0.75)
    assert rho_estimate(naive, 1.0, 0.5) == 0.5
    assert balancing_weights(np.array([0, 1, 1, 0])) is None


def test_weighted_draws_are_about_the_balanced_accuracy() -> None:
    labels = np.array([0] * 80 + [1] * 20)
    rng = np.random.default_rng(0)
    correct = rng.random((1, 3, 100)) < np.where(labels == 0, 0.3, 0.8)
    weights = balancing_weights(labels)
    assert weights is not None
    draws = bootstrap_accuracies((correct * weights).astype(np.float32), labels, draws=4000)
    naive = np.mean([(row[:80].mean() + row[80:].mean()) / 2 for row in correct[0]])
    assert draws.mean() == pytest.approx(naive, abs=0.01)
    assert draws.std() > 0.01


def test_a_balanced_renaming_is_the_best_by_mean_accuracy_over_the_classes() -> None:
    labels = np.array([0] * 30 + [1] * 6 + [2] * 6)
    rng = np.random.default_rng(3)
    predictions = np.where(rng.random(42) < 0.6, (labels + 1) % 3, rng.integers(0, 3, 42))

    def by_class(table: tuple[int, ...]) -> float:
        renamed = np.array(table)[predictions]
        return float(np.mean([(renamed == labels)[labels == c].mean() for c in range(3)]))

    table = best_permutation(predictions, labels, 3, balanced=True)
    assert by_class(tuple(table)) == pytest.approx(max(map(by_class, itertools.permutations(range(3)))))
    assert balanced_chance(labels) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("mixed", "part", "clean", "value"),
    [
        (0.7, 0.6, 0.8, 0.5),
        (0.8, 0.6, 0.8, 1.0),
        (0.5, 0.6, 0.8, -0.5),
        (0.9, 0.6, 0.61, 10.0),  # cut: a gap of a point makes ratios of any size
        (0.6, 0.6, 0.6, 10.0),  # clean pictures add nothing: nothing shown, so the least kind answer
    ],
)
def test_marginal_value(mixed: float, part: float, clean: float, value: float) -> None:
    assert mv_estimate(mixed, part, clean) == pytest.approx(value)
    draws = mv_draws(*(np.full(3, a) for a in (mixed, part, clean)), without_gap=10.0)
    np.testing.assert_allclose(draws, value)


def test_draws_without_a_gap_widen_the_interval_on_both_sides() -> None:
    mixed, part, clean = np.array([0.7, 0.7]), np.array([0.6, 0.65]), np.array([0.8, 0.6])
    assert mv_draws(mixed, part, clean, without_gap=10.0).tolist() == pytest.approx([0.5, 10.0])
    assert mv_draws(mixed, part, clean, without_gap=-10.0).tolist() == pytest.approx([0.5, -10.0])
