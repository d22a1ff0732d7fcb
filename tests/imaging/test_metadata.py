"""Metadata: kept through every format, rid of every copy of the picture, and cut down by the policies."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image, ImageCms, PngImagePlugin

from bitterant.errors import ConfigError
from bitterant.imaging import Metadata, Picture, apply_metadata_policy, decode, encode
from bitterant.imaging.exif import Directory, Tag, build_exif, graft_into_tiff, parse_exif
from bitterant.imaging.metadata import read_chunks

try:
    import resource
except ImportError:  # Windows
    resource = None

RIGHTS = "© Zoë Müller"
LATIN = RIGHTS.encode("latin-1")
PIXELS = np.random.default_rng(5).integers(0, 256, (8, 10, 3), dtype=np.uint8)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"""<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" xmlns:exif="http://ns.adobe.com/exif/1.0/"
 xmlns:xmpRights="http://ns.adobe.com/xap/1.0/rights/" xmlns:xmp="http://ns.adobe.com/xap/1.0/"
 xmlns:xmpGImg="http://ns.adobe.com/xap/1.0/g/img/" xmlns:plus="http://ns.useplus.org/ldf/xmp/1.0/"
 xmlns:tiff="http://ns.adobe.com/tiff/1.0/"
 xmpRights:Marked="True" exif:GPSLatitude="52,31N" tiff:Orientation="1">
