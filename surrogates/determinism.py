"""What makes a result repeat: generators lent and given back, sums in one order, one thread where it matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def own_randomness(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators of the CPU and of this device for a while, and put them back.

    Initial weights, dropout and drop path draw from them and take no generator. No other device is touched:
    ``torch.manual_seed`` would seed the generators of every GPU, and the caller's draws there would begin anew.

    Args:
        seed: in [0, 2**63).
        device: where the work inside draws, besides the CPU.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif before is not None:
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


def uniform(shape: Sequence[int], generator: torch.Generator, device: torch.device) -> Tensor:
    """Numbers in [0, 1) on ``device``, of a generator that may live on the CPU.

    On a GPU the CPU draws a seed and the device the numbers: a number for each value of a batch takes a CPU longer
    than the step takes the GPU, and the copy would make the device wait.
    """
    if generator.device.type == "cpu" and device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = torch.Generator(device).manual_seed(seed)
    return torch.rand(*shape, generator=generator, device=generator.device).to(device)


def add_rows(total: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Add ``rows [B, ...]`` to ``total [K, ...]`` at ``index`` int64 ``[B]``, in place, in the order they come in.

    ``index_add_`` on a GPU adds in whatever order its threads arrive, and float sums depend on the order; putting with
    accumulation sorts first there. On a CPU it is the other way round.
    """
    if total.device.type == "cpu":
        return total.index_add_(0, index, rows)
    return total.index_put_((index,), rows, accumulate=True)


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


@contextmanager
def seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed the global generators from ``generator`` for a while, and put them back.

    kornia and torchvision's transforms draw from them. Nothing else would make the same seed give the same pictures in
    every process.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with own_randomness(seed, device):
        yield
