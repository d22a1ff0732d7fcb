"""Retrieval between pictures and captions: Hit@k and median rank both ways (t2ue: Tables 2 and 7 of the paper)."""

from __future__ import annotations

from dataclasses import dataclass

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
    """

    hits: dict[int, float]
    median_rank: int
    chance_hits: dict[int, float]
    chance_median_rank: int
    queries: int


def retrieval_scores(
    images: Tensor, texts: Tensor, owners: Tensor, *, ks: tuple[int, ...] = (1, 5, 10)
) -> tuple[RetrievalScores, RetrievalScores]:
    """Scores picture-to-text and text-to-picture.

    A picture's rank is the best among its own captions over all captions; a caption's rank is that of its picture.
    Ties count against the model: an answer is ranked behind all that score the same.

    Args:
        images: unit vectors ``[N, D]``.
        texts: unit vectors ``[M, D]``.
        owners: int64 ``[M]``, the picture of each caption; every picture has one at least.
        ks: cut-offs.

    Raises:
        ConfigError: the shapes do not fit, or a picture has no caption.
    """
    count = len(images)
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or owners.shape != (len(texts),):
        raise ConfigError(f"Vectors {tuple(images.shape)} and {tuple(texts.shape)} with owners {tuple(owners.shape)}.")
    if count == 0 or set(owners.tolist()) != set(range(count)):
        raise ConfigError("Every picture needs a caption of its own.")
    similarity = images.double() @ texts.double().T  # [N, M]
    own = owners[None, :] == torch.arange(count)[:, None].to(owners.device)
    best = similarity.masked_fill(~own, -torch.inf).max(1).values
    image_ranks = ((similarity >= best[:, None]) & ~own).sum(1)
    truth = similarity.gather(0, owners[None, :])[0]
    text_ranks = (similarity >= truth[None, :]).sum(0) - 1
    per_image = torch.bincount(owners, minlength=count)
    return (
        _scores(image_ranks, ks, len(texts), per_image),
        _scores(text_ranks, ks, count, torch.ones_like(per_image)),
    )


def _scores(ranks: Tensor, ks: tuple[int, ...], pool: int, answers: Tensor) -> RetrievalScores:
    return RetrievalScores(
        hits={k: float((ranks < k).double().mean()) for k in ks},
        median_rank=_median(ranks),
        chance_hits={k: _chance_hit(k, pool, answers) for k in ks},
        chance_median_rank=_chance_median(pool, answers),
        queries=len(ranks),
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
