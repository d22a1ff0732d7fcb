"""Results come in order, an item that hangs is given up, and what was given up brings nothing any more."""

from __future__ import annotations

import threading
import time

import pytest

from bitterant.records import threads
from bitterant.records.progress import StopRequest
from bitterant.records.threads import Attempt, GivenUp, Patience, ordered_map, patient_map


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(threads, "TOLD_AFTER", 0.02)


def test_results_are_in_order_and_few_are_under_way() -> None:
    lock, now, most = threading.Lock(), 0, 0

    def work(number: int) -> int:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.001 * (number % 3))
        with lock:
            now -= 1
        return number * number

    taken = iter(range(40))
    results = ordered_map(work, taken, workers=3)
    assert next(results) == 0
    assert next(taken) <= 7, "no more than two a thread are begun ahead"
    assert list(results) == [number * number for number in range(1, 40) if number != 6]
    assert 2 <= most <= 3


def test_an_error_is_raised_in_its_place() -> None:
    results = ordered_map(lambda number: 6 // number, [1, 2, 0, 3], workers=2)
    assert [next(results), next(results)] == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_stop_finishes_what_has_begun_and_no_more() -> None:
    stop, done = StopRequest(), []
    results = ordered_map(lambda number: done.append(number) or number, range(100), workers=2, stop=stop)
    assert next(results) == 0
    stop.request()
    rest = list(results)
    assert rest == list(range(1, 1 + len(rest)))
    assert len(rest) <= 3
    assert sorted(done) == [0, *rest]


def test_items_that_hang_are_told_of_and_given_up_and_the_others_are_done() -> None:
    never, told = threading.Event(), []
    written: list[int] = []

    def work(number: int, attempt: Attempt) -> str:
        if number % 3 == 1:
            never.wait(30)
        attempt.commit()
        written.append(number)
        return f"done {number}"

    patience = Patience(0.1, lambda number, seconds: told.append(number))
    late = lambda number, limit: f"late {number} {limit:g}"  # noqa: E731
    results = patient_map(work, range(12), workers=2, patience=patience, late=late)
    assert list(results) == [f"late {n} 0.1" if n % 3 == 1 else f"done {n}" for n in range(12)]
    assert set(told) == {1, 4, 7, 10}
    never.set()  # what was given up wakes, and writes nothing
    time.sleep(0.05)
    assert sorted(written) == [n for n in range(12) if n % 3 != 1]


def test_what_has_committed_is_waited_for() -> None:
    def work(number: int, attempt: Attempt) -> str:
        attempt.commit()
        time.sleep(0.2)
        return "done"

    told: list[float] = []
    patience = Patience(0.05, lambda number, seconds: told.append(seconds))
    assert list(patient_map(work, [1], workers=1, patience=patience, late=lambda *_: "late")) == ["done"]
    assert len(told) >= 1


def test_waiting_for_others_does_not_count() -> None:
    attempt = Attempt()
    attempt.begin()
    with attempt.paused():
        time.sleep(0.05)
        assert attempt.seconds < 0.04
    assert attempt.seconds < 0.04


def test_once_given_up_it_cannot_commit_and_once_committed_it_cannot_be_given_up() -> None:
    released: list[int] = []
    attempt = Attempt()
    attempt.when_given_up(lambda: released.append(1))
    assert attempt.begin()
    assert not attempt.give_up(begun=False)
    assert attempt.give_up()
    assert released == [1]
    with pytest.raises(GivenUp):
        attempt.commit()
    with pytest.raises(GivenUp), attempt.paused():
        pass
    other = Attempt()
    other.commit()
    assert not other.give_up()


def test_closed_early_it_waits_for_committed_items_alone() -> None:
    never, committed, ended = threading.Event(), threading.Event(), []

    def work(number: int, attempt: Attempt) -> None:
        if number == 1:
            never.wait(30)
        if number == 2:
            attempt.commit()
            committed.set()
            time.sleep(0.1)
            ended.append(number)

    results = patient_map(work, range(3), workers=3)
    next(results)
    committed.wait()
    results.close()
    assert ended == [2]
    never.set()
