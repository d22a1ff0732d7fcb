"""Runs the planned conditions: which cells there are, in which order, and what is dropped when time is short."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...surrogates import Recipe
from ..adversaries import Adversary
from ..data import Step
from ..schema import Plan, PlannedCondition
from .cells import Cell, CellResult, CellTask, run_cell
from .executor import Executor
from .store import ArrayStore

__all__ = ["GridResult", "cells_of", "run_grid"]

# Rough cost of a step relative to small-cnn, for the progress bar until times were measured.
_FIRST_GUESS = {"small-cnn": 1.0, "convmixer": 1.0, "mobilenetv2": 9.0, "resnet18": 45.0, "resnet50": 90.0}
_PROBE = 20.0


@dataclass
class GridResult:
    """Results by cell, and the conditions that were dropped with the reason."""

    cells: dict[Cell, CellResult] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)


def cells_of(condition: PlannedCondition, victim_seeds: Sequence[int]) -> list[Cell]:
    """The trainings a condition reads, arm by arm. Some are shared with another condition."""
    return [
        Cell(arm, adversary, condition.victim, index, seed)
        for arm, adversary in condition.reads.items()
        for index, seed in enumerate(victim_seeds)
    ]


class _Clock:
    """Costs in units of one small-cnn step, corrected by measured times as they come in."""

    def __init__(self, recipes: Mapping[str, Recipe], adversaries: Mapping[str, Adversary], workers: int) -> None:
        self._recipes, self._adversaries, self._workers = recipes, adversaries, workers
        self._measured: dict[tuple[str, str, float], list[float]] = {}

    def note(self, result: CellResult) -> None:
        self._measured.setdefault(self._kind(result.cell), []).append(result.seconds)

    def _kind(self, cell: Cell) -> tuple[str, str, float]:
        """Cells of one kind take about the same time."""
        adversary = self._adversaries[cell.adversary]
        return cell.victim, adversary.fit, 0.0 if cell.arm == "untrained" else adversary.cost

    def _units(self, kind: tuple[str, str, float]) -> float:
        victim, fit, cost = kind
        if fit != "network":
            return _PROBE
        return max(_PROBE, cost * _FIRST_GUESS.get(victim, 10.0) * self._recipes[victim].steps)

    def seconds(self, cells: Sequence[Cell]) -> float:
        """Expected wall time of these cells, from measured times where there are any."""
        if not self._measured:
            return 0.0
        known = {kind: sum(times) / len(times) for kind, times in self._measured.items()}
        rate = sum(known.values()) / sum(self._units(kind) for kind in known)
        kinds = [self._kind(cell) for cell in cells]
        return sum(known.get(kind, self._units(kind) * rate) for kind in kinds) / self._workers

    def work(self, cells: Sequence[Cell]) -> float:
        """The same in seconds of all workers together."""
        return self.seconds(cells) * self._workers


def run_grid(
    plan: Plan,
    store: ArrayStore,
    recipes: Mapping[str, Recipe],
    adversaries: Mapping[str, Adversary],
    executor: Executor,
    *,
    device: str,
    skipped: Mapping[str, str] | None = None,
    step: Step,
    clock: Callable[[], float] = time.monotonic,
) -> GridResult:
    """Train every cell of the plan, but for those of conditions that are ``skipped``, with the reason.

    With ``plan.max_minutes`` conditions run one after the other, and before each one the time it needs is estimated
    from what was measured so far; from the first that does not fit on, conditions that need trainings of their own are
    dropped whole. Trainings are never shortened. The first condition always runs: without it there is no result.
    """
    result = GridResult(dropped=dict(skipped or {}))
    conditions = [condition for condition in plan.conditions if condition.id not in result.dropped]
    progress = _Progress(plan, conditions, _Clock(recipes, adversaries, executor.workers), step)
    begun = clock()
    batches = [conditions] if plan.max_minutes is None else [[condition] for condition in conditions]
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
        tasks = [_task(cell, store, recipes, adversaries, plan, device) for cell in cells]
        for _, done in executor.run(run_cell, tasks):
            result.cells[done.cell] = done
            progress.add(done)
    return result


def _new_cells(batch: Sequence[PlannedCondition], plan: Plan, result: GridResult) -> list[Cell]:
    cells = [cell for condition in batch for cell in cells_of(condition, plan.victim_seeds)]
    return [cell for cell in dict.fromkeys(cells) if cell not in result.cells]


def _task(
    cell: Cell,
    store: ArrayStore,
    recipes: Mapping[str, Recipe],
    adversaries: Mapping[str, Adversary],
    plan: Plan,
    device: str,
) -> CellTask:
    adversary = adversaries[cell.adversary]
    fit = adversary.fit
    # Only what somebody goes on from is kept, and only by those who have to do with it.
    wanted = any(other.continues for other in adversaries.values())
    keeps = wanted and (cell.adversary == "none" or adversary.continues)
    return CellTask(
        cell=cell,
        fit=fit,
        recipe=recipes[cell.victim] if fit == "network" else None,
        inputs=store.inputs(cell.arm, cell.adversary),
        device=device,
        evals=plan.evals,
        learner=adversary.learner() if fit == "network" else None,
        keep=store.networks if keeps else None,
    )


class _Progress:
    """Tells the caller how much of the work is done, weighted by what each training costs."""

    def __init__(self, plan: Plan, conditions: Sequence[PlannedCondition], clock: _Clock, step: Step) -> None:
        self.clock = clock
        self._step = step
        self._left = dict.fromkeys(cell for c in conditions for cell in cells_of(c, plan.victim_seeds))
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
