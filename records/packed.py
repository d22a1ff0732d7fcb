"""Long lists in little memory: a folder may hold a million files, and what is known of each has to stay with us."""

from __future__ import annotations

import hashlib
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final, TypeVar, overload

import numpy as np

from .places import open_regular

_Item = TypeVar("_Item")

_FOUR_BYTES: Final = 2**32 - 1


class PackedNames(Sequence[str]):
    """Texts in one block of memory: their own bytes and four more each, where a list of them takes some sixty.

    Undecodable file names survive. Equal to any sequence of the same texts.

    Args:
        names: the first ones.
    """

    __slots__ = ("_data", "_ends")

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._data = bytearray()
        self._ends = array("I")
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Put a text at the end."""
        self._data += os.fsencode(name)
        if len(self._data) > _FOUR_BYTES and self._ends.typecode == "I":
            self._ends = array("Q", self._ends)
        self._ends.append(len(self._data))

    def __len__(self) -> int:
        return len(self._ends)

    def bytes_at(self, index: int) -> bytes:
        """The text of an index, 0 or more, as the file system spells it."""
        return bytes(self._data[self._ends[index - 1] if index else 0 : self._ends[index]])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return os.fsdecode(self.bytes_at(range(len(self))[index]))

    def __iter__(self) -> Iterator[str]:
        start = 0
        for end in self._ends:
            yield os.fsdecode(bytes(self._data[start:end]))
            start = end

    def find(self, name: str) -> int | None:
        """Where a text stands; ``None`` where it does not. Only for texts sorted by their bytes."""
        wanted = os.fsencode(name)
        low, high = 0, len(self)
        while low < high:
            middle = (low + high) // 2
            if self.bytes_at(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        return low if low < len(self) and self.bytes_at(low) == wanted else None

    def __contains__(self, name: object) -> bool:
        return any(own == name for own in self)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedNames):
            return self._ends == other._ends and self._data == other._data
        if isinstance(other, Sequence) and not isinstance(other, str | bytes):
            return len(self) == len(other) and all(own == its for own, its in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # pyright: ignore[reportAssignmentType] - it grows

    def __repr__(self) -> str:
        shown = ", ".join(repr(name) for name in self[:3])
        return f"PackedNames([{shown}{', ...' if len(self) > 3 else ''}])"


class NameMarks:
    """A set of texts by eight bytes of their hashes: eight bytes each, where a set takes some hundred and fifty.

    That two of a million share theirs happens once in ten million sets; what asks must not be harmed by it.

    Args:
        names: the texts.

    Attributes:
        marks: uint64, sorted.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.marks = np.sort(np.fromiter((mark_of(name) for name in names), np.uint64))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.holds(mark_of(name))

    def holds(self, mark: int) -> bool:
        """Whether a text of this mark is in it."""
        place = int(np.searchsorted(self.marks, np.uint64(mark)))
        return place < len(self.marks) and int(self.marks[place]) == mark


def mark_of(name: str) -> int:
    """Eight bytes of the hash of a text, as a number."""
    return int.from_bytes(hashlib.blake2b(os.fsencode(name), digest_size=8).digest(), "little")


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
