"""The images that posteriors are read from: all of them, or a bank of a fixed size with the same class shares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....errors import FitError
from ....surrogates import FrozenSurrogate
from .copies import Copies
from .posterior import Scale, Scaling, all_pairs

__all__ = ["BANK_SIZE", "BATCH", "EXACT_LIMIT", "References", "balanced", "check_finite", "worst_uncertainty"]

EXACT_LIMIT = 4000
"""Up to so many images, every one is compared with every other, and both get gradient."""

BANK_SIZE = 4096
"""Beyond, references are at most so many (or two a class): cost is linear in the images, memory does not grow."""

BATCH = 128
"""Images a pass through the surrogate: larger ones are slower on a CPU."""


@dataclass(frozen=True)
class References:
    """Features of reference images under one network, scaled, without a graph.

    Attributes:
        index: positions int64 ``[M]`` in the points; they are the identities by which a query leaves itself out.
        features: scaled float ``[M, D]``.
        labels: int64 ``[M]``.
        log_weights: ``[M]``, see :func:`balanced`; ``None`` where all images are references.
        scaling: what brought the features to size, and brings queries to the same.
    """

    index: Tensor
    features: Tensor
    labels: Tensor
    log_weights: Tensor | None
    scaling: Scaling

    @classmethod
    def read(
        cls, frozen: FrozenSurrogate, copies: Copies, index: Tensor, log_weights: Tensor | None, scale: Scale
    ) -> References:
        """Those at ``index``, as their copies look now.

        Raises:
            FitError: features are not numbers.
        """
        features = _features(frozen, copies, index)
        scaling = Scaling.of(scale, features)
        return cls(index, scaling(features), copies.labels[index], log_weights, scaling)

    def uncertainty(self, num_classes: int, sigma: float) -> float:
        """Mean leave-one-out error of the references themselves, of kind ``true``, in [0, 1].

        It is read where the surrogate was trained, so it says how well that one fits, and nothing about protection. Not
        of kind ``max``: features that ignore the labels spread out until each image has one near neighbour, whose
        label is then certain, and wrong.
        """
        errors, _ = all_pairs(
            self.features, self.labels, num_classes, sigma=sigma, kind="true", log_weights=self.log_weights,
            gradient=False,
        )  # fmt: skip
        if self.log_weights is None:
            return float(errors.mean())
        return float((errors * self.log_weights.softmax(0)).sum())


def balanced(
    labels: Tensor, num_classes: int, generator: torch.Generator, *, size: int = BANK_SIZE
) -> tuple[Tensor, Tensor | None]:
    """Draw references: all images up to :data:`EXACT_LIMIT`, otherwise equally many of each class.

    Equal numbers would change the class priors, on which the posterior depends. Each reference therefore counts for
    the images of its class that it stands for.

    Args:
        labels: int64 ``[N]``.
        num_classes: K.
        generator: source of the draw.
        size: at most so many, but two of every class.

    Returns:
        Positions int64 ``[M]`` in rising order, and their log weights ``[M]``, ``None`` where all images are taken.
    """
    if len(labels) <= EXACT_LIMIT:
        return torch.arange(len(labels), device=labels.device), None
    found = labels.cpu()
    counts = torch.bincount(found, minlength=num_classes)
    share = _fair_share(counts, size)
    chosen, weights = [], []
    for label in counts.nonzero().flatten().tolist():
        own = (found == label).nonzero().flatten()
        taken = own[torch.randperm(len(own), generator=generator)[:share]]
        chosen.append(taken)
        weights.append(torch.full((len(taken),), len(own) / len(taken)).log())
    index, order = torch.cat(chosen).sort()
    return index.to(labels.device), torch.cat(weights)[order].to(labels.device)


def _fair_share(counts: Tensor, size: int) -> int:
    """The largest number a class such that all classes together, each giving what it has, give at most ``size``."""
    low, high = 2, int(counts.max())
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if int(counts.clamp(max=middle).sum()) <= size else (low, middle - 1)
    return low


@torch.no_grad()
def _features(frozen: FrozenSurrogate, copies: Copies, index: Tensor) -> Tensor:
    """Features float ``[M, D]`` of the perturbed images at ``index``.

    Raises:
        FitError: features are not numbers.
    """
    features = torch.cat([frozen(copies.seen(part)) for part in index.split(BATCH)])
    check_finite(features)
    return features


def check_finite(*values: Tensor) -> None:
    """Make sure that what a surrogate gives are numbers.

    Raises:
        FitError: some are not.
    """
    if not all(bool(torch.isfinite(value).all()) for value in values):
        raise FitError(
            "The surrogate gives features that are not numbers: its training diverged, or its weights are damaged. "
            "Nothing was saved. Use another surrogate (--surrogate small-cnn or resnet18), other weights, or another "
            "--seed."
        )


def worst_uncertainty(
    members: Sequence[FrozenSurrogate],
    copies: Copies,
    num_classes: int,
    generator: torch.Generator,
    *,
    sigma: float,
    scale: Scale,
) -> float:
    """How badly the worst of the networks tells the classes of the copies apart; see :meth:`References.uncertainty`.

    Raises:
        FitError: features are not numbers.
    """
    index, log_weights = balanced(copies.labels, num_classes, generator)
    return max(
        References.read(member, copies, index, log_weights, scale).uncertainty(num_classes, sigma) for member in members
    )
