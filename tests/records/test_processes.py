"""What launchers leave in the environment."""

from __future__ import annotations

import pytest

from bitterant.records.processes import Launch

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4", "RANK": "5", "LOCAL_RANK": "1",
}  # fmt: skip
SRUN = {
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2",
    "SLURM_NTASKS": "4", "SLURM_NNODES": "2",
}  # fmt: skip


def test_torchrun_says_which_process_this_is() -> None:
    assert Launch.of(TORCHRUN) == Launch("torchrun", rank=5, size=8, local_rank=1, nodes=2)


def test_srun_says_so_too() -> None:
    assert Launch.of(SRUN) == Launch("srun", rank=3, size=4, local_rank=1, nodes=2)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {**TORCHRUN, "WORLD_SIZE": "1", "RANK": "0"},
        {**SRUN, "SLURM_STEP_NUM_TASKS": "1"},
        # A batch script that asked for four tasks and starts this one without srun.
        {"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_NNODES": "2"},
        {"RANK": "0", "WORLD_SIZE": "2"},  # somebody else's names
    ],
)
def test_a_process_on_its_own_is_no_launch(environment: dict[str, str]) -> None:
    assert Launch.of(environment) is None
