"""Where words go: people read stderr, programs one JSON object on stdout; a bar or plain lines meanwhile, and which
command comes next.

Everything that people see passes through here, and nothing of it acts on their terminal: names of files and captions
may hold whatever their maker liked.
"""

from __future__ import annotations

import json
import re
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.table import Column, Table
from rich.text import Text

from ..records.text import STAGE_LABELS, amount, quoted, time_left


def shown(text: str) -> str:
    """The text as a terminal may have it; see :func:`visible`."""
    from ..records.text import visible

    return visible(text)


class Output:
    """The two channels of one command.

    Args:
        as_json: the command's result is printed as one JSON object on stdout.
        quiet: people get errors only.

    Attributes:
        interrupted: whether somebody asked the command to stop. An exception that tells it can get lost in a
            destructor or a callback; progress looks here, too.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet
        self.interrupted = False
        self.people = Console(stderr=True, highlight=False, soft_wrap=True)
        self._warned: set[str] = set()

    def say(self, text: str = "", style: str = "", *, whole: bool = False) -> None:
        """A line for people, on stderr, after as many empty ones as it begins with line breaks. Square brackets in it
        are text, not markup. ``whole`` leaves the line in one, for what is to be copied."""
        if not self.quiet:
            line = text.lstrip("\n")
            told = Text(shown(line), style=style)
            self.people.print(Text("\n" * (len(text) - len(line))) + (told if whole else self._folded(told)))

    def _folded(self, text: Text, hang: int | None = None) -> Text:
        """The text in lines that fit the terminal, broken between words alone, so that paths stay in one piece.

        Args:
            text: one line.
            hang: columns by which further lines are indented; as the first if left out.
        """
        width = self.people.width
        if not self.people.is_terminal or text.cell_len <= width:
            return text
        if hang is None:
            hang = len(text.plain) - len(text.plain.lstrip(" "))
        lines = text.divide(_line_starts(text.plain, max(_LEAST_WIDTH, width - hang)))
        for line in lines:
            line.rstrip()
        return Text("\n" + " " * hang).join(lines)

    def error(self, text: str, *more: str) -> None:
        """An error for people, on stderr, also when quiet; ``more`` lines belong to it."""
        self.people.print(self._folded(Text.assemble(("error: ", "bold red"), shown(text))))
        for line in more:
            self.people.print(self._folded(Text(shown(line))))

    def warn(self, text: str) -> None:
        """A warning for people, on stderr; the same one is told once."""
        if not self.quiet and text not in self._warned:
            self._warned.add(text)
            self.people.print(self._folded(Text.assemble(("warning: ", "bold yellow"), shown(text))))

    def trace(self, error: BaseException, style: str = "") -> None:
        """A traceback for people, on stderr, set apart from what is said: its last lines may quote anything."""
        for line in "".join(traceback.format_exception(error)).splitlines():
            self.people.print(Text(f"  {shown(line)}", style=style))

    def result(self, payload: Mapping[str, Any]) -> None:
        """The machine's summary: one JSON object on stdout, where ``--json`` was given."""
        if self.as_json:
            # ASCII only: a file name may hold bytes that no terminal can show, and JSON escapes them without loss.
            sys.stdout.write(json.dumps(payload, indent=2, default=str) + "\n")
            sys.stdout.flush()

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Aligned ``name  value`` lines for people, on stderr."""
        width = max((len(name) for name, _ in rows), default=0)
        if not self.quiet:
            for name, value in rows:
                self.people.print(self._folded(Text(shown(f"  {name.ljust(width)}  {value}")), hang=width + 4))

    def answer(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The table that a question such as ``list`` was asked for: on stdout, since it is the product."""
        if self.as_json:
            return
        out = Console(highlight=False)
        if out.is_terminal:
            plain = [[shown(cell) for cell in row] for row in rows]
            if len(columns) > _MOST_FOLDED and _natural_width([columns, *plain]) > out.width:
                _print_blocks(out, columns, plain)
                return
            table = Table(*columns, box=None, pad_edge=False, header_style="bold")
            for row in plain:
                table.add_row(*map(Text, row))
            out.print(table)
            return
        # A pipe has no width to fold at: one line a row, for grep and the like.
        lines = [columns, *([shown(cell) for cell in row] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            row_text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(row_text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


_LEAST_WIDTH: Final = 20
"""Columns of text however narrow the terminal is."""

_MOST_FOLDED: Final = 3
"""Columns of a table whose cells can be folded and still be read."""

_SHORT: Final = 16
"""Letters of a cell that stands in a row with others."""


def _line_starts(text: str, width: int) -> list[int]:
    """Where lines begin, but for the first, that are no wider than this unless a word alone is."""
    starts, start = [], 0
    for word in re.finditer(r"\S+", text):
        if cell_len(text[start : word.end()]) > width and text[start : word.start()].strip():
            start = word.start()
            starts.append(start)
    return starts


def _natural_width(lines: Sequence[Sequence[str]]) -> int:
    return sum(max(cell_len(line[i]) for line in lines) + 2 for i in range(len(lines[0])))


def _print_blocks(out: Console, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table too wide for the terminal: of each row its name, then what is short in one line, then the rest."""
    short = [i for i in range(1, len(columns)) if max(cell_len(row[i]) for row in rows) <= _SHORT]
    for row in rows:
        out.print(Text(row[0], style="bold"))
        told = [", ".join(f"{columns[i]} {row[i]}" for i in short)]
        told += [f"{columns[i]}: {row[i]}" for i in range(1, len(columns)) if i not in short and row[i]]
        for text in filter(None, told):
            out.print(Padding(Text(text), (0, 0, 0, 2)))


def free_name(stem: str, suffix: str) -> str:
    """``stem + suffix``, or with a number between them where a file of that name is there already."""
    number, name = 2, f"{stem}{suffix}"
    while Path(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return name


class NextStep(NamedTuple):
    """A command that starts as it can be typed, and why it is this one, where that may surprise."""

    command: str
    reason: str = ""


def after_protect(source: Path, output: Path, without: Collection[str]) -> NextStep | None:
    """What to do with protected copies: verify them where there are enough pictures, else look at them. Nothing where
    SRC is a single picture, which no command compares with a folder.

    Args:
        source: SRC.
        output: OUT.
        without: paths below SRC of which there is no copy.
    """
    if not source.is_dir():
        return None
    from ..attacks.terms import enough_to_verify, fewest_for_groups, fewest_of_a_class
    from ..imaging import scan_source

    # Only counted, so that links may lead anywhere.
    entries = scan_source(source, follow_links=True).entries
    counts = Counter(entry.class_name for entry in entries if entry.relative not in without)
    words = f"{quoted(source)} {quoted(output)}"
    if enough_to_verify(list(counts.values())):
        return NextStep(f"bitterant verify {words}")
    needed = (
        f"about {fewest_of_a_class()} pictures of each class"
        if len(counts) > 1
        else f"{fewest_for_groups()} pictures where there are no two classes"
    )
    return NextStep(
        f"bitterant inspect {words}",
        f"These are too few pictures for 'bitterant verify', which takes {needed}. What can be done is to look at the "
        "change:",
    )


def tell_next(output: Output, step: NextStep | None) -> None:
    """Print the command that comes next, in one piece, so that it can be copied."""
    if step is None:
        return
    if step.reason:
        output.say(step.reason)
    output.say(f"Next: {step.command}", style="bold", whole=True)


PLAIN_SECONDS = 10.0


class _Amount(ProgressColumn):
    """How far, how fast, how long still."""

    def render(self, task: Task) -> Text:
        total, first = task.total or 0.0, float(task.fields.get("first", 0.0))
        parts = [amount(task.completed, total)]
        elapsed, done = task.elapsed or 0.0, task.completed - first
        if total > 1 and elapsed > 0.5 and done >= 0.1 * elapsed:
            parts.append(f"{done / elapsed:.1f}/s")
        reached = float(task.fields.get("reached", elapsed))
        parts.append(time_left(done, total - first, reached, elapsed - reached))
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
                get_time=self.clock,
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
        self._bar.update(
            self._task,
            completed=done,
            total=total or None,
            message=shown(message).replace("[", r"\["),
            reached=self.clock() - self._began,
        )

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
