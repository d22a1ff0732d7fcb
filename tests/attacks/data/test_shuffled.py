"""Dealt labels must say nothing about the pictures."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from bitterant.attacks.data import deal_labels


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.integers(0, 2**32))
def test_each_class_is_dealt_evenly_and_its_own_label_last(classes: list[int], seed: int) -> None:
    labels = np.array(classes, dtype=np.int64)
    dealt = deal_labels(labels, 5, seed=seed)
    assert dealt.dtype == np.int64
    for label in np.unique(labels):
        counts = np.bincount(dealt[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 1
        assert counts[label] == counts.min()


def test_the_same_seed_deals_the_same_and_another_does_not() -> None:
    labels = np.repeat(np.arange(3), 40)
    first, again, other = (deal_labels(labels, 3, seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()
    assert not (labels == first).all()
