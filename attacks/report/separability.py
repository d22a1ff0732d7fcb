"""What a linear classifier sees: the class in the change alone, and which of two pictures is the copy.

The first is why such protection works at all (arXiv 2111.00898) and why projection undoes it (arXiv 2305.19254); the
second is how easily a trainer finds out that pictures are protected.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..facts import Separability
from .sample import Sample

if TYPE_CHECKING:
    from sklearn.linear_model import RidgeClassifier

__all__ = ["class_from_change", "copy_from_original", "measure_separability"]

# Ridge, as a share of the mean square of all values together: pictures are as many as pixels or fewer.
_CLASS_RIDGE = 0.1
_COPY_RIDGE = 0.001

_MOST_VALUES = 50_000_000
"""Of larger pictures fewer are looked at, so that the memory for it stays below a gigabyte."""

Changes = NDArray[np.float32]


def measure_separability(sample: Sample, *, seed: int) -> Separability | None:
    """Both questions, for the protected pictures and for the control; ``None`` where nothing was changed."""
    most = max(1, _MOST_VALUES * len(sample.labels) // max(1, sample.clean.size))
    rows = np.sort(np.random.default_rng(seed).permutation(len(sample.labels))[:most])
    clean, protected, noisy = (version[rows] for version in (sample.clean, sample.protected, sample.noisy))
    labels = sample.labels[rows]
    change, control = _change(clean, protected), _change(clean, noisy)
    if not change.any():
        return None
    return Separability(
        pictures=len(labels),
        class_from_change=class_from_change(change, labels, seed=seed),
        class_from_noise=class_from_change(control, labels, seed=seed) if control.any() else None,
        chance=1 / max(1, len(np.unique(labels[_repeated(labels)]))),
        copy_auc=copy_from_original(clean, protected, seed=seed),
        noise_auc=copy_from_original(clean, noisy, seed=seed) if control.any() else None,
    )


def _change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Changes:
    return (after.astype(np.float32) - before).reshape(len(before), -1)


def class_from_change(change: Changes, labels: NDArray[np.int64], *, seed: int) -> float | None:
    """How often the class is told from the change, by classifiers that were fitted to the other half of the pictures.

    Args:
        change: after minus before, ``[N, D]``.
        labels: ``[N]``.
        seed: of the halves.

    Returns:
        The mean over the classes of the accuracy within each; ``None`` where fewer than two classes have two pictures.
    """
    kept = _repeated(labels)
    if len(np.unique(labels[kept])) < 2:
        return None
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    values, labels = change[kept], labels[kept]
    values = values / max(float(np.sqrt(np.mean(np.square(values)))), 1e-6)
    halves = StratifiedKFold(2, shuffle=True, random_state=seed % 2**32)
    told = cross_val_predict(_ridge(_CLASS_RIDGE, values.shape[1]), values, labels, cv=halves)
    return float(np.mean([(told[labels == label] == label).mean() for label in np.unique(labels)]))


def _repeated(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which pictures are not the only one of their class: each half needs one."""
    return np.bincount(labels)[labels] >= 2


def copy_from_original(before: NDArray[np.uint8], after: NDArray[np.uint8], *, seed: int) -> float | None:
    """How well copies are told from originals: the area under the ROC curve, mean of two halves.

    Both versions of a picture are in one half, and each half is judged by a classifier fitted to the other.

    Returns:
        0.5 is guessing, 1 is always; ``None`` with fewer than four pictures.
    """
    if len(before) < 4:
        return None
    from sklearn.metrics import roc_auc_score

    half = np.random.default_rng(seed).permutation(len(before)) % 2
    values = np.concatenate([before, after]).reshape(2 * len(before), -1).astype(np.float32) / 127.5 - 1
    copies, half = np.repeat([0, 1], len(before)), np.tile(half, 2)
    areas = []
    for judged in (0, 1):
        fitted = _ridge(_COPY_RIDGE, values.shape[1]).fit(values[half != judged], copies[half != judged])
        areas.append(roc_auc_score(copies[half == judged], fitted.decision_function(values[half == judged])))
    return float(np.mean(areas))


def _ridge(strength: float, width: int) -> RidgeClassifier:
    from sklearn.linear_model import RidgeClassifier

    return RidgeClassifier(alpha=strength * width, class_weight="balanced")
