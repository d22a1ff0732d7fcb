"""What only a real process shows: speed of ``--help``, signals, the exit code of ``python -m bitterant``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from bitterant.cli import main

MakeFolder = Callable[..., Path]
Run = Callable[..., Result]

COMMAND = (sys.executable, "-m", "bitterant")
MANIFEST = "bitterant-manifest.jsonl"


def test_help_answers_in_under_a_second() -> None:
    """Of a processor, and the best of three, since other work may share the machine."""
    best = float("inf")
    for _ in range(3):
        before = os.times()
        done = subprocess.run([*COMMAND, "--help"], capture_output=True, text=True, timeout=60)
        after = os.times()
        best = min(best, sum(after[2:4]) - sum(before[2:4]))
        assert done.returncode == 0
        assert "protect" in done.stdout
    assert best < 1.0


@pytest.mark.parametrize(("words", "code"), [(["--version"], 0), ([], 2), (["no-such"], 2), (["protect"], 2)])
def test_main_returns_the_exit_code(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    assert "Traceback" not in capsys.readouterr().err


def test_errors_leave_the_process_with_their_code(tmp_path: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "protect", str(tmp_path / "none"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: There is no folder")


def contents(folder: Path) -> dict[str, bytes]:
    """The pictures of a folder; the run's own files hold times and differ."""
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*.png")}


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_stopped_run_gives_130_and_goes_on_to_the_same_files(
    run: Run, make_folder: MakeFolder, number: signal.Signals
) -> None:
    """Only what is stopped is a process of its own."""
    src = make_folder({"cats": 1, "dogs": 1})
    rng = np.random.default_rng(1)
    for i in range(120):
        Image.fromarray(rng.integers(0, 256, (160, 160, 3), dtype=np.uint8)).save(src / "cats" / f"big-{i:03d}.png")
    whole, stopped = src.parent / "whole", src.parent / "stopped"
    rest = ["--method", "noise", "--workers", "1", "--json"]
    assert run("protect", src, whole, *rest).exit_code == 0

    words = [*COMMAND, "protect", str(src), str(stopped), *rest]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 120
    manifest = stopped / MANIFEST
    while time.monotonic() < until and not (manifest.exists() and manifest.read_bytes().count(b"\n") >= 3):
        time.sleep(0.01)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out)["error"]["exit_code"] == 130
    assert "The same command goes on" in err
    assert "Traceback" not in err
    assert 3 <= manifest.read_bytes().count(b"\n") < 122

    done = run("protect", src, stopped, *rest)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["resumed_rows"] >= 3
    assert contents(stopped) == contents(whole)
    assert not list(stopped.glob(".bitterant-*"))


def timeless(value: Any) -> Any:
    """A verification's report without what depends on the clock."""
    if isinstance(value, dict):
        clock = ("created", "wall_seconds", "seconds", "reused_cells")
        return {name: timeless(inner) for name, inner in value.items() if name not in clock}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.slow  # tests/attacks/test_resume.py does it in one process
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_verification_that_was_stopped_and_then_killed_ends_as_one_that_was_not(
    run: Run, make_folder: MakeFolder
) -> None:
    """Only what is stopped and killed are processes of their own."""
    clean = make_folder({"cats": 26, "dogs": 26})
    protected, report = clean.parent / "protected", clean.parent / "report"
    shutil.copytree(clean, protected)
    for number, path in enumerate(sorted(protected.rglob("*.png"))):
        pixels = np.asarray(Image.open(path)).copy()
        pixels[number % 16] ^= 1
        Image.fromarray(pixels).save(path)
    words = ["verify", str(clean), str(protected), "--report", str(report), "--json"]
    words += ["--preset", "smoke", "--seeds", "2", "--resolution", "16", "--workers", "1", "--device", "cpu"]

    def verify() -> tuple[Any, int]:
        done = run(*words)
        return json.loads(done.stdout), done.exit_code

    def stopped(number: signal.Signals, kept: int) -> tuple[int, str, str]:
        """Send a signal when so many trainings are kept."""
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and len(list((report / "cells").glob("*.npz"))) < kept:
            time.sleep(0.01)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    whole, code = verify()
    assert whole["reused_cells"] == 0
    predictions = (report / "predictions.npz").read_bytes()
    report.rename(clean.parent / "whole")

    ended, out, err = stopped(signal.SIGINT, 2)
    for _ in range(5):
        if ended == code:  # Python drops an interrupt that lands in a destructor, and the run ends undisturbed
            shutil.rmtree(report)
            ended, out, err = stopped(signal.SIGINT, 2)
    assert ended == 130, err
    assert json.loads(out)["error"]["exit_code"] == 130
    assert f"kept in {report / 'cells'}; the same command goes on from there" in err
    assert not list(report.rglob(".bitterant-tmp-*"))
    ended, _, _ = stopped(signal.SIGKILL, 4)
    assert ended == -signal.SIGKILL
    assert not (report / "report.json").exists()

    again, same_code = verify()
    assert again["reused_cells"] >= 4
    assert (timeless(again), same_code) == (timeless(whole), code)
    assert json.loads((report / "report.json").read_text(encoding="utf-8")) == again
    assert (report / "predictions.npz").read_bytes() == predictions
