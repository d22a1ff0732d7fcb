"""The edge to the shell: one message, one exit code, a traceback only when asked for."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import warnings

import pytest
import typer

from bitterant.cli.boundary import guarded
from bitterant.cli.output import Output, ProgressDisplay
from bitterant.errors import (
    REPORT_A_BUG,
    BudgetExceeded,
    FolderError,
    Interrupted,
    WeightsError,
    explain_import_failure,
)

CASES = [
    (FolderError("SRC is missing."), 2),
    (WeightsError("no weights"), 3),
    (BudgetExceeded("over"), 1),
    (Interrupted("Stopped. 3 files are done."), 130),
    (KeyboardInterrupt(), 130),
    (ValueError("oh"), 1),
    (MemoryError(), 3),
    (ModuleNotFoundError("No module named 'timm'", name="timm"), 3),
    (RuntimeError("operator torchvision::nms does not exist"), 3),
]


@pytest.mark.parametrize(
    ("given", "spins"), [({}, "2000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")]
)
def test_threads_spin_for_a_short_time_where_nobody_says_otherwise(given: dict[str, str], spins: str) -> None:
    """Of libgomp, which reads it when torch is loaded; in a process of its own, since torch is loaded here."""
    code = "import os; from bitterant.cli.boundary import prepare_torch; prepare_torch(); print(os.environ.get(NAME))"
    kept = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    found = subprocess.run(
        [sys.executable, "-c", code.replace("NAME", "'GOMP_SPINCOUNT'")],
        env={**kept, **given}, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert found.stdout.split() == [spins]


@pytest.mark.parametrize(("error", "code"), CASES, ids=lambda value: type(value).__name__)
def test_errors_become_exit_codes_and_one_json_object(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as stop, guarded(Output(as_json=True)):
        raise error
    assert stop.value.exit_code == code
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert (told["type"], told["exit_code"]) == (type(error).__name__, code)
    assert told["message"] in err.replace("\n", " ").replace("error: ", "") or told["message"].split("\n")[0] in err
    assert "Traceback" not in err


def test_a_fault_of_ours_asks_for_a_report_and_shows_its_traceback_on_demand(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(typer.Exit), guarded(Output()):
        raise ValueError("a [bold]strange[/bold] thing")
    assert REPORT_A_BUG in capsys.readouterr().err
    with pytest.raises(typer.Exit), guarded(Output(), debug=True):
        raise ValueError("a [bold]strange[/bold] thing")
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "a [bold]strange[/bold] thing" in err


def test_exit_codes_of_commands_pass_through(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as stop, guarded(Output(as_json=True)):
        raise typer.Exit(4)
    assert stop.value.exit_code == 4
    assert capsys.readouterr() == ("", "")


def test_a_closed_pipe_is_left_to_the_shell() -> None:
    with pytest.raises(BrokenPipeError), guarded(Output()):
        raise BrokenPipeError


def test_quiet_silences_all_but_errors(capsys: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        logging.getLogger("bitterant.imaging").warning("a warning")
        raise FolderError("SRC is missing.")

    with pytest.raises(typer.Exit), guarded(Output(quiet=True)):
        fail()
    assert capsys.readouterr() == ("", "error: SRC is missing.\n")


def test_the_librarys_warnings_reach_people_and_pythons_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    with guarded(Output()):
        logging.getLogger("bitterant.protect").warning("1 of %d", 2)
        logging.getLogger("bitterant.protect").info("unseen")
        warnings.showwarning("from below", UserWarning, "there.py", 1)
    assert capsys.readouterr().err == "warning: 1 of 2\n"


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_scheduler_that_ends_the_process_gets_130_and_handlers_are_put_back() -> None:
    earlier = signal.getsignal(signal.SIGTERM)
    with pytest.raises(typer.Exit) as stop, guarded(Output(quiet=True)):
        os.kill(os.getpid(), signal.SIGTERM)
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGTERM) is earlier


def test_what_is_known_about_broken_installations() -> None:
    pair = explain_import_failure(RuntimeError("operator torchvision::nms does not exist"))
    assert pair is not None
    assert "matching pair" in pair
    assert explain_import_failure(ModuleNotFoundError("No module named 'bitterant.x'", name="bitterant.x")) is None
    assert explain_import_failure(ValueError("x")) is None


class _Fragile:
    """Is interrupted while it is taken apart, where Python lets no exception out."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(1000):  # the signal is heard in here
            pass


def test_an_interrupt_in_a_destructor_is_not_lost(capsys: pytest.CaptureFixture[str]) -> None:
    reached = []

    def work() -> None:
        fragile = _Fragile()
        del fragile
        for _ in range(3000):
            time.sleep(0.01)
        reached.append(True)

    with pytest.raises(typer.Exit) as stop, guarded(Output(), stopped="Stopped, to go on."):
        work()
    assert stop.value.exit_code == 130
    assert not reached
    assert "Stopped, to go on." in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_that_was_swallowed_is_heard_at_the_next_step(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    before, output = signal.getsignal(number), Output(as_json=True)
    reached: list[str] = []

    def work(progress: ProgressDisplay) -> None:
        with contextlib.suppress(KeyboardInterrupt):  # as a destructor or a library's callback does
            signal.raise_signal(number)
        progress("train", 1, 7)
        reached.append("the next step")

    with pytest.raises(typer.Exit) as stop, guarded(output), ProgressDisplay(output) as progress:
        work(progress)
    assert stop.value.exit_code == 130
    assert not reached
    assert signal.getsignal(number) is before
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 130
