"""Runs the planned conditions: which cells there are, in which order, and what is dropped when time is short."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...records.text import counted
from ...surrogates import Recipe, step_cost
from ..adversaries import Adversary
from ..data import Step
from ..own_victims import find_victim
from ..schema import Plan, PlannedCondition
from .cache import CellCache, CellKeys, Identity
from .cells import Cell, CellResult, CellTask, run_cell
from .executor import Executor
from .store import ArrayStore

logger = logging.getLogger(__name__)

_PROBE = 20.0
"""Cost of a probe, in steps of small-cnn; no training is taken for cheaper."""


@dataclass
class GridResult:
    """What came of a plan.

    Attributes:
        cells: results by cell.
        dropped: why some conditions were not run, by their id.
        reused: cells whose results an earlier run had kept.
    """

    cells: dict[Cell, CellResult] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    reused: set[Cell] = field(default_factory=set)


def cells_of(condition: PlannedCondition, victim_seeds: Sequence[int]) -> list[Cell]:
    """The trainings a condition reads, arm by arm. Some are shared with another condition.

    The control with shuffled labels is one training: it is there to find a leak, not to measure one.
    """
    return [
        Cell(arm, adversary, condition.victim, index, seed)
        for arm, adversary in condition.reads.items()
        for index, seed in enumerate(victim_seeds[:1] if arm == "shuffled" else victim_seeds)
    ]


class _Clock:
    """Costs in units of one small-cnn step, corrected by measured times as they come in."""

    def __init__(self, recipes: Mapping[str, Recipe], adversaries: Mapping[str, Adversary], workers: int) -> None:
        self._recipes, self._adversaries, self.workers = recipes, adversaries, workers
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
        return max(_PROBE, cost * step_cost(victim) * self._recipes[victim].steps)

    def seconds(self, cells: Sequence[Cell]) -> float:
        """Expected wall time of these cells, from measured times where there are any."""
        if not self._measured:
            return 0.0
        known = {kind: sum(times) / len(times) for kind, times in self._measured.items()}
        rate = sum(known.values()) / sum(self._units(kind) for kind in known)
        kinds = [self._kind(cell) for cell in cells]
        return sum(known.get(kind, self._units(kind) * rate) for kind in kinds) / self.workers

    def work(self, cells: Sequence[Cell]) -> float:
        """The same in seconds of all workers together."""
        return self.seconds(cells) * self.workers


def run_grid(
    plan: Plan,
    store: ArrayStore,
    recipes: Mapping[str, Recipe],
    adversaries: Mapping[str, Adversary],
    executor: Executor,
    *,
    device: str,
    program: Mapping[str, Any] | None = None,
    cache: CellCache | None = None,
    skipped: Mapping[str, str] | None = None,
    step: Step,
    minutes: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> GridResult:
    """Train every cell of the plan, but for those of conditions that are ``skipped``, with the reason.

    With a ``cache`` each result is kept as soon as it is there, and what was kept earlier is not trained again.
    ``program`` says what trains where that is not this process; see :class:`CellKeys`.

    With ``plan.max_minutes`` conditions run one after the other, and before each one the time it needs is estimated
    from what was measured so far; from the first that does not fit on, conditions that need trainings of their own are
    dropped whole. Trainings are never shortened. The first condition always runs: without it there is no result.

    Args:
        minutes: what is left here of ``plan.max_minutes``, which is a whole verification's; all of it if left out.
    """
    minutes = plan.max_minutes if minutes is None else minutes
    result = GridResult(dropped=dict(skipped or {}))
    conditions = [condition for condition in plan.conditions if condition.id not in result.dropped]
    preparation = _CellPreparation(plan, store, recipes, adversaries, device, program, cache)
    begun = clock()
    until = math.inf if plan.max_minutes is None or minutes is None else begun + 60 * minutes
    batches = [conditions] if until == math.inf else [[condition] for condition in conditions]
    planned = [[cell for c in batch for cell in cells_of(c, plan.victim_seeds)] for batch in batches]
    timer = _Clock(recipes, adversaries, executor.workers)
    progress = _Progress(planned, timer, step, now=clock, until=until)
    full, left = False, 0.0
    for number, batch in enumerate(batches):
        cells = _new_cells(batch, plan, result)
        # Only before the first training: later it would take turns with the bar of the trainings.
        staged = _Staging(len(cells), step if number == 0 else None)
        # When the time is over nothing is looked up any more: staging the pictures for that takes time too.
        cached = {} if full else preparation.look_up(cells, staged)
        missing = [cell for cell in cells if cell not in cached]
        progress.learn(cached.values())
        if until < math.inf and number > 0 and missing:
            needed = timer.seconds(missing)
            full = full or clock() + needed > until
            if full:
                reason = f"did not fit into {plan.max_minutes:g} minutes"
                result.dropped.update({condition.id: reason for condition in batch})
                left += needed
                progress.drop(cells)
                continue
        tasks = preparation.tasks(missing, staged)
        result.cells.update(cached)
        result.reused.update(cached)
        progress.reuse(list(cached))
        progress.begin(missing)
        for _, done in executor.run(run_cell, tasks):
            result.cells[done.cell] = done
            preparation.keep(done)
            progress.add(done)
    if full:
        progress.end()
        untested = sum(condition.id in result.dropped for condition in conditions)
        logger.warning(
            "%s did not fit into %g minutes and %s not tested: %s would have taken about %s more.",
            counted(untested, "condition"),
            plan.max_minutes,
            "is" if untested == 1 else "are",
            "it" if untested == 1 else "they",
            counted(max(1, round(left / 60)), "minute"),
        )
    return result


def _new_cells(batch: Sequence[PlannedCondition], plan: Plan, result: GridResult) -> list[Cell]:
    cells = [cell for condition in batch for cell in cells_of(condition, plan.victim_seeds)]
    return [cell for cell in dict.fromkeys(cells) if cell not in result.cells]


class _Staging:
    """Tells how many cells are ready: a stage of its own, so that its time is not taken for that of trainings."""

    def __init__(self, total: int, step: Step | None) -> None:
        self._total, self._step = total, step
        self.done = 0

    def next(self, what: str) -> None:
        if self._step is not None:
            self._step("prepare", self.done, self._total, what)


class _CellPreparation:
    """Where cells are made ready: looked up among those that are done, or laid out with all they need."""

    def __init__(
        self,
        plan: Plan,
        store: ArrayStore,
        recipes: Mapping[str, Recipe],
        adversaries: Mapping[str, Adversary],
        device: str,
        program: Mapping[str, Any] | None,
        cache: CellCache | None,
    ) -> None:
        self._plan, self._store, self._recipes, self._adversaries = plan, store, recipes, adversaries
        self._device, self._cache = device, cache
        self._keys = CellKeys(store, recipes, adversaries, evals=plan.evals, device=device, program=program)
        self._identities: dict[Cell, Identity] = {}
        # Only networks that somebody goes on from are kept.
        self._wanted = {
            (condition.victim, arm)
            for condition in plan.conditions
            for arm in condition.reads
            if adversaries[condition.adversary].continues and arm != "untrained"
        }

    def look_up(self, cells: Sequence[Cell], staged: _Staging) -> dict[Cell, CellResult]:
        """Those of the cells that were kept."""
        found: dict[Cell, CellResult] = {}
        if self._cache is None:
            return found
        for cell in cells:
            staged.next(cell.adversary)
            identity = self._keys.cell(cell)
            if identity is None:
                continue
            self._identities[cell] = identity
            cached = self._cache.read(identity, cell, len(self._store.labelling(cell.adversary).test))
            if cached is not None:
                found[cell] = cached
                staged.done += 1
        return found

    def tasks(self, cells: Sequence[Cell], staged: _Staging) -> list[CellTask]:
        """The cells with all they need."""
        made = []
        for cell in cells:
            staged.next(cell.adversary)
            made.append(self._task(cell))
            staged.done += 1
        staged.next("")
        return made

    def keep(self, result: CellResult) -> None:
        """Keep a result for other runs."""
        if self._cache is not None and result.cell in self._identities:
            self._cache.write(self._identities[result.cell], result)

    def _task(self, cell: Cell) -> CellTask:
        adversary = self._adversaries[cell.adversary]
        fit = adversary.fit
        return CellTask(
            cell=cell,
            fit=fit,
            recipe=self._recipes[cell.victim] if fit == "network" else None,
            inputs=self._store.inputs(cell.arm, cell.adversary),
            device=self._device,
            evals=self._plan.evals,
            learner=adversary.learner() if fit == "network" else None,
            checkpoint=self._checkpoint(cell),
            own=find_victim(cell.victim),
        )

    def _checkpoint(self, cell: Cell) -> Path | None:
        """The file of the network that this cell trains for others, or goes on from."""
        concerned = cell.adversary == "none" or self._adversaries[cell.adversary].continues
        if not concerned or (cell.victim, cell.arm) not in self._wanted:
            return None
        identity = self._keys.network(cell)
        if self._cache is not None:
            return self._cache.network(identity)
        return self._store.networks / f"{identity.key}.safetensors"


NEARLY = 1.25
"""A condition counts as still to come up to this multiple of the time left. Estimates vary by a tenth: one that was
thought left out and is run would leave a bar that stands at its end for minutes; the reverse ends sooner than told."""


class _Progress:
    """Tells the caller how much of the time has passed: what has, over that and what is still expected.

    Trainings that are under way count with the time they have run. Conditions that the time limit will surely leave out
    do not count: those over :data:`NEARLY` times what :func:`run_grid` lets in. What was kept takes no time.
    """

    def __init__(
        self,
        batches: Sequence[Sequence[Cell]],
        clock: _Clock,
        step: Step,
        *,
        now: Callable[[], float],
        until: float,
    ) -> None:
        self.clock = clock
        self._step, self._now, self._until = step, now, until
        # Cells left, batch by batch; what several batches share is trained in the first of them.
        first = {cell: number for number in reversed(range(len(batches))) for cell in batches[number]}
        self._left = [
            dict.fromkeys(cell for cell in batch if first[cell] == number) for number, batch in enumerate(batches)
        ]
        self._count, self._reused, self._total = 0, 0, len(first)
        self._since: float | None = None  # the preparation of the first batch is a stage of its own
        self._shown = 0.0
        self._handed_out: set[Cell] = set()
        self._began: list[float] = []  # of the trainings under way
        self._waiting = 0

    def learn(self, cached: Iterable[CellResult]) -> None:
        """What a kept training took is known before the first one here is done."""
        for result in cached:
            self.clock.note(result)

    def reuse(self, cells: Sequence[Cell]) -> None:
        self._remove(cells)
        self._count += len(cells)
        self._reused += len(cells)
        done = f", {self._reused} of them done before" if self._reused else ""
        self._tell(f"{self._count}/{self._total} trainings{done}")

    def begin(self, cells: Sequence[Cell]) -> None:
        """These are handed out, and as many begin as there are workers."""
        self._handed_out = {*cells}
        self._began = [self._now()] * min(len(cells), self.clock.workers)
        self._waiting = len(cells) - len(self._began)

    def add(self, result: CellResult) -> None:
        self.clock.note(result)
        now = self._now()
        # Workers do not say when they began which training: the one that fits best is the one that has ended.
        ended = min(range(len(self._began)), key=lambda i: abs(now - result.seconds - self._began[i]))
        del self._began[ended]
        if self._waiting:
            self._waiting -= 1
            self._began.append(now)
        cell = result.cell
        self._remove([cell])
        self._count += 1
        self._tell(f"{self._count}/{self._total} {cell.victim}, {cell.adversary}, {cell.arm}")

    def drop(self, cells: Sequence[Cell]) -> None:
        self._total -= self._remove(cells)

    def end(self) -> None:
        """Nothing more will be begun."""
        self._tell(f"{self._count}/{self._total} trainings")

    def _remove(self, cells: Sequence[Cell]) -> int:
        return sum(batch.pop(cell, 1) is None for cell in cells for batch in self._left)

    def _seconds_left(self) -> float:
        """Expected until the last training that will be begun is done."""
        now = self._now()
        end = now
        for number, batch in enumerate(self._left):
            cells = list(batch)
            if not cells:
                continue
            work = self.clock.work(cells)
            at_once = min(self.clock.workers, len(cells))
            if self._handed_out.isdisjoint(cells):
                if number > 0 and end + self.clock.seconds(cells) > now + NEARLY * (self._until - now):
                    break
                end += work / at_once
            else:
                most = 0.9 * work / len(cells)  # none is nearly done before it is
                end += (work - sum(min(now - began, most) for began in self._began)) / at_once
        return end - now

    def _tell(self, message: str) -> None:
        now = self._now()
        self._since = now if self._since is None else self._since
        passed, left = now - self._since, self._seconds_left()
        # Without a measurement nothing is known about what is left.
        share = (passed / (passed + left) if left else 0.0) if any(self._left) else 1.0
        # Estimates get better on the way; a bar that runs backwards would only confuse.
        self._shown = max(self._shown, share)
        self._step("verify", self._shown, 1.0, message)