<dc:rights><rdf:Alt><rdf:li xml:lang="x-default">\xc2\xa9 Zo\xc3\xab</rdf:li></rdf:Alt></dc:rights>
<plus:DataMining>http://ns.useplus.org/ldf/vocab/DMI-PROHIBITED</plus:DataMining>
<xmp:Thumbnails><rdf:Alt><rdf:li><xmpGImg:image>/9j/4AAQSkZJRg==</xmpGImg:image></rdf:li></rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta>
<?xpacket end="w"?>"""


def text(value: bytes) -> Tag:
    return Tag(2, len(value) + 1, value + b"\x00")


def exif_block(order: str = "<", *, thumbnail: bytes | None = None, note: bytes = b"maker-note!") -> bytes:
    """An EXIF block as a camera writes it: text beyond ASCII, rationals, GPS, serial number, maker note, thumbnail."""

    def short(value: int) -> Tag:
        return Tag(3, 1, struct.pack(order + "H", value))

    shot = {
        0x829A: Tag(5, 1, struct.pack(order + "II", 1, 250)),
        0x9003: text(b"2026:01:02 03:04:05"),
        0xA002: Tag(4, 1, struct.pack(order + "I", 4000)),
        0xA003: Tag(4, 1, struct.pack(order + "I", 3000)),
        0xA431: text(b"SERIAL-123"),
        0x927C: Tag(7, len(note), note, 900),
    }
    place = {1: text(b"N"), 2: Tag(5, 3, struct.pack(order + "6I", 52, 1, 31, 1, 0, 1))}
    main = {
        0x010F: text(b"Maker"),
        0x0112: short(6),
        0x013B: text(b"Zo\xeb"),
        0x8298: text(LATIN),
        0x013C: text(b"host"),
    }
    block = build_exif(Directory(order, main, {0x8769: Directory(order, shot), 0x8825: Directory(order, place)}))
    assert block is not None
    if thumbnail is None:
        return block
    # Append a second directory that points to a JPEG, and link it from the first.
    data = bytearray(block[6:])
    (start,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, start)
    second = len(data)
    struct.pack_into(order + "I", data, start + 2 + 12 * count, second)
    data += struct.pack(order + "H", 2)
    data += struct.pack(order + "HHII", 0x0201, 4, 1, second + 30)
    data += struct.pack(order + "HHII", 0x0202, 4, 1, len(thumbnail)) + bytes(4) + thumbnail
    return b"Exif\x00\x00" + bytes(data)


def jpeg_with(**options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", quality=95, **options)
    return buffer.getvalue()


def small_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (1, 2, 3)).save(buffer, "JPEG")
    return buffer.getvalue()


def exif_of(data: bytes) -> Image.Exif:
    with Image.open(io.BytesIO(data)) as image:
        return image.getexif()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_colour_profile_exif_and_xmp_survive_every_format(order, format):
    picture = decode(jpeg_with(exif=exif_block(order), icc_profile=ICC, xmp=XMP))
    data = encode(picture, format=format)
    again = decode(data)
    assert again.metadata.icc == ICC
    assert again.metadata.xmp is not None
    assert b"\xc2\xa9 Zo\xc3\xab" in again.metadata.xmp
    exif = exif_of(data)
    assert exif[ExifTags.Base.Copyright] == RIGHTS  # not "? Zo? M?ller"
    assert exif[ExifTags.Base.Make] == "Maker"
    assert ExifTags.Base.Orientation not in exif
    shot = exif.get_ifd(ExifTags.IFD.Exif)
    assert float(shot[ExifTags.Base.ExposureTime]) == pytest.approx(1 / 250)
    assert shot[ExifTags.Base.DateTimeOriginal] == "2026:01:02 03:04:05"
    # The picture was turned by a quarter, so the size recorded in EXIF follows.
    assert (shot[0xA002], shot[0xA003]) == (8, 10) == (again.width, again.height)
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[2] == (52.0, 31.0, 0.0)
    assert np.array_equal(again.pixels, picture.pixels) or format == "JPEG"


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_metadata_is_stable_from_the_second_time_on(format):
    first = decode(encode(decode(jpeg_with(exif=exif_block(), icc_profile=ICC, xmp=XMP)), format=format))
    second = decode(encode(first, format=format))
    assert second.metadata.icc == first.metadata.icc
    assert second.metadata.xmp == first.metadata.xmp
    values = [_values(parse_exif(picture.metadata.exif or b"") or Directory("<")) for picture in (first, second)]
    assert values[0] == values[1] != {}


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_is_dropped_because_it_is_an_unprotected_copy(order):
    thumbnail = small_jpeg()
    block = exif_block(order, thumbnail=thumbnail)
    original = jpeg_with(exif=block)
    assert exif_of(original).get_ifd(ExifTags.IFD.IFD1)
    for format in ("PNG", "WEBP", "TIFF", "JPEG"):
        data = encode(decode(original), format=format)
        assert thumbnail[:20] not in data
        assert not exif_of(data).get_ifd(ExifTags.IFD.IFD1)


def test_previews_in_maker_notes_and_xmp_are_dropped():
    note = b"MAKER\x00" + small_jpeg()
    picture = decode(jpeg_with(exif=exif_block(note=note), xmp=XMP))
    assert picture.metadata.exif is not None
    assert picture.metadata.xmp is not None
    assert b"\xff\xd8\xff" not in picture.metadata.exif
    assert b"Thumbnails" not in picture.metadata.xmp
    assert b"GImg:image" not in picture.metadata.xmp
    assert b"Orientation" not in picture.metadata.xmp


def test_a_harmless_maker_note_keeps_its_place():
    source = exif_block(note=b"offsets count from the block's start")
    kept = decode(jpeg_with(exif=source)).metadata.exif
    assert kept is not None
    assert kept.index(b"offsets count") == source.index(b"offsets count") == 906


def test_photoshop_blocks_are_dropped_and_their_rights_move_to_exif():
    def field(number: int, value: bytes) -> bytes:
        return struct.pack(">BBBH", 0x1C, 2, number, len(value)) + value

    record = field(80, b"Anna") + field(116, "© Anna".encode())
    thumbnail = small_jpeg()
    resources = b"".join(
        b"8BIM" + struct.pack(">HHI", number, 0, len(value)) + value + bytes(len(value) % 2)
        for number, value in ((0x0404, record), (0x040C, thumbnail))
    )
    segment = b"Photoshop 3.0\x00" + resources
    plain = jpeg_with()
    data = plain[:2] + b"\xff\xed" + struct.pack(">H", len(segment) + 2) + segment + plain[2:]
    picture = decode(data)
    assert picture.metadata.exif is not None
    directory = parse_exif(picture.metadata.exif)
    assert directory is not None
    assert directory.text(0x013B) == b"Anna"
    assert directory.text(0x8298) == "© Anna".encode()
    assert thumbnail[:30] not in encode(picture, format="PNG")


def test_exif_written_by_imagemagick_into_png_text_is_read():
    block = exif_block()
    profile = f"\nexif\n{len(block):8}\n{block.hex()}\n"
    chunks = PngImagePlugin.PngInfo()
    chunks.add_text("Raw profile type exif", profile, zip=True)
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", pnginfo=chunks)
    picture = decode(buffer.getvalue())
    assert picture.pixels.shape == (10, 8, 3)
    assert picture.metadata.exif is not None
    assert LATIN in picture.metadata.exif
    assert picture.metadata.text == {}


def test_tiff_tags_about_pixels_and_layers_are_left_to_the_encoder():
    buffer = io.BytesIO()
    tags = {37724: Tag(7, 40, b"layers" + bytes(34)), 330: Tag(4, 1, bytes(4)), 0x8298: text(LATIN)}
    Image.fromarray(PIXELS).save(buffer, "TIFF")
    data = graft_into_tiff(buffer.getvalue(), Directory("<", tags))
    picture = decode(data)
    assert np.array_equal(picture.pixels, PIXELS)
    directory = parse_exif(picture.metadata.exif or b"")
    assert directory is not None
    assert set(directory.tags) == {0x8298}
    again = encode(picture, format="TIFF")
    assert b"layers" not in again
    assert np.array_equal(decode(again).pixels, PIXELS)


def test_grafting_keeps_big_endian_tags_right():
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "TIFF")
    data = graft_into_tiff(buffer.getvalue(), parse_exif(exif_block(">")) or Directory("<"))
    exif = exif_of(data)
    assert exif[0x8298] == RIGHTS
    assert float(exif.get_ifd(0x8769)[0x829A]) == pytest.approx(1 / 250)
    assert exif.get_ifd(0x8825)[2] == (52.0, 31.0, 0.0)


# ---- policies ----


def everything() -> Metadata:
    return decode(jpeg_with(exif=exif_block(), icc_profile=ICC, xmp=XMP, comment=b"taken at home")).metadata


def test_keep_changes_nothing():
    metadata = everything()
    assert apply_metadata_policy(metadata, "keep") is metadata


def test_private_drops_place_and_serial_numbers_and_keeps_the_rights():
    kept = apply_metadata_policy(everything(), "private")
    assert kept.icc == ICC
    assert kept.exif is not None
    for gone in (b"SERIAL-123", b"maker-note", b"host"):
        assert gone not in kept.exif
    directory = parse_exif(kept.exif)
    assert directory is not None
    assert 0x8825 not in directory.children
    assert directory.text(0x8298) == LATIN
    assert directory.text(0x013B) == b"Zo\xeb"
    assert 0x829A in directory.children[0x8769].tags
    assert kept.xmp is not None
    assert b"GPS" not in kept.xmp
    assert b"DMI-PROHIBITED" in kept.xmp
    assert "© Zoë".encode() in kept.xmp
    assert kept.text == {}


def test_private_keeps_rights_of_png_text():
    metadata = Metadata(text={"Copyright": "me", "Author": "me", "parameters": "a prompt"})
    assert apply_metadata_policy(metadata, "private").text == {"Copyright": "me", "Author": "me"}


@pytest.mark.parametrize(
    "xmp",
    [
        b"<not xml",
        b"\xff\xfe\x00",
        b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>',
        b'<x xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about=""/></x>',
    ],
)
def test_private_drops_xmp_without_readable_rights(xmp):
    assert apply_metadata_policy(Metadata(xmp=xmp), "private").xmp is None


def test_strip_leaves_only_what_the_colours_mean():
    assert apply_metadata_policy(everything(), "strip") == Metadata(icc=ICC)


def test_policies_on_nothing_give_nothing():
    for policy in ("keep", "private", "strip"):
        assert apply_metadata_policy(Metadata(), policy) == Metadata()


def test_an_unknown_policy_is_refused():
    with pytest.raises(ConfigError, match="keep, private, strip"):
        apply_metadata_policy(Metadata(), "all")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("policy", ["keep", "private", "strip"])
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_every_policy_can_be_written_in_every_format(policy, format):
    metadata = apply_metadata_policy(everything(), policy)
    again = decode(encode(Picture(PIXELS, metadata=metadata), format=format))
    assert again.metadata.icc == (None if format == "BMP" else ICC)


# ---- EXIF blocks ----


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b"", b"II*\x00\x08\x00\x00\x00", b"MM\x00*\x00\x00\x00\x08"]))
def test_any_bytes_parse_to_a_block_or_to_nothing(data, head):
    directory = parse_exif(b"Exif\x00\x00" + head + data)
    if directory is not None and (block := build_exif(directory)) is not None:
        again = parse_exif(block)
        assert again is not None
        assert _values(again) == _values(directory)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 255))
def test_a_damaged_block_never_raises(place, value):
    block = bytearray(exif_block(thumbnail=small_jpeg()))
    block[place % len(block)] = value
    directory = parse_exif(bytes(block))
    if directory is not None:
        build_exif(directory)


def test_a_directory_that_points_to_itself_ends():
    data = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HHHIII", 1, 0x8769, 4, 1, 8, 0)
    directory = parse_exif(data)
    assert directory is not None


def _values(directory: Directory) -> dict:
    values = {number: (tag.kind, tag.count, tag.data) for number, tag in directory.tags.items()}
    children = {n: _values(child) for n, child in directory.children.items() if child.tags or child.children}
    return {**values, **children}


def test_many_tags_that_point_to_one_large_value_do_not_fill_the_memory():
    count, size = 500, 1 << 20
    entries = b"".join(struct.pack("<HHII", 50000 + i, 7, size, 8 + 2 + 12 * count + 4) for i in range(count))
    block = b"II*\x00" + struct.pack("<IH", 8, count) + entries + bytes(4) + bytes(size)
    directory = parse_exif(block)
    assert directory is not None
    assert 1 <= len(directory.tags) <= 16
    assert sum(len(tag.data) for tag in directory.tags.values()) <= 16 << 20


def test_tags_before_a_pile_of_large_ones_are_kept():
    tags = {270: Tag(2, 5, b"text\x00")} | {40000 + i: Tag(7, 1 << 20, bytes(1 << 20)) for i in range(20)}
    block = build_exif(Directory("<", tags))
    assert block is not None
    directory = parse_exif(block)
    assert directory is not None
    assert directory.text(270) == b"text"
    assert len(directory.tags) < 21


SIZE = 300_000  # bytes of a packet: a search that goes back takes minutes or hours
HOSTILE = {
    "white space": lambda n: b"<x>" + b" " * n + b"</x>",
    "white space in an attribute": lambda n: b"<x tiff:Orientation" + b" " * n,
    "many attributes": lambda n: b" tiff:Orientation='" * (n // 19),
    "many elements": lambda n: b"<tiff:Orientation>  " * (n // 20),
    "open thumbnails": lambda n: b"<a:Thumbnails" * (n // 13),
    "nested thumbnails": lambda n: b"<a:Thumbnails>" * (n // 14),
    "thumbnails of many names": lambda n: b"".join(b"<a%d:Thumbnails>" % i for i in range(n // 17)),
    "long names": lambda n: b"<" + b"a" * n,
    "nested": lambda n: b"<a>" * (n // 7) + b"</a>" * (n // 7),
    "many children": lambda n: (
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><r:Description>'
        + b"<a/>" * (n // 4)
        + b"</r:Description></r:RDF>"
    ),
    "rights nested": lambda n: (
        b'<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:d="http://purl.org/dc/elements/1.1/">'
        b"<r:Description><d:rights>" + b"<a>" * (n // 7) + b"</a>" * (n // 7) + b"</d:rights></r:Description></r:RDF>"
    ),
}


@pytest.mark.skipif(resource is None, reason="this system limits no processor time")
def test_no_packet_is_gone_through_more_than_a_few_times():
    """A child process reads all of them within the processor time that the system lets it have."""
    script = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
sys.path.insert(0, sys.argv[1])
from test_metadata import HOSTILE, SIZE
from bitterant.imaging.xmp import clean_xmp, keep_rights, xmp_orientation
for kind, make in HOSTILE.items():
    packet = make(SIZE)
    for read in (clean_xmp, keep_rights, xmp_orientation):
        read(packet)
print("done", len(HOSTILE))
"""
    words = [sys.executable, "-c", script, str(Path(__file__).parent)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == f"done {len(HOSTILE)}", done.stderr


@pytest.mark.parametrize("encoding", ["cp037", "utf-16", "utf-7", "cp500"])
def test_a_document_type_does_not_hide_in_another_encoding(encoding):
    declared = "<?xml version='1.0' encoding='" + encoding + "'?>"
    text = declared + "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '" + "&a;" * 10 + "'>]><x>&b;</x>"
    assert apply_metadata_policy(Metadata(xmp=text.encode(encoding)), "private").xmp is None


# ---- what the colours mean ----


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png_with(*chunks: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG")
    return buffer.getvalue()[:33] + b"".join(chunks) + buffer.getvalue()[33:]


COLOUR = [
    chunk(b"cICP", bytes([12, 13, 0, 1])),
    chunk(b"mDCV", bytes(range(24))),
    chunk(b"cLLI", bytes(8)),
    chunk(b"gAMA", struct.pack(">I", 45455)),
    chunk(b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)),
    chunk(b"sRGB", b"\x01"),
]


@pytest.mark.parametrize("policy", ["keep", "private", "strip"])
@pytest.mark.parametrize("made", COLOUR, ids=["cICP", "mDCV", "cLLI", "gAMA", "cHRM", "sRGB"])
def test_colour_chunks_of_a_png_survive_every_policy_byte_for_byte(made, policy):
    picture = decode(png_with(made))
    kept = replace(picture, metadata=apply_metadata_policy(picture.metadata, policy))
    assert made in encode(kept, format="PNG")


@pytest.mark.parametrize("policy", ["keep", "private", "strip"])
def test_the_shape_of_pixels_survives_every_policy(policy):
    made = chunk(b"pHYs", struct.pack(">IIB", 1, 2, 0))
    picture = decode(png_with(made))
    metadata = apply_metadata_policy(picture.metadata, policy)
    assert metadata.pixel_aspect == (1, 2)
    for format in ("PNG", "TIFF", "JPEG"):
        again = decode(encode(replace(picture, metadata=metadata), format=format))
        across, down = again.metadata.pixel_aspect or (0, 1)
        assert across * 2 == down
    assert made in encode(replace(picture, metadata=metadata), format="PNG")
    metric = decode(png_with(chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1)))).metadata
    assert (apply_metadata_policy(metric, policy).dpi or ())[:1] == pytest.approx([300], rel=1e-3)


