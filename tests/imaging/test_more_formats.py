"""Formats that are read and become PNG or WebP: pixels, depth, colours and orientation, or a reason in words."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image, ImageCms, features

from bitterant.errors import ImageError
from bitterant.imaging import decode, encode, output_name, read_header
from bitterant.imaging.metadata import avif_depth, box_colours, jpeg2000_components, ppm_largest

RNG = np.random.default_rng(11)
PIXELS = RNG.integers(0, 256, (12, 20, 3), dtype=np.uint8)
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
needs_jpeg2000 = pytest.mark.skipif(not features.check("jpg_2000"), reason="this Pillow reads no JPEG 2000")


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def reason_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data)
    return caught.value.reason


@pytest.mark.parametrize("grey", [False, True])
def test_ppm_and_pgm_come_through_exactly_under_their_own_format(grey):
    pixels = PIXELS[..., 0] if grey else PIXELS
    picture = decode(saved(Image.fromarray(pixels), "PPM"))
    assert picture.format == "PPM"
    assert np.array_equal(picture.pixels.squeeze(), pixels)
    data = encode(picture, format="PPM")
    assert data[:2] == (b"P5" if grey else b"P6")
    assert np.array_equal(decode(data).pixels, picture.pixels)
    assert output_name("a/b.ppm", "PPM", "lossless") == ("a/b.ppm", "PPM")


def test_sixteen_bit_pgm_is_read_and_sixteen_bit_ppm_refused():
    deep = RNG.integers(0, 1 << 16, (6, 5)).astype(np.uint16)
    picture = decode(b"P5\n# made by hand\n5 6\n65535\n" + deep.astype(">u2").tobytes())
    assert np.array_equal(picture.pixels[..., 0], deep)
    assert np.array_equal(decode(encode(picture, format="PPM")).pixels, picture.pixels)
    assert "16 bits" in reason_of(b"P6 1 1 65535\n" + bytes(6))
    assert "transparency" in _encoding_refused(decode(saved(Image.new("RGBA", (2, 2)), "PNG")))


def _encoding_refused(picture) -> str:
    with pytest.raises(ImageError) as caught:
        encode(picture, format="PPM")
    return caught.value.reason


@needs_jpeg2000
@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_lossless_jpeg2000_comes_through_exactly(mode):
    image = Image.fromarray(RNG.integers(0, 256, (12, 20, 4), dtype=np.uint8)).convert(mode)
    data = saved(image, "JPEG2000")
    picture = decode(data)
    assert picture.format == "JPEG2000"
    whole = picture.pixels if picture.alpha is None else np.dstack([picture.pixels, picture.alpha])
    assert np.array_equal(whole.squeeze(), np.asarray(image))
    assert jpeg2000_components(io.BytesIO(data)) == (len(mode), 8)
    assert (read_header(data).width, read_header(data).height) == (20, 12)


@needs_jpeg2000
def test_deep_jpeg2000_colours_are_refused():
    data = bytearray(saved(Image.fromarray(PIXELS), "JPEG2000", no_jp2=True))
    place = data.index(b"\xff\x51") + 2 + 38
    data[place : place + 9 : 3] = bytes([11] * 3)
    assert jpeg2000_components(io.BytesIO(bytes(data))) == (3, 12)
    assert "12 bits" in reason_of(bytes(data))


@needs_avif
def test_avif_is_read_upright_with_its_colours():
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112], exif[0x8298] = 6, "me"
    data = saved(image, "AVIF", quality=100, subsampling="4:4:4", icc_profile=ICC, exif=exif.tobytes())
    picture = decode(data)
    assert picture.format == "AVIF"
    assert np.abs(picture.pixels.astype(int) - np.rot90(PIXELS, -1)).mean() < 4
    assert picture.metadata.icc == ICC
    again = decode(encode(picture, format="PNG"))
    assert again.metadata.icc == ICC
    assert np.array_equal(again.pixels, picture.pixels)


@needs_avif
def test_deep_avif_is_refused():
    data = bytearray(saved(Image.fromarray(PIXELS), "AVIF"))
    assert avif_depth(io.BytesIO(bytes(data))) == 8
    data[data.index(b"av1C") + 6] |= 0x40
    place = data.index(b"pixi") + 9
    data[place : place + 3] = bytes([10] * 3)
    assert avif_depth(io.BytesIO(bytes(data))) == 10
    assert "10 bits" in reason_of(bytes(data))


def box(kind: bytes, body: bytes) -> bytes:
    return (len(body) + 8).to_bytes(4, "big") + kind + body


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"nclx" + bytes([0, 9, 0, 16, 0, 9, 0x80]) + b"\0", (None, (9, 16))),
        (b"nclx" + bytes([0, 12, 0, 13, 0, 6, 0x80]) + b"\0", (None, (12, 13))),
        (b"nclx" + bytes([0, 1, 0, 13, 0, 6, 0x80]) + b"\0", (None, None)),
        (b"prof" + b"profile-bytes", (b"profile-bytes", None)),
        (b"\x02\0\0" + b"profile-bytes", (b"profile-bytes", None)),
        (b"\x01\0\0" + (16).to_bytes(4, "big") + bytes(8), (None, None)),
    ],
)
def test_colours_that_a_box_tells(body, found):
    assert box_colours(io.BytesIO(bytes(30) + box(b"colr", body) + bytes(30))) == found


def test_heads_that_say_nothing():
    for data in (b"", b"P6", b"colr", b"av1C", b"\xff\x4f\xff\x51"):
        file = io.BytesIO(data)
        assert (box_colours(file), jpeg2000_components(file), avif_depth(file), ppm_largest(file)) == (
            (None, None), (0, 0), 8, 0,
        )  # fmt: skip


def test_heic_without_its_reader_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "bitterant[heif]" in reason_of(box(b"ftyp", b"heic\0\0\0\0mif1heic") + bytes(40))
    assert "a video" in reason_of(box(b"ftyp", b"isom\0\0\0\0isommp42") + bytes(40))


def test_heic_is_read_where_its_reader_is_installed():
    pillow_heif = pytest.importorskip("pillow_heif")
    try:
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = 6
        made = pillow_heif.from_pillow(Image.fromarray(PIXELS.repeat(4, 0).repeat(4, 1)))
        made.save(buffer, quality=-1, chroma=444, exif=exif.tobytes(), matrix_coefficients=0)
    except RuntimeError:
        pytest.skip("this pillow-heif writes nothing")
    picture = decode(buffer.getvalue())
    assert picture.format == "HEIF"
    assert (read_header(buffer.getvalue()).width, picture.width) == (48, 48)
    whole = np.rot90(PIXELS.repeat(4, 0).repeat(4, 1), -1)
    assert np.abs(picture.pixels.astype(int) - whole).mean() < 4


@pytest.mark.parametrize(
    ("relative", "fmt", "policy", "wanted"),
    [
        ("a/b.heic", "HEIF", "lossless", ("a/b.png", "PNG")),
        ("a/b.avif", "AVIF", "same", ("a/b.png", "PNG")),
        ("a/b.jp2", "JPEG2000", "webp", ("a/b.webp", "WEBP")),
        ("a/b.jpg", "JPEG", "webp", ("a/b.webp", "WEBP")),
        ("a/b.jpg", "JPEG", "same", ("a/b.jpg", "JPEG")),
        ("a/b.webp", "JPEG", "webp", ("a/b.webp", "WEBP")),
        ("a/b.png", "PNG", "webp", ("a/b.png", "PNG")),
        ("a/b.heic.jpg", "JPEG", "lossless", ("a/b.heic.png", "PNG")),
        ("a/b.jpg", "HEIF", "lossless", ("a/b.png", "PNG")),
    ],
)
def test_names_of_what_is_written_otherwise(relative, fmt, policy, wanted):
    assert output_name(relative, fmt, policy) == wanted
