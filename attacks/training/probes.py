"""What learns on frozen features: a linear classifier, and nearest neighbours."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEIGHBOURS", "bootstrap_rows", "linear_probe", "nearest_neighbours", "probe"]

NEIGHBOURS = 5
_MOST_STEPS = 2000
_ROWS = 1024

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def bootstrap_rows(labels: Labels, seed: int) -> NDArray[np.int64]:
    """Training pictures drawn with replacement within each class, ``[N]``.

    A probe has no random start, so its seeds differ in which pictures the trainer happened to have. The rows depend on
    the labels and the seed alone: all arms of a seed draw the same pictures.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([rows[rng.integers(0, len(rows), len(rows))] for rows in members])


def probe(
    kind: Literal["linear", "neighbours"],
    features: Features,
    labels: Labels,
    tested: Features,
    *,
    seed: int,
) -> tuple[Labels, Labels]:
    """Learn from a bootstrap sample of the training pictures.

    Args:
        kind: ``linear`` or ``neighbours``.
        features: of the training pictures, ``[N, D]``.
        labels: of the training pictures, ``[N]``.
        tested: features of the test pictures, ``[M, D]``.
        seed: of the sample.

    Returns:
        Predicted classes of the training pictures, ``[N]``, and of the test pictures, ``[M]``.
    """
    from threadpoolctl import threadpool_limits

    rows = bootstrap_rows(labels, seed)
    learn = linear_probe if kind == "linear" else nearest_neighbours
    with threadpool_limits(1):  # sums in one order, so that the result is the same on any number of cores
        predicted = learn(features[rows], labels[rows], np.concatenate([features, tested]))
    return predicted[: len(features)], predicted[len(features) :]


def linear_probe(features: Features, labels: Labels, tested: Features) -> Labels:
    """Logistic regression (scikit-learn, L2 with C = 1) on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_STEPS))
    return model.fit(features, labels).predict(tested).astype(np.int64)


def nearest_neighbours(features: Features, labels: Labels, tested: Features, *, k: int = NEIGHBOURS) -> Labels:
    """Majority of the ``k`` nearest by cosine; of equally many, the class whose votes are nearer in sum."""
    known, asked = _normalised(features), _normalised(tested)
    result = np.empty(len(asked), dtype=np.int64)
    k = min(k, len(known))
    for start in range(0, len(asked), _ROWS):
        cosine = asked[start : start + _ROWS] @ known.T
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        votes = np.zeros((len(cosine), int(labels.max()) + 1))
        # A cosine is at most 1, so k votes of 2 + cosine / k never outweigh one vote more.
        weights = 2.0 + np.take_along_axis(cosine, nearest, axis=1) / k
        np.add.at(votes, (np.arange(len(cosine))[:, None], labels[nearest]), weights)
        result[start : start + _ROWS] = votes.argmax(axis=1)
    return result


def _normalised(features: Features) -> Features:
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)
