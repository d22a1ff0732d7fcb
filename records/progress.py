"""How a run tells its caller where it stands, and how it is stopped so that it can go on later.

The library prints nothing; the command line draws the bar. Of two signals the first asks a run to stop, the second
aborts it.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from ..errors import Interrupted

#: The stages of a folder run, in order. A run skips those it does not need; ``slow`` comes at any time.
STAGES: tuple[str, ...] = ("found", "check", "read", "fit", "write", "report", "slow")


class ProgressCallback(Protocol):
    """Called from the thread that called, often, and never after the call has returned."""

    def __call__(self, stage: str, done: float, total: float, message: str = "", /) -> None:
        """Report progress.

        Args:
            stage: of a folder run one of :data:`STAGES`; of a verification ``compare``, ``read``, ``prepare`` or
                ``verify``.
            done: finished so far: files in ``check``, ``read``, ``write``, ``compare``; trainings in ``prepare``; a
                fraction in 0..1 in ``fit`` and ``verify``; nothing in ``found``, which is told before any work, and in
                ``slow``, which names a file that takes long: these have a message only.
            total: what ``done`` counts up to; 0 where it is not known.
            message: a short text for people, possibly empty.
        """
        ...


def silent(stage: str, done: float, total: float, message: str = "", /) -> None:
    """The callback used where the caller gave none."""


class StopRequest:
    """A flag that a run looks at between two files. Any thread may set it."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def __reduce__(self) -> tuple[type[StopRequest], tuple[()]]:
        """In another process nobody asks."""
        return StopRequest, ()

    @property
    def requested(self) -> bool:
        """Whether the run was asked to stop."""
        return self._event.is_set()

    def request(self) -> None:
        """Ask the run to finish the files it has begun and then to raise Interrupted."""
        self._event.set()

    def check(self, where: str) -> None:
        """Raise if a stop was asked for.

        Args:
            where: what is finished so far, as the first sentence of the message.

        Raises:
            Interrupted: a stop was asked for.
        """
        if self.requested:
            raise Interrupted(f"Stopped. {where} The same command goes on from there.")


@contextmanager
def interruptible(on_first: Callable[[], None] | None = None) -> Iterator[StopRequest]:
    """Turn SIGINT and SIGTERM into a stop request for as long as the block lasts.

    The first signal sets the flag; the second one raises KeyboardInterrupt at once. Outside the main thread, where
    Python allows no handlers, the flag is handed out and no handler is installed. Earlier handlers are put back.

    Args:
        on_first: called on the first signal, to tell the user that the current file is being finished.
    """
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.requested:
            raise KeyboardInterrupt
        stop.request()
        if on_first is not None:
            on_first()

    earlier = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in earlier.items():
            # A handler that was not installed from Python reads as None and cannot be put back by Python either.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
