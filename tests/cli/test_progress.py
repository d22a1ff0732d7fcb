"""Progress: plain lines that are few and tell something, a bar that survives any order of calls."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from bitterant.cli.output import Output
from bitterant.cli.progress import ProgressDisplay, duration


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def shown(output: Output) -> str:
    file = output.people.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def output_to_text(*, terminal: bool, quiet: bool = False) -> Output:
    output = Output(quiet=quiet)
    output.people = Console(file=io.StringIO(), force_terminal=terminal, width=100, soft_wrap=True)
    return output


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (11_400, "3 h 10 min")],
)
def test_durations_read_like_words(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_come_at_stage_starts_and_every_ten_seconds() -> None:
    output, clock = output_to_text(terminal=False), Clock()
    with ProgressDisplay(output, clock) as progress:
        for done in range(101):
            progress("write", done, 100, "a.png")
            clock.now += 0.25
    lines = shown(output).splitlines()
    assert lines[0] == "Writing protected copies (100)"
    assert lines[1] == "Writing protected copies: 40/100, about 15 s left, a.png"
    assert len(lines) == 3


def test_a_fraction_is_told_in_per_cent() -> None:
    output, clock = output_to_text(terminal=False), Clock()
    with ProgressDisplay(output, clock) as progress:
        progress.fraction("fit")(0.0)
        clock.now = 30
        progress.fraction("fit")(0.25)
    assert shown(output).splitlines() == ["Making the noise", "Making the noise: 25 %, about 1 min 30 s left"]


def test_a_new_attempt_starts_the_clock_anew() -> None:
    """Otherwise the minutes of the first attempt would be taken for the first steps of the second."""
    output, clock = output_to_text(terminal=False), Clock()
    with ProgressDisplay(output, clock) as progress:
        progress("fit", 0.9, 1.0)
        for clock.now, done in ((100.0, 0.0), (120.0, 0.5)):
            progress("fit", done, 1.0, "attempt 2")
    assert shown(output).splitlines()[-1] == "Making the noise: 50 %, about 20 s left, attempt 2"


def test_quiet_says_nothing() -> None:
    output = output_to_text(terminal=True, quiet=True)
    with ProgressDisplay(output) as progress:
        progress("fit", 0.5, 1.0, "x")
    assert shown(output) == ""


def test_a_terminal_gets_a_bar_for_each_stage_and_brackets_in_names_are_text() -> None:
    output = output_to_text(terminal=True)
    with ProgressDisplay(output) as progress:
        progress("read", 0, 0)
        progress("read", 3, 3)
        progress("write", 0, 2, "[/red] odd [name].png")
        progress("write", 2, 2, "[/red] odd [name].png")
        progress("unheard-of", 1, 1)
    text = shown(output)
    assert "Loading pictures" in text
    assert "Writing protected copies" in text
    assert "unheard-of" in text


def test_an_error_inside_leaves_the_terminal_usable() -> None:
    output = output_to_text(terminal=True)
    with pytest.raises(ZeroDivisionError), ProgressDisplay(output) as progress:
        progress("fit", 0.1, 1 / 0)
    assert shown(output).endswith("\x1b[?25h")  # the cursor is shown again
