"""What a fit of Unlearnable Clusters will cost, from a first batch."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ....imaging import ImageSet
from ....surrogates import now
from ...clusters import Clusters, FeatureSpace, default_count
from ..base import FitEstimate
from ..emn.estimate import estimate_fit as estimate_labels
from ..round_trip import RoundTrip
from .fit import CENTRE_IMAGES
from .measures import MOST, VERSIONS
from .pull import FeaturePull
from .recipe import UcRecipe

__all__ = ["estimate_fit"]

_TRIED = 64


def estimate_fit(recipe: UcRecipe, dataset: ImageSet, space: FeatureSpace, total: int) -> FitEstimate:
    """The cost of fitting ``total`` images like those of ``dataset``, which is on the device of computation."""
    tried = dataset.select(range(min(_TRIED, len(dataset))))
    begun = now(space.device)
    features = space.of(tried.images).repeat(2, 1)  # two centres also of one picture
    look = (now(space.device) - begun) / len(tried)
    count = recipe.clusters or min(default_count(total), total)
    # Pictures that were looked at while they were read cost that in reading.
    looks = min(total, count * CENTRE_IMAGES) if dataset.features is not None else total
    seconds = look * (looks + len(VERSIONS) * min(total, MOST))
    pixel, peak = 3 * dataset.resolution**2, 0
    labelled = None
    if recipe.objective != "features":
        numbers = torch.arange(len(dataset), device=dataset.images.device) % min(count, len(dataset))
        names = tuple(str(number) for number in range(min(count, len(dataset))))
        labelled = recipe.labelled()
        found = estimate_labels(labelled, replace(dataset, labels=numbers, classes=names), total)
        seconds, peak = seconds + found.seconds, found.peak_bytes
    if recipe.objective != "labels":
        if recipe.paper:
            pulled = recipe.rounds * count * total
        elif labelled is not None:
            pulled = recipe.rounds * labelled.class_stage(dataset).updates * recipe.pull_images
        else:
            pulled = recipe.rounds * recipe.updates * recipe.batch_size
        seconds += pulled * _pull(recipe, tried, space, features)
        peak = max(peak, 20 * pixel * 16 + recipe.batch_size * pixel * 800)
    return FitEstimate(seconds=seconds, peak_bytes=peak)


def _pull(recipe: UcRecipe, tried: ImageSet, space: FeatureSpace, features: Tensor) -> float:
    """Seconds an image of pulling its features."""
    own = torch.arange(len(tried)) % 2
    pull = FeaturePull(
        tried, space, Clusters(features[:2], own), RoundTrip.of(tried), recipe.windows, paper=recipe.paper
    )
    delta = torch.zeros(2, 3, tried.resolution, tried.resolution, device=tried.images.device)
    index = torch.arange(len(tried), device=delta.device)
    begun = now(space.device)
    pull.on_patterns(index, own.to(delta.device), delta, torch.Generator().manual_seed(0))
    return (now(space.device) - begun) / len(tried)
