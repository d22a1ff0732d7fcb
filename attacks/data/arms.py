"""The three arms of every comparison: clean, protected, and random noise of the same size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARMS", "largest_change", "noise_arm"]

ARMS = ("clean", "protected", "noise")


def noise_arm(images: NDArray[np.uint8], keys: Sequence[str], levels: float, *, seed: int) -> NDArray[np.uint8]:
    """The placebo: every value of every picture moved by ``+levels`` or ``-levels`` at random, then clipped.

    The signs of a picture depend on the seed and its key alone, never on its place in the set.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        keys: identity of each picture.
        levels: amplitude in 1/255; rounded to whole levels.
        seed: of the noise.
    """
    amplitude = round(levels)
    result = np.empty_like(images)
    for row, (picture, key) in enumerate(zip(images, keys, strict=True)):
        digest = hashlib.sha256(f"bitterant noise {seed} {key}".encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
        signs = rng.integers(0, 2, size=picture.shape, dtype=np.int16) * 2 - 1
        result[row] = np.clip(picture + amplitude * signs, 0, 255)
    return result


def largest_change(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Largest change of each picture in levels, ``[N]``, picture by picture so that memory stays small."""
    return np.array(
        [int(np.abs(a.astype(np.int16) - b).max(initial=0)) for a, b in zip(after, before, strict=True)],
        dtype=np.int64,
    )
