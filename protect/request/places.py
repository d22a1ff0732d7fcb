"""SRC and OUT: that they do not overlap, that OUT can be written, and which files in OUT are ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from ...errors import FolderError, OutputError, ResumeError
from ...imaging.scan import is_own_file
from ...records.files import TEMPORARY_PREFIX
from ...records.places import identity_of, lies_in, open_own

#: Litter that desktops leave in any folder; never a reason to refuse one.
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".directory"})

#: Far more than can fail by chance.
_LOCK_TRIES = 100


def overlap_problem(source: Path, output: Path) -> FolderError | None:
    """Why OUT may not be used with SRC, or ``None``. Both are compared as places, under whatever names; see
    :func:`lies_in`.

    Args:
        source: SRC.
        output: OUT; need not exist.
    """
    src, out = source.resolve(), output.resolve()
    remedy = "Originals are never touched. Choose an output folder beside it."
    if out == src or (identity_of(out) is not None and identity_of(out) == identity_of(src)):
        return FolderError(f"The output folder is the source folder itself: {source}. {remedy}")
    if lies_in(out, src):
        return FolderError(f"The output folder {output} lies inside the source folder {source}. {remedy}")
    if lies_in(src, out):
        return FolderError(f"The output folder {output} contains the source folder {source}. {remedy}")
    return None


def linked_problem(paths: Iterable[Path], output: Path) -> FolderError | None:
    """Why OUT may not be used with files that followed links lead to, or ``None``: they lie in it.

    Args:
        paths: the files.
        output: OUT; need not exist.
    """
    out = output.resolve()
    inside = next((path for path in paths if out in path.resolve().parents), None)
    if inside is None:
        return None
    return FolderError(
        f"{inside} leads into the output folder {output}. Originals are never touched. Choose another output folder."
    )


def existing_parent(path: Path) -> Path:
    """The nearest folder above (or at) ``path`` that exists."""
    resolved = path.resolve()
    return next((p for p in (resolved, *resolved.parents) if p.is_dir()), Path(resolved.anchor))


def check_writable(output: Path, *, create: bool, what: str = "output folder") -> None:
    """Make sure that files can be written to a folder, by writing one.

    Args:
        output: OUT, or the folder of a bank.
        create: make the folder and write a file for a moment; otherwise only ask the system for the permission.
        what: what messages call it.

    Raises:
        OutputError: it cannot be written.
        FolderError: it is a file.
    """
    if output.exists() and not output.is_dir():
        raise FolderError(f"The {what} {output} is a file, not a folder. Choose another name.")
    if not create:
        parent = existing_parent(output)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"The {what} {output} cannot be written: no permission in {parent}.")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=output, prefix=TEMPORARY_PREFIX):
            pass
    except OSError as error:
        raise OutputError(
            f"The {what} {output} cannot be written: {error.strerror or error}. "
            "Choose another folder, or fix its permissions."
        ) from error


def remove_empty_folders(folder: Path, stop: Path) -> None:
    """Remove ``folder`` and those above it, up to and with ``stop``, as long as they are empty."""
    while True:
        try:
            folder.rmdir()
        except OSError:
            return
        if folder == stop or stop not in folder.parents:
            return
        folder = folder.parent


def survey_output(output: Path) -> Iterator[str]:
    """All files in OUT that are neither ours at its root nor litter, as paths with forward slashes, sorted by folder.

    Links count as files, whatever they are called, and are not followed, so that nothing is ever written through one.

    Args:
        output: OUT; may be missing.
    """
    for folder, folders, files in os.walk(output, followlinks=False):
        here = Path(folder)
        at_root = here == output
        folders.sort()
        linked = [name for name in folders if (here / name).is_symlink()]
        for name in sorted([*files, *linked]):
            ours = at_root and is_own_file(name) and not (here / name).is_symlink()
            if not ours and name.lower() not in _LITTER:
                yield (here / name).relative_to(output).as_posix()


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file, so that two runs never write to one folder. Freed by the system when the process dies.

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
        if os.name == "nt":  # where an open file cannot be removed, and nothing is locked
            with suppress(OSError):
                path.unlink(missing_ok=True)


@contextmanager
def holding(output: Path, lock: Path, *, existed: bool) -> Iterator[None]:
    """Hold OUT for one run; a folder that was made for nothing is taken away again."""
    try:
        with exclusive(lock):
            yield
    except BaseException:
        if not existed:
            with suppress(OSError):
                output.rmdir()
        raise


def _acquire(path: Path) -> BinaryIO:
    """The lock file, held."""
    for _ in range(_LOCK_TRIES):
        try:
            file = open_own(path)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
        try:
            _take(file.fileno(), path)
            if _is_still_there(file.fileno(), path):
                return file
        except BaseException:
            file.close()
            raise
        # Its last holder removed the file between our opening and locking it: what we hold keeps nobody out.
        file.close()
    raise _held_elsewhere(path)


def _is_still_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _held_elsewhere(path: Path) -> ResumeError:
    return ResumeError(f"Another bitterant is writing to {path.parent}. Wait for it, or stop it and run this again.")


def _take(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # not on Windows; two runs at once are then not noticed
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _held_elsewhere(path) from error
    except OSError:  # a file system without locks
        return
