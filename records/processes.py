"""This process: what a launcher started it for, read from what it leaves in the environment; how many processors there
are; and a C allocator that does not give activation buffers back to the kernel after every step. Without torch.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Launch:
    """This process among those that were started together.

    Attributes:
        by: what started them.
        rank: number of this one, from 0.
        size: how many there are; at least two.
        local_rank: number of this one among those of its machine.
        nodes: number of machines.
    """

    by: Literal["torchrun", "srun"]
    rank: int
    size: int
    local_rank: int
    nodes: int

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None) -> Launch | None:
        """What ``torchrun`` or ``srun`` says, or ``None`` where this process is on its own.

        A batch script of SLURM is one process, whatever it asked for: only a step of several tasks counts.

        Args:
            environment: variables; those of this process where left out.
        """
        env = os.environ if environment is None else environment

        def number(name: str, otherwise: int) -> int:
            text = env.get(name, "")
            return int(text) if text.isdecimal() else otherwise

        if "TORCHELASTIC_RUN_ID" in env and (size := number("WORLD_SIZE", 1)) > 1:
            on_this_machine = max(1, number("LOCAL_WORLD_SIZE", size))
            return cls("torchrun", number("RANK", 0), size, number("LOCAL_RANK", 0), max(1, size // on_this_machine))
        if "SLURM_PROCID" in env and (size := number("SLURM_STEP_NUM_TASKS", 1)) > 1:
            nodes = number("SLURM_STEP_NUM_NODES", number("SLURM_NNODES", 1))
            return cls("srun", number("SLURM_PROCID", 0), size, number("SLURM_LOCALID", 0), max(1, nodes))
        return None


def available_cpus() -> int:
    """CPUs this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# Parameter numbers of mallopt(3), from glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3

_LARGEST_INT = 2**31 - 1
_TOP_PAD_BYTES = 256 * 1024 * 1024
_OLD_MMAP_LIMIT = 32 * 1024 * 1024  # the most that older releases take for the first threshold

# Whole pictures go back at once. Blocks of rows, of some MiB, stay and are used again: to fault the pages of each in
# anew takes as long as the work on them.
_GIVING_BACK = {_M_MMAP_THRESHOLD: 16 * 1024 * 1024, _M_TRIM_THRESHOLD: 64 * 1024 * 1024, _M_TOP_PAD: 128 * 1024}

_VARIABLES = {
    "MALLOC_MMAP_THRESHOLD_": _LARGEST_INT,
    "MALLOC_TRIM_THRESHOLD_": _LARGEST_INT,
    "MALLOC_TOP_PAD_": _TOP_PAD_BYTES,
}


_tuned = False


def tune_allocator() -> bool:
    """Ask glibc to reuse big buffers instead of mapping them anew; the command line calls this before loading torch.

    By default glibc serves every request above a few MiB with a fresh memory map and unmaps it on release. A
    training step on a CPU allocates dozens of such activation buffers, and each page of them is then faulted in
    again, step after step. With the thresholds raised, freed buffers stay in the heap and the next step finds them
    warm. The price is that the process keeps its peak memory until it ends.

    It is the same as the environment variables ``MALLOC_MMAP_THRESHOLD_``, ``MALLOC_TRIM_THRESHOLD_`` and
    ``MALLOC_TOP_PAD_``, which only count when set before the process starts. Programs that use bitterant as a library
    may call it themselves; importing bitterant never changes the allocator.

    The variables are also set in this process's environment, so that worker processes started later do the same.

    Returns:
        True where all three settings were taken; False on another C library or system, where nothing was changed.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt.restype = ctypes.c_int
    for name, value in _VARIABLES.items():
        os.environ.setdefault(name, str(value))
    global _tuned
    _tuned = True
    mmap = any(mallopt(_M_MMAP_THRESHOLD, value) == 1 for value in (_LARGEST_INT, _OLD_MMAP_LIMIT))
    trim = mallopt(_M_TRIM_THRESHOLD, _LARGEST_INT) == 1
    pad = mallopt(_M_TOP_PAD, _TOP_PAD_BYTES) == 1
    return mmap and trim and pad


@contextmanager
def giving_back() -> Iterator[None]:
    """Give large freed buffers back at once while the block lasts, if :func:`tune_allocator` had them kept.

    For work on whole photographs: each takes other, and many, buffers of hundreds of MiB, so that what is kept adds up
    to several times what is in use. Buffers of up to 16 MiB stay, some 64 MiB of them.
    """
    if not _tuned:
        yield
        return
    library = ctypes.CDLL(None)
    for number, value in _GIVING_BACK.items():
        library.mallopt(number, value)
    library.malloc_trim(0)
    try:
        yield
    finally:
        library.malloc_trim(0)
        tune_allocator()
