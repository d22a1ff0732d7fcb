"""Which code goes to which class: against what nature gives the classes.

Pictures of a class have textures of their own: ships and aeroplanes much that runs up and down, dogs and frogs little.
A network that learned the textures reads a clean picture by the little of them that nature put there. So each class
gets a code that its own pictures have least of, compared with other classes: what nature says of a clean picture then
points to another class. With codes dealt at random it points nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from .code_book import Code
from .wave import energies

__all__ = ["assign_against_nature", "natural_contents"]

#: What classes have of codes is told this exactly: what differs less is the rounding of some machine.
_DIGITS = 6


def natural_contents(
    small: Sequence[np.ndarray], labels: Sequence[int], book: Sequence[Code], sigma: float
) -> np.ndarray:
    """What the pictures of each class have of each code, in the mean.

    Args:
        small: float ``[h, w]`` each: brightness of a picture, in 8-bit levels.
        labels: class of each, from 0 on; every class occurs.
        book: the codes; of one of two waves the energies are added.
        sigma: width of the window around each wave, in cycles a side.

    Returns:
        float64 ``[K, C]``: mean of log(1 + energy) in squared levels, classes times codes.
    """
    # A thousand codes are made of sixty waves.
    waves = sorted({wave for code in book for wave in code})
    places = [[waves.index(wave) for wave in code] for code in book]
    sums = np.zeros((max(labels) + 1, len(book)))
    for levels, label in zip(small, labels, strict=True):
        found = energies(levels, waves, sigma)
        sums[label] += np.log1p([found[place].sum() for place in places])
    counts = np.bincount(np.asarray(labels), minlength=len(sums))
    return sums / counts[:, None]


def assign_against_nature(found: np.ndarray) -> np.ndarray:
    """The code of each class, such that all classes together have least of their own.

    What a code has in all classes, and a class of all codes, says nothing, and drops out of the sum by itself.

    Args:
        found: ``[K, K]`` as :func:`natural_contents` gives it.

    Returns:
        int64 ``[K]``: the code of class 0, 1, ...
    """
    return linear_sum_assignment(np.round(found, _DIGITS))[1]
