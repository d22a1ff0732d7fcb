"""The global generators of torch, lent to libraries that take no generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ...surrogates import own_randomness

__all__ = ["seeded"]


@contextmanager
def seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed the global generators from ``generator`` for a while, and put them back.

    kornia and torchvision's transforms draw from them. Nothing else would make the same seed give the same pictures in
    every process.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with own_randomness(seed, device):
        yield
