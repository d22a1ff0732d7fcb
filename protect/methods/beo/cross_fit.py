"""What the Bayes error is where nothing was fitted: cross-fitted, with an interval, beside clean and random noise.

Features that a network was trained on are memorised, and those that noise was made on are fooled: both figures mislead
(a fit that read .77 on itself was .49 held out). So a fresh small network is trained on half of
the images, posteriors of the other half are read from the first half's features, the halves change places, and the
results are averaged. The estimator is the same for every fit, so that figures can be compared.

The headline is the share of images whose likeliest class is wrong. Whatever the network, its expectation is at least
the Bayes error. One minus the largest posterior has no such property: a network that has memorised its half is certain
about the other half too, and certainly wrong. Both are given (Renggli et al., FeeBee: report several estimators).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ....imaging import Budget, ImageSet
from ....surrogates import FrozenSurrogate, create_surrogate, recipe_for, train_classifier
from ..surrogate_training import DeltaOf
from ..written import WrittenCopies
from .ascent import BATCH, check_finite
from .posterior import Scaling, bayes_errors, kernel_posterior, plug_in_errors

NETWORK = "small-cnn"
SIGMA = 0.3
"""Bandwidth on rows of length 1. Estimates of different bandwidths cannot be compared, so it is not an option."""


@dataclass(frozen=True)
class Interval:
    """An estimate of the Bayes error.

    Attributes:
        estimate: share of the images whose likeliest class is not their label, in [0, 1]: from above, but for sampling.
        low, high: its 95 % bootstrap interval over the images. The networks stay as they are, so another seed of theirs
            may land outside.
        one_minus_max: mean of one minus the largest posterior, in [0, 1 - 1/K]: too low where the networks are surer
            than they should be.
        images: how many.
    """

    estimate: float
    low: float
    high: float
    one_minus_max: float
    images: int

    def to_json(self) -> dict[str, float | int]:
        """JSON-safe, rounded for reading."""
        shares = {name: round(getattr(self, name), 4) for name in ("estimate", "low", "high", "one_minus_max")}
        return {**shares, "images": self.images}


class CrossFittedError:
    """Estimates the Bayes error of perturbed copies. Two images of every class are needed.

    Args:
        dataset: all images with labels, on the CPU, in the order of their keys.
        budget: what perturbations are rounded within.
        seed: of the draw, the halves, the networks and the bootstrap.
        device: where to train.
        max_images: at most so many (or two a class) are looked at.
        steps: optimiser steps of each network.
    """

    def __init__(
        self, dataset: ImageSet, budget: Budget, *, seed: int, device: torch.device, max_images: int, steps: int
    ) -> None:
        self._dataset, self._seed, self._device, self._steps = dataset, seed, device, steps
        self._written = WrittenCopies(dataset, budget)
        assert dataset.labels is not None
        generator = torch.Generator().manual_seed(seed)
        halves = stratified_halves(dataset.labels, len(dataset.classes), generator, max_images=max_images)
        self._halves = halves
        self.index = torch.cat(halves)

    def __call__(self, delta_of: DeltaOf | None, tell: Callable[[float], None] | None = None) -> Interval:
        """Train twice and measure.

        Args:
            delta_of: positions ``[B]`` -> perturbations ``[B, 3, R, R]`` as a bank holds them, in units of the full
                range; ``None`` for clean images.
            tell: called along the way with the share done.
        """
        images = [self._copies(half, delta_of) for half in self._halves]
        softs, plugs = [], []
        for first in (0, 1):

            def inside(share: float, base: float = first / 2) -> None:
                if tell is not None:
                    tell(base + share / 2)

            posterior, labels = self._posterior(images[first], images[1 - first], first, inside)
            softs.append(bayes_errors(posterior, "max"))
            plugs.append(plug_in_errors(posterior, labels))
        errors = torch.cat(plugs)
        low, high = bootstrap_interval(errors, torch.Generator().manual_seed(self._seed))
        return Interval(float(errors.mean()), low, high, float(torch.cat(softs).mean()), len(errors))

    def _copies(self, index: Tensor, delta_of: DeltaOf | None) -> Tensor:
        """uint8 images as a trainer reads them from the files."""
        return self._dataset.images[index] if delta_of is None else self._written(index, delta_of)

    def _posterior(
        self, known: Tensor, asked: Tensor, first: int, tell: Callable[[float], None]
    ) -> tuple[Tensor, Tensor]:
        """Posteriors of the images ``asked`` under a network and a bank that know the others, and their labels."""
        dataset = self._dataset
        assert dataset.labels is not None
        labels, seed = dataset.labels[self._halves[first]], (self._seed * 1_000_003 + 31 * (first + 1)) % 2**31
        classes = len(dataset.classes)
        network = create_surrogate(NETWORK, num_classes=classes, resolution=dataset.resolution, seed=seed)
        recipe = recipe_for(NETWORK, steps=self._steps)
        train_classifier(network, known, labels, recipe, seed=seed, evals=10, device=self._device, progress=tell)
        frozen = FrozenSurrogate(network, features=True)
        bank, queries = self._features(frozen, known), self._features(frozen, asked)
        scaling = Scaling.of("unit", bank)
        posterior = torch.cat(
            [
                kernel_posterior(scaling(part), scaling(bank), labels, classes, sigma=SIGMA)
                for part in queries.split(BATCH)
            ]
        )
        return posterior, dataset.labels[self._halves[1 - first]]

    @torch.no_grad()
    def _features(self, frozen: FrozenSurrogate, images: Tensor) -> Tensor:
        parts = [frozen(part.to(self._device).float().mul_(1 / 255)).cpu() for part in images.split(BATCH)]
        features = torch.cat(parts)
        check_finite(features)
        return features


def bootstrap_interval(
    values: Tensor, generator: torch.Generator, *, resamples: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of the mean of ``values [N]``; it always holds that mean."""
    mean = float(values.mean())
    count = len(values)
    # Fifty at a time: all index matrices at once would take gigabytes for large sets.
    means = torch.cat(
        [
            values[torch.randint(count, (min(50, resamples - done), count), generator=generator)].mean(1)
            for done in range(0, resamples, 50)
        ]
    )
    tail = (1 - level) / 2
    low, high = torch.quantile(means, torch.tensor([tail, 1 - tail], dtype=means.dtype)).tolist()
    return min(low, mean), max(high, mean)


