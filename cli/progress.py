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
)
from rich.table import Column
from rich.text import Text

from ..records.text import STAGE_LABELS, amount, time_left
from .output import Output, shown

PLAIN_SECONDS = 10.0


class _Amount(ProgressColumn):
    """How far, how fast, how long still."""

    def render(self, task: Task) -> Text:
        total, first = task.total or 0.0, float(task.fields.get("first", 0.0))
        parts = [amount(task.completed, total)]
        elapsed, done = task.elapsed or 0.0, task.completed - first
        if total > 1 and elapsed > 0.5 and done >= 0.1 * elapsed:
            parts.append(f"{done / elapsed:.1f}/s")
        parts.append(time_left(done, total - first, elapsed))
        return Text("  ".join(part for part in parts if part), no_wrap=True, overflow="ellipsis")


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
        self._first = 0.0
        self._began = self._told = clock()

    def __enter__(self) -> ProgressDisplay:
        if self.output.people.is_terminal and not self.output.quiet:
            self._bar = Progress(
                SpinnerColumn(finished_text="[green]✓"),
                TextColumn("{task.description}"),
                BarColumn(bar_width=12),
                _Amount(),
                # What is left of the line: cut, never folded, so that the bar stays one line on any terminal.
                TextColumn("[dim]{task.fields[message]}", markup=True, table_column=Column(no_wrap=True, ratio=1)),
                console=self.output.people,
                expand=True,
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
        """Show ``done`` of ``total`` in ``stage``; a total of at most 1 is a fraction, 0 is unknown.

        Raises:
            KeyboardInterrupt: the command was to stop, and what said so got lost.
        """
        if self.output.interrupted:
            raise KeyboardInterrupt
        if self.output.quiet:
            return
        if stage in ("found", "slow"):
            self.output.say(message)
            return
        fresh = stage != self._stage
        if fresh:
            # A run that goes on begins in the middle: what was done before took none of the time seen here.
            self._stage, self._began, self._first = stage, self.clock(), done
        if self._bar is None:
            self._plain(done, total, message, fresh=fresh)
            return
        if fresh or self._task is None:
            self._finish_task()
            self._task = self._bar.add_task(STAGE_LABELS.get(stage, stage), total=total or None, message="", first=done)
        self._bar.update(self._task, completed=done, total=total or None, message=shown(message).replace("[", r"\["))

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
        label = STAGE_LABELS.get(self._stage, self._stage)
        if fresh:
            self.output.say(label + (f" ({total:.0f})" if total > 1 else ""))
            return
        left = time_left(done - self._first, total - self._first, now - self._began)
        parts = [amount(done, total), left, message]
        self.output.say(f"{label}: " + ", ".join(part for part in parts if part))
