"""One progress bar with rate and time left on a terminal; a plain line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.text import Text

from .output import Output, shown

__all__ = ["ProgressDisplay", "duration"]

LABELS = {
    "check": "Checking the folder",
    "noise": "Checking the noise",
    "read": "Loading pictures",
    "assign": "Finding the cluster of each picture",
    "fit": "Making the noise",
    "train": "Training the generator",
    "generate": "Making noise from text",
    "write": "Writing protected copies",
    "report": "Writing the report",
    "prepare": "Preparing what trainers see",
    "verify": "Attacking the protection",
    "draw": "Drawing sample pictures",
    "compare": "Comparing pictures",
    "preview": "Trying the strengths",
}
PLAIN_SECONDS = 10.0


def duration(seconds: float) -> str:
    """Seconds in a form people read: ``8 s``, ``2 min 05 s``, ``3 h 10 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _left(done: float, total: float, elapsed: float) -> str:
    return f"about {duration(elapsed * (total - done) / done)} left" if 0 < done < total and elapsed > 2 else ""


def _count(done: float, total: float) -> str:
    """Files are counted; a fraction is shown in per cent."""
    if total <= 1:
        return f"{100 * done / total:.0f} %" if total else ""
    return f"{done:.0f}/{total:.0f}"


class _Amount(ProgressColumn):
    """How far, how fast, how long still."""

    def render(self, task: Task) -> Text:
        total = task.total or 0.0
        parts = [_count(task.completed, total)]
        elapsed = task.elapsed or 0.0
        if total > 1 and elapsed > 0.5 and task.completed:
            parts.append(f"{task.completed / elapsed:.1f}/s")
        parts.append(_left(task.completed, total, elapsed))
        return Text("  ".join(part for part in parts if part))


class ProgressDisplay:
    """Shows where a run stands; give it to the library as its ``progress`` callback.

    Args:
        output: the command's channels; nothing is shown when it is quiet.
        clock: seconds, for tests.
    """

    def __init__(self, output: Output, clock: Callable[[], float] = time.monotonic) -> None:
        self.output, self.clock = output, clock
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._stage = ""
        self._done = 0.0
        self._began = self._told = clock()

    def __enter__(self) -> ProgressDisplay:
        if self.output.people.is_terminal and not self.output.quiet:
            self._bar = Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                _Amount(),
                TimeElapsedColumn(),
                TextColumn("[dim]{task.fields[message]}", markup=True),
                console=self.output.people,
            )
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._finish_task()
            self._bar.stop()

    def __call__(self, stage: str, done: float, total: float, message: str = "", /) -> None:
        """Show ``done`` of ``total`` in ``stage``; a total of at most 1 is a fraction, 0 is unknown."""
        if self.output.quiet:
            return
        fresh = stage != self._stage
        if fresh or done < self._done:
            # Going back is a new attempt: the time of the earlier ones says nothing about what is left of this one.
            self._stage, self._began = stage, self.clock()
            if self._bar is not None and self._task is not None and not fresh:
                self._bar.reset(self._task)
        self._done = done
        if self._bar is None:
            self._plain(done, total, message, fresh=fresh)
            return
        if fresh or self._task is None:
            self._finish_task()
            self._task = self._bar.add_task(LABELS.get(stage, stage), total=total or None, message="")
        plain = shown(message).replace("[", r"\[")
        self._bar.update(self._task, completed=done, total=total or None, message=plain)

    def fraction(self, stage: str) -> Callable[[float], None]:
        """A callback for runs that tell a fraction in 0..1 alone."""
        return lambda done: self(stage, done, 1.0)

    def _finish_task(self) -> None:
        """Leave a finished stage on the screen; a stage that was only tried, as in a dry run, disappears."""
        if self._bar is None or self._task is None:
            return
        task = self._bar.tasks[-1]
        if task.total is None or task.completed >= task.total:
            self._bar.update(self._task, completed=task.total or 1.0, total=task.total or 1.0, message="")
        else:
            self._bar.remove_task(self._task)
        self._task = None

    def _plain(self, done: float, total: float, message: str, *, fresh: bool) -> None:
        now = self.clock()
        if not fresh and now - self._told < PLAIN_SECONDS:
            return
        self._told = now
        label = LABELS.get(self._stage, self._stage)
        if fresh:
            self.output.say(label + (f" ({total:.0f})" if total > 1 else ""))
            return
        parts = [_count(done, total), _left(done, total, now - self._began), message]
        self.output.say(f"{label}: " + ", ".join(part for part in parts if part))