def stratified_halves(
    labels: Tensor, num_classes: int, generator: torch.Generator, *, max_images: int
) -> tuple[Tensor, Tensor]:
    """Two disjoint halves with the same classes in about the same shares.

    Args:
        labels: int64 ``[N]``; classes with a single image are left out.
        num_classes: K.
        generator: source of the draw.
        max_images: in both halves together, but two of every class.

    Returns:
        Positions int64 of each half, in rising order.
    """
    share = min(1.0, max_images / max(1, len(labels)))
    halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    odd = 0  # the odd image of a class goes to either half in turn
    for label in range(num_classes):
        own = (labels == label).nonzero().flatten()
        if len(own) < 2:
            continue
        own = own[torch.randperm(len(own), generator=generator)][: max(2, round(share * len(own)))]
        middle = (len(own) + odd) // 2
        odd = (odd + len(own)) % 2
        halves[0].append(own[:middle])
        halves[1].append(own[middle:])
    return torch.cat(halves[0]).sort().values, torch.cat(halves[1]).sort().values


def random_noise(dataset: ImageSet, budget: Budget, index: Tensor, seed: int) -> DeltaOf:
    """Random signs of the whole budget for the images at ``index``, and no others: the placebo."""
    generator = torch.Generator().manual_seed(seed)
    signs = torch.randint(0, 2, (len(index), *dataset.images.shape[1:]), dtype=torch.int8, generator=generator)
    place = torch.zeros(len(dataset), dtype=torch.int64)
    place[index] = torch.arange(len(index))
    level = budget.whole_levels / 255
    return lambda asked: (signs[place[asked]].float() * 2 - 1) * level
