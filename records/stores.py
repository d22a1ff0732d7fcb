"""Folders wherever they are: on a disk, or in an object store behind a URL (``s3://``, ``gs://``, ``hf://``, ...).

Both are read and written one whole object at a time, under names with forward slashes. An object appears whole or not
at all, and one that is there is never written over. URLs are opened by fsspec, whose plug-ins find credentials where
their own tools do. What is secret in a URL reaches no message and no file.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import os
import re
import secrets
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Final, cast
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, OutputError, ResumeError, SetupError
from .files import TEMPORARY_PREFIX, atomic_file, sweep_temporaries, write_atomic
from .places import StillThere, open_regular

#: A URL; ``Path`` makes one slash of its two. Windows' drives have one letter.
_URL: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/(/?)")
_SECRET_PARTS: Final = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<user>[^/@\s]*)@|\?[^\s'\"?]*=[^\s'\"]*")
#: Stores in whose URLs a container stands where others have a user.
_CONTAINERS: Final = frozenset({"abfs", "abfss", "wasb", "wasbs"})
#: Letters of what is taken out of messages wherever it stands: less would hit other words.
_LEAST_HIDDEN: Final = 4

#: Stores in which writing an object puts it there whole, or leaves what was there.
_WHOLE: Final = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "oci", "tos", "hf", "memory"})
_CHUNK: Final = 1 << 22
#: What a disk says that has no room left.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


@dataclass(frozen=True, slots=True)
class Item:
    """An object: its name below the root, its size in bytes, and what changes when it is replaced (an ETag or a time;
    empty where the store tells none)."""

    name: str
    size: int
    tag: str = ""


def is_url(place: str | Path) -> bool:
    """Whether a place is given as a URL rather than as a path; ``file://`` is one, too."""
    text = os.fspath(place)
    found = _URL.match(text)
    return found is not None and (bool(found[2]) or not Path(text).exists())


def as_url(place: str | Path) -> str:
    """A URL with both of its slashes, of which a ``Path`` keeps one."""
    return _URL.sub(lambda found: f"{found[1]}://", os.fspath(place), count=1)


def masked(text: str) -> str:
    """The text without what may be secret in a URL: user, password and query."""

    def mask(found: re.Match[str]) -> str:
        if found["scheme"] is None:
            return "?***"
        if found["scheme"].lower() in _CONTAINERS and ":" not in found["user"]:
            return found[0]
        return f"{found['scheme']}://***@"

    return _SECRET_PARTS.sub(mask, text)


def why_unsafe(name: str) -> str | None:
    """Why a name from outside may not become a path below a folder, on whatever system; ``None`` where it may."""
    if not name or "\0" in name or name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        return "its name is no path below a folder"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "its name leads elsewhere, or has an empty part"
    return None


class HashingFile:
    """A file that is written from its start to its end, with the hash and the number of the bytes so far.

    Args:
        file: where the bytes go; nowhere if left out.
    """

    def __init__(self, file: BinaryIO | None = None) -> None:
        self._file, self._hash, self.size, self.closed = file, hashlib.sha256(), 0, False

    def write(self, data: bytes) -> int:
        """Append bytes."""
        if self._file is not None:
            self._file.write(data)
        self._hash.update(data)
        self.size += memoryview(data).nbytes
        return memoryview(data).nbytes

    def tell(self) -> int:
        """Where the next byte goes."""
        return self.size

    def flush(self) -> None:
        """Nothing: the file is brought to the disk as a whole."""

    def close(self) -> None:
        """Nothing: whoever opened the file closes it."""

    def writable(self) -> bool:
        """It is."""
        return True

    def readable(self) -> bool:
        """It is not."""
        return False

    def seekable(self) -> bool:
        """It is not."""
        return False

    @property
    def sha256(self) -> str:
        """Of the bytes so far."""
        return self._hash.hexdigest()


