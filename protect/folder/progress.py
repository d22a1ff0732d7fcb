"""How a run tells its caller where it stands. The library prints nothing; the command line draws the bar."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ...imaging.scan import FolderScan

__all__ = ["STAGES", "ProgressCallback", "silent", "tell_found"]

#: The stages of a folder run, in order. A run skips those it does not need.
STAGES: tuple[str, ...] = ("found", "check", "read", "fit", "write", "report")


class ProgressCallback(Protocol):
    """Called from the thread that called the run, often, and never after the run has returned."""

    def __call__(self, stage: str, done: float, total: float, message: str = "", /) -> None:
        """Report progress.

        Args:
            stage: one of :data:`STAGES`.
            done: finished so far: files in ``check``, ``read``, ``write``; a fraction in 0..1 in ``fit``; nothing in
                ``found``, which is told before any work and has a message only.
            total: what ``done`` counts up to; 0 where it is not known.
            message: a short text for people, possibly empty.
        """
        ...


def silent(stage: str, done: float, total: float, message: str = "", /) -> None:
    """The callback used where the caller gave none."""


def tell_found(scan: FolderScan, progress: ProgressCallback) -> None:
    """Say before any work what the pictures are and which folders were taken for classes."""
    for message in (scan.describe(), *scan.notes):
        progress("found", 0, 0, message)
