"""Labels for pictures that came without any: groups of originals that look alike.

Nobody knows how a trainer will sort a flat folder. What can be asked is whether a network still learns to tell apart
what differs to the eye: by what the pictures show (features of an embedded ImageNet network), or by where their colours
lie. Several labellings are tried, since one could be easy or hard by chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..enough import fewest_for_groups

__all__ = ["Grouping", "Groups", "groupings_for"]

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
