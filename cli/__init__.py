"""The command line. It checks words, calls the library, and tells people what came of it; it computes nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``bitterant`` command and return its exit code.

    Args:
        arguments: the words after ``bitterant``; the process's own where left out.

    Returns:
        0 done, 1 finished with failed files, 2 wrong usage, 3 the machine lacks something, 4 ``verify`` did not reach
        the required grade, 5 ``verify`` is invalid, 130 interrupted.
    """
    from .app import app
    from .together import together

    def run() -> int:
        try:
            app(args=None if arguments is None else list(arguments), prog_name="bitterant")
        except SystemExit as stop:
            return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        return 0

    code = together(run, sys.argv[1:] if arguments is None else arguments)
    if arguments is None:
        _end_with(code)
    return code


def _end_with(code: int) -> None:
    """What was to be done is done and said. A signal that comes while Python ends itself, which takes a while with
    torch, ends the process sooner, and no longer takes its exit code away."""
    if threading.current_thread() is not threading.main_thread():
        return
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none at all
            stream.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: os._exit(code))
