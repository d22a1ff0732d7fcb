"""The chunks of a PNG file, byte for byte: what Pillow drops, merges or rounds.

Reference: PNG, third edition (W3C, 2025): ``cICP``, ``mDCV`` and ``cLLI`` in section 11.3.2, text in 11.3.3.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import BinaryIO, Final

__all__ = ["COLOUR_CHUNKS", "TEXT_CHUNKS", "Chunk", "insert_chunks", "keyword", "read_chunks"]

#: Name and content.
Chunk = tuple[bytes, bytes]

#: What the numbers mean. The profile (``iCCP``) is handled as in all formats.
COLOUR_CHUNKS: Final = (b"cICP", b"mDCV", b"cLLI", b"gAMA", b"cHRM", b"sRGB")
TEXT_CHUNKS: Final = (b"tEXt", b"zTXt", b"iTXt")

_START: Final = 8
_HEAD: Final = _START + 12 + 13  # signature and the chunk IHDR, which comes first
_LONGEST: Final = 1 << 20  # Pillow, so every trainer, reads no longer text
_MOST: Final = 16 << 20  # of all together


def read_chunks(file: BinaryIO, wanted: Iterable[bytes]) -> tuple[Chunk, ...]:
    """The chunks of these names in the order of the file, up to its end or to where it is damaged.

    Args:
        file: seekable; left where it was.
        wanted: names.
    """
    names = frozenset(wanted)
    place = file.tell()
    found: list[Chunk] = []
    left = _MOST
    try:
        file.seek(_START)
        while len(head := file.read(8)) == 8:
            length, name = struct.unpack(">I4s", head)
            if name == b"IEND":
                break
            if name in names and length <= min(_LONGEST, left):
                data = file.read(length)
                if len(data) < length:
                    break
                found.append((name, data))
                left -= length
                length = 0
            file.seek(length + 4, 1)
    finally:
        file.seek(place)
    return tuple(found)


def insert_chunks(png: bytes, chunks: Iterable[Chunk]) -> bytes:
    """A PNG file with more chunks, placed before all but the header."""
    added = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return png[:_HEAD] + added + png[_HEAD:] if added else png


def keyword(data: bytes) -> str:
    """The key of a text chunk."""
    return data.partition(b"\x00")[0].decode("latin-1")