class Store(ABC):
    """A folder of objects.

    Attributes:
        shown: what people and files may be told of where it is.
    """

    shown: str

    @abstractmethod
    def listing(self, below: str = "") -> Iterator[Item]:
        """Every object, or those below a folder of it, in no order.

        Raises:
            SetupError: it cannot be listed.
        """

    @abstractmethod
    def stat(self, name: str) -> Item | None:
        """An object; ``None`` where there is none.

        Raises:
            OSError: the store does not tell.
        """

    @abstractmethod
    def open(self, name: str) -> BinaryIO:
        """Open an object for reading, seekable.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def fetch(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """The whole object as a file on this machine for as long as the block lasts.

        Raises:
            OSError: it cannot be read.
        """

    @abstractmethod
    def remove(self, name: str) -> None:
        """Remove an object.

        Raises:
            OSError: it cannot be removed.
        """

    @abstractmethod
    def check(self) -> None:
        """Look whether the store is still to be reached.

        Raises:
            OutputError: it is not, so that no further object would be read or written.
        """

    @abstractmethod
    def _new(self, name: str) -> contextlib.AbstractContextManager[HashingFile]:
        """A new object; it appears whole when the block has ended well."""

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Write an object of our own whole, in the place of what it was.

        Raises:
            OutputError: it cannot be written.
        """

    def where(self, name: str) -> str:
        """What messages call an object."""
        return f"{self.shown}/{name}"

    def read(self, name: str, most: int) -> bytes:
        """The bytes of an object.

        Raises:
            OSError: it cannot be read, or has more than ``most`` bytes.
        """
        with self.open(name) as file:
            data = file.read(most + 1)
        if len(data) > most:
            raise _too_large(most)
        return data

    def digest(self, name: str) -> str:
        """sha256 of an object.

        Raises:
            OSError: it cannot be read.
        """
        with self.open(name) as file:
            return sha256_of(file)

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[HashingFile]:
        """Write an object piece by piece. It is read back before it counts as written.

        One that is there already is left as it is: if it has these very bytes, that is well.

        Raises:
            ResumeError: another object has its name.
            OutputError: it cannot be written, or is not what was written.
        """
        try:
            there = self.stat(name) is not None
        except OSError as error:
            raise self._unwritable(name, error) from error
        if there:
            made = HashingFile()
            yield made
            if self._digest_in_place(name) != made.sha256:
                raise ResumeError(
                    f"{self.where(name)} is in the way, and this run would not write the same. Nothing is overwritten: "
                    "move that object away, or give another place, and run the same command again."
                )
            return
        with self._new(name) as made:
            yield made
        try:
            if self.digest(name) == made.sha256:
                return
            self.remove(name)
        except OSError as error:
            raise self._unwritable(name, error) from error
        raise OutputError(f"{self.where(name)} is not what was written there, and was removed. Is the disk sound?")

    def put(self, name: str, data: bytes) -> None:
        """Write an object; see :meth:`writing`."""
        with self.writing(name) as file:
            file.write(data)

    def _digest_in_place(self, name: str) -> str | None:
        """sha256 of what has the name of an object; ``None`` where that is a link to nothing."""
        try:
            return self.digest(name)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._unwritable(name, error) from error

    def _say(self, error: Exception) -> str:
        """What is wrong, without what is secret."""
        return masked(_text(error))

    def _unwritable(self, name: str, error: Exception) -> OutputError:
        return OutputError(
            f"{self.where(name)} cannot be written: {self._say(error)}. Check the address, your permission and the "
            "network; what is finished is whole, and the same command goes on from there."
        )


