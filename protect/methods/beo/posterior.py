"""The estimator: class posteriors by a Gaussian kernel on features, and the Bayes error they imply. Pure functions.

The public code divides a sum of kernels by their total plus 1e-8. Where all kernels underflow that gives posteriors of
zero, an error above the possible 1 - 1/K, and no gradient. Here the posterior is a softmax over the
logarithms of the kernels, which cannot underflow as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import ConfigError

_BLOCK = 1 << 23
"""Entries of the matrix of kernels that are there at once: 32 MiB, and some more of the same size."""

Kind = Literal["max", "true"]
"""The error of a query: one minus its largest posterior (the paper's), or one minus that of its own label."""

Scale = Literal["unit", "global"]
"""Rows centred and brought to length 1, or everything divided by one number (the paper's)."""


@dataclass(frozen=True)
class Scaling:
    """Brings features to the size that the bandwidth expects; fixed by the reference features, no gradient.

    Attributes:
        mode: ``unit``: rows minus ``offset``, then of length 1, so distances lie in [0, 2]. ``global``: rows over
            ``divisor``, so that the largest value is 1 (one outlier sets it).
        offset: ``[D]``, the mean of the reference features.
        divisor: ``[]``, their largest absolute value.
    """

    mode: Scale
    offset: Tensor
    divisor: Tensor

    @classmethod
    def of(cls, mode: Scale, references: Tensor) -> Scaling:
        """The scaling that features ``[M, D]`` of the references imply."""
        known = references.detach()
        return cls(mode, known.mean(0), known.abs().max().clamp(min=1e-12))

    def __call__(self, features: Tensor) -> Tensor:
        """Scaled features of the same shape ``[B, D]``; differentiable."""
        if self.mode == "unit":
            return F.normalize(features - self.offset, dim=1)
        return features / self.divisor


def kernel_posterior(
    queries: Tensor,
    references: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    sigma: float,
    query_ids: Tensor | None = None,
    reference_ids: Tensor | None = None,
    log_weights: Tensor | None = None,
) -> Tensor:
    """Nadaraya-Watson class posteriors: ``p_i(k) = sum of s_ij over j of class k / sum of s_ij over all j``.

    ``s_ij = exp(log_weights_j - |u_i - u_j|^2 / (2 sigma^2))``, and 0 where i and j are the same image. It is the exact
    posterior of the references smoothed with N(0, sigma^2). Differentiable in queries and references; memory is that of
    a few ``[B, M]`` matrices, never ``[B, M, D]``.

    Args:
        queries: scaled features ``[B, D]``.
        references: scaled features ``[M, D]``.
        labels: int64 ``[M]`` of the references, in ``range(num_classes)``.
        num_classes: K.
        sigma: bandwidth, in units of the scaled features.
        query_ids: int64 ``[B]``, which image each query is; with ``reference_ids``, a query leaves itself out.
        reference_ids: int64 ``[M]``, distinct; negative for references that are no query.
        log_weights: ``[M]``, how much each reference counts; ``None`` for all alike.

    Returns:
        Posteriors ``[B, K]``, rows that sum to 1.

    Raises:
        ConfigError: there is no reference besides the query itself.
    """
    leave_out = query_ids is not None and reference_ids is not None
    if len(references) < 1 + leave_out:
        raise ConfigError("A posterior needs at least one reference besides the query itself.")
    squares = queries.square().sum(1)[:, None] + references.square().sum(1) - 2 * queries @ references.T
    logits = squares.clamp(min=0.0) * (-0.5 / sigma**2)
    if log_weights is not None:
        logits = logits + log_weights
    if query_ids is not None and reference_ids is not None:
        logits = logits.masked_fill(query_ids[:, None] == reference_ids, -torch.inf)
    weights = logits.softmax(1)
    # A matrix product, not index_add: on a GPU the latter adds in any order, and the same seed gives other bytes.
    return weights @ F.one_hot(labels, num_classes).to(weights.dtype)


def bayes_errors(posterior: Tensor, kind: Kind, labels: Tensor | None = None) -> Tensor:
    """What a posterior leaves uncertain about each query.

    It is summed over the classes that are not chosen. One minus the chosen class would lose every digit of an error
    below 1e-7, and with it the gradient of all images that start out confident.

    Args:
        posterior: ``[B, K]``.
        kind: ``max``: chosen is the likeliest class, and the optimum is ambiguity. ``true``: the own label.
        labels: int64 ``[B]`` of the queries, for ``true``.

    Returns:
        ``[B]``: in [0, 1 - 1/K] for ``max``, in [0, 1] for ``true``.

    Raises:
        ConfigError: ``true`` without labels.
    """
    if kind == "max":
        chosen = posterior.detach().argmax(1)
    elif labels is not None:
        chosen = labels
    else:
        raise ConfigError("The error of kind 'true' needs the labels of the queries.")
    return posterior.scatter(1, chosen[:, None], 0.0).sum(1)


def plug_in_errors(posterior: Tensor, labels: Tensor) -> Tensor:
    """1.0 where the likeliest class is not the label, ``[B]``. Held out, its mean bounds the Bayes error from above."""
    return (posterior.argmax(1) != labels).to(posterior.dtype)


def all_pairs(
    features: Tensor,
    labels: Tensor,
    num_classes: int,
    *,
    sigma: float,
    kind: Kind = "max",
    scaling: Scaling | None = None,
    log_weights: Tensor | None = None,
    gradient: bool = True,
    rows: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Leave-one-out errors of every image against all others, and the gradient of their sum.

    Each image gets gradient as a query and as a reference, as in the paper. Of the sum, not the
    mean: a mean divides by N, and gradients sink below what Adam adds to its denominator.

    Args:
        features: ``[N, D]``, not scaled.
        labels: int64 ``[N]``.
        num_classes: K.
        sigma: bandwidth.
        kind: see :func:`bayes_errors`.
        scaling: applied first; ``None`` leaves the features as they are.
        log_weights: ``[N]``, how much each image counts as a reference.
        gradient: compute it; without, it is all zero.
        rows: queries at a time; default 512, fewer for more than 16,384 images. Memory depends on it, and last bits.

    Returns:
        Errors ``[N]`` and the gradient ``[N, D]`` with respect to ``features``, both without a graph.

    Raises:
        ConfigError: fewer than two images.
    """
    rows = rows or max(1, min(512, _BLOCK // max(1, len(features))))
    raw = features.detach().requires_grad_(gradient)
    with torch.set_grad_enabled(gradient):
        scaled = raw if scaling is None else scaling(raw)
    leaf = scaled.detach().requires_grad_(gradient)
    ids = torch.arange(len(leaf), device=leaf.device)
    errors, total = [], torch.zeros_like(leaf)
    with torch.set_grad_enabled(gradient):
        for part in ids.split(rows):
            posterior = kernel_posterior(
                leaf[part], leaf, labels, num_classes, sigma=sigma, query_ids=part, reference_ids=ids,
                log_weights=log_weights,
            )  # fmt: skip
            own = bayes_errors(posterior, kind, labels[part])
            if gradient:
                total += torch.autograd.grad(own.sum(), leaf)[0]
            errors.append(own.detach())
        if gradient and scaling is not None:
            (total,) = torch.autograd.grad(scaled, raw, total)
    return torch.cat(errors), total.detach()
