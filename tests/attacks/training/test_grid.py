"""The grid: shared cells are trained once, and what does not fit in is dropped whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.attacks.evaluation import RULE
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.schema import Plan
from bitterant.attacks.training.cells import Cell, CellResult, CellTask
from bitterant.attacks.training.grid import GridResult, cells_of, run_grid
from bitterant.imaging import ImageSet
from bitterant.surrogates import step_cost

from .conftest import ADVERSARIES, TINY, store_in


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet) -> VerificationData:
    few = list(range(24))
    return load_sets(train_set.select(few), train_set.select(few), test_set.select(few))


def plan_of(data: VerificationData, *, max_minutes: float | None = None) -> Plan:
    request = resolve_request(
        VerifyConfig(
            preset="quick",
            victims=("small-cnn", "convmixer"),
            adversaries=("early-stop", "jpeg", "grayscale"),
            seeds=2,
            seed=0,
            require_tier=None,
            require_grade=None,
            max_minutes=max_minutes,
            recipe=TINY,
        )
    )
    return Plan(
        rule=RULE,
        preset="quick",
        seed=0,
        victim_seeds=(11, 12),
        conditions=plan_conditions(request),
        recipes={},
        resolution=16,
        train_images=len(data.labels),
        test_images=len(data.test_labels),
        noise_levels=0,
        alpha=0.05,
        draws=200,
        evals=2,
        max_minutes=max_minutes,
        required_tier=None,
        required_grade=None,
        data_sha256="0",
    )


def test_each_picture_is_transformed_once_and_tests_too(tmp_path: Path, data: VerificationData) -> None:
    store = store_in(tmp_path, data)
    inputs = store.inputs("clean", "grayscale")
    assert inputs == store.inputs("clean", "grayscale")
    for path in (inputs.train_images, inputs.test_images):
        gray = np.load(path)
        assert (gray[:, 0] == gray[:, 2]).all()
    plain = store.inputs("clean", "none")
    assert (np.load(plain.train_images) == data.clean).all()
    assert (np.load(plain.train_labels) == data.labels).all()
    assert plain.train_labels == inputs.train_labels, "one file for all that is the same"


def fake_result(cell: Cell) -> CellResult:
    zeros = np.zeros(4, dtype=np.int64)
    return CellResult(cell, 4, 1.0, 0.1, True, zeros, zeros, 1, (), 60.0)


class FakeExecutor:
    """Stands in for training: every cell takes a minute of the fake clock."""

    workers = 1

    def __init__(self) -> None:
        self.now = 0.0
        self.batches: list[list[Cell]] = []
        self.steps: set[int | None] = set()

    def run(self, function: object, tasks: list[CellTask]) -> Iterator[tuple[int, CellResult]]:
        self.batches.append([task.cell for task in tasks])
        self.steps |= {task.recipe and task.recipe.steps for task in tasks}
        for position, item in enumerate(tasks):
            self.now += 60.0
            yield position, fake_result(item.cell)

    def close(self) -> None:
        pass


def run_fake(
    folder: Path, data: VerificationData, max_minutes: float | None, *, minutes: float | None = None
) -> tuple[GridResult, FakeExecutor, list]:
    plan, executor, told = plan_of(data, max_minutes=max_minutes), FakeExecutor(), []
    recipes = {"small-cnn": TINY, "convmixer": TINY}
    result = run_grid(
        plan,
        store_in(folder, data),
        recipes,
        ADVERSARIES,
        executor,  # type: ignore[arg-type]
        device="cpu",
        step=lambda *args: told.append(args),
        minutes=minutes,
        clock=lambda: executor.now,
    )
    return result, executor, told


def test_cells_that_several_adversaries_share_are_trained_once(tmp_path: Path, data: VerificationData) -> None:
    result, executor, told = run_fake(tmp_path, data, None)
    # small-cnn: 3 arms plain, 2 arms each for jpeg and grayscale; convmixer: 3 arms plain; 2 seeds; one control.
    assert len(executor.batches) == 1
    assert len(executor.batches[0]) == len(result.cells) == 2 * (3 + 2 + 2 + 3) + 1
    plan = plan_of(data)
    early = next(c for c in plan.conditions if c.id == "convmixer/early-stop")
    assert all(cell in result.cells for cell in cells_of(early, plan.victim_seeds))
    shares = [share for stage, share, _, _ in told if stage == "verify"]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(1.0))
    staged = [done for stage, done, total, _ in told if stage == "prepare" and total == 21]
    assert staged == list(range(22))
    assert [stage for stage, *_ in told] == 22 * ["prepare"] + 22 * ["verify"]


class ManyWorkers(FakeExecutor):
    """Hands cells out in order, to whichever worker is free first. A cell takes what the table of victims says, and a
    process ten seconds more to start."""

    def __init__(self, workers: int) -> None:
        super().__init__()
        self.workers = workers
        self.free = [10.0] * workers

    def run(self, function: object, tasks: list[CellTask]) -> Iterator[tuple[int, CellResult]]:
        ends = []
        for position, item in enumerate(tasks):
            seconds = 60.0 * step_cost(item.cell.victim)
            worker = self.free.index(min(self.free))
            self.free[worker] = max(self.now, self.free[worker]) + seconds
            ends.append((self.free[worker], position, replace(fake_result(item.cell), seconds=seconds)))
        for end, position, result in sorted(ends, key=lambda found: found[:2]):
            self.now = end
            yield position, result


def shares_told(
    folder: Path, data: VerificationData, executor: FakeExecutor, max_minutes: float | None
) -> tuple[GridResult, list[tuple[float, float]]]:
    """The result, and what the bar told: the time by the executor's clock, and the share done."""
    told: list[tuple[float, float]] = []
    result = run_grid(
        plan_of(data, max_minutes=max_minutes),
        store_in(folder, data),
        {"small-cnn": TINY, "convmixer": TINY},
        ADVERSARIES,
        executor,  # type: ignore[arg-type]
        device="cpu",
        step=lambda stage, share, total, message: told.append((executor.now, share)) if stage == "verify" else None,
        clock=lambda: executor.now,
    )
    return result, told


