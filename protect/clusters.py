"""Clusters of pictures in the feature space of a surrogate: what stands in for labels where there are none.

Read in order: the features of a picture (:class:`FeatureSpace`, :class:`SquareFeatures`), clusters of them
(:func:`find_clusters`), and the cluster of a picture that a bank does not know yet (:func:`assign`): one forward pass,
no optimisation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..errors import BankError, ConfigError
from ..imaging import ImageSet
from ..records.config import NO_WEIGHTS, WeightsPolicy
from ..surrogates import FrozenSurrogate, Precision, Surrogate, choose_precision, create_surrogate, resolve_device
from ..surrogates.freezing import fit_kmeans, frozen_features, in_one_order
from .bank import Bank
from .cluster_index import ClusterIndex
from .textures import TextureBank

CLUSTER_SURROGATE = "efficientnet-lite0"
"""Comes with ImageNet weights in a package: nothing is downloaded."""

VIEW = 224
"""Side in px at which networks look at pictures whose side is free. Ten clusters of 3,068 clothing photos agree with
the ten classes to .23 (NMI) at 64 px, .31 at 112, .39 at 160 and .43 at 224 px, the side that ImageNet networks are
trained for; what the noise does to a trainer grows with that (docs/methods/uc.md)."""


class FeatureSpace:
    """The features of one surrogate, or of an ensemble's members side by side.

    Args:
        model: the surrogate; frozen here.
        device: where to compute.
        resolution: side in px of the working images; networks of a fixed side take no other.
        precision: of the arithmetic where perturbations push; clusters are always found in float32.

    Attributes:
        precisions: what was chosen, by network.
        name: registry name.
        fingerprint: identity of the networks, the digest of their weights without the last layers.
        source: where their weights come from.
    """

    def __init__(
        self, model: Surrogate, device: torch.device, resolution: int, *, precision: Precision = "auto"
    ) -> None:
        self.device = device
        self.name, self.fingerprint, self.source = model.name, model.fingerprint(head=False), model.source
        self._sides = [member.resize.side for member in model.members]
        model = model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # What is compared with the features of other days keeps its last bit.
        self.exact = FrozenSurrogate(model, features=True, exactly=True)
        self.precisions = {
            member.name: choose_precision(member, device, resolution=resolution, asked=precision)
            for member in model.members
        }
        self.members = tuple(
            FrozenSurrogate(member, features=True, bf16=self.precisions[member.name].bf16) for member in model.members
        )
        self.widths = tuple(_width(member, resolution) for member in self.members)

    @property
    def feature_size(self) -> int | None:
        """Side in px at which pictures are shown to networks with ImageNet weights or a side of their own.

        ``None`` for all others, and ensembles with one such: they see the working images.
        """
        sides = [side for side in self._sides if side is not None]
        return max(VIEW, *sides) if len(sides) == len(self._sides) else None

    def of(self, images: Tensor, *, batch_size: int = 64) -> Tensor:
        """Features float32 ``[N, D]`` on the CPU of uint8 images ``[N, 3, R, R]``.

        ``batch_size=1`` gives the features that an image has on its own: sums in a batch may run in another order.

        Raises:
            ConfigError: they are not finite.
        """
        if not len(images):
            return torch.empty(0, sum(self.widths))
        features = frozen_features(self.exact, images, device=self.device, batch_size=batch_size)
        if not torch.isfinite(features).all():
            raise ConfigError(
                "The surrogate's features are not finite for some pictures: its weights may be damaged. Try another."
            )
        return features

    def feature_extractor(self, resolution: int) -> SquareFeatures | None:
        """What looks at pictures while they are read; ``None`` where working images of this side hold all there is."""
        if self.feature_size is None or self.feature_size <= resolution:
            return None
        return SquareFeatures(self, self.feature_size)

    def look(self, dataset: ImageSet) -> tuple[Tensor, int]:
        """Features float32 ``[N, D]`` of a set, and the side in px that they were made at; 0: the working images'.

        Raises:
            ConfigError: the set was looked at by another network while it was read.
        """
        looked = dataset.features
        if looked is None:
            return self.of(dataset.images), 0
        if looked.fingerprint != self.fingerprint:
            raise ConfigError(
                f"The features of these images were not made by {self.name}, or by other weights of it. Load the "
                "images with load_image_set(..., describe=method.feature_extractor(resolution)) of this very method."
            )
        return looked.values, looked.side


@dataclass(frozen=True)
class SquareFeatures:
    """Looks at pictures one by one at a side of its own.

    Attributes:
        space: whose features.
        side: in px.
    """

    space: FeatureSpace
    side: int

    @property
    def fingerprint(self) -> str:
        """Identity of the networks."""
        return self.space.fingerprint

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """Features float32 ``[D]`` on the CPU of a picture uint8 ``[side, side, 3]``."""
        return self.space.of(torch.from_numpy(pixels).permute(2, 0, 1)[None])[0]


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

    def index(self, keys: Sequence[str], feature_size: int) -> ClusterIndex:
        """For a bank: what these images, by their keys, were assigned. Alone, one's features may differ in the last
        bit, so that it could end in another cluster."""
        return ClusterIndex(self.centres.numpy(), feature_size).knowing(keys, self.assignment.tolist())

    def digest(self) -> str:
        """sha256 over which image is in which cluster."""
        return hashlib.sha256(self.assignment.numpy().tobytes()).hexdigest()


def in_content_order(dataset: ImageSet) -> ImageSet:
    """By content alone: the class folder is part of a key, and labels must not touch anything where clusters count."""
    order = sorted(range(len(dataset)), key=lambda row: dataset.keys[row].rpartition("/")[2])
    return dataset.select(torch.tensor(order, dtype=torch.int64))


def default_count(images: int) -> int:
    """Clusters for a folder of so many images: the paper's ten, fewer where a cluster would hold under eight."""
    return max(2, min(10, images // 8))


def nearest(features: Tensor, centres: Tensor) -> Tensor:
    """Index int64 ``[N]`` of the centre with the least Euclidean distance; the first of equals."""
    return torch.cdist(features.double(), centres.double()).argmin(1)


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
    """Cluster numbers ``[N]``."""
    from sklearn.decomposition import PCA

    if len(points) <= MANY_IMAGES:
        return np.asarray(fit_kmeans(points, count, seed=seed).labels_)
    with in_one_order():
        points = PCA(min(64, points.shape[1]), random_state=seed).fit_transform(points)
    return np.asarray(fit_kmeans(points, count, seed=seed, restarts=3, in_batches=True).labels_)


def create_space(
    surrogate: str,
    resolution: int,
    *,
    seed: int,
    weights: WeightsPolicy = NO_WEIGHTS,
    device: torch.device,
    precision: Precision = "float32",
) -> FeatureSpace:
    """The features of a surrogate, by name.

    Args:
        surrogate: registry name.
        resolution: side in px of the working images.
        seed: of the fit; where the network has no trained weights, its random ones come from it.
        weights: where its weights come from.
        device: where to compute.
        precision: see :class:`FeatureSpace`; choosing one takes a measurement, which only what pushes needs.

    Raises:
        SetupError: the weights are not on this machine.
        WeightsError: they do not fit.
    """
    model = create_surrogate(
        surrogate, num_classes=2, resolution=resolution, seed=seed * 1009 * 1_000_003 % 2**63, weights=weights,
    )  # fmt: skip
    return FeatureSpace(model, device, resolution, precision=precision)


def open_space(
    bank: Bank | TextureBank,
    *,
    weights: WeightsPolicy = NO_WEIGHTS,
    device: str | torch.device = "cpu",
) -> FeatureSpace:
    """The feature space that a bank's centres lie in.

    Args:
        bank: a bank of clusters.
        weights: where those of the surrogate come from.
        device: where to compute.

    Raises:
        BankError: the surrogate's weights are not those of the fit.
        SetupError: they are not on this machine.
    """
    space = create_space(
        bank.surrogate, bank.resolution, seed=bank.seed, weights=weights, device=resolve_device(str(device)),
    )  # fmt: skip
    if space.fingerprint != bank.surrogate_sha256:
        raise BankError(
            f"The bank was fitted with other weights of {bank.surrogate} than those found now ({space.source}), "
            "so clusters would be mixed up. Give the weights of the fit with --weights FILE."
        )
    return space


def extractor_of(bank: Bank | TextureBank, space: FeatureSpace) -> SquareFeatures | None:
    """What looks at new pictures while they are read, as in the fit; ``None`` where the working resolution does."""
    if bank.clusters is None or not bank.clusters.feature_size:
        return None
    return SquareFeatures(space, bank.clusters.feature_size)


Assigned = TypeVar("Assigned", bound=Bank | TextureBank)
"""A bank of clusters, of either kind."""


def assign(bank: Assigned, dataset: ImageSet, space: FeatureSpace) -> Assigned:
    """The same bank, knowing more pictures: each goes to the cluster whose centre is nearest.

    Every picture is looked at alone, so that its cluster does not depend on the others of the call.

    Args:
        bank: a bank of clusters.
        dataset: pictures at the bank's resolution, ``[N, 3, R, R]``; with features where the bank's clusters were
            found at another side (see :func:`extractor_of`).
        space: of :func:`open_space`.

    Raises:
        BankError: the bank holds no clusters, or the set lacks the features that it needs.
    """
    if bank.clusters is None:
        raise BankError("Only a bank of clusters takes pictures by what they look like.")
    looked = dataset.features
    if not bank.clusters.feature_size:
        features = space.of(dataset.images, batch_size=1)
    elif looked is None or (looked.side, looked.fingerprint) != (bank.clusters.feature_size, bank.surrogate_sha256):
        raise BankError(
            f"The bank's clusters were found by {bank.surrogate} on pictures of {bank.clusters.feature_size} px, and "
            "this set was not looked at like that. apply_folder does it; so does load_image_set(..., "
            "describe=extractor_of(bank, space))."
        )
    else:
        features = looked.values
    found = nearest(features, torch.from_numpy(bank.clusters.centres))
    return replace(bank, clusters=bank.clusters.knowing(dataset.keys, found.tolist()))


def _width(frozen: FrozenSurrogate, side: int) -> int:
    with torch.no_grad():
        device = next(frozen.model.parameters()).device
        return int(frozen(torch.zeros(1, 3, side, side, device=device)).shape[1])
