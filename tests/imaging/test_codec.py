"""Decoding: every kind of file that is read, upright and complete, and every other refused in words."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageOps

from bitterant.errors import ConfigError, ImageError
from bitterant.imaging import Picture, codec, decode, read_header

RNG = np.random.default_rng(7)


def noise(*shape: int, dtype: type[np.unsignedinteger] = np.uint8) -> np.ndarray:
    return RNG.integers(0, np.iinfo(dtype).max + 1, shape, dtype=dtype)


def file_bytes(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def reason_of(data, **options) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value.reason


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *more: tuple[bytes, bytes]) -> bytes:
    """A PNG written by hand, for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    middle = b"".join(chunk(*part) for part in more)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + middle + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )


LOSSLESS = [("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}), ("BMP", {})]


@pytest.mark.parametrize(("format", "options"), LOSSLESS)
def test_rgb_pixels_arrive_exactly(format, options):
    pixels = noise(5, 7, 3)
    picture = decode(file_bytes(Image.fromarray(pixels), format, **options))
    assert np.array_equal(picture.pixels, pixels)
    assert picture.alpha is None
    assert (picture.format, picture.mode, picture.bit_depth) == (format, "RGB", 8)
    assert (picture.height, picture.width, picture.full_range) == (5, 7, 255)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_grey_stays_one_channel(format):
    pixels = np.full((9, 4), 77, np.uint8)
    picture = decode(file_bytes(Image.fromarray(pixels), format))
    assert picture.pixels.shape == (9, 4, 1)
    assert np.abs(picture.pixels[..., 0].astype(int) - 77).max() <= 1
    assert picture.mode == "L"


@pytest.mark.parametrize(("format", "options"), LOSSLESS[:3])
def test_alpha_is_set_apart_and_hidden_colours_are_kept(format, options):
    pixels = noise(6, 5, 4)
    pixels[:2, :, 3] = 0
    picture = decode(file_bytes(Image.fromarray(pixels), format, **options))
    assert picture.alpha is not None
    assert np.array_equal(picture.pixels, pixels[..., :3])
    assert np.array_equal(picture.alpha, pixels[..., 3])
    assert picture.pixels.flags.c_contiguous
    assert picture.alpha.flags.c_contiguous


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_with_alpha(format):
    pixels = noise(3, 4, 2)
    picture = decode(file_bytes(Image.merge("LA", [Image.fromarray(pixels[..., i].copy()) for i in (0, 1)]), format))
    assert picture.alpha is not None
    assert np.array_equal(picture.pixels[..., 0], pixels[..., 0])
    assert np.array_equal(picture.alpha, pixels[..., 1])


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bit_grey_keeps_all_sixteen(format, byte_order):
    pixels = noise(5, 6, dtype=np.uint16)
    image = Image.fromarray(pixels)
    if byte_order == ">u2" and format == "TIFF":
        image = Image.frombytes("I;16B", (6, 5), pixels.astype(">u2").tobytes())
    picture = decode(file_bytes(image, format))
    assert picture.pixels.dtype == np.uint16
    assert picture.pixels.dtype.isnative
    assert np.array_equal(picture.pixels[..., 0], pixels)
    assert (picture.bit_depth, picture.full_range) == (16, 65535)


def test_tiff_where_zero_means_white_is_turned_round():
    for pixels in (noise(4, 5), noise(4, 5, dtype=np.uint16)):
        data = bytearray(file_bytes(Image.fromarray(pixels), "TIFF"))
        (start,) = struct.unpack_from("<I", data, 4)
        (count,) = struct.unpack_from("<H", data, start)
        for place in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from("<H", data, place)[0] == 262:
                struct.pack_into("<H", data, place + 8, 0)
        white = np.iinfo(pixels.dtype).max
        assert np.array_equal(decode(bytes(data)).pixels[..., 0], white - pixels)


def test_palette_becomes_rgb():
    image = Image.fromarray(noise(8, 8, 3)).quantize(16)
    picture = decode(file_bytes(image, "PNG"))
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))
    assert (picture.mode, picture.alpha) == ("P", None)


