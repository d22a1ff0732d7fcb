"""Stopping by validation: no picture has a say about itself."""

from __future__ import annotations

import numpy as np

from bitterant.attacks.training.cells import validated_predictions


def test_each_half_is_judged_at_the_moment_the_other_half_likes() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    history = rng.integers(0, 3, (4, 400))
    order = np.random.default_rng(0).permutation(400)
    first, second = order[:200], order[200:]
    history[1, first[:50]] = labels[first[:50]]  # the first half likes moment 1, the second moment 2
    history[2, second[:50]] = labels[second[:50]]
    found = validated_predictions(history, labels, size=50)
    assert (found[first] == history[2, first]).all()
    assert (found[second] == history[1, second]).all()


def test_a_picture_does_not_choose_for_itself() -> None:
    """The oracle's best of many moments of noise is above chance; the validated one is not."""
    rng = np.random.default_rng(1)
    gain, oracle = [], []
    for _ in range(30):
        labels, history = rng.integers(0, 2, 100), rng.integers(0, 2, (40, 100))
        gain.append((validated_predictions(history, labels) == labels).mean())
        oracle.append((history == labels).mean(axis=1).max())
    assert np.mean(oracle) > 0.58
    assert abs(np.mean(gain) - 0.5) < 0.03


def test_of_equally_good_moments_the_later_and_tiny_sets_work() -> None:
    labels = np.zeros(6, dtype=np.int64)
    history = np.stack([np.zeros(6, dtype=np.int64), np.ones(6, dtype=np.int64), np.zeros(6, dtype=np.int64)])
    assert (validated_predictions(history, labels) == history[2]).all()
    assert validated_predictions(history[:, :1], labels[:1]).tolist() == [0]
