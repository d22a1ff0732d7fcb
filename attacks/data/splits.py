"""Which pictures are held out for the test, and labels where none came or none should help.

Nobody knows how a trainer will sort a flat folder. What can be asked is whether a network still learns to tell apart
what differs to the eye: by what the pictures show, or by where their colours lie. Several such pseudo-labellings are
tried, since one could be easy or hard by chance. For the control that must not learn anything (gate G4), labels are
dealt out that say nothing about the pictures.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ...surrogates import FrozenSurrogate, create_surrogate
from ...surrogates.freezing import fit_kmeans, frozen_features, in_one_order
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


Features = Literal["content", "colours"]

_NETWORK: Final = "efficientnet-lite0"
_MOST_CLUSTERS: Final = 10  # as many as a small data set usually has classes
_COMPONENTS: Final = 32


@dataclass(frozen=True)
class PseudoLabelling:
    """One way to sort pictures that came without classes: k-means on some features of the originals.

    Attributes:
        clusters: how many.
        features: ``content``, those of an embedded ImageNet network; or ``colours``, where these lie.
    """

    clusters: int
    features: Features

    @property
    def name(self) -> str:
        """For people and for a folder: ``4-by-content``."""
        return f"{self.clusters}-by-{self.features}"

    @property
    def words(self) -> str:
        """For a sentence."""
        return f"{self.clusters} groups by {self.features}"


def pseudo_labellings_for(images: int) -> tuple[PseudoLabelling, ...]:
    """The labellings that so many pictures allow: two, or none."""
    most = min(_MOST_CLUSTERS, images // fewest_for_groups(1))
    if most < 2:
        return ()
    return (
        PseudoLabelling(most, "content"),
        PseudoLabelling(max(2, most // 2), "content" if most > 3 else "colours"),
    )


class PseudoLabeller:
    """Clusters of some pictures, to which others can be assigned.

    Args:
        labelling: how to sort.
        images: uint8 ``[N, 3, R, R]``, N at least the number of clusters: the originals.
        seed: of the search.
        device: where the network runs.
    """

    def __init__(self, labelling: PseudoLabelling, images: Tensor, *, seed: int, device: torch.device) -> None:
        from sklearn.decomposition import PCA

        self._device = device
        self._network: FrozenSurrogate | None = None
        if labelling.features == "content":
            made = create_surrogate(_NETWORK, num_classes=2, resolution=images.shape[-1], seed=0)
            self._network = FrozenSurrogate(made.to(device), features=True)
        features = self._features(images)
        with in_one_order():
            self._basis = PCA(min(_COMPONENTS, *features.shape), svd_solver="full").fit(features)
            reduced = self._basis.transform(features)
        self._means = fit_kmeans(reduced, labelling.clusters, seed=seed, restarts=4)

    def label(self, images: Tensor) -> NDArray[np.int64]:
        """The cluster int64 ``[N]`` of each picture of uint8 ``[N, 3, R, R]``."""
        features = self._features(images)
        with in_one_order():
            return np.asarray(self._means.predict(self._basis.transform(features)), dtype=np.int64)

    def _features(self, images: Tensor) -> NDArray[np.float32]:
        """Rows of length one, float32 ``[N, D]``."""
        if self._network is None:
            found = torch.cat([F.adaptive_avg_pool2d(part.float() / 255, 4).flatten(1) for part in images.split(64)])
        else:
            found = frozen_features(self._network, images, device=self._device)
        return F.normalize(found, dim=1).numpy()


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
