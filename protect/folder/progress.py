"""How a run tells its caller where it stands. The library prints nothing; the command line draws the bar."""

from __future__ import annotations

from typing import Protocol

__all__ = ["STAGES", "ProgressCallback", "silent"]

#: The stages of a folder run, in order. A run skips those it does not need.
STAGES: tuple[str, ...] = ("check", "read", "fit", "write", "report")


class ProgressCallback(Protocol):
    """Called from the thread that called the run, often, and never after the run has returned."""

    def __call__(self, stage: str, done: float, total: float, message: str = "", /) -> None:
        """Report progress.

        Args:
            stage: one of :data:`STAGES`.
            done: finished so far: files in ``check``, ``read``, ``write``; a fraction in 0..1 in ``fit``.
            total: what ``done`` counts up to; 0 where it is not known.
            message: a short text for people, possibly empty.
        """
        ...


def silent(stage: str, done: float, total: float, message: str = "", /) -> None:
    """The callback used where the caller gave none."""
