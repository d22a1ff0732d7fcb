"""CIEDE2000 against the published pairs; CIELAB against Pillow's colour engine and known colours."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms

from bitterant.imaging.visibility import ciede2000, linear_light, xyz_to_lab

# Sharma, Wu, Dalal (2005), table 1: L, a, b of both colours, and the difference.
PAIRS = np.array(
    [
        [50.0000, 2.6772, -79.7751, 50.0000, 0.0000, -82.7485, 2.0425],
        [50.0000, 3.1571, -77.2803, 50.0000, 0.0000, -82.7485, 2.8615],
        [50.0000, 2.8361, -74.0200, 50.0000, 0.0000, -82.7485, 3.4412],
        [50.0000, -1.3802, -84.2814, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -1.1848, -84.8006, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, -0.9009, -85.5211, 50.0000, 0.0000, -82.7485, 1.0000],
        [50.0000, 0.0000, 0.0000, 50.0000, -1.0000, 2.0000, 2.3669],
        [50.0000, -1.0000, 2.0000, 50.0000, 0.0000, 0.0000, 2.3669],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0009, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0010, 7.1792],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0011, 7.2195],
        [50.0000, 2.4900, -0.0010, 50.0000, -2.4900, 0.0012, 7.2195],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0009, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0010, -2.4900, 4.8045],
        [50.0000, -0.0010, 2.4900, 50.0000, 0.0011, -2.4900, 4.7461],
        [50.0000, 2.5000, 0.0000, 50.0000, 0.0000, -2.5000, 4.3065],
        [50.0000, 2.5000, 0.0000, 73.0000, 25.0000, -18.0000, 27.1492],
        [50.0000, 2.5000, 0.0000, 61.0000, -5.0000, 29.0000, 22.8977],
        [50.0000, 2.5000, 0.0000, 56.0000, -27.0000, -3.0000, 31.9030],
        [50.0000, 2.5000, 0.0000, 58.0000, 24.0000, 15.0000, 19.4535],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.1736, 0.5854, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2972, 0.0000, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 1.8634, 0.5757, 1.0000],
        [50.0000, 2.5000, 0.0000, 50.0000, 3.2592, 0.3350, 1.0000],
        [60.2574, -34.0099, 36.2677, 60.4626, -34.1751, 39.4387, 1.2644],
        [63.0109, -31.0961, -5.8663, 62.8187, -29.7946, -4.0864, 1.2630],
        [61.2901, 3.7196, -5.3901, 61.4292, 2.2480, -4.9620, 1.8731],
        [35.0831, -44.1164, 3.7933, 35.0232, -40.0716, 1.5901, 1.8645],
        [22.7233, 20.0904, -46.6940, 23.0331, 14.9730, -42.5619, 2.0373],
        [36.4612, 47.8580, 18.3852, 36.2715, 50.5065, 21.2231, 1.4146],
        [90.8027, -2.0831, 1.4410, 91.1528, -1.6435, 0.0447, 1.4441],
        [90.9257, -0.5406, -0.9208, 88.6381, -0.8985, -0.7239, 1.5381],
        [6.7747, -0.2908, -2.4247, 5.8714, -0.0985, -2.2286, 0.6377],
        [2.0776, 0.0795, -1.1350, 0.9033, -0.0636, -0.5514, 0.9082],
    ]
)


def lab(rgb: np.ndarray) -> np.ndarray:
    return xyz_to_lab(linear_light(rgb))


def test_the_published_pairs():
    found = ciede2000(PAIRS[:, :3].T, PAIRS[:, 3:6].T)
    np.testing.assert_allclose(found, PAIRS[:, 6], atol=5e-5)
    np.testing.assert_allclose(ciede2000(PAIRS[:, 3:6].T, PAIRS[:, :3].T), PAIRS[:, 6], atol=5e-5)


def test_single_precision_is_good_enough():
    colours = np.random.default_rng(0).uniform([[0], [-60], [-60]], [[100], [60], [60]], (3, 5000))
    near = colours + np.random.default_rng(1).normal(0, 3, colours.shape)
    low = ciede2000(colours.astype(np.float32), near.astype(np.float32))
    assert low.dtype == np.float32
    np.testing.assert_allclose(low, ciede2000(colours, near), atol=2e-3)


def test_equal_colours_do_not_differ():
    every = np.random.default_rng(0).integers(0, 256, (1000, 3), dtype=np.uint8)
    assert ciede2000(lab(every), lab(every)).max() == 0.0


@pytest.mark.parametrize(
    ("rgb", "wanted"),
    [
        ([255, 255, 255], [100, 0, 0]),
        ([0, 0, 0], [0, 0, 0]),
        ([119, 119, 119], [50.03, 0, 0]),
        ([255, 0, 0], [53.24, 80.09, 67.20]),
        ([0, 255, 0], [87.73, -86.18, 83.18]),
        ([0, 0, 255], [32.30, 79.19, -107.86]),
        ([2, 2, 2], [0.548, 0, 0]),  # the straight part near black
    ],
)
def test_known_colours(rgb, wanted):
    np.testing.assert_allclose(lab(np.array(rgb, np.uint8)), wanted, atol=0.02)


def test_differences_agree_with_pillows_colour_engine():
    # It works with D50 and in 8 bits, so only large differences agree, and roughly; CIE76 of both.
    rgb = np.random.default_rng(3).integers(40, 216, (32, 32, 3), dtype=np.uint8)
    transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
    theirs = np.asarray(ImageCms.applyTransform(Image.fromarray(rgb), transform)).astype(np.float64)  # type: ignore[arg-type]
    ours = lab(rgb)
    assert np.abs(ours[0] - theirs[..., 0] * 100 / 255).max() < 2
    assert ours.shape == (3, 32, 32)