def test_palette_with_transparent_entries_becomes_rgb_and_alpha():
    image = Image.fromarray(noise(8, 8, 3)).quantize(4)
    picture = decode(file_bytes(image, "PNG", transparency=bytes([0, 128, 255])))
    index = np.asarray(image)
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.array([0, 128, 255, 255], np.uint8)[index])
    assert np.array_equal(picture.pixels, np.asarray(image.convert("RGB")))


def test_a_transparent_colour_becomes_alpha():
    grey = np.arange(16, dtype=np.uint8).reshape(4, 4)
    picture = decode(file_bytes(Image.fromarray(grey), "PNG", transparency=5))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, grey == 5)
    colour = np.stack([grey, grey, grey], -1)
    picture = decode(file_bytes(Image.fromarray(colour), "PNG", transparency=(5, 5, 5)))
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha == 0, grey == 5)
    assert picture.pixels.shape == (4, 4, 3)


@pytest.mark.parametrize("depth", [2, 4])
def test_grey_of_few_bits_is_spread_over_eight(depth):
    top = 2**depth - 1
    packed = bytes([0]) + bytes([0b00011011] if depth == 2 else [0x01, 0xF7])
    picture = decode(png(4, 1, depth, 0, packed))
    values = [0, 1, 2, 3] if depth == 2 else [0, 1, 15, 7]
    assert picture.pixels[0, :, 0].tolist() == [value * 255 // top for value in values]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_all_eight_orientations(orientation, format):
    pixels = np.zeros((16, 24, 3), np.uint8)
    pixels[:8, :8] = (250, 10, 10)
    pixels[8:, 16:] = (10, 10, 250)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if format == "JPEG" else {"lossless": True} if format == "WEBP" else {}
    data = file_bytes(Image.fromarray(pixels), format, exif=exif.tobytes(), **options)
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    picture = decode(data)
    assert np.array_equal(picture.pixels, wanted)
    assert picture.pixels.shape[:2] == ((16, 24) if orientation < 5 else (24, 16))
    assert picture.pixels.flags.c_contiguous
    header = read_header(data)
    assert (header.width, header.height) == (picture.width, picture.height)
    again = picture.metadata.exif
    assert again is None or 0x0112 not in _exif(again)


def _exif(block: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(block)
    return exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_turns_alpha_too(orientation):
    pixels = noise(3, 5, 4)
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file_bytes(Image.fromarray(pixels), "PNG", exif=exif.tobytes())
    with Image.open(io.BytesIO(data)) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image))
    picture = decode(data)
    assert picture.alpha is not None
    assert np.array_equal(np.dstack([picture.pixels, picture.alpha]), wanted)


def test_orientation_in_xmp_counts_where_exif_is_silent_and_is_removed():
    pixels = noise(3, 5, 3)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6" dc:rights="me"/></x:xmpmeta>'
    picture = decode(file_bytes(Image.fromarray(pixels), "WEBP", lossless=True, xmp=xmp))
    assert np.array_equal(picture.pixels, np.rot90(pixels, -1))
    assert picture.metadata.xmp is not None
    assert b"Orientation" not in picture.metadata.xmp
    assert b'dc:rights="me"' in picture.metadata.xmp


def test_nonsense_orientation_is_none():
    exif = Image.Exif()
    exif[0x0112] = 99
    pixels = noise(3, 5, 3)
    assert np.array_equal(decode(file_bytes(Image.fromarray(pixels), "PNG", exif=exif.tobytes())).pixels, pixels)