@pytest.mark.parametrize("minutes", [None, 0.5, 6, 11.5, 15.5, 60])
@pytest.mark.parametrize("workers", [1, 2, 3, 16])
def test_time_left_is_right_from_the_first_training_on(
    tmp_path: Path, data: VerificationData, workers: int, minutes: float | None
) -> None:
    """Also with more workers than trainings in a condition, and where not all of it fits into the time."""
    executor = ManyWorkers(workers)
    result, told = shares_told(tmp_path, data, executor, minutes)
    assert told[0] == (0.0, 0.0)
    assert told[-1] == (executor.now, 1.0)
    for now, share in told[1:]:
        assert share < 1.0 or now == executor.now
        assert executor.now / 1.6 <= now / share <= 1.6 * executor.now, (now, share, result.dropped)


class Hastening(FakeExecutor):
    """The first three trainings take 70 seconds, the others 55."""

    def run(self, function: object, tasks: list[CellTask]) -> Iterator[tuple[int, CellResult]]:
        self.batches.append([])
        for position, item in enumerate(tasks):
            seconds = 70.0 if sum(map(len, self.batches)) < 3 else 55.0
            self.batches[-1].append(item.cell)
            self.now += seconds
            yield position, replace(fake_result(item.cell), seconds=seconds)


def test_the_bar_does_not_stand_at_its_end_while_a_condition_runs_that_was_thought_left_out(
    tmp_path: Path, data: VerificationData
) -> None:
    executor = Hastening()
    # 7 and 4 trainings: 770 seconds by the first, 650 in the end
    result, told = shares_told(tmp_path, data, executor, 11.4)
    assert [len(batch) for batch in executor.batches if batch] == [7, 4]
    assert "small-cnn/grayscale" in result.dropped
    end = executor.now
    for now, share in told[1:-1]:
        assert (end - now) / 2 <= now / share - now <= 2 * (end - now) or end == now, (now, share)


@pytest.mark.parametrize(
    ("minutes", "kept"),
    [
        (0.5, ["small-cnn/none", "small-cnn/early-stop"]),  # the first always runs, and what it gives for free
        (11.5, ["small-cnn/none", "small-cnn/early-stop", "small-cnn/jpeg:10"]),
        (15.5, ["small-cnn/none", "small-cnn/early-stop", "small-cnn/jpeg:10", "small-cnn/grayscale"]),
        (99, None),
    ],
)
def test_whole_conditions_are_dropped_from_the_end(
    tmp_path: Path, data: VerificationData, caplog: pytest.LogCaptureFixture, minutes: float, kept: list[str] | None
) -> None:
    result, _, told = run_fake(tmp_path, data, minutes)
    ids = [condition.id for condition in plan_of(data).conditions]
    assert [name for name in ids if name not in result.dropped] == (kept or ids)
    assert all("minutes" in reason for reason in result.dropped.values())
    assert told[-1][1] <= 1.0
    left = [record.getMessage() for record in caplog.records if "would have taken" in record.getMessage()]
    assert len(left) == bool(result.dropped)
    for text in left:
        assert re.match(rf"{len(result.dropped)} conditions? did not fit into {minutes:g} minutes", text)
        assert re.search(r"about [1-9]\d* minutes? more", text)


def test_what_is_left_of_the_minutes_counts(tmp_path: Path, data: VerificationData) -> None:
    left, _, _ = run_fake(tmp_path, data, 99, minutes=11.5)
    whole, _, _ = run_fake(tmp_path, data, 11.5)
    assert left.cells.keys() == whole.cells.keys()
    assert set(left.dropped.values()) == {"did not fit into 99 minutes"}


def test_trainings_are_never_shortened(tmp_path: Path, data: VerificationData) -> None:
    _, executor, _ = run_fake(tmp_path, data, 11.5)
    assert executor.steps == {TINY.steps}
