"""What a process and those that it starts take together: resident memory at its peak, and CPU time."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

EVERY = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def resident(pid: int) -> int:
    """Bytes of a process and all below it now. What they share is counted in each, so it is rather too much."""
    total = 0
    with contextlib.suppress(OSError, IndexError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                total += resident(int(child))
    return total


class Watch:
    """Looks at a process fifty times a second.

    Attributes:
        peak: the most bytes that were seen.
    """

    def __init__(self, pid: int) -> None:
        self.pid, self.peak = pid, 0
        self._over = threading.Event()

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            self.peak = max(self.peak, resident(self.pid))


@contextlib.contextmanager
def watching(pid: int) -> Iterator[Watch]:
    """Look while the block runs."""
    watch = Watch(pid)
    thread = threading.Thread(target=watch._look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch._over.set()
        thread.join()


def cpu_seconds() -> float:
    """Of this process and of those below it that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
