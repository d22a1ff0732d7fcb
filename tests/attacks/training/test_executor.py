"""The grid: the same results from any number of processes, and what happens when time is short."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.attacks.evaluation import RULE
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.schema import Plan
from bitterant.attacks.training.cells import Cell, CellResult, CellTask, run_cell
from bitterant.attacks.training.executor import ProcessExecutor, SerialExecutor, executor_for
from bitterant.attacks.training.grid import GridResult, cells_of, run_grid
from bitterant.attacks.training.store import ArrayStore
from bitterant.attacks.training.victims import epochs_of, fit_recipe, published_recipe, training_steps
from bitterant.errors import ConfigError, SetupError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

TINY = Recipe(steps=4, batch_size=8)
ADVERSARIES = {made.name: made for made in create_adversaries(["early-stop", "jpeg", "grayscale"])}


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet) -> VerificationData:
    few = list(range(24))
    return load_sets(train_set.select(few), train_set.select(few), test_set.select(few))


def plan_of(data: VerificationData, *, max_minutes: float | None = None) -> Plan:
    request = resolve_request(
        VerifyConfig(
            preset="quick",
            victims=["small-cnn", "convmixer"],
            adversaries=["early-stop", "jpeg", "grayscale"],
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


def same(a: CellResult, b: CellResult) -> bool:
    return (
        a.cell == b.cell
        and a.train_accuracy == b.train_accuracy
        and a.final_loss == b.final_loss
        and a.curve == b.curve
        and bool((a.predictions == b.predictions).all() and (a.peak_predictions == b.peak_predictions).all())
    )


def test_processes_give_what_one_process_gives(tmp_path: Path, data: VerificationData) -> None:
    store = store_in(tmp_path, data)
    cells = [Cell("clean", "jpeg:10", "small-cnn", i, 40 + i) for i in range(3)]
    tasks = [task(store, cell) for cell in cells]
    serial = dict(SerialExecutor().run(run_cell, tasks))
    pool = ProcessExecutor(2)
    try:
        spread = dict(pool.run(run_cell, tasks))
    finally:
        pool.close()
    assert serial.keys() == spread.keys() == {0, 1, 2}
    assert all(same(serial[i], spread[i]) for i in serial)
    assert not same(serial[0], serial[1]), "seeds differ"


def test_a_script_without_a_main_guard_works(tmp_path: Path) -> None:
    """Spawned processes import the caller's script again; ours must not run it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "print('once', flush=True)\n"
        "from math import sqrt\n"
        "from bitterant.attacks.training.executor import ProcessExecutor\n"
        "pool = ProcessExecutor(1)\n"
        "print(sorted(pool.run(sqrt, [4.0, 9.0])))\n"
        "pool.close()\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["once", "[(0, 2.0), (1, 3.0)]"]


def test_a_dead_worker_is_told() -> None:
    pool = ProcessExecutor(1)
    with pytest.raises(SetupError, match="--workers 1"):
        list(pool.run(os._exit, [3]))


def test_which_executor() -> None:
    assert isinstance(executor_for(1, "cpu", 10), SerialExecutor)
    assert isinstance(executor_for(None, "cuda", 10), SerialExecutor)
    assert isinstance(executor_for(None, "cpu", 1), SerialExecutor)
    many = executor_for(5, "cpu", 3)
    assert many.workers == 3
    with pytest.raises(ConfigError, match="at least 1"):
        executor_for(0, "cpu", 3)


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


def run_fake(folder: Path, data: VerificationData, max_minutes: float | None) -> tuple[GridResult, FakeExecutor, list]:
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


def test_trainings_are_never_shortened(tmp_path: Path, data: VerificationData) -> None:
    _, executor, _ = run_fake(tmp_path, data, 11.5)
    assert executor.steps == {TINY.steps}


@pytest.mark.parametrize(
    ("images", "scale", "steps"),
    [(1000, 1.0, 400), (100, 1.0, 200), (4000, 1.0, 800), (3000, 1.0, 690), (1000, 0.4, 160), (10, 0.4, 80)],
)
def test_steps_of_small_sets_grow_with_the_square_root(images: int, scale: float, steps: int) -> None:
    assert training_steps(400, images, scale=scale) == steps


@pytest.mark.parametrize("images", [5000, 16_000, 50_000, 1_281_167])
@pytest.mark.parametrize("batch", [64, 512])
def test_large_sets_are_seen_twelve_times_whatever_their_size(images: int, batch: int) -> None:
    recipe = fit_recipe(Recipe(batch_size=batch), images)
    floor = training_steps(400, images, batch_size=10**9)
    assert recipe.steps == max(floor, 10 * round(12 * images / batch / 10))
    assert floor >= 400 * (images / 1000) ** 0.5 - 5
    if batch == 64:
        assert epochs_of(recipe, images) == pytest.approx(12, abs=0.1)
    assert fit_recipe(Recipe(batch_size=batch), images, scale=4.0).steps == pytest.approx(4 * recipe.steps, abs=20)


@pytest.mark.parametrize("images", [10, 999, 50_000])
def test_epochs_that_were_asked_for_are_those_that_are_made(images: int) -> None:
    asked = fit_recipe(Recipe(batch_size=64), images, epochs=3.5)
    assert asked.steps == max(1, round(3.5 * images / asked.batch_size))
    assert epochs_of(asked, images) == pytest.approx(3.5, abs=asked.batch_size / images)
    published = published_recipe("emn", images, epochs=2)
    assert published.steps == 2 * images // published.batch_size
    assert published_recipe("emn", images).steps == 60 * images // published.batch_size


def test_a_batch_is_no_larger_than_the_set() -> None:
    assert fit_recipe(Recipe(batch_size=64), 20).batch_size == 20
    assert fit_recipe(Recipe(batch_size=64), 500).batch_size == 64


def test_closing_does_not_wait_for_running_tasks() -> None:
    """What happens on Ctrl-C: processes in the middle of a training are stopped."""
    pool = ProcessExecutor(1)
    running = pool.run(time.sleep, [0.0, 600.0, 600.0])
    assert next(running) == (0, None)
    begun = time.monotonic()
    pool.close()
    assert time.monotonic() - begun < 60


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_workers_leave_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import os, time\n"
        "from bitterant.attacks.training.executor import ProcessExecutor\n"
        "pool = ProcessExecutor(1)\n"
        "for _, pid in pool.run(eval, ['__import__(\"os\").getpid()']):\n"
        "    print(pid, flush=True)\n"
        "for _ in pool.run(time.sleep, [600]):\n"
        "    pass\n"
    )
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
        parent.wait()
        for _ in range(200):
            if not alive(worker):
                break
            time.sleep(0.1)
        assert not alive(worker)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    # Nobody may be there to collect an orphan's exit status.
    return not (status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] == "Z")
