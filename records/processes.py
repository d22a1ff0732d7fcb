"""Which processes a launcher started for one job, read from what it leaves in the environment, and how many processors
there are. Without torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