def test_a_phone_jpeg_with_several_pictures_gives_the_first():
    first, second = Image.new("RGB", (16, 16), (200, 0, 0)), Image.new("RGB", (16, 16), (0, 0, 200))
    data = file_bytes(first, "MPO", save_all=True, append_images=[second])
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "MPO"
    picture = decode(data)
    assert picture.format == "JPEG"
    assert picture.pixels[8, 8].tolist() == decode(file_bytes(first, "JPEG")).pixels[8, 8].tolist()


def test_paths_bytes_and_open_files_give_the_same(tmp_path):
    data = file_bytes(Image.fromarray(noise(4, 4, 3)), "PNG")
    path = tmp_path / "bild ä 日.png"
    path.write_bytes(data)
    with path.open("rb") as file:
        file.seek(3)
        pictures = [decode(path), decode(str(path)), decode(data), decode(file)]
        assert not file.closed
    assert all(np.array_equal(pictures[0].pixels, other.pixels) for other in pictures)
    assert pictures[0].source == str(path)
    assert decode(path, name="short").source == "short"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_the_bytes_decide_whatever_the_name_says(tmp_path, format):
    path = tmp_path / "picture.jpg"
    path.write_bytes(file_bytes(Image.fromarray(noise(4, 4, 3)), format))
    assert decode(path).format == read_header(path).format == format


# ---- refusals ----


def test_an_empty_file_is_named_so(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    assert reason_of(tmp_path / "a.png") == "the file is empty (0 bytes)"


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_cut_file_is_refused(format, share):
    data = file_bytes(Image.fromarray(noise(40, 40, 3)), format)
    reason = reason_of(data[: int(len(data) * share)])
    assert reason.startswith(("cut off", "damaged"))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "TIFF", "BMP"])
def test_a_file_cut_within_the_pixels_is_called_cut_off(format):
    data = file_bytes(Image.fromarray(noise(64, 64, 3)), format)
    # A TIFF whose directory stands first, like the other formats' heads.
    assert reason_of(data[: len(data) // 2]) == "cut off: the file ends before the picture does"


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF", "BMP"])
def test_any_single_overwritten_stretch_gives_a_picture_or_a_reason(format):
    data = file_bytes(Image.fromarray(noise(12, 12, 3)), format)
    for start in range(0, len(data), max(1, len(data) // 60)):
        broken = data[:start] + bytes(255 - value for value in data[start : start + 7]) + data[start + 7 :]
        try:
            assert isinstance(decode(broken, max_pixels=10**6), Picture)
        except ImageError as error:
            assert error.reason  # noqa: PT017 - either outcome is right


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"GIF89a" + bytes(30), "GIF"),
        (b"\x00\x00\x00\x1cftypisom" + bytes(30), "a video"),
        (b"%PDF-1.7" + bytes(30), "PDF"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"<html><body>404</body></html>", "web page"),
        (b"hello, world, this is text", "not a PNG, JPEG, WebP, TIFF, BMP, AVIF, HEIC, JPEG 2000 or PPM"),
    ],
)
def test_other_files_under_an_image_name_are_recognised(data, words):
    assert words in reason_of(data)


@pytest.mark.parametrize(
    ("mode", "format", "words"),
    [("CMYK", "JPEG", "CMYK"), ("CMYK", "TIFF", "CMYK"), ("1", "PNG", "1-bit"), ("F", "TIFF", "floating-point")],
)
def test_pixel_types_that_cannot_be_kept_are_refused(mode, format, words):
    assert words in reason_of(file_bytes(Image.new(mode, (8, 8)), format))


def test_thirty_two_bit_integers_are_refused():
    assert "32-bit" in reason_of(file_bytes(Image.new("I", (4, 4)), "TIFF"))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_sixteen_bit_colour_png_is_refused_not_cut_to_eight(colour, channels):
    rows = b"".join(b"\x00" + bytes(4 * channels * 2) for _ in range(4))
    assert "16 bits per colour channel" in reason_of(png(4, 4, 16, colour, rows))


def test_sixteen_bit_colour_tiff_is_refused():
    entries = [(256, 3, 1, 2), (257, 3, 1, 2), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2)]
    entries += [(273, 4, 1, 210), (277, 3, 1, 3), (278, 3, 1, 2), (279, 4, 1, 24)]
    data = struct.pack("<2sHIH", b"II", 42, 8, len(entries))
    data += b"".join(struct.pack("<HHII", *entry) for entry in entries) + bytes(4)
    data = data.ljust(200, b"\0") + struct.pack("<3H", 16, 16, 16)
    data = data.ljust(210, b"\0") + bytes(24)
    assert "16 bits per colour channel" in reason_of(data)


