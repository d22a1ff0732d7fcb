"""One picture in memory: taken in every usual form, refused in plain words, and given back as what it was."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from bitterant.errors import ConfigError
from bitterant.imaging import ImageSet
from bitterant.imaging.picture import as_picture, picture_like

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RNG.integers(0, 256, (5, 7), dtype=np.uint8)
CHW = torch.from_numpy(PIXELS.transpose(2, 0, 1).copy())

FORMS = {
    "pillow": Image.fromarray(PIXELS),
    "array": PIXELS,
    "float array": PIXELS.astype(np.float64) / 255,
    "uint8 tensor": CHW,
    "float tensor": CHW.float() / 255,
    "double tensor": CHW.double() / 255,
    "half tensor": (CHW.float() / 255).half(),
    "tv image": tv_tensors.Image(CHW),
    "turned tensor": torch.from_numpy(PIXELS).permute(2, 0, 1),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_the_same_pixels_and_comes_back_as_it_was(form: str) -> None:
    given = FORMS[form]
    picture = as_picture(given)
    assert np.array_equal(picture.pixels, PIXELS)
    other = picture.with_pixels(255 - PIXELS)
    back = picture_like(given, other)
    assert type(back) is type(given)
    assert np.array_equal(as_picture(back).pixels, 255 - PIXELS)
    assert getattr(back, "dtype", None) == getattr(given, "dtype", None)
    assert getattr(back, "shape", None) == getattr(given, "shape", None)


@pytest.mark.parametrize(
    "given",
    [GREY, GREY[:, :, None], torch.from_numpy(GREY), torch.from_numpy(GREY)[None], Image.fromarray(GREY)],
    ids=["array", "array with an axis", "tensor", "tensor with an axis", "pillow"],
)
def test_greys_have_one_channel_and_stay_so(given) -> None:
    picture = as_picture(given)
    assert np.array_equal(picture.pixels[:, :, 0], GREY)
    assert picture.pixels.shape[2] == 1
    back = picture_like(given, picture)
    assert np.array_equal(np.asarray(back), np.asarray(given))
    assert type(back) is type(given)


def test_modes_of_pillow() -> None:
    rgba = Image.fromarray(RNG.integers(0, 256, (4, 4, 4), dtype=np.uint8))
    modes = {
        mode: picture_like(image, as_picture(image))
        for mode, image in {
            "RGBA": rgba, "LA": rgba.convert("LA"), "P": rgba.convert("RGB").quantize(4), "1": rgba.convert("1"),
        }.items()
    }  # fmt: skip
    assert {mode: image.mode for mode, image in modes.items()} == {"RGBA": "RGBA", "LA": "LA", "P": "RGB", "1": "L"}
    assert np.array_equal(np.asarray(modes["RGBA"]), np.asarray(rgba))
    assert as_picture(rgba).alpha is not None


def test_what_a_picture_says_beside_its_pixels_stays_with_it() -> None:
    image = Image.fromarray(PIXELS)
    image.info.update(dpi=(72, 72), icc_profile=b"colours")
    assert picture_like(image, as_picture(image)).info == image.info


REFUSED = [
    (torch.full((3, 4, 4), 1.5), r"1\.5\.\.1\.5.*\[0, 1\]"),
    (torch.full((3, 4, 4), -0.1), "normalisation"),
    (torch.full((3, 4, 4), float("nan")), "finite"),
    (np.full((4, 4, 3), np.inf), "finite"),
    (torch.zeros(3, 4, 4, dtype=torch.int64), "could mean anything"),
    (np.zeros((4, 4, 3), np.uint16), "could mean anything"),
    (torch.zeros(4, 4, 3), r"permute\(2, 0, 1\)"),
    (np.zeros((3, 4, 4), np.uint8), r"transpose\(1, 2, 0\)"),
    (torch.zeros(4, 5, 5), "transparency"),
    (torch.zeros(2, 3, 4, 4), "batch"),
    (torch.zeros(3, 0, 4), "no pixel"),
    (Image.new("CMYK", (2, 2)), "convert"),
    (Image.new("I;16", (2, 2)), "16 bits"),
    (Image.new("F", (2, 2)), "mode F"),
    ("photo.jpg", "a str"),
    (None, "NoneType"),
    ([[0, 1]], "a list"),
]


@pytest.mark.parametrize(("given", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_anything_else_is_refused_by_name(given, words: str) -> None:
    with pytest.raises(ConfigError, match=f"item 3.*{words}"):
        as_picture(given, name="item 3")


def test_the_digest_is_the_key_of_the_same_pixels_in_a_set() -> None:
    square = RNG.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    (key,) = ImageSet.from_tensors(square[None]).keys
    assert as_picture(square).digest() == key == hashlib.sha256(square.transpose(2, 0, 1).tobytes()).hexdigest()
    grey = as_picture(square[:, :, 0])
    assert grey.digest() == as_picture(np.repeat(square[:, :, :1], 3, axis=2)).digest()
