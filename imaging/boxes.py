"""What files built of boxes or headers say of their pixels and colours, where Pillow does not pass it on.

References: ISO/IEC 14496-12 (boxes), 23008-12 (HEIF), AV1-ISOBMFF (``av1C``), 15444-1 (JPEG 2000: SIZ, ``colr``), and
the netpbm manual (PPM).
"""

from __future__ import annotations

import re
import struct
from typing import BinaryIO, Final

__all__ = ["avif_depth", "box_colours", "jpeg2000_components", "ppm_largest"]

_HEAD: Final = 1 << 16  # the boxes about the picture come first
_SRGB: Final = {(1, 13), (1, 1), (2, 2), (1, 2), (2, 13)}  # primaries and transfer that all take for sRGB


def _head(file: BinaryIO, size: int = _HEAD) -> bytes:
    place = file.tell()
    try:
        file.seek(0)
        return file.read(size)
    finally:
        file.seek(place)


def avif_depth(file: BinaryIO) -> int:
    """Bits per channel of an AVIF picture: 8, 10 or 12."""
    head = _head(file)
    start = head.find(b"av1C")
    if start < 0 or start + 7 > len(head):
        return 8
    flags = head[start + 6]
    return (12 if flags & 0x20 else 10) if flags & 0x40 else 8


def jpeg2000_components(file: BinaryIO) -> tuple[int, int]:
    """How many components a JPEG 2000 picture has, and the most bits of one; zeros where that cannot be found."""
    head = _head(file)
    start = head.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 42 > len(head):
        return 0, 0
    (count,) = struct.unpack_from(">H", head, start + 40)
    depths = head[start + 42 : start + 42 + 3 * count : 3]
    return count, max(((depth & 0x7F) + 1 for depth in depths), default=0)


def box_colours(file: BinaryIO) -> tuple[bytes | None, tuple[int, int] | None]:
    """The colour profile in a ``colr`` box, and the code points (primaries, transfer) where they are not sRGB's."""
    head = _head(file, 1 << 20)
    start = head.find(b"colr")
    if start < 4 or start + 15 > len(head):
        return None, None
    (size,) = struct.unpack_from(">I", head, start - 4)
    body = head[start + 4 : start - 4 + size]
    if body[:4] in (b"prof", b"rICC"):
        return bytes(body[4:]), None
    if body[:4] == b"nclx" and len(body) >= 8:
        primaries, transfer = struct.unpack_from(">HH", body, 4)
        known = (primaries, transfer) in _SRGB or max(primaries, transfer) > 255
        return None, None if known else (primaries, transfer)
    if body[:1] in (b"\x02", b"\x03"):  # JPEG 2000: method, precedence, approximation, profile
        return bytes(body[3:]), None
    return None, None


def ppm_largest(file: BinaryIO) -> int:
    """The value of white that a PPM or PGM header gives; 0 where there is none."""
    words = re.sub(rb"#[^\r\n]*", b"", _head(file, 1 << 10)).split(None, 4)
    return int(words[3]) if len(words) > 3 and words[3].isdigit() else 0
