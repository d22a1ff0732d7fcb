"""What nature gives the classes of each code, so that codes can be dealt against it.

Pictures of a class have textures of their own: ships and aeroplanes much that runs up and down across the horizon, dogs
and frogs little. A network that learned the textures reads a clean picture by the little of them that nature put there.
So each class gets a code that its own pictures have least of, compared with other classes: what nature says of a clean
picture then points to another class. With codes dealt at random it points nowhere.

A few dozen pictures a class are enough to see this. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .code_book import Code
from .wave import contents

__all__ = ["natural_contents"]


def natural_contents(
    small: Sequence[np.ndarray], labels: Sequence[int], book: Sequence[Code], sigma: float
) -> np.ndarray:
    """What the pictures of each class have of each code, in the mean.

    Args:
        small: float ``[h, w]`` each: brightness of a picture, in 8-bit levels.
        labels: class of each, from 0 on; every class occurs.
        book: the codes.
        sigma: width of the window around each wave, in cycles a side.

    Returns:
        float64 ``[K, C]``: mean of log(1 + energy) in squared levels, classes times codes.
    """
    sums = np.zeros((max(labels) + 1, len(book)))
    for levels, label in zip(small, labels, strict=True):
        sums[label] += contents(levels, book, sigma)
    counts = np.bincount(np.asarray(labels), minlength=len(sums))
    return sums / counts[:, None]
