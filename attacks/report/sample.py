"""The pictures that the report looks at in detail, in three versions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..data import VerificationData, noise_arm
from ..data.stealth import chosen_names

__all__ = ["MOST_PICTURES", "Sample", "choose_sample"]

MOST_PICTURES = 1000
"""So many training pictures at most, chosen by a hash of their names."""


@dataclass(frozen=True)
class Sample:
    """Training pictures at the working resolution, the same ones in every array.

    Attributes:
        clean, protected, noisy: uint8 ``[N, 3, R, R]``; noisy ones are those of the control.
        labels: int64 ``[N]``.
    """

    clean: NDArray[np.uint8]
    protected: NDArray[np.uint8]
    noisy: NDArray[np.uint8]
    labels: NDArray[np.int64]


def choose_sample(data: VerificationData, *, seed: int) -> Sample:
    """Take them.

    Args:
        data: the pictures.
        seed: of the control noise.
    """
    chosen = chosen_names(data.keys, MOST_PICTURES)
    rows = np.array([row for row, key in enumerate(data.keys) if key in chosen], dtype=np.int64)[:MOST_PICTURES]
    clean = data.clean[rows]
    noisy = noise_arm(clean, [data.keys[row] for row in rows], data.noise_levels, seed=seed)
    return Sample(clean, data.protected[rows], noisy, data.labels[rows])
