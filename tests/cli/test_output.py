"""What people read fits their terminal: lines are broken between words, wide tables become blocks."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bitterant.cli import output as module
from bitterant.cli.output import Output


def terminal(width: int = 40) -> tuple[Output, io.StringIO]:
    output, seen = Output(), io.StringIO()
    output.people = Console(file=seen, force_terminal=True, width=width, soft_wrap=True, color_system=None)
    return output, seen


WORDS = "a sentence that goes on and on until it is longer than any terminal of a sensible width"


@pytest.mark.parametrize("tell", ["say", "warn", "error"])
def test_long_lines_are_broken_between_words(tell: str) -> None:
    output, seen = terminal()
    getattr(output, tell)(WORDS)
    lines = seen.getvalue().splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 40
    assert " ".join(seen.getvalue().split()).removeprefix(f"{tell}ing: ").removeprefix("error: ") == WORDS


def test_indented_lines_and_facts_keep_their_indent() -> None:
    output, seen = terminal()
    output.say(f"    {WORDS}")
    lines = seen.getvalue().splitlines()
    assert len(lines) > 2
    assert all(line.startswith("    ") and len(line) <= 40 for line in lines)
    output, seen = terminal()
    output.facts([("name", WORDS), ("other", "x")])
    first, *more = seen.getvalue().splitlines()
    assert first.startswith("  name   a sentence")
    assert more[-1] == "  other  x"
    assert len(more) > 2
    assert all(line.startswith(" " * 9) and len(line) <= 40 for line in more[:-1])


def test_what_is_to_be_copied_stays_in_one_piece() -> None:
    path = "/".join(["folder"] * 9)
    output, seen = terminal()
    output.say(f"the report is {path} and there is more to say")
    assert path in seen.getvalue()
    output, seen = terminal()
    output.say(f"Next: {WORDS}", whole=True)
    assert seen.getvalue().splitlines() == [f"Next: {WORDS}"]


def test_nothing_is_broken_where_there_is_no_terminal() -> None:
    output, seen = Output(), io.StringIO()
    output.people = Console(file=seen, force_terminal=False, width=40, soft_wrap=True)
    output.warn(WORDS)
    assert seen.getvalue().splitlines() == [f"warning: {WORDS}"]


def test_the_same_warning_is_told_once() -> None:
    output, seen = terminal(200)
    for text in ("one", "two", "one"):
        output.warn(text)
    assert seen.getvalue().splitlines() == ["warning: one", "warning: two"]


@pytest.mark.parametrize("width", [60, 400])
def test_a_table_of_many_columns_is_a_table_where_it_fits_and_blocks_where_not(
    monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    seen = io.StringIO()
    monkeypatch.setattr(
        module, "Console", lambda **_: Console(file=seen, force_terminal=True, width=width, color_system=None)
    )
    output = Output()
    output.answer(("name", "tier", "cost", "what", "source"), [("jpeg", "transforms", "1", WORDS, "a paper")])
    lines = [line.rstrip() for line in seen.getvalue().splitlines()]
    assert max(map(len, lines)) <= width
    if width > 200:
        assert lines[0].split() == ["name", "tier", "cost", "what", "source"]
        assert len(lines) == 2
    else:
        assert lines[:2] == ["jpeg", "  tier transforms, cost 1, source a paper"]
        assert lines[2].startswith("  what: a sentence")