def adobe_rgb(order: str = "<") -> bytes:
    def ratios(*values: int) -> Tag:
        return Tag(5, len(values), struct.pack(f"{order}{2 * len(values)}I", *(n for v in values for n in (v, 1000))))

    shot = Directory(
        order,
        {0xA001: Tag(3, 1, struct.pack(order + "H", 0xFFFF)), 0xA500: ratios(2200), 0xA431: text(b"SERIAL-123")},
        {0xA005: Directory(order, {1: text(b"R03"), 2: Tag(7, 4, b"0100")})},
    )
    main = {0x010F: text(b"Maker"), 318: ratios(313, 329), 319: ratios(640, 330, 210, 710, 150, 60)}
    return build_exif(Directory(order, main, {0x8769: shot})) or b""


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("policy", ["keep", "private", "strip"])
@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "WEBP"])
def test_a_colour_space_told_by_exif_survives_every_policy(format, policy, order):
    picture = decode(jpeg_with(exif=adobe_rgb(order)))
    metadata = apply_metadata_policy(picture.metadata, policy)
    exif = exif_of(encode(replace(picture, metadata=metadata), format=format))
    shot = exif.get_ifd(ExifTags.IFD.Exif)
    assert shot[0xA001] == 0xFFFF
    assert float(shot[0xA500]) == pytest.approx(2.2)
    assert exif.get_ifd(ExifTags.IFD.Interop)[1].rstrip("\x00") == "R03"
    assert [float(value) for value in exif[318]] == pytest.approx([0.313, 0.329])
    assert len(exif[319]) == 6
    assert (0x010F in exif, 0xA431 in shot) == (policy != "strip", policy == "keep")


