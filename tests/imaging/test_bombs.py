"""Small files that claim much are refused from their heads, before they cost time or memory."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from bitterant.errors import ImageError
from bitterant.imaging import decode, formats, read_header, scan_folder
from bitterant.imaging.exif import check_tiff, count_tiff_pages
from bitterant.imaging.metadata import insert_chunks


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


@pytest.mark.parametrize("big", [False, True])
def test_a_tile_far_larger_than_the_picture(big: bool) -> None:
    # libtiff makes room for a whole tile: 512 MiB for 40 x 40 pixels in a file of 218 bytes, which the fuzzer found.
    def tiff(across: int, down: int) -> bytes:
        sides = {256: 40, 257: 40, 322: across, 323: down}
        if big:
            entries = b"".join(struct.pack("<HHQQ", number, 4, 1, value) for number, value in sides.items())
            return b"II+\0" + struct.pack("<HHQQ", 8, 0, 16, len(sides)) + entries + bytes(8)
        entries = b"".join(struct.pack("<HHII", number, 4, 1, value) for number, value in sides.items())
        return b"II*\0" + struct.pack("<IH", 8, len(sides)) + entries + bytes(4)

    with pytest.raises(ImageError, match="its tiles have 33554448 x 16 pixels, the picture 40 x 40"):
        decode(tiff(33554448, 16))
    usual = tiff(1024, 1024)
    check_tiff(lambda offset, size: usual[offset : offset + size])


def jpeg_of(segments: int = 0, scans: int = 0, tail: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    empty = b"\xff\xe5\0\2" * segments
    scan = data.index(b"\xff\xda")
    return data[:2] + empty + data[2:scan] + (b"\xff\xda\0\x08\1\1\0\1\x05\0" + bytes(40)) * scans + data[scan:] + tail


@pytest.mark.parametrize(("counts", "why"), [((4001, 0), "4000 segments"), ((0, 101), "100 scans")])
def test_a_jpeg_in_too_many_parts(counts, why):
    with pytest.raises(ImageError, match=why):
        decode(jpeg_of(*counts))


def test_what_follows_a_jpeg_does_not_count():
    data = jpeg_of(segments=300, tail=b"\xff\xda\0\x08" * 5000 + b"\xff")
    assert decode(data).pixels.shape == (256, 256, 1)


def test_scans_are_counted_across_the_blocks_in_which_a_file_is_read(monkeypatch):
    many = jpeg_of(scans=101)
    for size in (2, 3, 5, 64):
        monkeypatch.setattr(formats, "_BLOCK", size)
        with pytest.raises(ValueError, match="100 scans"):
            formats.check_parts(io.BytesIO(many), "JPEG")


def test_a_png_in_too_many_chunks():
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "PNG")
    data = buffer.getvalue()
    assert decode(insert_chunks(data, [(b"tEXt", b"a\0b")] * 3990)).pixels.shape == (8, 8, 1)
    with pytest.raises(ImageError, match="4000 chunks"):
        decode(insert_chunks(data, [(b"tEXt", b"a\0b")] * 4000))


def test_a_ppm_whose_pixels_come_late():
    pixels = b"\n2 2\n255\n1234"
    assert decode(b"P5\n#" + b"x" * 60_000 + pixels).pixels.ravel().tolist() == [49, 50, 51, 52]
    with pytest.raises(ImageError, match="header is longer than 64 KiB"):
        decode(b"P5\n#" + b"x" * 70_000 + pixels)


def test_a_file_larger_than_any_picture_is_not_opened(tmp_path):
    path = tmp_path / "a" / "large.webp"
    path.parent.mkdir()
    with path.open("wb") as file:
        file.write(b"RIFF\xff\xff\xff\x3fWEBP")
        file.truncate(formats.MAX_FILE_BYTES + 1)
    with pytest.raises(ImageError, match=r"the file has 1\.0 GiB; 1 GiB are read at most"):
        decode(path)
    found = scan_folder(tmp_path)
    assert not found.entries
    assert [(skip.relative, "larger than 1 GiB" in skip.reason) for skip in found.skipped] == [("a/large.webp", True)]


@pytest.mark.parametrize("flat", [False, True])
def test_a_large_sheet_that_is_nearly_empty(flat):
    buffer = io.BytesIO()
    Image.new("P", (6000, 6000)).save(buffer, "PNG", bits=1)
    with pytest.raises(ImageError, match="made to fill the memory"):
        decode(buffer.getvalue())
    with Image.open(buffer) as image:
        assert formats.claims_too_much(image, len(buffer.getvalue()), flat=flat) is not flat


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("by_xmp", [False, True])
def test_a_tiff_is_turned_by_the_same_rules_as_all_formats(orientation, by_xmp):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    packet = b"<x xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='%d'/>" % orientation
    found = []
    for fmt in ("TIFF", "PNG"):
        exif = Image.Exif()
        exif[274] = orientation
        buffer = io.BytesIO()
        options = {"exif": exif} if not by_xmp else {"tiffinfo": {700: packet}}
        if by_xmp and fmt == "PNG":
            text = PngImagePlugin.PngInfo()
            text.add_itxt("XML:com.adobe.xmp", packet.decode())
            options = {"pnginfo": text}
        Image.fromarray(pixels).save(buffer, fmt, **options)
        picture, head = decode(buffer.getvalue()), read_header(buffer.getvalue())
        assert (head.width, head.height) == (picture.width, picture.height)
        found.append(picture.pixels)
    np.testing.assert_array_equal(*found)


def test_a_packet_that_is_no_xml_turns_no_tiff():
    """Pillow finds the orientation in it by its letters alone; nothing else does."""
    buffer = io.BytesIO()
    Image.new("L", (5, 3)).save(buffer, "TIFF", tiffinfo={700: b"<x tiff:Orientation='6'"})
    assert decode(buffer.getvalue()).pixels.shape == (3, 5, 1)
    assert read_header(buffer.getvalue()).width == 5


def test_an_empty_sheet_is_read_and_a_claim_without_bytes_is_not():
    buffer = io.BytesIO()
    Image.new("L", (5000, 4000)).save(buffer, "PNG")
    assert decode(buffer.getvalue()).pixels.shape == (4000, 5000, 1)
    head = bytearray(buffer.getvalue()[:2000])
    head[16:24] = struct.pack(">II", 19_000, 10_000)
    with pytest.raises(ImageError, match=r"cannot hold|damaged|cut off"):
        decode(bytes(head))
