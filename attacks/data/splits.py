"""Which pictures are held out for the test, and labels made where none came or none should help.

Holding pictures out for the test, fixed by a seed and by what the pictures are.

Labels for pictures that came without any: groups of originals that look alike.

Nobody knows how a trainer will sort a flat folder. What can be asked is whether a network still learns to tell apart
what differs to the eye: by what the pictures show (features of an embedded ImageNet network), or by where their colours
lie. Several labellings are tried, since one could be easy or hard by chance.

Labels that do not help, for the control that must not learn anything (gate G4).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..terms import TEST_SHARE, fewest_for_groups


def stratified_split(
    keys: Sequence[str], labels: Sequence[int], *, seed: int, share: float = TEST_SHARE
) -> tuple[list[int], list[int]]:
    """Split positions into training and test, class by class.

    Pictures are ordered by a hash of the seed and their key, so the split depends on neither names nor order. Pictures
    with the same key (identical files) stay on one side. At least one picture of a class is tested and one is trained
    on; a class of a single picture is trained on only.

    Args:
        keys: identity of each picture.
        labels: class of each picture.
        seed: of the split.
        share: part of each class to test on.

    Returns:
        Positions for training and for the test, each ascending.
    """
    groups: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for position, (key, label) in enumerate(zip(keys, labels, strict=True)):
        groups[label][key].append(position)
    train: list[int] = []
    test: list[int] = []
    for label in sorted(groups):
        members = groups[label]
        total = sum(len(positions) for positions in members.values())
        wanted = max(1, round(total * share))
        ordered = sorted(members, key=lambda key: _draw(seed, key))
        taken = 0
        for number, key in enumerate(ordered):
            if taken < wanted and number < len(ordered) - 1:
                test += members[key]
                taken += len(members[key])
            else:
                train += members[key]
    return sorted(train), sorted(test)


def _draw(seed: int, key: str) -> bytes:
    return hashlib.sha256(f"bitterant split {seed} {key}".encode("utf-8", "surrogateescape")).digest()


Sight = Literal["content", "colours"]

_NETWORK: Final = "efficientnet-lite0"
_MOST: Final = 10  # groups: as many as a small data set usually has classes
_DIMENSIONS: Final = 32


@dataclass(frozen=True)
class Grouping:
    """One way to sort pictures.

    Attributes:
        count: groups.
        sight: what is looked at: ``content`` or ``colours``.
    """

    count: int
    sight: Sight

    @property
    def name(self) -> str:
        """For people and for a folder: ``4-by-content``."""
        return f"{self.count}-by-{self.sight}"

    @property
    def words(self) -> str:
        """For a sentence."""
        return f"{self.count} groups by {self.sight}"


def groupings_for(images: int) -> tuple[Grouping, ...]:
    """The labellings that so many pictures allow: two, or none."""
    most = min(_MOST, images // fewest_for_groups(1))
    if most < 2:
        return ()
    return Grouping(most, "content"), Grouping(max(2, most // 2), "content" if most > 3 else "colours")


class Groups:
    """Groups of some pictures, to which others can be assigned.

    Args:
        grouping: how to sort.
        images: uint8 ``[N, 3, R, R]``, N at least the number of groups: the originals.
        seed: of the search.
        device: where the network runs.
    """

    def __init__(self, grouping: Grouping, images: Tensor, *, seed: int, device: torch.device) -> None:
        from sklearn.cluster import KMeans
        from sklearn.decomposition import PCA
        from threadpoolctl import threadpool_limits

        self._grouping, self._device = grouping, device
        features = self._features(images)
        with threadpool_limits(1):  # sums run in one order, whatever the machine
            self._basis = PCA(min(_DIMENSIONS, *features.shape), svd_solver="full").fit(features)
            self._means = KMeans(grouping.count, n_init=cast(Any, 4), random_state=seed).fit(
                self._basis.transform(features)
            )

    def assign(self, images: Tensor) -> NDArray[np.int64]:
        """The group int64 ``[N]`` of each picture of uint8 ``[N, 3, R, R]``."""
        from threadpoolctl import threadpool_limits

        features = self._features(images)
        with threadpool_limits(1):
            return np.asarray(self._means.predict(self._basis.transform(features)), dtype=np.int64)

    def _features(self, images: Tensor) -> NDArray[np.float32]:
        parts = [self._look(part) for part in images.split(64)]
        return F.normalize(torch.cat(parts), dim=1).numpy()

    @torch.no_grad()
    def _look(self, images: Tensor) -> Tensor:
        floats = images.float() / 255
        if self._grouping.sight == "colours":
            return F.adaptive_avg_pool2d(floats, 4).flatten(1)
        from ...surrogates import FrozenSurrogate, create_surrogate

        if not hasattr(self, "_network"):
            made = create_surrogate(_NETWORK, num_classes=2, resolution=images.shape[-1], seed=0)
            self._network = FrozenSurrogate(made.to(self._device), features=True)
        return self._network(floats.to(self._device)).cpu()


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
