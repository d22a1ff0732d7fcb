"""One writer at a time: a lock file beside what is written, held by the system and gone with its holder.

The lock is the system's (``flock``, ``LockFileEx``), so a file that a killed process left keeps nobody out. While no
run is under way the file is not there, so it can never be published with what lies beside it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from filelock import lock_descriptor

from ..errors import OutputError, ResumeError
from .places import open_own

logger = logging.getLogger(__name__)

#: How often a file that was removed while it was being locked is opened anew; far more than can happen by chance.
_TRIES: Final = 100


@contextmanager
def holding(output: Path, lock: Path, *, existed: bool) -> Iterator[None]:
    """Hold OUT for one run; a folder that was made for nothing is taken away again.

    Args:
        output: OUT.
        lock: its lock file.
        existed: whether OUT was there before the request was checked.

    Raises:
        ResumeError: another process holds it.
        OutputError: the lock file cannot be made.
    """
    try:
        with exclusive(lock):
            yield
    except BaseException:
        if not existed:
            with suppress(OSError):
                output.rmdir()
        raise


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two runs never write to one folder. Freed by the system when the process dies.

    Args:
        path: the lock file, in the folder that is written to. It is removed at the end.

    Raises:
        ResumeError: another process holds it.
        OutputError: the file cannot be made.
    """
    file = _acquire(path)
    try:
        yield
    finally:
        # Removed while it is held: afterwards it could be another run's.
        with suppress(OSError):
            path.unlink(missing_ok=True)
        file.close()
        if os.name == "nt":  # an open file cannot be removed there; one that the next run has opened stays, too
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _acquire(path: Path) -> BinaryIO:
    """The lock file, held until it is closed."""
    for _ in range(_TRIES):
        try:
            file = open_own(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
        try:
            _lock(file, path)
            if _is_still_there(file, path):
                return file
        except BaseException:
            file.close()
            raise
        # Its last holder removed the file between our opening and locking it: what we hold keeps nobody out.
        file.close()
    raise _held_elsewhere(path)


def _lock(file: BinaryIO, path: Path) -> None:
    try:
        free = lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:  # some network disks know no locks
        logger.warning("%s cannot be locked (%s): two runs at once are not noticed there", path.parent, error.strerror)
        return
    if not free:
        raise _held_elsewhere(path)


def _is_still_there(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _held_elsewhere(path: Path) -> ResumeError:
    return ResumeError(f"Another bitterant is writing to {path.parent}. Wait for it, or stop it and run this again.")
