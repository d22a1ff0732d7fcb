"""Work on many items in threads: results in order, few items under way, and no item that holds the others up for ever.

Python cannot end a thread, and a decoder that hangs in C, or a network disk that does not answer, listens to nobody. So
an item that takes too long is *given up*: its thread is left to itself, another takes its place, and whatever it still
brings is not taken. Until it has *committed* itself it may be given up, so that what is given up never writes a file.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Generic, TypeVar, cast

from .progress import StopRequest

#: Seconds after which people hear that an item takes long, and again whenever as many times more have passed.
TOLD_AFTER: Final = 10.0
_TOLD_AGAIN: Final = 6
_LOOK_EVERY: Final = 0.5

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class GivenUp(Exception):
    """Raised in the thread of an item that was given up. Nobody else ever sees it."""


class Attempt:
    """One item that is worked on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: float | None = None
        self._paused: float | None = None
        self._given_up = self._settled = False
        self._releases: list[Callable[[], None]] = []

    def begin(self) -> bool:
        """The clock runs from now on; False where it was given up before."""
        with self._lock:
            self._begun = time.monotonic()
            return not self._given_up

    @property
    def seconds(self) -> float:
        """How long it has been worked on, without pauses."""
        with self._lock:
            now = time.monotonic() if self._paused is None else self._paused
            return 0.0 if self._begun is None else now - self._begun

    @contextmanager
    def paused(self) -> Iterator[None]:
        """The clock stands still: the item waits for others.

        Raises:
            GivenUp: it was given up meanwhile.
        """
        with self._lock:
            self._paused = time.monotonic()
        try:
            yield
        finally:
            with self._lock:
                if self._begun is not None and self._paused is not None:
                    self._begun += time.monotonic() - self._paused
                self._paused = None
        if self._given_up:
            raise GivenUp

    def commit(self) -> None:
        """From here on the item is finished, however long it takes.

        Raises:
            GivenUp: it was given up before.
        """
        if not self.finish():
            raise GivenUp

    def finish(self) -> bool:
        """As :meth:`commit`; False where it was given up before."""
        with self._lock:
            self._settled = not self._given_up
            return self._settled

    def give_up(self, *, begun: bool = True) -> bool:
        """Take nothing from it any more, and release what it holds; False where it is too late for that.

        Args:
            begun: also where it is worked on already.
        """
        with self._lock:
            if self._settled or (self._begun is not None and not begun):
                return False
            self._given_up = True
        for release in self._releases:
            release()
        return True

    def when_given_up(self, release: Callable[[], None]) -> None:
        """Call this once it is given up; at once where it was already."""
        with self._lock:
            if not self._given_up:
                self._releases.append(release)
                return
        release()


@dataclass(frozen=True)
class Patience(Generic[_Item]):
    """How long an item may take.

    Attributes:
        limit: seconds after which it is given up; infinite for never.
        tell: hears of an item that takes long, and for how many seconds it has.
    """

    limit: float
    tell: Callable[[_Item, float], None]


class _Task(Generic[_Item, _Result]):
    def __init__(self, item: _Item) -> None:
        self.item = item
        self.attempt = Attempt()
        self.outcome: Future[_Result] = Future()
        self.told = TOLD_AFTER


def ordered_map(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int, stop: StopRequest | None = None
) -> Generator[_Result]:
    """Results in the order of the items, computed in threads with a bounded number of items under way.

    When a stop is asked for, what has begun is finished and yielded, and the rest is left out; the caller then asks
    ``stop`` itself. Closed early, it waits for what has begun.
    """

    def committed(item: _Item, attempt: Attempt) -> _Result:
        attempt.commit()
        return work(item)

    return patient_map(committed, items, workers=workers, stop=stop)


def patient_map(
    work: Callable[[_Item, Attempt], _Result],
    items: Iterable[_Item],
    *,
    workers: int,
    stop: StopRequest | None = None,
    ahead: int = 2,
    patience: Patience[_Item] | None = None,
    late: Callable[[_Item, float], _Result] | None = None,
) -> Generator[_Result]:
    """As :func:`ordered_map`, and an item that takes too long is given up.

    Args:
        work: may be given up until it has called :meth:`Attempt.commit`. Closed early, the generator waits only for
            items that have.
        items: what is worked on.
        workers: threads.
        stop: as there.
        ahead: items a thread that are under way or finished and not yet yielded.
        patience: how long an item may take; for ever if left out.
        late: the result of an item that was given up, with the limit.
    """
    tasks: queue.SimpleQueue[_Task[_Item, _Result] | None] = queue.SimpleQueue()
    waiting: deque[_Task[_Item, _Result]] = deque()
    source = iter(items)

    def run() -> None:
        while (task := tasks.get()) is not None:
            if not task.attempt.begin():
                continue
            result, error = None, None
            try:
                result = work(task.item, task.attempt)
            except BaseException as caught:  # whatever it is, it is raised where results are waited for
                error = caught
            if not task.attempt.finish():
                return  # given up meanwhile: another thread has this one's place
            if error is not None:
                task.outcome.set_exception(error)
            else:
                task.outcome.set_result(cast(_Result, result))

    def start() -> None:
        threading.Thread(target=run, name="bitterant", daemon=True).start()

    def look_after(patience: Patience[_Item]) -> None:
        """Tell of what takes long, and give up what takes too long."""
        for task in waiting:
            seconds = 0.0 if task.outcome.done() else task.attempt.seconds
            if seconds >= task.told:
                patience.tell(task.item, seconds)
                task.told = seconds + _TOLD_AGAIN * TOLD_AFTER
            if seconds >= patience.limit and late is not None and task.attempt.give_up():
                start()
                task.outcome.set_result(late(task.item, patience.limit))

    for _ in range(workers):
        start()
    try:
        while True:
            while len(waiting) < ahead * workers and not (stop is not None and stop.requested):
                try:
                    waiting.append(_Task(next(source)))
                except StopIteration:
                    break
                tasks.put(waiting[-1])
            if stop is not None and stop.requested:
                # Items begin in order, so that only the tail can still be called back.
                while waiting and waiting[-1].attempt.give_up(begun=False):
                    waiting.pop()
            if not waiting:
                return
            while not waiting[0].outcome.done():
                wait([waiting[0].outcome], None if patience is None else _LOOK_EVERY)
                if patience is not None:
                    look_after(patience)
            yield waiting.popleft().outcome.result()
    finally:
        left = [task for task in waiting if not task.attempt.give_up()]
        for _ in range(workers):
            tasks.put(None)
        wait([task.outcome for task in left])
