"""Choosing the moment to stop with a few clean pictures, none of which is judged by its own choice."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["VALIDATION", "validated_predictions"]

VALIDATION = 200
"""Pictures that a choice rests on, at most: a trainer who had many more would train on them."""


def validated_predictions(
    history: NDArray[np.int64], labels: NDArray[np.int64], *, size: int = VALIDATION
) -> NDArray[np.int64]:
    """For each half of the test pictures, the predictions at the moment that is best for pictures of the other half.

    The halves are fixed, at random: they do not depend on the seed of the training, so arms stay paired.

    Args:
        history: predictions ``[E, M]`` at each moment.
        labels: int64 ``[M]``.
        size: pictures a choice rests on, at most.

    Returns:
        Predictions int64 ``[M]``; of equally good moments, the later.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    result = history[-1].copy()
    for judged, choosing in (halves, halves[::-1]):
        if len(choosing) == 0:
            continue
        rows = choosing[:size]
        accuracy = (history[:, rows] == labels[rows]).mean(axis=1)
        best = len(accuracy) - 1 - int(accuracy[::-1].argmax())
        result[judged] = history[best, judged]
    return result
