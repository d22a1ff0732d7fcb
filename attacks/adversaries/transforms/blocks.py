"""Tensor operations over all pictures, a block at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ..base import Pixels

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["in_blocks"]

BLOCK = 256


def in_blocks(images: Pixels, change: Callable[[Tensor, int], Tensor], *, size: int = BLOCK) -> Pixels:
    """Apply an operation on tensors to uint8 pictures; memory stays small, and results do not depend on the machine.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        change: ``(float32 [B, 3, R, R] in [0, 1], position of the first) -> the same shape``; what leaves [0, 1] is
            clipped.
        size: pictures a block.

    Returns:
        uint8 ``[N, 3, R, R]``, rounded to the nearest level.
    """
    import torch

    from ...training.threads import one_thread

    result = np.empty(images.shape, dtype=np.uint8)
    with one_thread("cpu"), torch.no_grad():
        for start in range(0, len(images), size):
            batch = torch.from_numpy(np.array(images[start : start + size])).float().div_(255.0)
            changed = change(batch, start).clamp(0, 1).mul(255.0).round()
            result[start : start + size] = changed.to(torch.uint8).numpy()
    return result