def test_sixteen_bit_grey_with_a_transparent_colour_is_refused():
    data = png(2, 1, 16, 0, bytes(5), (b"tRNS", b"\x00\x07"))
    assert "transparent colour" in reason_of(data)


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_animations_and_pages_are_refused(format):
    frames = [Image.new("RGB", (8, 8), (i * 90, 0, 0)) for i in range(3)]
    reason = reason_of(file_bytes(frames[0], format, save_all=True, append_images=frames[1:]))
    assert "3 frames" in reason
    assert ("several pages" in reason) == (format == "TIFF")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    bomb = png(60_000, 60_000, 8, 2, b"")
    reason = reason_of(bomb)
    assert "60000 x 60000" in reason
    assert "--max-pixels" in reason

    def never(self):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", never)
    assert "is 110 pixels; the limit is 100 pixels (--max-pixels)" in reason_of(
        file_bytes(Image.new("L", (11, 10)), "PNG"), max_pixels=100
    )


def test_pillows_own_limit_neither_warns_nor_stops(monkeypatch, recwarn):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert decode(file_bytes(Image.new("L", (20, 20)), "PNG")).width == 20
    assert not recwarn.list


def test_pillows_own_limit_where_it_cannot_be_avoided_gives_a_reason(monkeypatch):
    data = file_bytes(Image.new("RGB", (20, 20)), "WEBP")

    def bomb(*_args):  # some versions check WebP and tiled TIFF themselves
        raise Image.DecompressionBombError

    monkeypatch.setitem(codec._READERS, "WEBP", bomb)
    assert "Pillow" in reason_of(data)


def test_a_missing_file_and_a_folder_are_image_errors(tmp_path):
    assert "cannot be opened" in reason_of(tmp_path / "gone.png")
    assert "cannot be opened" in reason_of(tmp_path)


def test_the_error_names_the_file(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty"):
        decode(tmp_path / "empty.png")


def test_damaged_exif_does_not_cost_the_picture():
    pixels = noise(4, 4, 3)
    for exif in (
        b"Exif\x00\x00II*\x00\xff\xff\xff\xff",
        b"Exif\x00\x00garbage",
        b"Exif\x00\x00MM\x00*\x00\x00\x00\x08\xff\xff",
    ):
        assert np.array_equal(decode(file_bytes(Image.fromarray(pixels), "PNG", exif=exif)).pixels, pixels)


# ---- the picture itself ----


@pytest.mark.parametrize(
    ("pixels", "alpha", "depth"),
    [
        (np.zeros((4, 4), np.uint8), None, 8),
        (np.zeros((0, 4, 3), np.uint8), None, 8),
        (np.zeros((4, 4, 2), np.uint8), None, 8),
        (np.zeros((4, 4, 3), np.float32), None, 8),
        (np.zeros((4, 4, 3), np.uint8), None, 16),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), 8),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.float32), 8),
    ],
)
def test_a_picture_that_does_not_fit_together_is_refused(pixels, alpha, depth):
    with pytest.raises(ConfigError):
        Picture(pixels, alpha, bit_depth=depth)


def test_sixteen_bits_round_to_eight_exactly():
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256, 1)
    shown = Picture(values, bit_depth=16).rgb8()
    assert shown.shape == (256, 256, 3)
    assert np.array_equal(shown[..., 0], np.rint(values[..., 0] / 257.0).astype(np.uint8))
