"""Macro F1, accuracy by class and confusion against counting one by one, and against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from bitterant.attacks.evaluation.analysis import (
    MOST_CLASSES,
    class_accuracies,
    confusion_counts,
    describe_arm,
    macro_f1,
)
from bitterant.attacks.training import Cell, CellResult

pairs = st.integers(2, 6).flatmap(
    lambda k: st.tuples(
        st.just(k), st.lists(st.tuples(st.integers(0, k - 1), st.integers(0, k - 1)), min_size=1, max_size=40)
    )
)


@given(pairs)
def test_against_counting_one_by_one(drawn: tuple[int, list[tuple[int, int]]]) -> None:
    classes, answers = drawn
    labels, predicted = (np.array(side, dtype=np.int64) for side in zip(*answers, strict=True))
    confusion = confusion_counts(predicted, labels, classes)
    for true in range(classes):
        for said in range(classes):
            assert confusion[true, said] == sum(pair == (true, said) for pair in answers)
    for true, value in enumerate(class_accuracies(confusion)):
        own = [said for label, said in answers if label == true]
        assert np.isnan(value) if not own else value == sum(said == true for said in own) / len(own)
    scores = []
    for label in sorted(set(labels.tolist())):
        hits = sum(pair == (label, label) for pair in answers)
        precision = hits / said if (said := sum(pair[1] == label for pair in answers)) else 0.0
        recall = hits / sum(pair[0] == label for pair in answers)
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert macro_f1(confusion) == pytest.approx(sum(scores) / len(scores))
    theirs = f1_score(labels, predicted, labels=sorted(set(labels.tolist())), average="macro", zero_division=0)  # type: ignore[arg-type]
    assert macro_f1(confusion) == pytest.approx(float(theirs))


def result(predicted: np.ndarray, index: int, *, peak: np.ndarray, validated: np.ndarray | None) -> CellResult:
    cell = Cell("clean", "none", "small-cnn", index, index)
    return CellResult(cell, 40 + index, 0.9, 0.1, True, predicted, peak, 20, (), 1.5, validated)


def test_an_arm_is_described_seed_by_seed() -> None:
    labels = np.array([0, 0, 1, 1])
    first, second = np.array([0, 1, 1, 1]), np.array([0, 0, 0, 1])
    results = [result(first, 0, peak=labels, validated=None), result(second, 1, peak=second, validated=labels)]
    found = describe_arm(results, [first, second], labels, 3)
    assert found["final"] == (0.75, 0.75)
    assert found["peak"] == (1.0, 0.75)
    assert found["validated"] == (None, 1.0)
    assert found["per_class"] == (0.75, 0.75, None)
    assert found["confusion"] == ((3, 1, 0), (1, 3, 0), (0, 0, 0))
    assert found["steps"] == (40, 41)
    assert found["seconds"] == (1.5, 1.5)
    assert found["macro_f1"] == pytest.approx(((2 / 3 + 4 / 5) / 2, (4 / 5 + 2 / 3) / 2))


def test_too_many_classes_for_a_matrix_are_left_to_the_predictions() -> None:
    for classes, written in ((MOST_CLASSES, True), (MOST_CLASSES + 1, False)):
        labels = np.arange(classes)
        found = describe_arm([result(labels, 0, peak=labels, validated=None)], [labels], labels, classes)
        assert (found["confusion"] is not None) is written
        assert found["per_class"] == (1.0,) * classes
