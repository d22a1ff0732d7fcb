"""One thread where a sum could otherwise depend on the number of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

__all__ = ["one_thread"]


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """One thread on a CPU: sums then run in one order, so the result is the same however many workers there are."""
    if not device.startswith("cpu"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
