"""Finer classes: the trainer splits each class by what the pictures look like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ....errors import SetupError
from ..base import Adversary, Labelling, Material, Pixels
from ..parameters import whole_number

__all__ = ["Finer"]

SURROGATE = "efficientnet-lite0"
_PIXEL_SIDE = 8


class Finer(Adversary):
    """Splits every class into N sub-classes by k-means and trains for those.

    Clusters are found on the clean training pictures, so that all arms have the same labels: on features of
    ``efficientnet-lite0``, or, where its weights are not installed, on the pictures at 8 x 8 pixels. A test picture
    gets the nearest sub-class of its own class.

    Args:
        parameter: N, at least 2; 2 where left out.

    Raises:
        ConfigError: N is no whole number from 2 on.
    """

    prefix = "finer"
    tier = "relabel"
    source = "ours: classes split by k-means on clean features"
    description = "each class split into N sub-classes by k-means (finer:3 sets N, 2 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.parts = whole_number(self.prefix, parameter, default=2, least=2)

    @property
    def name(self) -> str:
        return f"finer:{self.parts}"

    @property
    def phrase(self) -> str:
        return f"a trainer who splits each class into {self.parts}"

    def relabel(self, material: Material) -> Labelling:
        try:
            train, test = material.features("clean", SURROGATE), material.features("test", SURROGATE)
            what = f"features of {SURROGATE}"
        except SetupError:
            train, test = (_thumbnails(material.pictures(which)) for which in ("clean", "test"))
            what = f"pictures at {_PIXEL_SIDE} x {_PIXEL_SIDE} pixels, since {SURROGATE} is not installed"
        train, test = _normalised(train), _normalised(test)
        fine, fine_test = np.empty_like(material.labels), np.empty_like(material.test_labels)
        count = 0
        for label in range(len(material.classes)):
            members, tested = material.labels == label, material.test_labels == label
            if not members.any():
                fine_test[tested] = count  # no training picture: a class of its own that nobody can learn
                count += bool(tested.any())
                continue
            centres = _centres(train[members], self.parts, material.seed)
            fine[members] = count + _nearest(train[members], centres)
            fine_test[tested] = count + _nearest(test[tested], centres)
            count += len(centres)
        detail = f"{len(material.classes)} classes split into {count} by k-means on {what}"
        return Labelling(fine, fine_test, count, detail)


def _thumbnails(images: Pixels) -> NDArray[np.float32]:
    """The pictures at 8 x 8 pixels, each the mean of a patch, as rows ``[N, 192]``."""
    edges = np.linspace(0, images.shape[-1], _PIXEL_SIDE + 1).astype(int)
    rows = np.add.reduceat(images.astype(np.float32), edges[:-1], axis=2) / np.diff(edges)[:, None]
    return (np.add.reduceat(rows, edges[:-1], axis=3) / np.diff(edges)).reshape(len(images), -1)


def _normalised(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one: angles compare features of a ReLU network better than distances."""
    return features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), 1e-12)


def _centres(points: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    """At most ``count`` centres ``[C, D]``; fewer where there are fewer different pictures."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    count = min(count, len(np.unique(points, axis=0)))
    with threadpool_limits(1):  # sums in one order, so that labels do not depend on the machine's cores
        model = KMeans(count, n_init=10, random_state=seed)  # pyright: ignore[reportArgumentType]  # a number, too
        return model.fit(points).cluster_centers_.astype(np.float32)


def _nearest(points: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    distances = np.square(centres).sum(axis=1) - 2 * points @ centres.T  # less what is the same for all centres
    return distances.argmin(axis=1).astype(np.int64)
