"""Tasks give the same from any number of processes, which stop when they should."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bitterant.attacks.data.sets import VerificationData, load_sets
from bitterant.attacks.training.cells import Cell, CellResult, run_cell
from bitterant.attacks.training.executor import ProcessExecutor, SerialExecutor, executor_for
from bitterant.errors import ConfigError, SetupError
from bitterant.imaging import ImageSet

from .conftest import store_in, task


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet) -> VerificationData:
    few = list(range(24))
    return load_sets(train_set.select(few), train_set.select(few), test_set.select(few))


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
