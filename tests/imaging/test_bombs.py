"""Small files that claim much are refused from their heads, before they cost time or memory."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ImageError
from bitterant.imaging import decode
from bitterant.imaging.exif import check_tiff, count_tiff_pages


def run_length(width: int, height: int, runs: bytes) -> bytes:
    head = struct.pack("<2sIHHI", b"BM", 1078 + len(runs), 0, 0, 1078)
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 2835, 2835, 256, 0)
    return head + bytes(1024) + runs


@pytest.mark.parametrize("size", [(8_300_000, 24), (3000, 3000), (24, 8_300_000)])
def test_runs_that_cannot_hold_the_picture(size):
    with pytest.raises(ImageError, match="cannot hold"):
        decode(run_length(size[0], size[1], b"\x14\x01\0\0" * 24 + b"\0\1"))


def test_an_honest_run_length_picture_is_read():
    row = b"\xff\x01\x2d\x02\0\0"  # 255 pixels, 45 pixels, end of line
    assert decode(run_length(300, 40, row * 40 + b"\0\1")).pixels.shape[:2] == (40, 300)


def pages(count: int, *, loop: bool = False) -> bytes:
    """A TIFF of ``count`` empty pages."""
    out = bytearray(b"II*\0" + struct.pack("<I", 8))
    for number in range(count):
        following = len(out) + 6 if number + 1 < count else (8 if loop else 0)
        out += struct.pack("<HI", 0, following)
    return bytes(out)


@pytest.mark.parametrize("loop", [False, True])
def test_pages_are_counted_no_further_than_asked(loop):
    for count, most, found in ((1, 9, 1), (5, 9, 5), (200_000, 9, 9)):
        asked, file = [], pages(count, loop=loop)

        def read(offset, size, data=file, asked=asked):
            asked.append(offset)
            return data[offset : offset + size]

        assert count_tiff_pages(read, most) == found
        assert len(asked) < 10 * (most + 2)


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}])
def test_pages_of_real_files_are_told(options):
    pictures = [Image.fromarray(np.full((4, 5, 3), value, np.uint8)) for value in range(3)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, "TIFF", save_all=True, append_images=pictures[1:], **options)
    with pytest.raises(ImageError, match=r"several pages \(3 frames\)"):
        decode(buffer.getvalue())
    single = io.BytesIO()
    pictures[1].save(single, "TIFF", **options)
    assert (decode(single.getvalue()).pixels == 1).all()


def test_tags_that_all_point_to_one_large_value():
    value = bytes(100_000)
    entries = b"".join(struct.pack("<HHII", 1000 + i, 1, len(value), 8) for i in range(5000))
    start = 8 + len(value)
    data = b"II*\0" + struct.pack("<I", start) + value + struct.pack("<H", 5000) + entries + bytes(4)
    with pytest.raises(ImageError, match="tags claim"):
        decode(data)
    with pytest.raises(ValueError, match="tags claim"):
        check_tiff(lambda offset, size: data[offset : offset + size])


def test_an_empty_sheet_is_read_and_a_claim_without_bytes_is_not():
    buffer = io.BytesIO()
    Image.new("L", (5000, 4000)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).pixels.shape == (4000, 5000, 1)
    head = bytearray(buffer.getvalue()[:2000])
    head[16:24] = struct.pack(">II", 19_000, 10_000)
    with pytest.raises(ImageError, match=r"cannot hold|damaged|cut off"):
        decode(bytes(head))
