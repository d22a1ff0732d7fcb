"""A new picture and a bank of clusters: one forward pass finds the pattern, no optimisation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from ....errors import BankError
from ....imaging import ImageSet
from ....surrogates import create_surrogate, resolve_device
from ...bank import Bank
from .clusters import nearest
from .features import FeatureSpace, View
from .recipe import derived_seed

__all__ = ["assign", "open_space", "view_of"]


def open_space(
    bank: Bank, *, weights: Path | None = None, allow_download: bool = False, device: str | torch.device = "cpu"
) -> FeatureSpace:
    """The feature space that a bank's centres lie in.

    Args:
        bank: a bank of clusters.
        weights: of the surrogate, where they do not come with a package.
        allow_download: let the surrogate fetch its weights.
        device: where to compute.

    Raises:
        BankError: the surrogate's weights are not those of the fit.
        SetupError: they are not on this machine.
    """
    model = create_surrogate(
        bank.surrogate, num_classes=2, resolution=bank.resolution, seed=derived_seed(bank.seed, 0, 0), weights=weights,
        allow_download=allow_download,
    )  # fmt: skip
    if model.fingerprint(head=False) != bank.surrogate_sha256:
        raise BankError(
            f"The bank was fitted with other weights of {bank.surrogate} than those found now ({model.source}), "
            "so clusters would be mixed up. Give the weights of the fit with --weights FILE."
        )
    return FeatureSpace(model, resolve_device(str(device)), bank.resolution)


def view_of(bank: Bank, space: FeatureSpace) -> View | None:
    """What looks at new pictures while they are read, as in the fit; ``None`` where the working resolution does."""
    return View(space, bank.clusters.view) if bank.clusters is not None and bank.clusters.view else None


def assign(bank: Bank, dataset: ImageSet, space: FeatureSpace) -> Bank:
    """The same bank, knowing more pictures: each goes to the cluster whose centre is nearest.

    Every picture is looked at alone, so that its cluster does not depend on the others of the call.

    Args:
        bank: a bank of clusters.
        dataset: pictures at the bank's resolution, ``[N, 3, R, R]``; with features where the bank's clusters were
            found at another side (see :func:`view_of`).
        space: of :func:`open_space`.

    Raises:
        BankError: the bank holds no clusters, or the set lacks the features that it needs.
    """
    if bank.clusters is None:
        raise BankError("Only a bank of clusters takes pictures by what they look like.")
    looked = dataset.features
    if not bank.clusters.view:
        features = space.of(dataset.images, batch_size=1)
    elif looked is None or (looked.side, looked.maker) != (bank.clusters.view, bank.surrogate_sha256):
        raise BankError(
            f"The bank's clusters were found by {bank.surrogate} on pictures of {bank.clusters.view} px, and this set "
            "was not looked at like that. apply_folder does it; so does load_image_set(..., describe=view_of(bank, "
            "space))."
        )
    else:
        features = looked.values
    found = nearest(features, bank.clusters.centres)
    return replace(bank, clusters=bank.clusters.knowing(dataset.keys, found))
