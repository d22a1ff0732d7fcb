"""EXIF blocks and TIFF tags, byte for byte.

An EXIF block is a small TIFF file. Pillow can read and write one, but loses text beyond ASCII ("© Anna" becomes
"? Anna") and breaks maker notes. Here a block is taken apart into its entries, the wanted ones are put together again,
and their bytes are never interpreted. Reference: TIFF 6.0 (Adobe 1992), Exif 2.32 (CIPA DC-008).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

#: Bytes of one value, and of the unit whose byte order matters, by TIFF type (1..13).
_VALUE_SIZE: Final = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_UNIT_SIZE: Final = {**_VALUE_SIZE, 5: 4, 10: 4}
_POINTERS: Final = (0x8769, 0x8825, 0xA005)  # Exif, GPS, interoperability: entries that lead to another directory
_MAKER_NOTE: Final = 0x927C
_MAX_VALUE: Final = 1 << 20  # no honest tag is larger; picture layers and previews are
_MAX_TOTAL: Final = 16 << 20  # of all tags: thousands of tags of a few bytes may all point to one large value
_JPEG_START: Final = b"\xff\xd8\xff"

#: Tags of the main directory that say how the pixels lie in the file, or hold a picture. They belong to the encoder.
_STRUCTURE: Final = frozenset(
    {*range(254, 260), 262, 263, 264, 265, 266, 273, *range(275, 282), 284, 285, 288, 289, 290, 291, 292, 293}
    | {317, *range(320, 326), 330, 332, 333, 334, 336, 337, 338, 339, 340, 341, 342, *range(343, 348), *range(512, 522)}
    | {529, 530, 531, 532, 559, 700, 34377, 34675, 37724, 50706, 50707, 0xC68B}
)


@dataclass(frozen=True, slots=True)
class Tag:
    """One entry: TIFF type, number of values, raw bytes, and where those bytes lay in the source."""

    kind: int
    count: int
    data: bytes
    offset: int = 0


@dataclass(frozen=True)
class Directory:
    """A directory of tags, with the directories it points to (Exif, GPS, interoperability)."""

    order: str  # "<" little endian or ">" big endian
    tags: dict[int, Tag] = field(default_factory=dict)
    children: dict[int, Directory] = field(default_factory=dict)

    def without(self, *numbers: int) -> Directory:
        """A copy that lacks these tags, here and in the directories below."""
        return replace(
            self,
            tags={n: tag for n, tag in self.tags.items() if n not in numbers},
            children={n: child.without(*numbers) for n, child in self.children.items() if n not in numbers},
        )

    def with_tag(self, number: int, tag: Tag) -> Directory:
        """A copy with one more, or another, tag."""
        return replace(self, tags={**self.tags, number: tag})

    def text(self, number: int) -> bytes:
        """The bytes of a text tag of this directory, without padding; empty if there is none."""
        tag = self.tags.get(number)
        return tag.data.strip(b"\x00 ") if tag else b""

    def number(self, number: int) -> int | None:
        """The first value of a whole-number tag of this directory, or None."""
        tag = self.tags.get(number)
        letter = {1: "B", 3: "H", 4: "I"}.get(tag.kind) if tag else None
        if tag is None or letter is None or not tag.count:
            return None
        return int(struct.unpack_from(self.order + letter, tag.data)[0])


def parse_exif(block: bytes) -> Directory | None:
    """Take an EXIF block apart; None if it is none. The thumbnail (second directory) is not followed."""
    data = block[6:] if block.startswith(b"Exif\x00\x00") else block
    return _parse(lambda offset, size: data[offset : offset + size])


def read_tiff_tags(read: Callable[[int, int], bytes]) -> Directory | None:
    """The descriptive tags of the first page of a TIFF file: all but those about pixel layout. None for BigTIFF.

    Args:
        read: ``read(offset, size)`` returns bytes of the file, fewer at its end.
    """
    return _parse(read)


#: Bytes of all values of a page that readers take into memory; strips of a large scan take some MiB.
_MOST_PAGE_VALUES: Final = 64 << 20


#: Width and height of the picture, and of a tile. A tile is read whole, however little of it is picture.
_SIDES: Final = (256, 257, 322, 323)
#: Kinds of whole numbers that lie in the entry itself.
_NUMBERS: Final = {3: "H", 4: "I", 16: "Q"}
#: Pixels of a tile that no picture is too small for.
_LEAST_TILE: Final = 1 << 22


def check_tiff(read: Callable[[int, int], bytes]) -> None:
    """Refuse a TIFF file whose first page would cost a reader much more memory than its size: thousands of tags may all
    point to one large value, and a tile may be far larger than the picture.

    Args:
        read: as for :func:`read_tiff_tags`.

    Raises:
        ValueError: it is such a file.
    """
    page = next(_pages(read), None)
    if page is None:
        return
    _, entries, width = page
    total, order, sides = 0, _order(read), dict[int, int]()
    for place in range(0, len(entries) - width + 1, width):
        number, kind, count = struct.unpack_from(order + ("HHI" if width == 12 else "HHQ"), entries, place)
        total += _WIDE_SIZE.get(kind, 0) * count
        if number in _SIDES and kind in _NUMBERS:
            (sides[number],) = struct.unpack_from(order + _NUMBERS[kind], entries, place + width // 2 + 2)
    if total > _MOST_PAGE_VALUES:
        raise ValueError(f"its tags claim {total >> 20} MiB")
    across, down, tile_across, tile_down = (sides.get(number, 0) for number in _SIDES)
    if tile_across * tile_down > max(_LEAST_TILE, 4 * across * down):
        raise ValueError(f"its tiles have {tile_across} x {tile_down} pixels, the picture {across} x {down}")


def count_tiff_pages(read: Callable[[int, int], bytes], most: int) -> int:
    """How many pages a TIFF file has, up to ``most``; a chain that leads back to a page ends there."""
    seen: set[int] = set()
    for start, _, _ in _pages(read):
        if start in seen or len(seen) >= most:
            break
        seen.add(start)
    return len(seen)


_WIDE_SIZE: Final = {**_VALUE_SIZE, 16: 8, 17: 8, 18: 8}  # with those of BigTIFF


def _order(read: Callable[[int, int], bytes]) -> str:
    return "<" if read(0, 2) == b"II" else ">"


def _pages(read: Callable[[int, int], bytes]) -> Iterator[tuple[int, bytes, int]]:
    """Offset, entries, and bytes of an entry, of the directory of each page, TIFF or BigTIFF. It may never end."""
    head, order = read(0, 16), _order(read)
    big = head[2:4] in (b"+\x00", b"\x00+")
    wide = "Q" if big else "I"
    width, size = (20, 8) if big else (12, 4)
    place = head[8:16] if big else head[4:8]
    while len(place) == size and (start := struct.unpack(order + wide, place)[0]):
        counted = read(start, 8 if big else 2)
        if len(counted) != (8 if big else 2):
            return
        count = min(struct.unpack(order + ("Q" if big else "H"), counted)[0], 1 << 16)
        entries = read(start + len(counted), width * count)
        yield start, entries, width
        place = read(start + len(counted) + width * count, size)


def _parse(read: Callable[[int, int], bytes]) -> Directory | None:
    head = read(0, 8)
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(head[:4])
    if order is None or len(head) < 8:
        return None
    return _parse_directory(_Rationed(read), order, struct.unpack(order + "I", head[4:])[0], depth=0)


class _Rationed:
    """Reads until so many bytes were read in all, and nothing from then on."""

    def __init__(self, read: Callable[[int, int], bytes], total: int = _MAX_TOTAL) -> None:
        self._read, self._left = read, total

    def __call__(self, offset: int, size: int) -> bytes:
        if size > self._left:
            return b""
        data = self._read(offset, size)
        self._left -= len(data)
        return data


def _parse_directory(read: _Rationed, order: str, start: int, depth: int) -> Directory | None:
    """One directory. Entries that are damaged, of an unknown type, hold a picture, or come after more bytes than any
    honest file has are left out."""
    head = read(start, 2)
    if start < 8 or len(head) < 2:
        return None
    (count,) = struct.unpack(order + "H", head)
    table = read(start + 2, 12 * count)
    found = Directory(order)
    for place in range(0, len(table) - 11, 12):
        number, kind, length, inline = struct.unpack_from(order + "HHI4s", table, place)
        size = _VALUE_SIZE.get(kind, 0) * length
        if not 0 < size <= _MAX_VALUE or (depth == 0 and number in _STRUCTURE):
            continue
        offset = start + 2 + place + 8 if size <= 4 else struct.unpack(order + "I", inline)[0]
        data = inline[:size] if size <= 4 else read(offset, size)
        if len(data) != size or _JPEG_START in data:
            continue
        if number in _POINTERS:
            target = struct.unpack(order + "I", inline)[0]
            child = _parse_directory(read, order, target, depth + 1) if kind in (4, 13) and depth < 2 else None
            if child is not None:
                found.children[number] = child
        else:
            found.tags[number] = Tag(kind, length, data, offset)
    return found


def build_exif(directory: Directory) -> bytes | None:
    """Put an EXIF block together (with its ``Exif`` prefix); None if there is nothing in it.

    A maker note keeps its place, because makers write offsets into it that count from the start of the block.
    """
    if not directory.tags and not directory.children:
        return None
    out = bytearray(8)
    pinned: dict[bytes, int] = {}
    note = directory.children.get(0x8769, directory).tags.get(_MAKER_NOTE)
    if note is not None and 8 <= note.offset < 1 << 16:
        out.extend(bytes(note.offset - 8) + note.data)
        pinned[note.data] = note.offset
    start = _append(out, directory, pinned)
    magic = b"II*\x00" if directory.order == "<" else b"MM\x00*"
    out[:8] = magic + struct.pack(directory.order + "I", start)
    return b"Exif\x00\x00" + bytes(out)


def _append(out: bytearray, directory: Directory, pinned: dict[bytes, int]) -> int:
    """Write a directory and all it points to at the end of ``out``; return where it starts."""
    order = directory.order
    entries: list[tuple[int, int, int, bytes]] = []
    for number, child in directory.children.items():
        if child.tags or child.children:
            entries.append((number, 4, 1, struct.pack(order + "I", _append(out, child, pinned))))
    for number, tag in directory.tags.items():
        value = tag.data.ljust(4, b"\x00")
        if len(tag.data) > 4:
            place = pinned.get(tag.data) if number == _MAKER_NOTE else None
            if place is None:
                out.extend(bytes(len(out) % 2))  # offsets are even
                place = len(out)
                out.extend(tag.data)
            value = struct.pack(order + "I", place)
        entries.append((number, tag.kind, tag.count, value))
    out.extend(bytes(len(out) % 2))
    start = len(out)
    out.extend(struct.pack(order + "H", len(entries)))
    for entry in sorted(entries):
        out.extend(struct.pack(order + "HHI4s", *entry))
    out.extend(bytes(4))  # no next directory: no thumbnail
    return start


def graft_into_tiff(tiff: bytes, directory: Directory) -> bytes:
    """Add tags to a finished one-page TIFF file. Tags it has already win.

    The new directory is appended and the header points to it; the pixels stay where they are.
    """
    order = "<" if tiff[:2] == b"II" else ">"
    (start,) = struct.unpack_from(order + "I", tiff, 4)
    (count,) = struct.unpack_from(order + "H", tiff, start)
    own = [struct.unpack_from(order + "HHI4s", tiff, start + 2 + 12 * i) for i in range(count)]
    taken = {entry[0] for entry in own}
    extra = _to_order(directory, order).without(*taken)
    out = bytearray(tiff)
    body = Directory(order, extra.tags, extra.children)
    added_at = _append(out, body, {})
    (added_count,) = struct.unpack_from(order + "H", out, added_at)
    added = [struct.unpack_from(order + "HHI4s", out, added_at + 2 + 12 * i) for i in range(added_count)]
    del out[added_at:]
    out.extend(struct.pack(order + "H", len(own) + len(added)))
    for entry in sorted(own + added):
        out.extend(struct.pack(order + "HHI4s", *entry))
    out.extend(bytes(4))
    struct.pack_into(order + "I", out, 4, added_at)
    return bytes(out)


def _to_order(directory: Directory, order: str) -> Directory:
    """The same directory in the other byte order."""
    if directory.order == order:
        return directory

    def swap(tag: Tag) -> Tag:
        unit = _UNIT_SIZE[tag.kind]
        return replace(tag, data=np.frombuffer(tag.data, dtype=f"u{unit}").byteswap().tobytes()) if unit > 1 else tag

    return Directory(
        order,
        {number: swap(tag) for number, tag in directory.tags.items()},
        {number: _to_order(child, order) for number, child in directory.children.items()},
    )
