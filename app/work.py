"""The process that does the work, so that the page stays alive, and what it tells of it.

One process does one job after the other and keeps what it has loaded. It ends with its parent, however that ends.
"""

from __future__ import annotations

import _thread
import contextlib
import logging
import queue
import signal
import threading
from collections.abc import Callable, Mapping
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import FrameType
from typing import Any, Final

import numpy as np

from ..errors import Interrupted, explain
from ..records.config import Strength
from ..records.processes import tune_allocator
from ..records.progress import StopRequest

STOPPED: Final = "Stopped. What is finished is whole and kept."
#: What the library adds for people at a terminal; on the page there is a button.
COMMAND_GOES_ON: Final = " The same command goes on from there."
#: Seconds that the work has to come to an end when the command ends, and then once more after it was told again.
PATIENCE: Final = 60.0
SHORT_PATIENCE: Final = 5.0
#: Seconds until an interrupt comes again that found a module loading.
SOON: Final = 0.05
#: Of a piece of a picture in a preview, in pixels.
TILE_SIDE: Final = 360


class Worker:
    """The process, as its parent sees it. It is started with the first job, and once more where it was lost.

    Args:
        hear: told ``(number, what, content)`` as :func:`run_jobs` says it, from a thread of its own.
        lost: called where the process has ended although nobody asked it to.
    """

    def __init__(self, hear: Callable[[int, str, Any], None], lost: Callable[[], None]) -> None:
        self._hear, self._lost = hear, lost
        self._process: SpawnProcess | None = None
        self._wire: Any = None  # a Connection, of another kind on Windows
        self._closed = False

    def send(self, what: Any) -> None:
        """Send what :func:`run_jobs` understands. Nothing is sent after the end."""
        if self._closed:
            return
        if isinstance(what, tuple) and (self._process is None or not self._process.is_alive()):
            self._begin()
        if self._wire is not None:
            with contextlib.suppress(OSError):  # the process is gone; whoever listens to it says so
                self._wire.send(what)

    def close(self) -> None:
        """End the process; work under way is stopped so that it can go on."""
        self.send(None)
        self._closed = True
        process = self._process
        if process is None:
            return
        process.join(PATIENCE)
        for end in (process.terminate, process.kill):  # as a second Ctrl-C does: it can still go on
            if process.is_alive():
                end()
                process.join(SHORT_PATIENCE)

    def _begin(self) -> None:
        ours, theirs = Pipe()
        # Not a daemon: a verification has processes of its own. It ends when the pipe is closed, also by a kill.
        process = get_context("spawn").Process(target=run_jobs, args=(theirs,), name="bitterant-work")
        process.start()
        theirs.close()
        self._process, self._wire = process, ours
        threading.Thread(target=self._listen, args=(ours,), daemon=True).start()

    def _listen(self, wire: Any) -> None:
        while True:
            try:
                self._hear(*wire.recv())
            except (EOFError, OSError):
                break
        if not self._closed and wire is self._wire:
            self._lost()


def run_jobs(wire: Connection) -> None:
    """Do what the other end of ``wire`` asks for, until it is closed.

    It sends ``(number, kind, options)`` for a job, ``number`` to stop the job of that number, and ``None`` at the end.
    It receives ``(number, "progress", (stage, done, total, message))`` often, ``(number, "note", text)`` now and then,
    and at last one of ``(number, "done", result)``, ``(number, "stopped", message)`` and ``(number, "failed",
    message)``.
    """
    # Ctrl-C in a terminal reaches every process of the command. The parent decides what it means for the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    inbox = _Inbox(wire)
    signal.signal(signal.SIGTERM, inbox.interrupted)
    tune_allocator()
    _pass_on_warnings(inbox)
    threading.Thread(target=inbox.listen, daemon=True).start()
    with contextlib.suppress(KeyboardInterrupt):  # whoever ends the process itself while it waits
        while (asked := inbox.next()) is not None:
            _do(inbox, *asked)


