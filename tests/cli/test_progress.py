"""Progress: plain lines that are few and tell something, a bar that survives any order of calls."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from bitterant.cli.output import Output, ProgressDisplay
from bitterant.records.text import duration, pace


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


def test_what_was_done_before_the_start_took_no_time() -> None:
    """A run that goes on at the half would else promise to be done at once."""
    output, clock = output_to_text(terminal=False), Clock()
    with ProgressDisplay(output, clock) as progress:
        progress("fit", 0.5, 1.0)
        clock.now = 20
        progress("fit", 0.6, 1.0, "round 6")
    assert shown(output).splitlines()[-1] == "Making the noise: 60 %, about 1 min 20 s left, round 6"


@pytest.mark.parametrize(
    ("each_second", "text"),
    [(0.0, ""), (0.0004, "41 min 40 s a picture"), (0.04, "25 s a picture"), (0.5, "2.0 s a picture"),
     (43.12, "43.1 pictures a second")],
)  # fmt: skip
def test_a_pace_is_never_zero(each_second: float, text: str) -> None:
    assert pace(each_second) == text


def test_a_bar_is_one_line_of_eighty_columns() -> None:
    output = output_to_text(terminal=True)
    output.people = Console(file=io.StringIO(), force_terminal=True, width=80)
    with ProgressDisplay(output) as progress:
        progress("write", 0, 120_000, "a/rather/long/name/" * 8)
        progress("write", 60_000, 120_000, "a/rather/long/name/" * 8)
        assert progress._bar is not None
        progress._bar.refresh()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown(output))
    lines = [line for line in re.split(r"[\r\n]+", plain) if line.strip()]
    assert all(len(line) <= 80 and line.lstrip()[1:].lstrip().startswith("Writing") for line in lines), lines


def test_the_time_left_counts_down_between_two_steps() -> None:
    output, clock = output_to_text(terminal=True), Clock()
    output.people = Console(file=io.StringIO(), force_terminal=True, width=80)
    with ProgressDisplay(output, clock) as progress:
        progress("verify", 0.0, 1.0)
        clock.now = 60
        progress("verify", 0.25, 1.0, "1/4 trainings")
        assert progress._bar is not None
        for now in (60, 100, 500):
            clock.now = now
            progress._bar.refresh()
    told = re.findall(r"25 %(?:  (about [^\x1b]*? left))?", shown(output))
    assert [*dict.fromkeys(told)] == ["about 3 min 00 s left", "about 2 min 20 s left", ""]


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
