"""Clusters of pictures in the feature space of a surrogate: what stands in for labels where there are none."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ....errors import ConfigError

__all__ = ["MANY_IMAGES", "Clusters", "default_count", "find_clusters", "nearest", "targets"]

MANY_IMAGES = 50_000
"""Above this many images: k-means in batches on 64 principal components."""


@dataclass(frozen=True)
class Clusters:
    """Clusters that hold images.

    Attributes:
        centres: float32 ``[p, D]``.
        assignment: int64 ``[N]``, the cluster of each image: its nearest centre, where both come from one look.
    """

    centres: Tensor
    assignment: Tensor

    @property
    def sizes(self) -> list[int]:
        """Images a cluster."""
        return torch.bincount(self.assignment, minlength=len(self.centres)).tolist()

    def digest(self) -> str:
        """sha256 over which image is in which cluster."""
        return hashlib.sha256(self.assignment.numpy().tobytes()).hexdigest()


def default_count(images: int) -> int:
    """Clusters for a folder of so many images: the paper's ten, fewer where a cluster would hold under eight."""
    return max(2, min(10, images // 8))


def nearest(features: Tensor, centres: Tensor) -> Tensor:
    """Index int64 ``[N]`` of the centre with the least Euclidean distance; the first of equals."""
    return torch.cdist(features.double(), centres.double()).argmin(1)


def targets(count: int) -> Tensor:
    """Where each cluster is to be pushed: onto the next one, the last onto the first (uc.md section 0.4)."""
    return (torch.arange(count) + 1) % count


def find_clusters(features: Tensor, count: int, *, seed: int) -> Clusters:
    """K-means. Clusters that end without an image are left out, so that fewer than ``count`` may come back.

    Args:
        features: float32 ``[N, D]``.
        count: clusters p, at least 2.
        seed: of the starting centres.

    Raises:
        ConfigError: fewer images than clusters, features that are not finite, or fewer than two different images.
    """
    if len(features) < count:
        raise ConfigError(
            f"{len(features)} pictures cannot form {count} clusters. Ask for fewer clusters, or add pictures."
        )
    if not torch.isfinite(features).all():
        raise ConfigError(
            "The surrogate's features are not finite for some pictures. Its weights may be damaged; try another one."
        )
    different = len(torch.unique(features, dim=0))
    if different < 2:
        raise ConfigError(
            "All pictures look the same to the surrogate, so there are no clusters to push them between. Add pictures."
        )
    labels = torch.from_numpy(_kmeans(features.numpy(), min(count, different), seed)).long()
    centres = torch.stack([features[labels == k].mean(0) for k in labels.unique()])
    assignment = nearest(features, centres)
    kept = assignment.unique()
    if len(kept) < len(centres):
        centres = centres[kept]
        assignment = nearest(features, centres)
    return Clusters(centres, assignment)


def _kmeans(points: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cluster numbers ``[N]``. One thread: sums then run in one order, and the same seed gives the same clusters."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.decomposition import PCA
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about fewer distinct points than clusters, which the caller handles
        if len(points) > MANY_IMAGES:
            points = PCA(min(64, points.shape[1]), random_state=seed).fit_transform(points)
            quick = MiniBatchKMeans(count, batch_size=4096, n_init=3, random_state=seed)  # pyright: ignore[reportArgumentType]
            return quick.fit_predict(points)
        return KMeans(count, n_init=10, random_state=seed).fit_predict(points)  # pyright: ignore[reportArgumentType]