def _loads_a_module(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _pass_on_warnings(inbox: _Inbox) -> None:
    """The library's log belongs on the page. Python's warnings come from libraries below us and help nobody."""

    class ForPeople(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            inbox.tell("note", record.getMessage())

    log = logging.getLogger("bitterant")
    log.handlers, log.propagate = [ForPeople(logging.WARNING)], False
    logging.getLogger("py.warnings").handlers = [logging.NullHandler()]
    logging.captureWarnings(True)


class _Inbox:
    """What was asked for, and what of it is to stop."""

    def __init__(self, wire: Connection) -> None:
        self.wire = wire
        self.stop = StopRequest()
        self._asked: queue.SimpleQueue[tuple[int, str, dict[str, Any]] | None] = queue.SimpleQueue()
        self._number = 0
        # Held while a job begins or ends, so that a stop hits the job it is meant for, and no other.
        self._turn = threading.RLock()
        self._hard = self._over = False
        self._dropped: set[int] = set()
        self._sending = threading.Lock()

    def listen(self) -> None:
        """Take what comes, in a thread of its own."""
        while True:
            try:
                asked = self.wire.recv()
            except (EOFError, OSError):  # the parent is gone
                asked = None
            if isinstance(asked, int):
                self._halt(asked)
                continue
            if asked is None:
                self._over = True
                self._halt(self._number)
            self._asked.put(asked)
            if asked is None:
                return

    def next(self) -> tuple[int, str, dict[str, Any]] | None:
        """The next job; waits for one. ``None`` at the end, which nothing that was asked for before it delays."""
        asked = self._asked.get()
        return None if self._over else asked

    def begin(self, number: int, *, hard: bool) -> None:
        """A job begins; ``hard``: it looks at no flag and is stopped by an interrupt.

        Raises:
            Interrupted: it was stopped before it began.
        """
        with self._turn:
            self._number, self.stop = number, StopRequest()
            if number in self._dropped:
                raise Interrupted("Stopped before it began.")
            self._hard = hard

    def end(self) -> None:
        """It is over: nothing may interrupt what follows."""
        with self._turn:
            self._hard = False

    def interrupted(self, signum: int, frame: FrameType | None) -> None:
        """The handler of the signal. A module that is broken off while it loads stays half loaded for all jobs to come:
        there the interrupt waits until it is whole.
        """
        if self._hard and _loads_a_module(frame):
            threading.Timer(SOON, self._interrupt_again, [self._number]).start()
            return
        raise KeyboardInterrupt

    def _interrupt_again(self, number: int) -> None:
        with self._turn:
            if self._hard and number == self._number:
                _interrupt_main()

    def _halt(self, number: int) -> None:
        with self._turn:
            if number > self._number:
                self._dropped.add(number)
            if number != self._number or self.stop.requested:
                return
            self.stop.request()
            if self._hard:
                _interrupt_main()

    def tell(self, what: str, content: Any) -> None:
        """Send something about the job under way. A parent that is gone hears nothing."""
        try:
            with self._sending:  # the log comes from any thread
                self.wire.send((self._number, what, content))
        except OSError:
            self.stop.request()


def _interrupt_main() -> None:
    """Raise KeyboardInterrupt in the main thread, also where that waits for a lock or another process."""
    if hasattr(signal, "pthread_kill"):
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)
    else:
        _thread.interrupt_main(signal.SIGTERM)


def _do(inbox: _Inbox, number: int, kind: str, options: dict[str, Any]) -> None:
    job = JOBS[kind]

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        # An interrupt that lands in a destructor is lost; it is heard here.
        if inbox.stop.requested and job in _HARD:
            raise KeyboardInterrupt
        inbox.tell("progress", (stage, done, total, message))

    try:
        inbox.begin(number, hard=job in _HARD)
        try:
            result = job(progress, inbox, **options)
        finally:
            inbox.end()
    except (KeyboardInterrupt, Interrupted) as error:
        inbox.tell("stopped", str(error).removesuffix(COMMAND_GOES_ON) or STOPPED)
    except Exception as error:
        inbox.tell("failed", "\n".join(explain(error)[0]))
    else:
        inbox.tell("done", result)


Progress = Callable[..., None]


def _plan(progress: Progress, inbox: _Inbox, **options: Any) -> dict[str, Any]:
    from ..protect import protect_folder

    return protect_folder(dry_run=True, progress=progress, **options).to_json()


def _protect(progress: Progress, inbox: _Inbox, **options: Any) -> dict[str, Any]:
    from ..protect import protect_folder

    return protect_folder(progress=progress, stop=inbox.stop, **options).to_json()


def _preview(progress: Progress, inbox: _Inbox, *, source: Path, strength: Strength, count: int) -> dict[str, Any]:
    """Pieces of some pictures at their own size: scaled down, much of the change would vanish."""
    from ..imaging import Sight, difference_tile, measure_visibility, tell_sights
    from ..protect import Preview

    preview = Preview(source, (strength,))
    names, shown, sights = preview.spread(count), [], []
    for picture in preview.pictures(names):
        inbox.stop.check("")
        before, after = (_middle(side.rgb8()) for side in (picture.before, picture.after[strength]))
        seen = measure_visibility(picture.before, picture.after[strength])
        sights.append(Sight(picture.relative, seen.ciede_patches, seen.ciede_flat))
        tiles = {"before": before, "after": after, "difference": difference_tile(before, after)}
        shown.append({"name": picture.relative, **{name: _file(tile, "PNG") for name, tile in tiles.items()}})
        progress("preview", len(shown), len(names))
    problems = [(problem.relative, problem.reason) for problem in preview.problems]
    return {"pictures": shown, "about": preview.about, "sights": tell_sights(sights), "problems": problems}


def _look(progress: Progress, inbox: _Inbox, *, source: Path, strength: Strength, name: str) -> dict[str, Any]:
    """One picture, whole, at its own size."""
    from ..protect import Preview

    (picture,) = Preview(source, (strength,)).pictures([name])
    before, after = picture.before.rgb8(), picture.after[strength].rgb8()
    height, width = before.shape[:2]
    # Not PNG: to pack a photo takes longer than all else, and it goes no further than to the browser.
    files = {side: _file(pixels, "BMP") for side, pixels in (("before", before), ("after", after))}
    return {"name": name, "width": width, "height": height, **files}


def _middle(pixels: np.ndarray) -> np.ndarray:
    top, left = (max(0, (side - TILE_SIDE) // 2) for side in pixels.shape[:2])
    return pixels[top : top + TILE_SIDE, left : left + TILE_SIDE]


def _file(pixels: np.ndarray, kind: str) -> bytes:
    from ..imaging import Picture, encode

    return encode(Picture(np.ascontiguousarray(pixels)), format=kind)


def _verify(progress: Progress, inbox: _Inbox, **options: Any) -> dict[str, Any]:
    from ..attacks import verify_folder
    from ..attacks.evaluation.gates import decisive_failures
    from ..attacks.report.page import EFFORTS, tone_of

    report = verify_folder(progress=progress, **options)
    verdict = report.verdict
    tiers = [(EFFORTS[tier.tier], tier.grade, tier.complete) for tier in verdict.tiers]
    first = next((row for row in report.conditions if row.status == "ok" and row.retrieval is None), None)
    figures = None
    if verdict.valid and not verdict.graded and first is not None and first.clean and first.treated:
        figures = (first.clean.accuracy.estimate, first.treated.accuracy.estimate, first.chance or 0.0)
    return {
        "headline": verdict.headline,
        "tone": tone_of(report) if verdict.graded or not verdict.valid else "",
        "figures": figures,
        "weakest": next((t.grade for t in verdict.tiers if verdict.graded and t.tier == verdict.weakest), None),
        "failed": [gate.id for gate in decisive_failures(report.gates)],
        "sorted": bool(report.labellings),
        "missing": sum(issue.kind == "missing" for issue in report.dataset.issues),
        "tiers": tiers if verdict.valid and verdict.graded else [],
        "caveats": list(verdict.caveats),
        "reused": report.reused_cells,
        "trainings": len(report.cells),
        "seconds": report.wall_seconds,
    }


#: Jobs by name. Each takes a progress callback, the inbox, and options of the library's function.
JOBS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "preview": _preview,
    "look": _look,
    "plan": _plan,
    "protect": _protect,
    "verify": _verify,
}
#: Those that look at no flag.
_HARD = (_plan, _verify)
