"""Tasks so small that a test trains several."""

from __future__ import annotations

from pathlib import Path

from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.data.sets import VerificationData
from bitterant.attacks.training.cells import Cell, CellTask
from bitterant.attacks.training.executor import SerialExecutor
from bitterant.attacks.training.store import ArrayStore
from bitterant.surrogates import Recipe

TINY = Recipe(steps=4, batch_size=8)
ADVERSARIES = {made.name: made for made in create_adversaries(["early-stop", "jpeg", "grayscale"])}


def store_in(folder: Path, data: VerificationData) -> ArrayStore:
    return ArrayStore(folder, data, ADVERSARIES, seed=0, executor=SerialExecutor())


def task(store: ArrayStore, cell: Cell) -> CellTask:
    return CellTask(
        cell=cell,
        fit="network",
        recipe=TINY,
        inputs=store.inputs(cell.arm, cell.adversary),
        device="cpu",
        evals=2,
    )
