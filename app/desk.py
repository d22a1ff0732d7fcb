"""What is on the desk: the folder, the choices, and the work under way. All tabs look at the same one."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from ..attacks.beside import report_beside
from ..errors import BitterantError, FolderError
from ..records.config import STRENGTHS, Strength
from ..records.run_file import records_of
from ..records.text import STAGE_LABELS, amount, quoted, time_left
from .folders import Earlier, Found, earlier_copies, free_beside, free_output, survey, typed_folder
from .work import Worker

Kind = Literal["preview", "look", "plan", "protect", "verify"]
Preset = Literal["smoke", "quick"]
PRESETS: Final[tuple[Preset, ...]] = ("smoke", "quick")

State = Literal["running", "stopping", "stopped", "failed", "done"]

#: What gives way to anything else.
LIGHT: Final = ("preview", "look", "plan")
#: Pictures of a preview.
SHOWN: Final = 3

LOST: Final = (
    "The process that does the work has ended, most often because memory ran out. What is finished is whole: start "
    "this step again, and it goes on from there."
)


@dataclass
class Job:
    """One piece of work, as far as it is known.

    Attributes:
        number: of this desk's.
        kind: what is done.
        options: what the library was called with.
        state: how it stands.
        stage, done, total, message: as the library's progress callback says.
        notes: what the library said on the way: what it found, and its warnings.
        result: what came out, where it is done.
        problem: why it failed, or what stopping it means.
    """

    number: int
    kind: Kind
    options: dict[str, Any]
    state: State = "running"
    stage: str = ""
    done: float = 0.0
    total: float = 0.0
    message: str = ""
    notes: list[str] = field(default_factory=list)
    result: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    _began: float = 0.0
    _reached: float = 0.0
    _first: float = 0.0

    @property
    def active(self) -> bool:
        """Whether it is under way."""
        return self.state in ("running", "stopping")

    @property
    def fraction(self) -> float | None:
        """How much of the stage is done, 0 to 1; ``None`` where nobody knows."""
        return min(1.0, self.done / self.total) if self.total else None

    def words(self, now: float) -> str:
        """Where it stands, in a line; ``now`` as of :func:`time.monotonic`."""
        if not self.stage:
            return "Getting ready"
        label = STAGE_LABELS.get(self.stage, self.stage)
        done, total = self.done - self._first, self.total - self._first
        left = time_left(done, total, self._reached - self._began, now - self._reached)
        return ", ".join(part for part in (label, amount(self.done, self.total), left) if part)

    def tell(self, stage: str, done: float, total: float, message: str, now: float) -> None:
        """Take in what the library's progress callback says."""
        if stage in ("found", "slow"):
            self.notes.append(message)
            return
        if stage != self.stage:
            # A run that goes on begins in the middle: what was done before took none of the time seen here.
            self.stage, self._began, self._first = stage, now, done
        self._reached = now
        self.done, self.total, self.message = done, total, message


