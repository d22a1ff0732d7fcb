"""Labels that do not help, for the control that must not learn anything (gate G4)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["deal_labels"]


def deal_labels(labels: NDArray[np.int64], classes: int, *, seed: int) -> NDArray[np.int64]:
    """Deal the pictures of each class evenly over all labels, like cards.

    Shuffled freely, a class would by chance keep more of its own label than of others, and a victim could learn that
    little; dealt, the numbers differ by one picture at most, and the own label comes last. Where a class has fewer
    pictures than there are labels its own does not come at all, and the control is rather below chance.

    Args:
        labels: true classes ``[N]``.
        classes: how many labels there are.
        seed: of the order.

    Returns:
        int64 ``[N]``.
    """
    rng = np.random.default_rng(seed)
    dealt = np.empty_like(labels)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        others = rng.permutation(np.delete(np.arange(classes), label))
        dealt[members] = np.resize(np.append(others, label), len(members))
    return dealt
