"""Files that appear whole or not at all, never over somebody else's, and with the same bytes for the same content.

At the end, one writer at a time: a lock file beside what is written, held by the system (``flock``, ``LockFileEx``)
and gone with its holder, so that one which a killed process left keeps nobody out. While no run is under way the lock
file is not there, so it can never be published with what lies beside it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from ..errors import ConfigError, OutputError, ResumeError
from .places import open_own, walk

logger = logging.getLogger(__name__)

#: Half-written files are called so. Hidden, so that a reader of the folder does not take one for an image.
TEMPORARY_PREFIX: Final = ".bitterant-tmp-"

_REMEDIES: Final = {
    errno.ENOSPC: "the disk is full; free some space or choose another folder, then run the same command again",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EACCES: "you may not write there; choose another folder or change its permissions",
    errno.EPERM: "you may not write there; choose another folder or change its permissions",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a part of the path is a file, not a folder; choose another folder",
    errno.EISDIR: "a folder of that name is in the way; choose another folder",
    errno.ENAMETOOLONG: "the name is too long for this disk; choose a shorter folder name",
}

#: What a disk says that knows no second name for a file.
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EXDEV}
)

#: Whether a file that is there may be replaced; a function is asked about the file and knows those of its own kind.
Overwrite = bool | Callable[[Path], bool]


def write_atomic(path: Path, data: bytes, *, overwrite: Overwrite, private: bool = False, lasting: bool = True) -> None:
    """Write a file so that it is never seen half-written, not even after a power cut.

    The bytes go to a temporary name in the same folder, reach the disk, and are renamed. Missing folders are made. A
    link of that name is replaced or left alone; what it leads to is never touched.

    Args:
        path: where the file shall be.
        data: its whole content.
        overwrite: replace a file that is there. False leaves it alone, and so does a function that does not know it
            for one of ours.
        private: nobody but its owner may read it, whatever the umask says.
        lasting: the new name is on disk when this returns. Otherwise a power cut may take the whole file back until
            :func:`sync_folder` was called, once for many files of a folder.

    Raises:
        ConfigError: the file is there already and is not to be replaced.
        OutputError: the place cannot be written.
    """
    with atomic_file(path, overwrite=overwrite, private=private, lasting=lasting) as file:
        file.write(data)


@contextmanager
def atomic_file(path: Path, *, overwrite: Overwrite, private: bool = False, lasting: bool = True) -> Iterator[BinaryIO]:
    """As :func:`write_atomic`, for a file too large to hold in memory: the block writes it piece by piece.

    Where the block raises, nothing of the file is left.

    Args:
        path: where the file shall be.
        overwrite: as there.
        private: as there.
        lasting: as there.

    Yields:
        The file, open for reading and writing.

    Raises:
        OutputError: as :func:`write_atomic`; so does an OSError of the block.
    """
    path = Path(path)
    check_free(path, overwrite=overwrite)
    temporary = path.parent / f"{_temporary_stem(path)}{secrets.token_hex(8)}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with _new_file(temporary, 0o600 if private else 0o666) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            put_in_place(temporary, path, overwrite=overwrite)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if lasting:
            sync_folder(path.parent)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "check the folder and the disk")
        raise OutputError(f"Cannot write {path}: {error.strerror or error} ({remedy}).") from error


def check_free(path: Path, *, overwrite: Overwrite = False) -> None:
    """Make sure that a file may be written, before the work of making it.

    Raises:
        ConfigError: something is there that is not to be replaced.
    """
    if os.path.lexists(path) and not _may_replace(path, overwrite):
        raise _exists_already(path)


def put_in_place(temporary: Path, path: Path, *, overwrite: Overwrite) -> None:
    """Give a finished file its name, in one step: another that appeared under it meanwhile is not lost.

    Raises:
        ConfigError: something is there that is not to be replaced.
        OSError: the disk does not let it be renamed.
    """
    if os.path.lexists(path) and _may_replace(path, overwrite):
        temporary.replace(path)
        return
    try:
        os.link(temporary, path, follow_symlinks=False)  # unlike a rename, this fails where the name is taken
    except FileExistsError as error:
        if not _may_replace(path, overwrite):
            raise _exists_already(path) from error
        temporary.replace(path)  # it appeared meanwhile, and may go
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        check_free(path)
        temporary.replace(path)
    else:
        temporary.unlink()


def _may_replace(path: Path, overwrite: Overwrite) -> bool:
    if isinstance(overwrite, bool):
        return overwrite
    try:
        return path.is_file() and not path.is_symlink() and overwrite(path)
    except OSError:
        return False


def _exists_already(path: Path) -> ConfigError:
    return ConfigError(f"{path} exists already and is left alone. Choose another name, or move it away.")


def _temporary_stem(path: Path) -> str:
    """How the half-written versions of one file are called: a digest of its name, since the name may fill all 255 bytes
    that a file name can have."""
    return f"{TEMPORARY_PREFIX}{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}-"


def _new_file(path: Path, mode: int) -> BinaryIO:
    # os.open instead of tempfile: the file gets the permissions the user's umask asks for, not 0600.
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    return os.fdopen(os.open(path, flags, mode), "w+b")


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk. Where they cannot be opened, a rename is as safe as it gets."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sweep_temporaries(root: Path) -> int:
    """Remove the half-written files that a killed run left below ``root``; other files are not touched.

    Only call it while no other run writes into the same folder.

    Returns:
        How many were removed.
    """
    found = (item for item in walk(root) if item.name.startswith(TEMPORARY_PREFIX))
    return _remove(Path(item.path) for item in found if not item.is_dir(follow_symlinks=False))


def sweep_temporaries_of(path: Path) -> int:
    """Remove the half-written versions of one file that a killed run left beside it; nothing else is touched.

    For folders that other runs write into at the same time. Only call it while no other run writes that very file.

    Returns:
        How many were removed.
    """
    try:
        stem = _temporary_stem(path)
        with os.scandir(path.parent) as listing:
            names = [item.name for item in listing if item.name.startswith(stem)]
    except OSError:
        return 0
    return _remove(path.parent / name for name in names)


def _remove(paths: Iterable[Path]) -> int:
    removed = 0
    for path in paths:
        with suppress(OSError):
            path.unlink()
            removed += 1
    if removed:
        logger.info("removed %d half-written files of an earlier run", removed)
    return removed


def in_stable_order(data: bytes) -> bytes:
    """The same safetensors file with the keys of its JSON header sorted: the library writes metadata in an order that
    changes from run to run. Layout: header length as 8 bytes little-endian, header padded with spaces, tensors."""
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return b"".join((len(header).to_bytes(8, "little"), header, memoryview(data)[8 + length :]))


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
    import filelock  # only runs that write need it

    try:
        free = filelock.lock_descriptor(file.fileno(), blocking=False)
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