class Desk:
    """The state behind the page.

    Args:
        verify: options of :func:`bitterant.verify_folder` beyond those that the page offers.
        clock: seconds, for tests.

    Attributes:
        version: grows with every change but that of progress, so that a page knows when to draw itself anew.
        folder: text of the folder's path as it was chosen.
        found: what the folder holds; ``None`` while none is chosen.
        problem: why the folder cannot be taken.
        looking: whether a folder is being looked through.
        strength: how strong.
        output: where the copies go; ``None`` while no folder is chosen.
        output_problem: why the text for it cannot be taken.
        earlier: the last finished copies of the folder; ``None`` where there are none.
        preset: how much a verification tries.
        jobs: the last of each kind.
    """

    def __init__(self, *, verify: dict[str, Any] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.version = 0
        self.folder = ""
        self.found: Found | None = None
        self.problem = ""
        self.looking = False
        self.strength: Strength = "balanced"
        self.output: Path | None = None
        self.output_problem = ""
        self.earlier: Earlier | None = None
        self.preset: Preset = "smoke"
        self.jobs: dict[Kind, Job] = {}
        self.clock = clock
        self._verify = verify or {}
        self._output_chosen = False
        self._before: list[Earlier] = []
        self._numbers = itertools.count(1)
        self._lock = threading.RLock()
        self._worker = Worker(self._hear, self._lost)

    # ------------------------------------------------------------------ choices
    def choose_folder(self, text: str) -> None:
        """Look through a folder; what was wrong stands in ``problem``. Takes as long as reading its listing."""
        with self._lock:
            if self.busy is not None or self.looking:
                return
            self.folder, self.looking, self.problem = text, True, ""
            self._changed()
        found, problem, folder = None, "", text
        before: list[Earlier] = []
        try:
            path = typed_folder(text)
            folder = str(path)
            found, before = survey(path), earlier_copies(path)
        except BitterantError as error:
            problem = str(error)
        except OSError as error:
            problem = f"{error.filename or text}: {error.strerror or error}. Check the path and its permissions."
        with self._lock:
            self.folder, self.found, self.problem, self.looking = folder, found, problem, False
            self._forget()
            self._output_chosen, self.output_problem = False, ""
            self._before = before
            self.earlier = next((item for item in before if item.finished), None)
            begun: Strength | None = next((item.strength for item in before if not item.finished), None)
            if begun is not None:  # it goes on as it was begun
                self.strength = begun
            self.output = None if found is None else free_output(found.folder, self.strength)
            self._changed()
        self.rehearse()

    def choose_strength(self, strength: Strength) -> None:
        """Take another strength: what was planned or done with the old one is no longer about it."""
        with self._lock:
            if strength not in STRENGTHS or strength == self.strength or self.busy is not None:
                return
            self.strength = strength
            self._start_over()
        self.rehearse()

    def choose_output(self, text: str) -> None:
        """Take another place for the copies; what is wrong with the text stands in ``output_problem``."""
        with self._lock:
            if self.busy is not None or self.found is None:
                return
            try:
                path = typed_folder(text)
            except FolderError as error:
                self.output_problem = str(error)
                self._changed()
                return
            if path == self.output:
                if self.output_problem:
                    self.output_problem = ""
                    self._changed()
                return
            self.output_problem = ""
            self.output, self._output_chosen = path, True
            preview = self.jobs.pop("preview", None)
            self._start_over()
            if preview is not None:
                self.jobs["preview"] = preview
        self.rehearse(pictures=preview is None)

    def take_earlier(self) -> None:
        """Go to the copies that were made before; making them again finds that there is nothing to do."""
        with self._lock:
            if self.busy is not None or self.looking or self.earlier is None:
                return
            preview = self.jobs.get("preview")
            if self.earlier.strength not in (None, self.strength):
                self.strength, preview = self.earlier.strength, None  # what is shown is not how these look
            self._start_over()
            if preview is not None and preview.state == "done":
                self.jobs["preview"] = preview
            self.output, self._output_chosen = self.earlier.output, True
            self.protect()

    def choose_preset(self, preset: Preset) -> None:
        """Take another amount of verification."""
        with self._lock:
            if preset in PRESETS and preset != self.preset and self.busy is None:
                self.preset = preset
                self.jobs.pop("verify", None)
                self._changed()

    def _forget(self) -> None:
        """Let go of all jobs; a plan under way is of no more use."""
        for job in self.jobs.values():
            if job.active:
                self._worker.send(job.number)
        self.jobs.clear()

    def _start_over(self) -> None:
        self._forget()
        if not self._output_chosen and self.found is not None:
            self.output = free_output(self.found.folder, self.strength)
        self._changed()

    # ------------------------------------------------------------------ work
    @property
    def busy(self) -> Job | None:
        """The job under way that nothing may disturb."""
        return next((job for job in self.jobs.values() if job.active and job.kind not in LIGHT), None)

    @property
    def protected(self) -> bool:
        """Whether the copies in ``output`` are finished."""
        job = self.jobs.get("protect")
        return job is not None and job.state == "done"

    def rehearse(self, *, pictures: bool = True) -> None:
        """Find out what a run would do, how long it would take, and what is in its way; and show ``pictures``."""
        with self._lock:
            if self.found is None or self.output is None or self.busy is not None:
                return
            if pictures:
                self._start("preview", {**self._shown_options(), "count": SHOWN})
            self._start("plan", self._protect_options())

    def look(self, name: str) -> None:
        """Load one picture of the preview at full size."""
        with self._lock:
            if self.found is not None and self.busy is None:
                self._start("look", {**self._shown_options(), "name": name})

    def picture(self, number: int, index: int, side: str) -> bytes | None:
        """A picture file (PNG or BMP) of a finished preview or look: ``before``, ``after`` or ``difference``."""
        with self._lock:
            job = next((job for job in self.jobs.values() if job.number == number), None)
            if job is None or job.state != "done":
                return None
            shown = job.result.get("pictures", [job.result])
            found = shown[index].get(side) if 0 <= index < len(shown) else None
            return found if isinstance(found, bytes) else None

    def protect(self) -> None:
        """Protect, or go on with what was stopped."""
        with self._lock:
            if self.busy is None and not self.looking and self.found is not None and self.output is not None:
                self.jobs.pop("verify", None)
                self._start("protect", self._protect_options())

    def verify(self) -> None:
        """Verify what was protected, or go on with what was stopped."""
        with self._lock:
            if self.busy is not None or self.looking or not self.protected or self.found is None or self.output is None:
                return
            report, cells = report_beside(self.output)
            self._start("verify", {
                "clean": self.found.folder, "protected": self.output, "report": report, "cells": cells,
                "preset": self.preset, **self._verify,
            })  # fmt: skip

    def stop(self) -> None:
        """Ask the work under way to stop so that it can go on."""
        with self._lock:
            job = self.busy
            if job is not None and job.state == "running":
                job.state = "stopping"
                self._worker.send(job.number)
                self._changed()

    def report(self, kind: str) -> Path | None:
        """The page that a finished job wrote."""
        job = self.jobs.get(kind)  # type: ignore[call-overload]
        if job is None or job.state != "done" or self.output is None:
            return None
        if kind == "protect":
            return records_of(self.output).report
        place = job.options["report"]
        return None if place is None else Path(place) / "report.html"

    def command(self, kind: Kind) -> str:
        """What to type in a terminal for the same."""
        if self.found is None or self.output is None:
            return ""
        words = [
            "bitterant",
            "verify" if kind == "verify" else "protect",
            quoted(self.found.folder),
            quoted(self.output),
        ]
        if kind == "verify":
            words += ["--preset", self.preset]
        else:
            words += ["--strength", self.strength] if self.strength != "balanced" else []
            words += [word for name, value in self._wishes().items() for word in (f"--{name}", value)]
        return " ".join(words)

    def publish_command(self) -> str:
        """What to type in a terminal for a folder that holds nothing but what may be shown."""
        if self.output is None:
            return ""
        return f"bitterant publish {quoted(self.output)} {quoted(free_beside(self.output, 'public'))}"

    def close(self) -> bool:
        """Stop the work so that it can go on, and end its process.

        Returns:
            Whether something was under way.
        """
        with self._lock:
            busy = self.busy
            self.stop()
        self._worker.close()
        return busy is not None

    def _protect_options(self) -> dict[str, Any]:
        assert self.found is not None
        return {"source": self.found.folder, "output": self.output, "strength": self.strength, **self._wishes()}

    def _wishes(self) -> Mapping[str, str]:
        """What a terminal asked of the copies that a run made, or began to make, where they are to go."""
        return next((item.wishes for item in self._before if item.output == self.output), {})

    def _shown_options(self) -> dict[str, Any]:
        assert self.found is not None
        return {"source": self.found.folder, "strength": self.strength}

    def _start(self, kind: Kind, options: dict[str, Any]) -> None:
        for other in self.jobs.values():
            if other.active and (other.kind == kind or kind not in LIGHT):
                self._worker.send(other.number)
        job = Job(next(self._numbers), kind, options)
        self.jobs[kind] = job
        self._worker.send((job.number, kind, options))
        self._changed()

    def _changed(self) -> None:
        self.version += 1

    def _hear(self, number: int, what: str, content: Any) -> None:
        """Take in what the process says of a job."""
        with self._lock:
            job = next((job for job in self.jobs.values() if job.number == number), None)
            if job is None:  # one that was replaced
                return
            if what == "progress":
                stage, done, total, message = content
                job.tell(stage, done, total, message, self.clock())
            elif what == "note":
                job.notes.append(content)
            else:
                job.state = what  # type: ignore[assignment]
                if what == "done":
                    job.result = content
                else:
                    job.problem = content
                self._changed()

    def _lost(self) -> None:
        """The process has ended in the middle of its work."""
        with self._lock:
            for job in self.jobs.values():
                if job.active:
                    job.state, job.problem = "failed", LOST
            self._changed()
