"""The command where torchrun started several processes. Two of them at work: tests/protect/methods/test_ranks.py."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bitterant.cli import main, together


@pytest.fixture(autouse=True)
def _signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def started(monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    for name, value in (("WORLD_SIZE", 2), ("LOCAL_WORLD_SIZE", 2), ("RANK", rank), ("LOCAL_RANK", rank)):
        monkeypatch.setenv(name, str(value))


@pytest.mark.parametrize("rank", [0, 1])
def test_without_lightning_the_first_one_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    started(monkeypatch, rank)
    monkeypatch.setitem(sys.modules, "lightning_fabric", None)
    monkeypatch.setattr(together, "_SAY_FIRST", 0.0)
    assert main(["fit", str(tmp_path), str(tmp_path / "bank")]) == 3
    out, err = capsys.readouterr()
    assert out == ""
    assert ("pip install 'bitterant[fabric]'" in err) == (rank == 0)
    assert (err == "") == (rank == 1)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_command_for_one_process_runs_once_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    started(monkeypatch, rank)
    assert main(["list", "methods"]) == 0
    out, err = capsys.readouterr()
    assert ("emn" in out) == (rank == 0)
    assert ("torchrun started 2 processes" in err) == (rank == 0)