def test_strip_drops_exif_that_says_srgb_or_what_a_profile_says_better():
    assert apply_metadata_policy(decode(jpeg_with(exif=exif_block())).metadata, "strip").exif is None
    profiled = decode(jpeg_with(exif=adobe_rgb(), icc_profile=ICC)).metadata
    assert apply_metadata_policy(profiled, "strip") == Metadata(icc=ICC)


def test_texts_of_a_png_are_kept_with_repeated_keys_languages_and_compression():
    texts = [
        chunk(b"tEXt", b"Author\x00Ann"),
        chunk(b"tEXt", b"Author\x00Bob"),
        chunk(b"zTXt", b"Story\x00\x00" + zlib.compress(b"once " * 9)),
        chunk(b"iTXt", "Title\x00\x00\x00de\x00Titel\x00Über".encode()),
    ]
    picture = decode(png_with(*texts))
    data = encode(picture, format="PNG")
    assert all(made in data for made in texts)
    assert decode(data).metadata == picture.metadata
    private = encode(replace(picture, metadata=apply_metadata_policy(picture.metadata, "private")), format="PNG")
    assert [made in private for made in texts] == [True, True, False, False]
    assert b"tEXt" not in encode(
        replace(picture, metadata=apply_metadata_policy(picture.metadata, "strip")), format="PNG"
    )


def test_a_raw_profile_in_a_png_text_does_not_come_back():
    hidden = chunk(b"zTXt", b"Raw profile type exif\x00\x00" + zlib.compress(b"\nexif\n4\n00000000"))
    assert b"Raw profile" not in encode(decode(png_with(hidden)), format="PNG")


@pytest.mark.parametrize("cut", [30, 36, 40, 50])
def test_damaged_chunks_end_the_reading(cut):
    whole = png_with(chunk(b"cICP", bytes(4)), chunk(b"tEXt", b"a\x00b"))
    assert read_chunks(io.BytesIO(whole[:cut]), [b"cICP", b"tEXt"]) == ((b"cICP", bytes(4)),) * (cut >= 49)
