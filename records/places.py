"""Files and folders by what they are, not by what they are called: links, mounts and other spellings change nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, BinaryIO, Final, TypeAlias, TypeVar, cast

from ..errors import OutputError

#: Device and inode: what two names of one folder share.
Identity: TypeAlias = tuple[int, int]

_File = TypeVar("_File", bound=IO[bytes])

_PLAIN: Final = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
# A pipe that comes between looking and opening must not block us, and a link must not lead us elsewhere.
_UNBLOCKED: Final = _PLAIN | getattr(os, "O_NONBLOCK", 0)
_UNLINKED: Final = _UNBLOCKED | getattr(os, "O_NOFOLLOW", 0)


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, if it is one. A pipe would block, and a device may do anything when it is opened.

    Raises:
        OSError: it is none, or cannot be opened.
    """
    _expect_file(path.stat().st_mode, path)
    # The builtin: the method of a path takes no opener.
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | _UNBLOCKED))  # noqa: SIM115
    return _checked(file, path)


def sha256_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as 64 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    with open_regular(Path(path)) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_or_none(path: Path) -> str | None:
    """As :func:`sha256_file`; ``None`` where there is no file of this name, or it cannot be read."""
    try:
        return sha256_file(path)
    except (OSError, ValueError):  # ValueError: of a name that no file can have
        return None


def read_regular(path: Path) -> bytes:
    """The bytes of a file; see :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def open_own(path: Path, *, append: bool = False) -> BinaryIO:
    """Open a file of our own for writing; it is made if it is missing. Never through a link: that leads to another's.

    Args:
        path: the file.
        append: every write goes to the end; otherwise the file is open for reading and writing at its start.

    Raises:
        OSError: something else has its name, or it cannot be written.
    """
    if path.is_symlink():
        raise OSError(errno.ELOOP, "a link has that name, and nothing is written through a link", str(path))

    def opener(name: str, flags: int) -> int:
        return os.open(name, flags | os.O_CREAT | _UNLINKED, 0o666)

    file = open(path, "ab" if append else "r+b", opener=opener)  # noqa: SIM115 - as above
    return cast(BinaryIO, _checked(file, path))


def _checked(file: _File, path: Path) -> _File:
    try:
        _expect_file(os.fstat(file.fileno()).st_mode, path)
    except BaseException:
        file.close()
        raise
    return file


def _expect_file(mode: int, path: Path) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "not a regular file", str(path))


def identity_of(path: Path) -> Identity | None:
    """What a file or folder is on this machine, by whatever name; ``None`` where there is nothing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if status.st_ino else None  # some network disks number nothing


def walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """All files, links and folders below a folder, in no order. Unlike ``os.walk`` it never holds the names of a whole
    folder, of which there may be a million. Links are not followed, and a folder that cannot be listed is passed over.
    """
    waiting = [os.fspath(root)]
    while waiting:
        with contextlib.suppress(OSError), os.scandir(waiting.pop()) as listing:
            for item in listing:
                if item.is_dir(follow_symlinks=False):
                    waiting.append(item.path)
                yield item


class StillThere:
    """Folders that were there when work began: a disk that is taken out must not make every file on it a failed one.

    Args:
        *folders: which; one that is not there yet is not looked for.
    """

    def __init__(self, *folders: Path) -> None:
        self._known = {folder: found for folder in folders if (found := identity_of(folder)) is not None}

    def check(self) -> None:
        """Look for them.

        Raises:
            OutputError: one is gone, cannot be listed, or another has its place, such as the folder a disk was
                mounted on.
        """
        for folder, known in self._known.items():
            try:
                with os.scandir(folder):
                    there = identity_of(folder) == known
            except OSError:
                there = False
            if not there:
                raise OutputError(
                    f"{folder} is no longer there. Was its disk taken out, or the network lost? What is finished is "
                    "whole: connect it again and run the same command, which goes on from there."
                )


def lies_in(path: Path, folder: Path) -> bool:
    """Whether ``path``, which need not exist, is ``folder`` or lies in it, under whatever name it is given.

    Names are compared after links are resolved, and folders by device and inode: that finds one that is mounted a
    second time, or spelled otherwise on a disk that ignores case.
    """
    place, root = path.resolve(), folder.resolve()
    if root in (place, *place.parents):
        return True
    above = {found for parent in (place, *place.parents) if (found := identity_of(parent)) is not None}
    # Whatever lies so high that both are below it says nothing: only what is in the folder counts.
    return any(found in above for found in _folders(root))


def _folders(root: Path) -> Iterator[Identity]:
    """Identities of a folder and all folders in it. Links are not followed."""
    found = identity_of(root)
    if found is None or not root.is_dir():
        return
    yield found
    for item in walk(root):
        with contextlib.suppress(OSError):
            if item.is_dir(follow_symlinks=False) and (status := Path(item.path).lstat()).st_ino:
                yield (status.st_dev, status.st_ino)
