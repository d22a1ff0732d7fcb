"""The command line. It checks words, calls the library, and tells people what came of it; it computes nothing."""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the ``bitterant`` command and return its exit code.

    Args:
        arguments: the words after ``bitterant``; the process's own where left out. Then the process is taken to be
            the command, and signals that come after its end keep its exit code.

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

    if arguments is not None:
        return together(run, arguments)
    from .boundary import end_by_signal

    end_by_signal()
    code = together(run, sys.argv[1:])
    end_by_signal(code)
    return code
