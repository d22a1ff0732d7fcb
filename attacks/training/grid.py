"""Runs the planned conditions: which cells there are, in which order, and what is dropped when time is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import OutputError
from ...surrogates import Recipe
from ..adversaries import Adversary
from ..data import Step, VerificationData
from ..data.arms import noise_arm
from ..schema import Arm, Plan, PlannedCondition
from .cells import Cell, CellResult, CellTask, run_cell
from .executor import Executor

NO_TEMPORARY = (
    "The temporary folder {folder} cannot be used: {why}. "
    "Free some space, or name another one in the environment variable TMPDIR."
)

__all__ = ["NO_TEMPORARY", "ArrayStore", "GridResult", "cells_of", "run_grid"]

# Rough cost of a step relative to small-cnn, for the progress bar until times were measured.
_FIRST_GUESS = {"small-cnn": 1.0, "convmixer": 1.0, "mobilenetv2": 9.0, "resnet18": 45.0, "resnet50": 90.0}


@dataclass
class GridResult:
    """Results by cell, and the conditions that were dropped with the reason."""

    cells: dict[Cell, CellResult] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


class ArrayStore:
    """The pictures of every arm under every adversary, transformed once and kept as ``.npy`` files.

    Args:
        folder: an empty temporary folder.
        data: the pictures.
        adversaries: by name.
        noise_seed: of the noise arm.
    """

    def __init__(
        self, folder: Path, data: VerificationData, adversaries: Mapping[str, Adversary], *, noise_seed: int
    ) -> None:
        self._folder, self._data, self._adversaries, self._noise_seed = folder, data, adversaries, noise_seed
        self._paths: dict[tuple[str, str], Path] = {}
        self.train_labels = self._save("train-labels", data.labels)
        self.test_labels = self._save("test-labels", data.test_labels)

    def images(self, arm: Arm | str, adversary: str) -> Path:
        """File with the pictures of an arm (or ``test``) as this adversary sees them."""
        key = (arm, adversary)
        if key not in self._paths:
            transformed = self._adversaries[adversary].transform(self._raw(arm))
            self._paths[key] = self._save(f"images-{len(self._paths)}", transformed)
        return self._paths[key]

    def _raw(self, arm: str) -> NDArray[np.uint8]:
        if arm == "noise":
            data = self._data
            return noise_arm(data.clean, data.keys, data.noise_levels, seed=self._noise_seed)
        return {"clean": self._data.clean, "protected": self._data.protected, "test": self._data.test_images}[arm]

    def _save(self, name: str, array: NDArray[np.generic]) -> Path:
        path = self._folder / f"{name}.npy"
        try:
            np.save(path, array, allow_pickle=False)
        except OSError as error:
            raise OutputError(NO_TEMPORARY.format(folder=self._folder.parent, why=error.strerror or error)) from error
        return path


def cells_of(condition: PlannedCondition, victim_seeds: Sequence[int]) -> list[Cell]:
    """The trainings a condition reads, arm by arm. Free adversaries share those of another condition."""
    return [
        Cell(arm, condition.runs_as, condition.victim, index, seed)
        for arm in condition.arms
        for index, seed in enumerate(victim_seeds)
    ]


class _Clock:
    """Costs in units of one small-cnn step, corrected by measured times as they come in."""

    def __init__(self, recipes: Mapping[str, Recipe], workers: int) -> None:
        self._recipes, self._workers = recipes, workers
        self._measured: dict[str, list[float]] = {}

    def note(self, result: CellResult) -> None:
        self._measured.setdefault(result.cell.victim, []).append(result.seconds)

    def units(self, victim: str) -> float:
        return _FIRST_GUESS.get(victim, 10.0) * self._recipes[victim].steps

    def seconds(self, cells: Sequence[Cell]) -> float:
        """Expected wall time of these cells, from measured times where there are any."""
        if not self._measured:
            return 0.0
        known = {name: sum(times) / len(times) for name, times in self._measured.items()}
        rate = sum(known.values()) / sum(self.units(name) for name in known)
        total = sum(known.get(cell.victim, self.units(cell.victim) * rate) for cell in cells)
        return total / self._workers

    def work(self, cells: Sequence[Cell]) -> float:
        """The same in seconds of all workers together."""
        return self.seconds(cells) * self._workers


def run_grid(
    plan: Plan,
    store: ArrayStore,
    recipes: Mapping[str, Recipe],
    executor: Executor,
    *,
    classes: int,
    device: str,
    step: Step,
    clock: Callable[[], float] = time.monotonic,
) -> GridResult:
    """Train every cell of the plan.

    With ``plan.max_minutes`` conditions run one after the other, and before each one the time it needs is estimated
    from what was measured so far; from the first that does not fit on, conditions that need trainings of their own are
    dropped whole. Trainings are never shortened. The first condition always runs: without it there is no result.
    """
    result = GridResult()
    progress = _Progress(plan, recipes, executor.workers, step)
    begun = clock()
    together = [list(plan.conditions)]
    batches = together if plan.max_minutes is None else [[condition] for condition in plan.conditions]
    full = False
    for number, batch in enumerate(batches):
        cells = _new_cells(batch, plan, result)
        if plan.max_minutes is not None and number > 0 and cells:
            needed = progress.clock.seconds(cells)
            full = full or clock() - begun + needed > 60 * plan.max_minutes
            if full:
                reason = f"did not fit into {plan.max_minutes:g} minutes"
                result.dropped.update({condition.id: reason for condition in batch})
                progress.drop(cells)
                continue
        tasks = [_task(cell, store, recipes, plan, classes, device) for cell in cells]
        for _, done in executor.run(run_cell, tasks):
            result.cells[done.cell] = done
            progress.add(done)
    return result


def _new_cells(batch: Sequence[PlannedCondition], plan: Plan, result: GridResult) -> list[Cell]:
    cells = [cell for condition in batch for cell in cells_of(condition, plan.victim_seeds)]
    return [cell for cell in dict.fromkeys(cells) if cell not in result.cells]


def _task(
    cell: Cell, store: ArrayStore, recipes: Mapping[str, Recipe], plan: Plan, classes: int, device: str
) -> CellTask:
    return CellTask(
        cell=cell,
        recipe=recipes[cell.victim],
        classes=classes,
        device=device,
        evals=plan.evals,
        train_images=store.images(cell.arm, cell.adversary),
        train_labels=store.train_labels,
        test_images=store.images("test", cell.adversary),
        test_labels=store.test_labels,
    )


class _Progress:
    """Tells the caller how much of the work is done, weighted by what each training costs."""

    def __init__(self, plan: Plan, recipes: Mapping[str, Recipe], workers: int, step: Step) -> None:
        self.clock = _Clock(recipes, workers)
        self._step = step
        self._left = dict.fromkeys(cell for c in plan.conditions for cell in cells_of(c, plan.victim_seeds))
        self._done = self._shown = 0.0
        self._count, self._total = 0, len(self._left)
        step("verify", 0.0, 1.0, f"{self._total} trainings")

    def add(self, result: CellResult) -> None:
        self.clock.note(result)
        self._left.pop(result.cell, None)
        self._done += result.seconds
        self._count += 1
        cell = result.cell
        self._tell(f"{self._count}/{self._total} {cell.victim}, {cell.adversary}, {cell.arm}")

    def drop(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            if self._left.pop(cell, 1) is None:
                self._total -= 1

    def _tell(self, message: str) -> None:
        remaining = self.clock.work(list(self._left))
        whole = self._done + remaining
        # Estimates get better on the way; a bar that runs backwards would only confuse.
        self._shown = max(self._shown, self._done / whole if whole else 1.0)
        self._step("verify", self._shown, 1.0, message)
