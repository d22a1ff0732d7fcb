"""Sums of rows by class, in one order on every device."""

from __future__ import annotations

from torch import Tensor

__all__ = ["add_rows"]


def add_rows(total: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Add ``rows [B, ...]`` to ``total [K, ...]`` at ``index`` int64 ``[B]``, in place, in the order they come in.

    ``index_add_`` on a GPU adds in whatever order its threads arrive, and float sums depend on the order; putting with
    accumulation sorts first there. On a CPU it is the other way round.
    """
    if total.device.type == "cpu":
        return total.index_add_(0, index, rows)
    return total.index_put_((index,), rows, accumulate=True)
