"""Encoding: what is written is read back exactly, and stays inside the budget, from the real bytes."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bitterant.errors import ConfigError, ImageError
from bitterant.imaging import Budget, Metadata, Picture, add_delta, decode, encode, measure_change, output_name


def picture(height=6, width=5, channels=3, depth=8, alpha=False, seed=0, **fields) -> Picture:
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if depth == 8 else np.uint16
    pixels = rng.integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)
    mask = rng.choice(np.array([0, 0, 128, 255], np.uint8), (height, width)) if alpha else None
    return Picture(pixels, mask, bit_depth=8 if depth == 8 else 16, **fields)


@st.composite
def pictures(draw):
    """Pictures of any kind that can be decoded, with a format that can hold them without loss."""
    depth = draw(st.sampled_from([8, 8, 8, 16]))
    channels = draw(st.sampled_from([1, 3])) if depth == 8 else 1
    alpha = draw(st.booleans()) if depth == 8 else False
    if depth == 16:
        formats = ["PNG", "TIFF"]
    elif channels == 1:
        formats = ["PNG", "TIFF"] if alpha else ["PNG", "TIFF", "BMP"]
    else:
        formats = ["PNG", "TIFF", "BMP", "WEBP"]
    sides = st.integers(1, 40)
    made = picture(draw(sides), draw(sides), channels, depth, alpha, draw(st.integers(0, 2**32 - 1)))
    extremes = draw(st.sampled_from([None, 0, 1]))
    if extremes is not None:  # pictures that are all black or all white meet the clipping
        made = made.with_pixels(np.full_like(made.pixels, extremes * made.full_range))
    return made, draw(st.sampled_from(formats))


@settings(max_examples=80, deadline=None)
@given(pictures())
def test_lossless_formats_give_back_every_value(case):
    made, format = case
    again = decode(encode(made, format=format))
    assert np.array_equal(again.pixels, made.pixels)
    if made.alpha is None or (format == "WEBP" and made.alpha.min() == 255):
        assert again.alpha is None
    else:
        assert again.alpha is not None
        assert np.array_equal(again.alpha, made.alpha)
    assert again.bit_depth == made.bit_depth


@settings(max_examples=80, deadline=None)
@given(pictures(), st.integers(1, 24), st.floats(1, 40), st.integers(0, 2**32 - 1))
def test_a_protected_file_is_inside_the_budget_when_read_back(case, resolution, levels, seed):
    made, format = case
    budget = Budget.from_levels(levels)
    rng = np.random.default_rng(seed)
    delta = rng.uniform(-budget.levels, budget.levels, (resolution, resolution, 3)).astype(np.float32)
    after = decode(encode(add_delta(made, delta, budget), format=format))
    change = measure_change(made, after)
    difference = after.pixels.astype(np.int64) - made.pixels
    largest = int(np.abs(difference).max())
    if made.bit_depth == 8:
        assert largest <= budget.whole_levels
        assert change.linf_levels == largest
    else:
        assert largest <= budget.levels * 257 + 1e-6
    assert change.linf_levels <= budget.levels + 1e-6
    if made.alpha is not None:
        assert not difference[made.alpha == 0].any()


SOURCES = [
    ("L", "PNG"), ("LA", "PNG"), ("P", "PNG"), ("RGB", "PNG"), ("RGBA", "PNG"), ("I;16", "PNG"),
    ("L", "TIFF"), ("LA", "TIFF"), ("P", "TIFF"), ("RGB", "TIFF"), ("RGBA", "TIFF"), ("I;16", "TIFF"),
    ("L", "BMP"), ("P", "BMP"), ("RGB", "BMP"), ("RGBA", "BMP"), ("RGB", "WEBP"), ("RGBA", "WEBP"),
    ("L", "JPEG"), ("RGB", "JPEG"),
]  # fmt: skip


@settings(max_examples=120, deadline=None)
@given(
    st.sampled_from(SOURCES),
    st.integers(1, 33),
    st.integers(1, 33),
    st.integers(1, 8),
    st.integers(1, 16),
    st.integers(1, 24),
    st.integers(0, 2**32 - 1),
)
def test_any_source_file_can_be_protected_within_the_budget(source, height, width, orientation, side, levels, seed):
    mode, format = source
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 65536, (height, width), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 4), dtype=np.uint8)).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    image.save(buffer, format, **({} if format == "BMP" else {"exif": exif.tobytes()}))

    budget = Budget.from_levels(levels)
    before = decode(buffer.getvalue())
    delta = rng.uniform(-levels, levels, (side, side, 3)).astype(np.float32)
    encoder = output_name(f"x.{format.lower()}", before.format, "lossless")[1]
    data = encode(add_delta(before, delta, budget), format=encoder)
    after = decode(data)

    assert after.pixels.shape == before.pixels.shape
    assert measure_change(before, after).linf_levels <= levels + 1e-9
    assert np.array_equal(after.pixels, add_delta(before, delta, budget).pixels)
    assert (after.alpha is None) == (before.alpha is None) or encoder == "WEBP"
    if after.alpha is not None and before.alpha is not None:
        assert np.array_equal(after.alpha, before.alpha)
    assert encoder == ("PNG" if format == "JPEG" else format)


def test_a_fully_opaque_webp_loses_nothing_but_the_useless_alpha():
    made = picture(alpha=True)
    made = replace(made, alpha=np.full((6, 5), 255, np.uint8))
    assert np.array_equal(decode(encode(made, format="WEBP")).pixels, made.pixels)


def test_grey_becomes_colour_in_webp_only():
    made = picture(channels=1)
    again = decode(encode(made, format="WEBP"))
    assert again.pixels.shape == (6, 5, 3)
    assert np.array_equal(again.pixels, np.repeat(made.pixels, 3, axis=2))
    with_alpha = picture(channels=1, alpha=True)
    assert np.array_equal(decode(encode(with_alpha, format="WEBP")).pixels, np.repeat(with_alpha.pixels, 3, axis=2))


def test_bmp_keeps_alpha_and_any_reader_sees_it():
    for grey in (False, True):
        made = picture(alpha=True, height=7, channels=1 if grey else 3)
        with Image.open(io.BytesIO(encode(made, format="BMP"))) as image:
            assert image.mode == "RGBA"
            assert made.alpha is not None
            wanted = np.dstack([np.broadcast_to(made.pixels, (7, 5, 3)), made.alpha])
            assert np.array_equal(np.asarray(image), wanted)


def test_jpeg_is_written_at_high_quality_without_subsampling():
    data = encode(picture(32, 32), format="JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "JPEG"
        sampling = [part[1:3] for part in image.layer]  # pyright: ignore[reportAttributeAccessIssue]
        assert sampling == [(1, 1)] * 3
    assert decode(encode(picture(channels=1), format="JPEG")).pixels.shape == (6, 5, 1)


@pytest.mark.parametrize(
    ("made", "format", "words"),
    [
        (picture(channels=1, depth=16), "WEBP", "16 bits"),
        (picture(channels=1, depth=16), "JPEG", "16 bits"),
        (picture(channels=1, depth=16), "BMP", "16 bits"),
        (picture(channels=3, depth=16), "PNG", "grey"),
        (picture(alpha=True), "JPEG", "transparency"),
        (picture(1, 20_000, 1), "WEBP", "16383"),
    ],
)
def test_what_a_format_cannot_hold_is_said(made, format, words):
    with pytest.raises(ImageError, match=words):
        encode(replace(made, source="cat.png"), format=format)


def test_the_message_names_the_file():
    with pytest.raises(ImageError, match=r"^cat\.png: "):
        encode(picture(alpha=True, source="cat.png"), format="JPEG")


def test_unknown_format_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"GIF.*PNG"):
        encode(picture(), format="GIF")


@pytest.mark.parametrize("format", ["PNG", "TIFF", "JPEG", "BMP"])
@pytest.mark.parametrize("alpha", [False, True])
def test_resolution_in_dpi_is_kept(format, alpha):
    dpi = (300.0, 150.0)
    if alpha and format == "JPEG":
        return
    again = decode(encode(picture(metadata=Metadata(dpi=dpi), alpha=alpha), format=format))
    assert again.metadata.dpi == pytest.approx(dpi, rel=1e-3)


def test_no_dpi_is_invented():
    for format in ("PNG", "TIFF"):
        assert decode(encode(picture(), format=format)).metadata.dpi is None


def test_png_text_and_colour_chunks_are_kept():
    text = {"Title": "Über", "Author": "Anna ©", "Comment": "日本語", "Long": "x" * 3000}
    colour = ((b"gAMA", (45455).to_bytes(4, "big")), (b"sRGB", b"\x00"))
    again = decode(encode(picture(metadata=Metadata(text=text, png_colour=colour)), format="PNG"))
    assert dict(again.metadata.text) == text
    assert again.metadata.png_colour == colour
    assert decode(encode(again, format="PNG")).metadata == again.metadata


def test_a_jpeg_comment_is_kept_in_jpeg_and_png():
    made = picture(metadata=Metadata(text={"Comment": "für Anna"}))
    assert decode(encode(made, format="JPEG")).metadata.text == {"Comment": "für Anna"}
    assert decode(encode(made, format="PNG")).metadata.text == {"Comment": "für Anna"}


def test_oversized_exif_costs_a_jpeg_its_exif_not_the_picture(caplog):
    made = picture(metadata=Metadata(exif=b"Exif\x00\x00" + bytes(70_000)), source="cat.jpg")
    assert decode(encode(made, format="JPEG")).metadata.exif is None
    assert "EXIF is too long" in caplog.text


def test_encoding_is_deterministic():
    for format in ("PNG", "WEBP", "TIFF", "BMP", "JPEG"):
        assert encode(picture(), format=format) == encode(picture(), format=format)


@pytest.mark.parametrize("size", [1024, 1025, 2**20, 2**20 + 1, 3 * 2**20])
@pytest.mark.parametrize("letter", ["x", "é", "日"])
def test_long_texts_can_be_read_back(letter, size):
    text = letter * (size // len(letter.encode()))
    again = decode(encode(picture(metadata=Metadata(text={"parameters": text})), format="PNG"))
    assert again.metadata.text == {"parameters": text}


def test_a_colour_profile_that_no_png_reader_takes_is_a_true_reason():
    rng = np.random.default_rng(0)
    small, large = rng.bytes(2**20), rng.bytes(2**20 + 1)
    assert decode(encode(picture(metadata=Metadata(icc=small)), format="PNG")).metadata.icc == small
    with pytest.raises(ImageError, match=r"colour profile has 1\.0 MiB.*sRGB"):
        encode(picture(metadata=Metadata(icc=large)), format="PNG")
    assert decode(encode(picture(metadata=Metadata(icc=large)), format="TIFF")).metadata.icc == large


def test_photographs_are_packed_the_quick_way_and_drawings_the_small_way() -> None:
    """Neither may cost more than a little room, and the pixels come back either way."""
    rng = np.random.default_rng(0)
    grain = rng.normal(128, 6, (500, 700, 3)).astype(np.uint8)
    tile = rng.integers(0, 2, (20, 28, 3), dtype=np.uint8) * 200
    drawing = np.tile(tile, (25, 25, 1))
    sizes = {}
    for name, pixels in (("grain", grain), ("drawing", drawing)):
        data = encode(Picture(pixels), format="PNG")
        assert np.array_equal(decode(data).pixels, pixels)
        searched = io.BytesIO()
        Image.fromarray(pixels).save(searched, "PNG", compress_level=4)
        sizes[name] = len(data), len(searched.getvalue())
    assert sizes["grain"][0] != sizes["grain"][1]
    assert sizes["grain"][0] < 1.03 * sizes["grain"][1]
    assert sizes["drawing"][0] == sizes["drawing"][1]


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "I;16"])
def test_every_kind_of_picture_can_be_packed_the_quick_way(mode: str) -> None:
    rng = np.random.default_rng(1)
    deep = mode == "I;16"
    pixels = rng.integers(0, 65536 if deep else 256, (600, 400, 1 if mode != "RGBA" else 3))
    alpha = rng.integers(0, 256, (600, 400), dtype=np.uint8) if mode.endswith("A") else None
    picture = Picture(pixels.astype(np.uint16 if deep else np.uint8), alpha, mode, bit_depth=16 if deep else 8)
    back = decode(encode(picture, format="PNG"))
    assert np.array_equal(back.pixels, picture.pixels)
    assert alpha is None or (back.alpha is not None and np.array_equal(back.alpha, alpha))
