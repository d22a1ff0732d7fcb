"""Formats, modes and depths crossed with the metadata policies: each comes through exactly, or is refused in words."""

from __future__ import annotations

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ImageError
from bitterant.imaging import Budget, add_delta, apply_metadata_policy, decode, encode, measure_change, output_name
from bitterant.imaging.picture import white_in_use

SIDE = 24
LEVELS = 8
RNG = np.random.default_rng(3)


def values(channels: int, bits: int = 8) -> np.ndarray:
    kind = np.uint8 if bits <= 8 else np.uint16
    found = RNG.integers(0, 1 << bits, (SIDE, SIDE, channels), dtype=np.int64).astype(kind)
    found[0, :2, :] = [[0], [(1 << bits) - 1]]
    return found[..., 0] if channels == 1 else found


def saved(image: Image.Image, format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def tiff(bands: int, photometric: int, bits: int = 8, extra: tuple[int, ...] | None = None, sample: int = 1) -> bytes:
    """A TIFF written by hand, for what Pillow does not write."""
    kind = {8: "u1", 16: "<u2", 32: "<u4"}[bits]
    data = values(bands, min(bits, 16)).astype(kind).tobytes()
    tags: list[tuple[int, int, list[int]]] = [
        (256, 3, [SIDE]), (257, 3, [SIDE]), (258, 3, [bits] * bands), (259, 3, [1]), (262, 3, [photometric]),
        (273, 4, [0]), (277, 3, [bands]), (278, 3, [SIDE]), (279, 4, [len(data)]), (339, 3, [sample] * bands),
    ]  # fmt: skip
    if extra is not None:
        tags.append((338, 3, list(extra)))
    tags.sort()
    start = 8 + 2 + 12 * len(tags) + 4
    far = b""
    entries = []
    for number, code, numbers in tags:
        raw = struct.pack(f"<{len(numbers)}{'HI'[code == 4]}", *numbers)
        if len(raw) > 4:
            raw, far = struct.pack("<I", start + len(far)), far + raw
        entries.append((number, code, len(numbers), raw.ljust(4, b"\0")))
    head = b"".join(
        struct.pack("<HHI", number, code, count) + (struct.pack("<I", start + len(far)) if number == 273 else raw)
        for number, code, count, raw in entries
    )
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + head + bytes(4) + far + data


def image(mode: str, bits: int = 8) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(values(1, bits).astype(np.uint16))
    if mode == "P":
        return Image.fromarray(values(3)).quantize(64)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    return Image.fromarray(values(channels))


def palette_with_transparency() -> bytes:
    return saved(image("P"), "PNG", transparency=bytes([0, 128, 255] * 10))


KEPT = {
    **{f"{mode} {format}": saved(image(mode), format, **options)
       for format, options, modes in (
           ("PNG", {}, ("L", "LA", "P", "RGB", "RGBA")),
           ("TIFF", {}, ("L", "LA", "P", "RGB", "RGBA")),
           ("BMP", {}, ("L", "P", "RGB", "RGBA")),
           ("WEBP", {"lossless": True, "exact": True}, ("RGB", "RGBA")),
           ("JPEG", {"quality": 95}, ("L", "RGB")),
       )
       for mode in modes},
    **{f"{bits} bits in I;16 {format}": saved(image("I;16", bits), format)
       for bits in (8, 9, 10, 12, 14, 16) for format in ("PNG", "TIFF")},
    "P with transparency": palette_with_transparency(),
    "grey with a transparent value": saved(image("L"), "PNG", transparency=7),
    "TIFF straight alpha": tiff(4, 2, extra=(2,)),
    "TIFF zero is white": tiff(1, 0),
    "16-bit TIFF zero is white": tiff(1, 0, 16),
}  # fmt: skip

REFUSED = {
    "1-bit PNG": (saved(Image.new("1", (8, 8)), "PNG"), "1-bit"),
    "1-bit TIFF": (saved(Image.new("1", (8, 8)), "TIFF"), "1-bit"),
    "CMYK JPEG": (saved(Image.new("CMYK", (8, 8)), "JPEG"), "CMYK"),
    "CMYK TIFF": (saved(Image.new("CMYK", (8, 8)), "TIFF"), "CMYK"),
    "LAB TIFF": (tiff(3, 8), "Lab"),
    "YCbCr TIFF": (tiff(3, 6), "YCbCr"),
    "float TIFF": (tiff(1, 1, 32, sample=3), "floating-point"),
    "32-bit TIFF": (tiff(1, 1, 32), "32-bit"),
    "signed 8-bit TIFF": (tiff(1, 1, sample=2), "signed"),
    "signed 16-bit TIFF": (tiff(1, 1, 16, sample=2), "signed"),
    "16-bit RGB TIFF": (tiff(3, 2, 16), "16 bits"),
    "16-bit RGBA TIFF": (tiff(4, 2, 16, extra=(2,)), "16 bits"),
    "2 bands": (tiff(2, 1, extra=(0,)), "2 bands"),
    "4 bands": (tiff(4, 2, extra=(0,)), "4 bands"),
    "4 bands, unsaid": (tiff(4, 2), "fourth band"),
    "5 bands": (tiff(5, 2, extra=(0, 0)), "5 bands"),
    "alpha and another": (tiff(5, 2, extra=(2, 0)), "5 bands"),
    "6 bands": (tiff(6, 2, extra=(0, 0, 0)), "6 bands"),
    "CMYK and another": (tiff(5, 5, extra=(0,)), "CMYK"),
    "3 greys": (tiff(3, 1), "kind that is not supported"),
}


@pytest.mark.parametrize("policy", ["keep", "private", "strip"])
@pytest.mark.parametrize("name", KEPT)
def test_pixels_come_through_and_change_within_the_budget(name, policy):
    before = decode(KEPT[name])
    budget = Budget(LEVELS / 255)
    delta = RNG.integers(-LEVELS, LEVELS + 1, (SIDE, SIDE, 3)).astype(np.float32)
    protected = add_delta(before, delta, budget)
    protected = replace(protected, metadata=apply_metadata_policy(protected.metadata, policy))
    _, encoder = output_name("a.x", before.format, "lossless")
    after = decode(encode(protected, format=encoder))
    assert after.pixels.shape[:2] == before.pixels.shape[:2]
    assert (after.bit_depth, after.full_range) == (before.bit_depth, before.full_range)
    assert (after.alpha is None) == (before.alpha is None)
    if after.alpha is not None and before.alpha is not None:
        assert np.array_equal(after.alpha, before.alpha)
    change = np.abs(after.pixels.astype(int) - before.pixels.astype(int)).max()
    assert 0 < change <= LEVELS * before.full_range / 255
    assert measure_change(before, after).linf_levels <= LEVELS + 1e-6


@pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])
def test_the_budget_counts_in_what_is_used_of_sixteen_bits(bits):
    before = decode(saved(image("I;16", bits), "TIFF"))
    assert before.full_range == (1 << bits) - 1
    after = add_delta(before, np.full((2, 2, 3), 8, np.float32), Budget(8 / 255))
    assert int(np.abs(after.pixels.astype(int) - before.pixels).max()) == int(8 * before.full_range / 255 + 1e-6)
    assert white_in_use(after.pixels) == before.full_range
    seen = before.rgb8()
    assert (int(seen.min()), int(seen.max())) == (0, 255)


def test_a_picture_just_above_half_of_its_range_stays_there():
    pixels = np.full((SIDE, SIDE, 1), 2050, np.uint16)
    before = decode(saved(Image.fromarray(pixels[..., 0]), "PNG"))
    after = add_delta(before, np.full((2, 2, 3), -8, np.float32), Budget(8 / 255))
    assert before.full_range == white_in_use(after.pixels) == 4095
    assert int(after.pixels.min()) == 2048


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_be_lost_is_refused_in_words(name):
    data, words = REFUSED[name]
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert words in caught.value.reason
    assert "damaged" not in caught.value.reason
