"""Retrieval between pictures and captions: Hit@k and median rank both ways (t2ue: Tables 2 and 7 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...errors import ConfigError

__all__ = ["RetrievalScores", "retrieval_scores"]


@dataclass(frozen=True)
class RetrievalScores:
    """Of one direction.

    Attributes:
        hits: share of queries whose answer is among the first k, by k.
        median_rank: floor of the median of the 0-based ranks, plus 1; smaller is better.
        chance_hits: what guessing gives, by k.
        chance_median_rank: likewise.
        queries: how many were asked.
        ranks: of each query, 0-based, in their order.
    """

    hits: dict[int, float]
    median_rank: int
    chance_hits: dict[int, float]
    chance_median_rank: int
    queries: int
    ranks: tuple[int, ...] = field(default=(), repr=False)


def retrieval_scores(
    images: Tensor, texts: Tensor, owners: Tensor, *, ks: tuple[int, ...] = (1, 5, 10)
) -> tuple[RetrievalScores, RetrievalScores]:
    """Scores picture-to-text and text-to-picture.

    A picture's rank is the best among its own captions over all captions; a caption's rank is the best among its
    pictures, of which there is one but where several are described in the same words. Ties count against the model: an
    answer is ranked behind all that score the same. So does a score that is no number.

    Args:
        images: unit vectors ``[N, D]``.
        texts: unit vectors ``[M, D]``.
        owners: int64 ``[M]``, the picture of each caption; or bool ``[N, M]``, which captions describe which picture.
            Every picture has one caption at least, and every caption a picture.
        ks: cut-offs.

    Raises:
        ConfigError: the shapes do not fit, or a picture has no caption.
    """
    count, total = len(images), len(texts)
    own = owners if owners.dtype == torch.bool else owners == torch.arange(count, device=owners.device)[:, None]
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or own.shape != (count, total):
        raise ConfigError(f"Vectors {tuple(images.shape)} and {tuple(texts.shape)} with owners {tuple(owners.shape)}.")
    if count == 0 or not bool(own.any(1).all() and own.any(0).all()):
        raise ConfigError("Every picture needs a caption of its own.")
    # A network that broke down gives NaN, which compares as False with everything: without this it would be right.
    similarity = torch.nan_to_num(images.double() @ texts.double().T, nan=-torch.inf)  # [N, M]
    own = own.to(similarity.device)
    right = similarity.masked_fill(~own, -torch.inf)
    image_ranks = ((similarity >= right.max(1).values[:, None]) & ~own).sum(1)
    text_ranks = ((similarity >= right.max(0).values[None, :]) & ~own).sum(0)
    return (
        _scores(image_ranks, ks, total, own.sum(1)),
        _scores(text_ranks, ks, count, own.sum(0)),
    )


def _scores(ranks: Tensor, ks: tuple[int, ...], pool: int, answers: Tensor) -> RetrievalScores:
    return RetrievalScores(
        hits={k: float((ranks < k).double().mean()) for k in ks},
        median_rank=_median(ranks),
        chance_hits={k: _chance_hit(k, pool, answers) for k in ks},
        chance_median_rank=_chance_median(pool, answers),
        queries=len(ranks),
        ranks=tuple(ranks.tolist()),
    )


def _median(ranks: Tensor) -> int:
    ordered = ranks.sort().values
    middle = len(ordered) // 2
    value = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return int(torch.as_tensor(value).floor()) + 1


def _chance_hit(k: int, pool: int, answers: Tensor) -> float:
    """One minus the chance that none of a query's answers is among k drawn without replacement, averaged."""
    counts, weights = answers.unique(return_counts=True)
    total = 0.0
    for count, weight in zip(counts.tolist(), weights.tolist(), strict=True):
        miss = 1.0
        for drawn in range(min(k, pool)):
            miss *= max(0, pool - count - drawn) / (pool - drawn)
        total += weight * (1.0 - miss)
    return total / int(weights.sum())


def _chance_median(pool: int, answers: Tensor) -> int:
    """Smallest rank (1-based) by which half of the queries are answered by chance."""
    low, high = 1, pool
    while low < high:
        middle = (low + high) // 2
        if _chance_hit(middle, pool, answers) >= 0.5:
            high = middle
        else:
            low = middle + 1
    return low
