"""What a reviewer looks at beside accuracy: which classes are learned, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..training import CellResult

__all__ = ["MOST_CLASSES", "class_accuracies", "confusion_counts", "describe_arm", "macro_f1"]

MOST_CLASSES = 50
"""With more classes no confusion matrices are written: 100 arms of 100 classes would be a million numbers."""

Labels = NDArray[np.int64]
Counts = NDArray[np.int64]


def confusion_counts(predictions: Labels, labels: Labels, classes: int) -> Counts:
    """Pictures by true class (row) and predicted class (column), ``[K, K]``."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def class_accuracies(confusion: Counts) -> NDArray[np.float64]:
    """Accuracy within each class, ``[K]``; NaN for a class without pictures."""
    counts = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def macro_f1(confusion: Counts) -> float:
    """Mean over the classes that have pictures of 2 TP / (2 TP + FP + FN)."""
    hits, present = np.diag(confusion), confusion.sum(axis=1) > 0
    return float((2 * hits / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1))[present].mean())


def describe_arm(
    results: Sequence[CellResult], predictions: Sequence[Labels], labels: Labels, classes: int
) -> dict[str, Any]:
    """The fields of ``ArmResult`` that nothing is graded by.

    Args:
        results: trainings of one arm, one a seed.
        predictions: the same as the adversary reads them out, each ``[M]``.
        labels: true classes of the test pictures, ``[M]``.
        classes: number of classes K.
    """
    by_seed = [confusion_counts(predicted, labels, classes) for predicted in predictions]
    confusion = np.sum(by_seed, axis=0)
    each = class_accuracies(confusion)  # every seed is tested on the same pictures, so this is the mean over the seeds
    return {
        "final": tuple(_share(result.predictions, labels) for result in results),
        "peak": tuple(_share(result.peak_predictions, labels) for result in results),
        "validated": tuple(
            None if result.validated_predictions is None else _share(result.validated_predictions, labels)
            for result in results
        ),
        "macro_f1": tuple(macro_f1(counts) for counts in by_seed),
        "per_class": tuple(None if np.isnan(value) else float(value) for value in each),
        "confusion": tuple(tuple(row) for row in confusion.tolist()) if classes <= MOST_CLASSES else None,
        "steps": tuple(result.steps for result in results),
        "seconds": tuple(round(result.seconds, 3) for result in results),
    }


def _share(predicted: Labels, labels: Labels) -> float:
    return float((predicted == labels).mean())
