"""The working resolution."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ConfigError
from bitterant.imaging import Picture, squash

RNG = np.random.default_rng(0)


def test_a_picture_of_the_right_size_is_not_resampled():
    pixels = RNG.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    assert np.array_equal(squash(Picture(pixels), 16), pixels)


def test_squashing_is_pillows_antialiased_bilinear_and_cuts_nothing_off():
    pixels = RNG.integers(0, 256, (40, 90, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
    assert np.array_equal(squash(Picture(pixels), 16), wanted)
    # Antialiased: a fine checkerboard becomes grey, not a moire pattern.
    checks = np.indices((64, 64)).sum(axis=0)[..., None] % 2 * np.full(3, 255)
    small = squash(Picture(checks.astype(np.uint8)), 8)
    assert np.abs(small.astype(int) - 128).max() < 8


@pytest.mark.parametrize("side", [1, 8, 50])
def test_the_result_is_always_a_colour_square(side):
    for picture in (
        Picture(RNG.integers(0, 256, (1, 7, 1), dtype=np.uint8)),
        Picture(RNG.integers(0, 65536, (9, 5, 1), dtype=np.uint16), bit_depth=16),
        Picture(RNG.integers(0, 256, (9, 5, 3), dtype=np.uint8), np.zeros((9, 5), np.uint8)),
    ):
        small = squash(picture, side)
        assert small.shape == (side, side, 3)
        assert small.dtype == np.uint8


def test_grey_is_repeated_and_alpha_ignored():
    grey = squash(Picture(RNG.integers(0, 256, (20, 20, 1), dtype=np.uint8)), 7)
    assert np.array_equal(grey[..., 0], grey[..., 1])
    assert np.array_equal(grey[..., 0], grey[..., 2])
    pixels = RNG.integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert np.array_equal(squash(Picture(pixels, np.zeros((20, 20), np.uint8)), 7), squash(Picture(pixels), 7))


def test_sixteen_bits_are_rounded():
    picture = Picture(np.full((4, 4, 1), 257 * 100 + 129, np.uint16), bit_depth=16)
    assert (squash(picture, 4) == 101).all()


def test_a_resolution_below_one_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        squash(Picture(np.zeros((4, 4, 3), np.uint8)), 0)
