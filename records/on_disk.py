"""Long lists that do not stay in memory: a folder may hold a million files, and something is known of each.

They lie in private databases of SQLite, each of which is memory alone while it is small, moves to a temporary file as
it grows, and is gone with the object. So what a run holds in memory does not depend on how many files there are. Such a
file lies where SQLite puts temporary ones: in ``SQLITE_TMPDIR`` or ``TMPDIR``, else ``/var/tmp`` or ``/tmp``.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeVar, overload

from ..errors import OutputError
from .places import open_regular

_Item = TypeVar("_Item")

#: KiB of a table that stay in memory.
_KEPT: Final = 256
#: Rows that are written, or read, together.
_TOGETHER: Final = 256


class Table:
    """Rows by number, from 0, and by what they hold. Safe to use from several threads.

    Texts are stored by :func:`as_blob` as the file system spells them: undecodable file names survive, and the order is
    that of their bytes.

    Args:
        columns: name of each and its kind in SQL. ``number`` is there already.

    Raises:
        OutputError: by all that reads or writes rows: there is no room for them.
    """

    def __init__(self, **columns: str) -> None:
        self._columns = ", ".join(columns)
        self._insert = f"INSERT INTO rows (number, {self._columns}) VALUES (?{', ?' * len(columns)})"
        self._lock = threading.RLock()
        self._count = 0
        self._waiting: list[tuple[Any, ...]] = []
        # What is thrown away needs no transactions.
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._database.close)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_KEPT}"):
            self._database.execute(f"PRAGMA {pragma}")
        kinds = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self._database.execute(f"CREATE TABLE rows (number INTEGER PRIMARY KEY, {kinds})")
        self._database.execute("BEGIN")

    def append(self, *values: Any) -> None:
        """Put a row at the end."""
        with self._lock:
            self._waiting.append((self._count, *values))
            self._count += 1
            if len(self._waiting) >= _TOGETHER:
                self._flush()

    def _flush(self) -> None:
        if self._waiting:
            with _room():
                self._database.executemany(self._insert, self._waiting)
            self._waiting = []

    def __len__(self) -> int:
        return self._count

    def row(self, number: int) -> tuple[Any, ...]:
        """The row of a number, 0 or more, without the number."""
        return self.ask(f"SELECT {self._columns} FROM rows WHERE number = ?", number)[0]

    def rows(self, columns: str = "") -> Iterator[tuple[Any, ...]]:
        """All rows by their numbers; what is added or changed on the way is met, too.

        Args:
            columns: those that are wanted, with commas between them; all but the number if left out.
        """
        start = 0
        question = f"SELECT {columns or self._columns} FROM rows WHERE number >= ? ORDER BY number LIMIT {_TOGETHER}"
        while found := self.ask(question, start):
            yield from found
            start += _TOGETHER

    def ask(self, question: str, *values: Any) -> list[tuple[Any, ...]]:
        """Answer a question in SQL, or do what it says, about ``rows``. For short answers."""
        with self._lock, _room():
            self._flush()
            return self._database.execute(question, values).fetchall()

    def answers(self, question: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """As :meth:`ask`, for answers of any length: nothing may be changed until they are through."""
        with self._lock, _room():
            self._flush()
            cursor = self._database.execute(question, values)
        while True:
            with self._lock, _room():
                found = cursor.fetchmany(_TOGETHER)
            if not found:
                return
            yield from found


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"There is no room for temporary files ({error}). Free some space, or name another folder for them in the "
            "environment variable SQLITE_TMPDIR, then run the same command again."
        ) from error


def as_blob(text: str | None) -> bytes | None:
    """A text, a file name for example, as it lies in a :class:`Table`."""
    return None if text is None else os.fsencode(text)


def as_text(data: bytes | None) -> str | None:
    """The inverse of :func:`as_blob`."""
    return None if data is None else os.fsdecode(data)


class Rows(Sequence[_Item]):
    """The rows of a table, each made into an item when it is asked for. Equal to any sequence of the same items.

    Args:
        table: where they lie; nothing is changed in it any more.
        columns: those that are wanted, with commas between them.
        make: gives the item of a row.
    """

    def __init__(self, table: Table, columns: str, make: Callable[..., _Item]) -> None:
        self.table = table
        self._columns = columns
        self._make = make

    def __len__(self) -> int:
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | list[_Item]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return self._make(*self.table.ask(f"SELECT {self._columns} FROM rows WHERE number = ?", place)[0])

    def __iter__(self) -> Iterator[_Item]:
        return (self._make(*row) for row in self.table.rows(self._columns))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(own == its for own, its in zip(self, other, strict=True))

    __hash__ = None  # pyright: ignore[reportAssignmentType] - as a list

    def __repr__(self) -> str:
        shown = ", ".join(repr(item) for item in self[:3])
        return f"[{shown}{', ...' if len(self) > 3 else ''}]"


class Names(Rows[str]):
    """The column ``name`` of a table.

    Args:
        names: a table that has them, or the names themselves.
    """

    def __init__(self, names: Table | Iterable[str] = ()) -> None:
        super().__init__(names if isinstance(names, Table) else Table(name="BLOB"), "name", os.fsdecode)
        self._indexed = False
        if not isinstance(names, Table):
            for name in names:
                self.append(name)

    def append(self, name: str) -> None:
        """Put a name at the end, where the table holds nothing else."""
        self.table.append(os.fsencode(name))

    def find(self, name: str) -> int | None:
        """Where a name stands first; ``None`` where it does not."""
        if not self._indexed:
            self.table.ask("CREATE INDEX IF NOT EXISTS by_name ON rows (name)")
            self._indexed = True
        return self.table.ask("SELECT min(number) FROM rows WHERE name = ?", os.fsencode(name))[0][0]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None


class LinesOnDisk(Sequence[_Item]):
    """What the lines of a file say, read again whenever they are gone through.

    Args:
        path: the file.
        parse: gives the item of a line.
        count: how many items there are.
        skip: lines before the first.
    """

    def __init__(self, path: Path, parse: Callable[[bytes], _Item], count: int, *, skip: int = 0) -> None:
        self._path = path
        self._parse = parse
        self._count = count
        self._skip = skip

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[_Item]:
        with open_regular(self._path) as file:
            yield from map(self._parse, islice(file, self._skip, self._skip + self._count))

    @overload
    def __getitem__(self, index: int) -> _Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Item]: ...
    def __getitem__(self, index: int | slice) -> _Item | list[_Item]:
        if isinstance(index, slice):
            return list(self)[index]
        place = self._skip + range(self._count)[index]
        with open_regular(self._path) as file:
            return self._parse(next(islice(file, place, None)))
