"""Run as a script: protect a folder again and again, each time killed by SIGKILL at another place, then resumed.

Usage: ``python killing.py SRC WORK``. For each point WORK/inside/<point> and WORK/beside/<point> hold the resumed
folder, by where its records were asked to lie when it was begun; nothing is asked when it is resumed. One JSON object
on stdout says how the killed processes ended. One process imports everything and forks, so that a point costs
milliseconds.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar
from unittest import mock

import torch
from torch import Tensor

from bitterant.imaging import ImageSet
from bitterant.protect.bank import Bank
from bitterant.protect.folder import protect_folder, run, writing
from bitterant.protect.methods.base import FitContext, Method
from bitterant.records.manifest import ManifestWriter
from bitterant.records.run_file import RecordsPlace
from bitterant.records.run_state import StateFiles

STEPS = 3


class Stepped(Method):
    """A method of several steps, each of which builds on the last and is kept in the checkpoint."""

    name: ClassVar[str] = "stepped"
    needs = "labels"
    granularities = ("sample",)
    after_step: ClassVar[Callable[[int], None]] = staticmethod(lambda step: None)

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        delta, start = torch.zeros(len(dataset), 3, dataset.resolution, dataset.resolution), 0
        kept = context.checkpoint.load()
        if kept is not None:
            delta, start = kept[0]["delta"], int(kept[1]["step"])
        for step in range(start, STEPS):
            noise = torch.rand(delta.shape, generator=torch.Generator().manual_seed(step)) - 0.5
            delta = (0.5 * delta + noise * 0.05).clamp(-self.budget.epsilon, self.budget.epsilon)
            context.checkpoint.save({"delta": delta}, {"step": step + 1})
            context.tell("steps", (step + 1) / STEPS)
            type(self).after_step(step)
        context.report["steps"] = STEPS
        return delta


def die(*_: object, **__: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def nth(number: int, action: Callable[..., object], then: Callable[..., object]) -> Callable[..., object]:
    """A function that does ``then``, but ``action`` on the call of this number. Threads may call it."""
    calls = itertools.count(1)
    return lambda *args, **options: (action if next(calls) == number else then)(*args, **options)


def half_row(writer: ManifestWriter, rows: list[object]) -> None:
    """Write the first half of a row, as a kill within a write does, and die."""
    with writer.path.open("ab") as file:
        file.write(rows[0].to_line()[:40])  # type: ignore[attr-defined]
    die()


def write_and_die(*args: object, **options: object) -> None:
    real_write(*args, **options)  # type: ignore[arg-type]
    die()


def half_file(path: Path, data: bytes, **options: Any) -> None:
    """Leave a half-written temporary file, as a kill within a write does, and die."""
    path.parent.mkdir(parents=True, exist_ok=True)
    (path.parent / ".bitterant-tmp-0123456789abcdef").write_bytes(data[: len(data) // 2])
    die()


def bank_and_die(bank: Bank, path: Path, **options: Any) -> None:
    real_save(bank, path, **options)
    die()


def run_file_and_die(files: StateFiles) -> None:
    files.journal.unlink()
    die()


def reading(stage: str, done: float, total: float, message: str = "", /) -> None:
    if stage == "read" and done == 2:
        die()


real_write, real_save, real_append = writing.write_atomic, Bank.save, ManifestWriter.append


def patches(point: str) -> list[object]:
    """What to replace to be killed at a point."""
    name, _, number = point.partition("-")
    count = int(number or 0)
    if name == "fit":
        return [mock.patch.object(Stepped, "after_step", staticmethod(lambda step: die() if step == count else None))]
    table: dict[str, tuple[object, str, Callable[..., object]]] = {
        "begin": (run, "fit_and_keep", die),
        "bank": (Bank, "save", die if count == 0 else bank_and_die),
        "before": (writing, "write_atomic", nth(count, die, real_write)),
        "half": (writing, "write_atomic", nth(count, half_file, real_write)),
        "after": (writing, "write_atomic", nth(count, write_and_die, real_write)),
        "row": (ManifestWriter, "append", nth(count, half_row, real_append)),
        "report": (run, "write_report", die),
        "clean": (StateFiles, "remove", run_file_and_die),
    }
    return [mock.patch.object(*table[name])] if name in table else []


POINTS = ("read", "fit-0", "fit-1", "begin", "bank-0", "bank-1", "before-1", "before-4", "half-2", "after-1", "after-3")
POINTS += ("after-7", "row-1", "row-5", "report", "clean")


def in_child(work: Callable[[], None]) -> int:
    """Run something in a fork; its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{error!r}\n")
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kill(source: Path, work: Path, records: RecordsPlace) -> dict[str, list[int]]:
    """Kill and resume at every point; also twice in one run, and once without any kill."""
    report: dict[str, list[int]] = {}

    def protect(output: Path, point: str = "") -> None:
        for patch in patches(point):
            patch.start()  # type: ignore[attr-defined]
        if point.startswith("row"):
            run.ROWS_AT_ONCE = 1
        progress = reading if point == "read" else None
        asked: dict[str, Any] = {"records": records} if point else {}
        protect_folder(source, output, method=Stepped(seed=1, device="cpu"), workers=2, progress=progress, **asked)

    report["none"] = [in_child(lambda: protect(work / "none", "none"))]
    for point in POINTS:
        ends = [in_child(lambda point=point: protect(work / point, point))]
        report[point] = [*ends, in_child(lambda point=point: protect(work / point))]
    ends = [in_child(lambda point=point: protect(work / "often", point)) for point in ("fit-1", "after-2", "row-2")]
    report["often"] = [*ends, in_child(lambda: protect(work / "often"))]
    return report


def main(source: Path, work: Path) -> None:
    """All of it, for both places of the records."""
    places: tuple[RecordsPlace, ...] = ("inside", "beside")
    sys.stdout.write(json.dumps({records: kill(source, work / records, records) for records in places}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
