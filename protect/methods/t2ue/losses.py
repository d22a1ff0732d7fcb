"""What a generator is trained on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["contrastive_loss", "sameness"]


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float, groups: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE (equation 4 of the paper): each picture must find its text, and back.

    Args:
        images: unit vectors ``[B, D]``.
        texts: unit vectors ``[B, D]``; row i belongs to picture i.
        scale: what cosines are multiplied by.
        groups: int64 ``[B]``; rows of one group have the same text and are no negatives of each other.

    Returns:
        A scalar: half the cross-entropy over rows plus half that over columns.
    """
    logits = scale * images @ texts.T
    if groups is not None:
        twins = (groups[:, None] == groups[None, :]).fill_diagonal_(False)
        logits = logits.masked_fill(twins, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def sameness(first: Tensor, second: Tensor, *, free: float = 0.0) -> Tensor:
    """How alike the noises of one text with two random vectors are: mean of ``max(0, cosine - free)``.

    The contrastive loss rewards no difference between them, so that all noises of a text end up the same and whoever
    knows text and generator can subtract them.

    Args:
        first, second: noise ``[B, 3, S, S]``; row i of both has the same text.
        free: cosine that costs nothing.
    """
    return (F.cosine_similarity(first.flatten(1), second.flatten(1)) - free).clamp(min=0.0).mean()