class LocalStore(Store):
    """A folder on this machine.

    Args:
        root: the folder.
        follow_links: list what symbolic links to files lead to. Links to folders are not followed.

    Attributes:
        links: those that the last listing left aside.
        unread: folders that it could not look into, and why.
    """

    def __init__(self, root: Path, *, follow_links: bool = False) -> None:
        self.root, self.shown, self.follow_links = root, str(root), follow_links
        self.links: list[str] = []
        self.unread: dict[str, str] = {}
        self._there = StillThere(root)

    def __reduce__(self) -> Any:
        """On another machine the same disk has another number."""
        return partial(LocalStore, follow_links=self.follow_links), (self.root.absolute(),)

    def listing(self, below: str = "") -> Iterator[Item]:
        """As of every store."""
        start = self.root / below
        self.links, self.unread = [], {}

        def fail(error: OSError) -> None:
            if error.filename in (None, str(start)):
                if not isinstance(error, FileNotFoundError):
                    raise SetupError(f"{start} cannot be listed: {error.strerror or error}.") from error
                return
            self.unread[Path(error.filename).relative_to(self.root).as_posix()] = error.strerror or str(error)

        for folder, folders, files in os.walk(start, onerror=fail):
            folders.sort()
            for name in [*folders, *files]:
                path = Path(folder) / name
                with contextlib.suppress(OSError):
                    if path.is_symlink() and (not self.follow_links or path.is_dir()):
                        self.links.append(path.relative_to(self.root).as_posix())
                    elif path.is_file():
                        yield self._item(path)

    def _item(self, path: Path) -> Item:
        status = path.stat()
        return Item(path.relative_to(self.root).as_posix(), status.st_size, str(status.st_mtime_ns))

    def stat(self, name: str) -> Item | None:
        """As of every store. A link counts: nothing is written through one."""
        path = self.root / name
        try:
            return self._item(path) if path.is_file() else Item(name, -1) if os.path.lexists(path) else None
        except FileNotFoundError:
            return None

    def open(self, name: str) -> BinaryIO:
        """As of every store."""
        return open_regular(self.root / name)

    def fetch(self, name: str) -> contextlib.AbstractContextManager[BinaryIO]:
        """As of every store: the file itself."""
        return self.open(name)

    def remove(self, name: str) -> None:
        """As of every store."""
        (self.root / name).unlink()

    def check(self) -> None:
        """As of every store."""
        self._there.check()

    @contextlib.contextmanager
    def _new(self, name: str) -> Iterator[HashingFile]:
        with atomic_file(self.root / name, overwrite=False) as file:
            yield HashingFile(file)

    def replace(self, name: str, data: bytes) -> None:
        """As of every store."""
        write_atomic(self.root / name, data, overwrite=True)

    def sweep(self) -> None:
        """Remove what a killed run left half-written."""
        sweep_temporaries(self.root)


