"""The masking map against a slow version written from the papers, and what must hold for any picture."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw

from bitterant.errors import ConfigError
from bitterant.imaging import amplitude, masking, masking_map
from bitterant.imaging.masking import luma_709

# Chou and Li (1995): the background's weights and the four directions.
BACKGROUND = [[1, 1, 1, 1, 1], [1, 2, 2, 2, 1], [1, 2, 0, 2, 1], [1, 2, 2, 2, 1], [1, 1, 1, 1, 1]]
GRADIENTS = [
    [[0, 0, 0, 0, 0], [1, 3, 8, 3, 1], [0, 0, 0, 0, 0], [-1, -3, -8, -3, -1], [0, 0, 0, 0, 0]],
    [[0, 0, 1, 0, 0], [0, 8, 3, 0, 0], [1, 3, 0, -3, -1], [0, 0, -3, -8, 0], [0, 0, -1, 0, 0]],
    [[0, 0, 1, 0, 0], [0, 0, 3, 8, 0], [-1, -3, 0, 3, 1], [0, -8, -3, 0, 0], [0, 0, -1, 0, 0]],
    [[0, 1, 0, -1, 0], [0, 3, 0, -3, 0], [0, 8, 0, -8, 0], [0, 3, 0, -3, 0], [0, 1, 0, -1, 0]],
]


def naive(pixels: np.ndarray) -> np.ndarray:
    """One pixel at a time, in float64, over a mirrored picture."""
    height, width, channels = pixels.shape
    values = pixels.astype(np.float64) * (255 / np.iinfo(pixels.dtype).max)
    luma = values[..., 0] if channels == 1 else values @ np.array([0.2126, 0.7152, 0.0722])
    radius = max(1, min(4, min(height, width) // 32))
    around = 2 * radius
    levels = np.pad(luma, 2 + around, mode="symmetric")
    activity = np.empty((height + 2 * around, width + 2 * around))
    for i in range(activity.shape[0]):
        for j in range(activity.shape[1]):
            window = levels[i : i + 5, j : j + 5]
            grains = [abs((window * np.array(g)).sum()) / 16 for g in GRADIENTS]
            grains.append(abs(window[2, 2] - (window * np.array(BACKGROUND)).sum() / 32))
            activity[i, j] = max(grains)
    side = 2 * radius + 1
    masks = np.empty((height + around, width + around))
    light = levels[2:-2, 2:-2]
    for i in range(masks.shape[0]):
        for j in range(masks.shape[1]):
            place = np.s_[i : i + side, j : j + side]
            texture = 0.345 * (1 / (1 / (activity[place] + 3)).mean() - 3)
            mean = light[place].mean()
            more = 3 * (1 - np.sqrt(mean / 127)) if mean <= 127 else 3 * (mean - 127) / 128
            masked = texture - 0.3 * min(texture, 3 + more) + more * texture / (texture + 3)
            masks[i, j] = min(1.0, max(0.0, masked / 5))
    return np.array([[masks[i : i + side, j : j + side].mean() for j in range(width)] for i in range(height)])


def noise(height: int, width: int, channels: int = 3, seed: int = 0, low: int = 0, high: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(low, high, (height, width, channels), dtype=np.uint8)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([1, 3]),
    st.sampled_from([np.uint8, np.uint16]),
    st.floats(0, 40),
    st.integers(0, 1000),
)
def test_the_map_is_the_slow_formula(height, width, channels, dtype, spread, seed):
    r = np.random.default_rng(seed)
    full = np.iinfo(dtype).max
    values = r.uniform(0, full) + r.normal(0, spread * full / 255, (height, width, channels))
    pixels = np.clip(np.rint(values), 0, full).astype(dtype)
    ours = masking_map(pixels)
    assert ours.shape == (height, width)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, naive(pixels), atol=2e-4)


@pytest.mark.parametrize("size", [(70, 66), (131, 129)])
def test_wide_windows_and_tiles_are_the_slow_formula_too(size, monkeypatch):
    monkeypatch.setattr(masking, "_TILE_ROWS", 37)
    monkeypatch.setattr(masking, "_TILE_COLUMNS", 41)
    pixels = noise(*size, low=90, high=110)
    np.testing.assert_allclose(masking_map(pixels), naive(pixels), atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 50), st.integers(1, 50), st.sampled_from([1, 3]))),
    st.floats(0, 1),
)
def test_any_picture_gives_numbers_between_the_floor_and_one(pixels, floor):
    found = amplitude(pixels, floor=floor)
    assert np.isfinite(found).all()
    assert found.min() >= np.float32(floor) - 1e-6
    assert found.max() <= 1.0


@pytest.mark.parametrize("level", [0, 1, 60, 127, 128, 200, 255])
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 32, 3), (300, 200, 3)])
def test_a_plain_picture_gets_the_floor_however_bright(level, shape):
    assert amplitude(np.full(shape, level, np.uint8), floor=0.25) == pytest.approx(0.25, abs=1e-5)


def test_a_soft_gradient_is_nearly_plain():
    ramp = np.broadcast_to(np.linspace(40, 220, 400)[None, :, None], (300, 400, 3)).astype(np.uint8)
    assert masking_map(ramp).max() < 0.1


@pytest.mark.parametrize("size", [(16, 16), (32, 32), (200, 150)])
def test_strong_noise_masks_everything(size):
    assert masking_map(noise(*size)).min() > 0.95


def test_a_chequerboard_of_single_pixels_masks_everything():
    board = (np.indices((64, 64)).sum(0) % 2 * 80 + 80).astype(np.uint8)[..., None]
    assert masking_map(board).min() > 0.95


def test_more_contrast_masks_more():
    texture = noise(96, 96).astype(float) - 127.5
    means = [masking_map(np.rint(127.5 + texture * gain).astype(np.uint8)).mean() for gain in (0, 0.05, 0.1, 0.2, 0.4)]
    assert means == sorted(means)
    assert means[0] == pytest.approx(0, abs=1e-5)


def test_texture_masks_more_in_the_dark_and_in_the_light():
    texture = noise(96, 96, 1, high=12)
    dark, middle, light = (masking_map(texture + np.uint8(base)).mean() for base in (0, 121, 243))
    assert dark > middle < light


def test_a_lone_contour_masks_little_and_what_lies_beside_it_nothing():
    image = Image.new("RGB", (200, 200), (230, 220, 210))
    ImageDraw.Draw(image).line([(100, 0), (100, 199)], fill=(10, 10, 10), width=2)
    found = masking_map(np.asarray(image))
    assert found.max() < 0.4
    assert found[:, :85].max() < 0.01


def test_the_smooth_half_of_a_picture_stays_plain():
    pixels = np.full((200, 300, 3), 180, np.uint8)
    pixels[:, 150:] = noise(200, 150)
    found = masking_map(pixels)
    assert found[:, :135].max() < 0.01
    assert found[:, 165:].min() > 0.95


@pytest.mark.parametrize(("size", "side"), [((300, 1100), 9), ((64, 64), 5), ((32, 32), 3)])
def test_from_one_pixel_to_the_next_there_is_no_step(size, side):
    pixels = np.full((*size, 3), 180, np.uint8)
    middle = np.s_[size[0] // 4 : -size[0] // 4, size[1] // 4 : -size[1] // 4]
    pixels[middle] = noise(*size)[middle]
    found = masking_map(pixels)
    assert np.ptp(found) > 0.9
    assert max(np.abs(np.diff(found, axis=0)).max(), np.abs(np.diff(found, axis=1)).max()) <= 1 / side + 1e-5


def test_grey_and_colour_of_one_brightness_agree():
    grey = noise(40, 50, 1, low=100, high=130)
    np.testing.assert_allclose(masking_map(np.repeat(grey, 3, axis=2)), masking_map(grey), atol=1e-4)


def test_colour_alone_masks_nothing():
    # Red and blue that trade places at one luma.
    pixels = np.empty((64, 64, 3), np.uint16)
    pick = np.random.default_rng(0).integers(0, 2, (64, 64))
    pixels[..., 1] = 30_000
    pixels[..., 0] = np.where(pick, 20_000, 20_000 + 7_220)
    pixels[..., 2] = np.where(pick, 30_000 + 21_260, 30_000)
    assert np.ptp(luma_709(pixels)) < 0.01
    assert masking_map(pixels).max() < 0.01


def test_16_bits_agree_with_8():
    pixels = noise(40, 50, low=100, high=130)
    np.testing.assert_allclose(masking_map(pixels.astype(np.uint16) * 257), masking_map(pixels), atol=1e-4)


@pytest.mark.parametrize("rows", [slice(0, 7), slice(100, 180), slice(290, 300), slice(50, 50), slice(-20, None)])
def test_a_block_of_rows_is_that_part_of_the_whole(rows):
    pixels = noise(300, 40, low=100, high=130)
    np.testing.assert_allclose(masking_map(pixels, rows=rows), masking_map(pixels)[rows], atol=1e-6)


def test_the_same_picture_gives_the_same_map():
    pixels = noise(150, 600, low=100, high=130)
    assert np.array_equal(masking_map(pixels), masking_map(pixels.copy(order="F")))


def test_mirrored_and_turned_pictures_give_mirrored_and_turned_maps():
    pixels = noise(90, 70, low=100, high=130)
    found = masking_map(pixels)
    np.testing.assert_allclose(masking_map(pixels[:, ::-1]), found[:, ::-1], atol=1e-4)
    np.testing.assert_allclose(masking_map(pixels.swapaxes(0, 1)), found.T, atol=1e-4)


def test_a_large_photo_takes_little_memory_besides_its_map():
    pixels = np.zeros((2000, 3000, 3), np.uint8)
    tracemalloc.start()
    masking_map(pixels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * 3000 * 4 + 12e6


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_arrays_are_refused(bad):
    with pytest.raises(ConfigError, match="A picture is"):
        masking_map(bad)


@pytest.mark.parametrize("floor", [-0.1, 1.1, float("nan")])
def test_a_floor_outside_the_unit_interval_is_refused(floor):
    with pytest.raises(ConfigError, match="floor"):
        amplitude(np.zeros((4, 4, 3), np.uint8), floor=floor)
