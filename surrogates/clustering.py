"""Clusters of pictures: features of a frozen network, and k-means whose result does not depend on the machine."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .freezing import FrozenSurrogate

if TYPE_CHECKING:
    from sklearn.cluster import KMeans, MiniBatchKMeans


@torch.no_grad()
def frozen_features(network: FrozenSurrogate, images: Tensor, *, device: torch.device, batch_size: int = 64) -> Tensor:
    """Features float32 ``[N, D]`` on the CPU of uint8 images ``[N, 3, R, R]``, N at least 1.

    Args:
        network: of features, on its device.
        images: on any device.
        device: where the network is.
        batch_size: 1 gives the features that an image has on its own: sums in a batch may run in another order.
    """
    return torch.cat([network(part.to(device).float().mul_(1 / 255)).cpu() for part in images.split(batch_size)])


@contextmanager
def in_one_order() -> Iterator[None]:
    """One thread inside scikit-learn: sums then run in one order, whatever the machine."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        yield


def fit_kmeans(
    points: NDArray[np.floating], count: int, *, seed: int, restarts: int = 10, in_batches: bool = False
) -> KMeans | MiniBatchKMeans:
    """K-means of scikit-learn; the same points and seed give the same clusters.

    Args:
        points: ``[N, D]``.
        count: of clusters, at most N. Some stay empty where fewer points are different.
        seed: of the starting centres.
        restarts: starts of which the best is taken.
        in_batches: look at 4096 points at a time, for very many.
    """
    from sklearn.cluster import KMeans, MiniBatchKMeans

    starts = cast(Any, restarts)  # a number, which the annotations of scikit-learn leave out
    with in_one_order(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about fewer different points than clusters, which is said above
        if in_batches:
            return MiniBatchKMeans(count, batch_size=4096, n_init=starts, random_state=seed).fit(points)
        return KMeans(count, n_init=starts, random_state=seed).fit(points)
