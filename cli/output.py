"""Where words go: people read stderr, programs one JSON object on stdout; and which command comes next.

Where words go: people read stderr, programs read one JSON object on stdout.

Everything that people see passes through here, and nothing of it acts on their terminal: names of files and captions
may hold whatever their maker liked.

The command that comes next, as it can be typed: suggested only where it would start.
"""

from __future__ import annotations

import json
import sys
import traceback
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..imaging.phrases import quoted


def shown(text: str) -> str:
    """The text as a terminal may have it; see :func:`visible`, which comes with numpy, so that ``--help`` waits for
    nothing."""
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
        # Paths must stay on one line, so that they can be copied; the terminal wraps them.
        self.people = Console(stderr=True, highlight=False, soft_wrap=True)

    def say(self, text: str = "", style: str = "") -> None:
        """A line for people, on stderr, after as many empty ones as it begins with line breaks. Square brackets in it
        are text, not markup."""
        if not self.quiet:
            line = text.lstrip("\n")
            self.people.print(Text("\n" * (len(text) - len(line)) + shown(line), style=style))

    def error(self, text: str, *more: str) -> None:
        """An error for people, on stderr, also when quiet; ``more`` lines belong to it."""
        self.people.print(Text.assemble(("error: ", "bold red"), shown(text)))
        for line in more:
            self.people.print(Text(shown(line)))

    def warn(self, text: str) -> None:
        """A warning for people, on stderr."""
        if not self.quiet:
            self.people.print(Text.assemble(("warning: ", "bold yellow"), shown(text)))

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
        for name, value in rows:
            self.say(f"  {name.ljust(width)}  {value}")

    def answer(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The table that a question such as ``list`` was asked for: on stdout, since it is the product."""
        if self.as_json:
            return
        out = Console(highlight=False)
        if out.is_terminal:
            table = Table(*columns, box=None, pad_edge=False, header_style="bold")
            for row in rows:
                table.add_row(*(Text(shown(cell)) for cell in row))
            out.print(table)
            return
        # A pipe has no width to fold at: one line a row, for grep and the like.
        lines = [columns, *([shown(cell) for cell in row] for row in rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
        for line in lines:
            row_text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            encoding = sys.stdout.encoding or "utf-8"
            sys.stdout.write(row_text.encode(encoding, "backslashreplace").decode(encoding) + "\n")


def free_name(stem: str, suffix: str) -> str:
    """``stem + suffix``, or with a number between them where a file of that name is there already."""
    number, name = 2, f"{stem}{suffix}"
    while Path(name).exists():
        name, number = f"{stem}-{number}{suffix}", number + 1
    return name


def after_protect(source: Path, output: Path, without: Collection[str]) -> str:
    """What to do with protected copies: verify them where there are enough pictures, else look at them. Nothing where
    SRC is a single picture, which no command compares with a folder.

    Args:
        source: SRC.
        output: OUT.
        without: paths below SRC of which there is no copy.
    """
    if not source.is_dir():
        return ""
    from ..attacks.terms import enough_to_hold_out, fewest_for_groups
    from ..imaging import scan_source

    # Only counted, so that links may lead anywhere.
    entries = scan_source(source, follow_links=True).entries
    counts = Counter(entry.class_name for entry in entries if entry.relative not in without)
    enough = enough_to_hold_out(list(counts.values())) if len(counts) > 1 else counts.total() >= fewest_for_groups()
    return f"bitterant {'verify' if enough else 'inspect'} {quoted(source)} {quoted(output)}"