class RemoteStore(Store):
    """A folder behind a URL.

    Args:
        fs: fsspec's file system.
        root: the folder as ``fs`` calls it.
        shown: what people may be told.
        single: name of the one object, where the URL is that of an object rather than of a folder, and its path.
        hidden: what people may not be told, wherever it stands.
    """

    def __init__(
        self, fs: Any, root: str, shown: str, single: tuple[str, str] | None = None, hidden: tuple[str, ...] = ()
    ) -> None:
        self.fs, self.root, self.shown, self._single = fs, root.rstrip("/"), shown, single
        self._hidden = hidden

    @property
    def name(self) -> str:
        """Of the one object, where the URL is that of one; else empty."""
        return "" if self._single is None else self._single[0]

    def _path(self, name: str) -> str:
        if self._single is not None and name == self._single[0]:
            return self._single[1]
        return f"{self.root}/{name}" if name else self.root

    def _say(self, error: Exception) -> str:
        """As of every store."""
        said = super()._say(error)
        for text in self._hidden:
            said = said.replace(text, "***")
        return said

    @contextlib.contextmanager
    def _as_os_errors(self) -> Iterator[None]:
        """What plug-ins raise, as OSErrors that give no secret away."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, self._say(error)) from None
        except OSError as error:
            raise OSError(error.errno or errno.EIO, self._say(error)) from None
        except Exception as error:
            raise OSError(errno.EIO, f"{type(error).__name__}: {self._say(error)}") from None

    def listing(self, below: str = "") -> Iterator[Item]:
        """As of every store."""
        if self._single is not None:
            found = self.stat(self._single[0])
            yield from [] if found is None else [found]
            return
        try:
            found = self.fs.find(self._path(below), detail=True)
        except FileNotFoundError:
            return
        except Exception as error:  # each plug-in has errors of its own
            raise SetupError(
                f"{self.shown} cannot be listed: {self._say(error)}. Check the address, your credentials and the "
                "network."
            ) from None
        start = f"{self.root}/"
        for path, info in found.items():
            if path.startswith(start) and info.get("type") != "directory" and not path.endswith("/"):
                yield Item(path[len(start) :], int(info.get("size") or 0), _tag(info))

    def stat(self, name: str) -> Item | None:
        """As of every store."""
        try:
            with self._as_os_errors():
                info = self.fs.info(self._path(name))
        except FileNotFoundError:
            return None
        return None if info.get("type") == "directory" else Item(name, int(info.get("size") or 0), _tag(info))

    def open(self, name: str) -> BinaryIO:
        """As of every store."""
        with self._as_os_errors():
            return cast(BinaryIO, self.fs.open(self._path(name), "rb"))

    def read(self, name: str, most: int) -> bytes:
        """As of every store, in one request: nobody asks for what the listing says is too large."""
        with self._as_os_errors():
            data: bytes = self.fs.cat_file(self._path(name))
        if len(data) > most:
            raise _too_large(most)
        return data

    def digest(self, name: str) -> str:
        """As of every store."""
        with self._as_os_errors():
            return super().digest(name)

    @contextlib.contextmanager
    def fetch(self, name: str) -> Iterator[BinaryIO]:
        """As of every store: a copy."""
        with contextlib.ExitStack() as stack:
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bitterant-"))
            except OSError as error:
                raise self._no_room(name, error) from error
            path = Path(folder) / "object"
            try:
                with self._as_os_errors():
                    self.fs.get_file(self._path(name), str(path))
            except OSError as error:
                if error.errno in _FULL:  # which no store says of what it is asked for
                    raise self._no_room(name, error) from error
                raise
            with path.open("rb") as file:
                yield file

    def _no_room(self, name: str, error: OSError) -> OutputError:
        return OutputError(
            f"{self.where(name)} needs room in the temporary folder of this machine, which cannot be written: "
            f"{self._say(error)}. Make room there, or name another folder with TMPDIR, and run the same command again."
        )

    def remove(self, name: str) -> None:
        """As of every store."""
        with self._as_os_errors():
            self.fs.rm_file(self._path(name))

    def replace(self, name: str, data: bytes) -> None:
        """As of every store."""
        try:
            self.fs.pipe_file(self._path(name), data)
        except Exception as error:
            raise self._unwritable(name, error) from None

    def check(self) -> None:
        """As of every store."""
        try:
            with self._as_os_errors():
                self.fs.exists(self._path("" if self._single is None else self._single[0]))
        except OSError as error:
            raise OutputError(
                f"{self.shown} can no longer be reached: {self._say(error)}. What is finished is whole: run the same "
                "command again, which goes on from there."
            ) from None

    @contextlib.contextmanager
    def _new(self, name: str) -> Iterator[HashingFile]:
        try:
            with tempfile.TemporaryDirectory(prefix="bitterant-") as folder:
                path = Path(folder) / "object"
                with path.open("wb") as file:
                    made = HashingFile(file)
                    yield made
                self._put_up(path, name)
        except OSError as error:  # of the block, too, as for a file on a disk
            raise self._no_room(name, error) from error

    def _put_up(self, path: Path, name: str) -> None:
        try:
            self._upload(path, self._path(name))
        except FileExistsError:
            raise ResumeError(
                f"{self.where(name)} appeared while it was being written. Nothing is overwritten: does another run "
                "write there? The same command goes on where this one stopped."
            ) from None
        except Exception as error:
            raise self._unwritable(name, error) from None

    def _upload(self, source: Path, path: str) -> None:
        if _protocol(self.fs) in _WHOLE:
            try:
                self.fs.put_file(str(source), path, mode="create")
            except Exception as error:  # a server, or a plug-in, that knows no condition; its name was free just now
                if not isinstance(error, TypeError | NotImplementedError) and "NotImplemented" not in _text(error):
                    raise
                self.fs.put_file(str(source), path)
            return
        folder, _, last = path.rpartition("/")
        temporary = f"{folder}/{TEMPORARY_PREFIX}{secrets.token_hex(8)}-{last}"[: len(folder) + 200]
        self.fs.makedirs(folder, exist_ok=True)
        try:
            self.fs.put_file(str(source), temporary)
            self.fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self.fs.rm_file(temporary)
            raise


def open_store(place: str | Path, *, of_object: bool = False, follow_links: bool = False) -> Store:
    """The folder at a path or a URL.

    Args:
        place: where.
        of_object: the place is that of one object, whose folder is meant and which is all that is in it.
        follow_links: see :class:`LocalStore`.

    Raises:
        ConfigError: nothing is known of such a URL.
        SetupError: fsspec, or its plug-in for the URL, is not installed.
    """
    text = os.fspath(place)
    if not is_url(text):
        return LocalStore(Path(text).parent if of_object else Path(text), follow_links=follow_links)
    url = as_url(text)
    if "::" in url:
        raise ConfigError(f"{masked(url)} chains places with '::', which is not read. Give the inner one by itself.")
    scheme = url.partition("://")[0].lower()
    if scheme in ("file", "local"):
        path = Path(unquote("/" + url.partition("://")[2].lstrip("/")))
        return LocalStore(path.parent if of_object else path, follow_links=follow_links)
    try:
        fsspec: Any = importlib.import_module("fsspec")
    except ImportError as error:
        raise SetupError(
            f"{scheme}:// is opened by fsspec, which is not installed: pip install 'bitterant[remote]'"
        ) from error
    try:
        # A listing that is remembered would hide what another process, or this one, has written since.
        fs, path = fsspec.url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        extra = "pip install 'bitterant[remote]'" if scheme in ("s3", "s3a") else f"{error}"
        raise SetupError(f"{scheme}:// needs a package that is not installed: {extra}") from None
    except Exception as error:
        raise ConfigError(
            f"{masked(url)} cannot be opened: {masked(_text(error))}. Known are paths, s3://, gs://, az://, hf://, and "
            "what else fsspec has a plug-in for."
        ) from None
    shown, hidden = masked(url).rstrip("/"), _secrets_of(url)
    if not of_object:
        return RemoteStore(fs, path, shown, hidden=hidden)
    name = unquote(urlsplit(url).path.rpartition("/")[2]) if scheme in ("http", "https") else path.rpartition("/")[2]
    root = path.partition("?")[0] if scheme in ("http", "https") else path
    shown = shown.partition("?")[0].rpartition("/")[0]
    return RemoteStore(fs, root.rpartition("/")[0], shown, (name, path), hidden)


def _secrets_of(url: str) -> tuple[str, ...]:
    """What is secret in a URL, the longest first."""
    rest = url.partition("://")[2]
    place, _, query = rest.partition("?")
    user = place.partition("/")[0].rpartition("@")[0]
    values = [pair.partition("=")[2] for pair in query.split("&")] if "=" in query else []
    found = {text for text in (user.partition(":")[2], *values) if len(text) >= _LEAST_HIDDEN}
    return tuple(sorted({*found, *map(unquote, found)}, key=lambda text: -len(text)))


def sha256_of(file: BinaryIO) -> str:
    """sha256 of what is left of an open file."""
    digest = hashlib.sha256()
    while piece := file.read(_CHUNK):
        digest.update(piece)
    return digest.hexdigest()


def _too_large(most: int) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most / 2**20:.0f} MiB, which no picture within the limits is")


def _protocol(fs: Any) -> str:
    return fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]


def _tag(info: dict[str, Any]) -> str:
    found = (info.get(name) for name in ("ETag", "etag", "md5Hash", "blob_id", "mtime", "LastModified", "created"))
    return next((str(value) for value in found if value), "")


def _text(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:300]
