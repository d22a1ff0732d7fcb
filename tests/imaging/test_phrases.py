"""Times, sizes, amounts and paths as people read them."""

from __future__ import annotations

import shlex

import pytest

from bitterant.records.text import amount, duration, pace, quoted, size, time_left


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (3 * 3600 + 600, "3 h 10 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("done", "total", "elapsed", "words"),
    [(1, 4, 10, "about 30 s left"), (0, 4, 10, ""), (4, 4, 10, ""), (1, 4, 1, ""), (0.5, 1, 8, "about 8 s left")],
)
def test_time_left_is_told_when_something_can_be_told(done: float, total: float, elapsed: float, words: str) -> None:
    assert time_left(done, total, elapsed) == words


def test_time_left_counts_down_until_more_is_done() -> None:
    assert [time_left(1, 4, 10, since) for since in (0, 20, 30, 31)] == [
        "about 30 s left", "about 10 s left", "about 0 s left", "",
    ]  # fmt: skip


@pytest.mark.parametrize(("done", "total", "words"), [(3, 9, "3/9"), (0.25, 1.0, "25 %"), (1, 1, "100 %"), (2, 0, "")])
def test_amounts(done: float, total: float, words: str) -> None:
    assert amount(done, total) == words


@pytest.mark.parametrize(
    ("count", "words"), [(12, "12 bytes"), (1500, "1.5 kB"), (25_000, "25 kB"), (3.2e6, "3.2 MB"), (7e12, "7000 GB")]
)
def test_sizes(count: float, words: str) -> None:
    assert size(count) == words


@pytest.mark.parametrize(
    ("each_second", "words"),
    [(0, ""), (2.5, "2.5 pictures a second"), (0.5, "2.0 s a picture"), (1 / 90, "1 min 30 s a picture")],
)
def test_paces(each_second: float, words: str) -> None:
    assert pace(each_second) == words


@pytest.mark.parametrize("path", ["plain", "two words", "it's", "-dash", "a$b", "x\ny"])
def test_a_quoted_path_is_one_argument_and_no_option(path: str) -> None:
    (word,) = shlex.split(quoted(path))
    assert word.removeprefix("./") == path
    assert not word.startswith("-")
