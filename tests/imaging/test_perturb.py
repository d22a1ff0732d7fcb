"""Adding a perturbation: exact bounds on every kind of picture; resizing against torch; measuring."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitterant.errors import BudgetExceeded, ConfigError
from bitterant.imaging import Budget, Picture, add_delta, measure_change, perturb, upsample_delta

BUDGET = Budget.from_levels(8)


def picture(height: int, width: int, channels: int = 3, depth: int = 8, seed: int = 0, alpha=None) -> Picture:
    dtype = np.uint8 if depth == 8 else np.uint16
    values = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, channels), dtype=dtype)
    return Picture(values, alpha, bit_depth=8 if depth == 8 else 16)


def random_delta(side: int, levels: float = 8.0, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-levels, levels, (side, side, 3)).astype(np.float32)


def torch_resize(delta: np.ndarray, height: int, width: int) -> np.ndarray:
    tensor = torch.from_numpy(np.ascontiguousarray(delta)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(tensor, (height, width), mode="bilinear", align_corners=False)
    return resized[0].permute(1, 2, 0).numpy()


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 20), st.integers(1, 70), st.integers(1, 70), st.integers(0, 1000))
def test_upsampling_equals_torch(side, height, width, seed):
    delta = random_delta(side, seed=seed)
    ours = upsample_delta(delta, height, width)
    assert ours.shape == (height, width, 3)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, torch_resize(delta, height, width), atol=2e-4)


@settings(max_examples=80, deadline=None)
@given(
    hnp.arrays(
        np.float32, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)), elements=st.floats(-255, 255, width=32)
    ),
    st.integers(1, 50),
    st.integers(1, 50),
)
def test_upsampling_never_leaves_the_range(delta, height, width):
    resized = upsample_delta(delta, height, width)
    assert resized.max() <= delta.max() + 1e-3
    assert resized.min() >= delta.min() - 1e-3


def test_the_right_size_is_left_alone():
    delta = random_delta(9)
    assert np.array_equal(upsample_delta(delta, 9, 9), delta)


@settings(max_examples=80, deadline=None)
@given(
    st.integers(1, 45),
    st.integers(1, 45),
    st.sampled_from([1, 3]),
    st.sampled_from([8, 16]),
    st.integers(1, 16),
    st.floats(1, 64),
    st.integers(0, 1000),
)
def test_no_picture_ever_leaves_the_budget_or_the_range(height, width, channels, depth, side, levels, seed):
    before = picture(height, width, channels, depth, seed)
    budget = Budget.from_levels(levels)
    after = add_delta(before, random_delta(side, levels, seed) * 1.0, budget)
    difference = after.pixels.astype(np.int64) - before.pixels.astype(np.int64)
    limit = budget.whole_levels if depth == 8 else budget.levels * 257 + 1e-6
    assert np.abs(difference).max() <= limit
    assert after.pixels.dtype == before.pixels.dtype
    assert after.pixels is not before.pixels


@pytest.mark.parametrize("depth", [8, 16])
def test_the_result_is_the_plain_formula(depth):
    before = picture(13, 17, 3, depth)
    delta = random_delta(5)
    scale = 1 if depth == 8 else 257
    wanted = np.rint(torch_resize(delta, 13, 17) * scale)
    wanted = np.clip(before.pixels + wanted, 0, before.full_range)
    assert np.abs(add_delta(before, delta, BUDGET).pixels - wanted).max() <= (0 if depth == 8 else 1)


def test_the_full_budget_is_used():
    grey = Picture(np.full((4, 4, 3), 100, np.uint8))
    assert (add_delta(grey, np.full((2, 2, 3), 8.0), BUDGET).pixels == 108).all()
    assert (add_delta(grey, np.full((2, 2, 3), -8.0), BUDGET).pixels == 92).all()
    deep = Picture(np.full((4, 4, 1), 30_000, np.uint16), bit_depth=16)
    assert (add_delta(deep, np.full((2, 2, 3), 8.0), BUDGET).pixels == 30_000 + 8 * 257).all()


def test_a_fraction_of_a_level_in_the_budget_is_rounded_down():
    grey = Picture(np.full((4, 4, 3), 100, np.uint8))
    assert (add_delta(grey, np.full((2, 2, 3), 8.9), Budget.from_levels(8.9)).pixels == 108).all()


def test_black_and_white_are_clipped():
    extremes = Picture(np.array([[[0, 255, 4]]], np.uint8))
    assert add_delta(extremes, np.array([[[-8.0, 8.0, -8.0]]]), BUDGET).pixels.tolist() == [[[0, 255, 0]]]


def test_grey_takes_the_mean_of_the_channels():
    grey = Picture(np.full((3, 3, 1), 100, np.uint8))
    delta = np.broadcast_to(np.array([8.0, 8.0, -1.0], np.float32), (3, 3, 3))
    assert (add_delta(grey, delta, BUDGET).pixels == 105).all()


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (700, 801)])
def test_a_picture_without_colour_stays_without(depth, size):
    height, width = size
    grey = picture(height, width, 1, depth)
    stored = grey.with_pixels(np.repeat(grey.pixels, 3, axis=2))
    after = add_delta(stored, random_delta(9), BUDGET)
    assert after.is_colourless
    assert np.array_equal(after.pixels[..., :1], add_delta(grey, random_delta(9), BUDGET).pixels)


def test_a_single_coloured_pixel_is_colour_enough():
    pixels = np.full((600, 700, 3), 100, np.uint8)
    pixels[-1, -1, 2] = 101
    before = Picture(pixels)
    assert not before.is_colourless
    after = add_delta(before, random_delta(9), BUDGET)
    assert not Picture(after.pixels[:-1]).is_colourless


def test_a_colour_that_nobody_sees_is_none():
    pixels, alpha = np.full((20, 20, 3), 100, np.uint8), np.full((20, 20), 255, np.uint8)
    pixels[3, 4], alpha[3, 4] = (200, 0, 0), 0
    before = Picture(pixels, alpha)
    assert before.is_colourless
    after = add_delta(before, random_delta(9), BUDGET)
    assert after.is_colourless
    assert after.pixels[3, 4].tolist() == [200, 0, 0]
    assert not Picture(pixels).is_colourless


def test_nothing_is_changed_where_nobody_sees_it():
    alpha = np.random.default_rng(0).choice(np.array([0, 1, 255], np.uint8), (20, 20))
    before = picture(20, 20, alpha=alpha)
    before = before.with_pixels(np.full_like(before.pixels, 100))
    before.pixels[0] = (100, 100, 101)
    alpha[0] = 255
    after = add_delta(before, np.full((4, 4, 3), 8.0), BUDGET)
    assert (after.pixels[alpha == 0] == 100).all()
    assert (after.pixels[1:][alpha[1:] > 0] == 108).all()
    assert after.alpha is before.alpha


def test_blocks_do_not_show(monkeypatch):
    before = picture(50, 31, alpha=np.random.default_rng(0).integers(0, 2, (50, 31), dtype=np.uint8))
    whole = add_delta(before, random_delta(7), BUDGET).pixels
    measured = measure_change(before, before.with_pixels(whole))
    monkeypatch.setattr(perturb, "BLOCK_VALUES", 31 * 3 * 7)
    assert np.array_equal(add_delta(before, random_delta(7), BUDGET).pixels, whole)
    assert measure_change(before, before.with_pixels(whole)) == pytest.approx(measured)


def test_metadata_and_everything_else_is_carried():
    before = picture(4, 4)
    after = add_delta(before, random_delta(4), BUDGET)
    assert (after.metadata, after.mode, after.format, after.source) == (
        before.metadata,
        before.mode,
        before.format,
        before.source,
    )


def test_a_perturbation_over_the_budget_is_never_let_through():
    for bad in (9.0, -8.01, np.nan, np.inf):
        delta = np.zeros((4, 4, 3), np.float32)
        delta[1, 2, 0] = bad
        with pytest.raises(BudgetExceeded, match="1 values"):
            add_delta(picture(4, 4), delta, BUDGET)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 2), (3, 4, 4), (0, 0, 3)])
def test_a_perturbation_of_another_shape_is_refused(shape):
    with pytest.raises(ConfigError, match=r"\[R, R, 1 or 3\]"):
        add_delta(picture(4, 4), np.zeros(shape, np.float32), BUDGET)


def test_memory_stays_far_below_that_of_a_float_copy():
    before = Picture(np.full((2000, 3000, 3), 100, np.uint8))
    tracemalloc.start()
    add_delta(before, random_delta(32), BUDGET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # The result takes 18 MB; whole float32 intermediates would take 72 MB each.
    assert peak < 45e6


# ---- measuring ----


def test_equal_pictures_differ_by_nothing():
    change = measure_change(picture(20, 20), picture(20, 20))
    assert (change.linf_levels, change.psnr, change.ssim) == (0.0, float("inf"), 1.0)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(6, 6), (11, 11), (24, 37), (40, 600)])
def test_psnr_and_ssim_equal_torchmetrics(depth, channels, size):
    image = pytest.importorskip("torchmetrics.functional.image")
    before = picture(*size, channels=channels, depth=depth)
    after = add_delta(before, random_delta(6), BUDGET)
    tensors = [
        torch.from_numpy(p.pixels.astype(np.float32) / p.full_range).permute(2, 0, 1)[None] for p in (before, after)
    ]
    change = measure_change(before, after)
    psnr = image.peak_signal_noise_ratio(tensors[1], tensors[0], data_range=1.0)
    # The mean of the full map: some versions leave its border out of their own mean.
    full = image.structural_similarity_index_measure(tensors[1], tensors[0], data_range=1.0, return_full_image=True)[1]
    assert change.psnr == pytest.approx(float(psnr), abs=1e-3)
    assert change.ssim == pytest.approx(float(full.mean()), abs=2e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 30), (10, 10), (3, 200)])
def test_pictures_smaller_than_the_window_are_measured_too(size):
    before = picture(*size)
    after = before.with_pixels(before.pixels ^ 7)
    change = measure_change(before, after)
    assert 0.0 < change.ssim < 1.0
    assert change.linf_levels == np.abs(after.pixels.astype(int) - before.pixels).max()


def test_sixteen_bits_are_measured_in_8_bit_levels():
    before = Picture(np.full((12, 12, 1), 1000, np.uint16), bit_depth=16)
    after = before.with_pixels(before.pixels + np.uint16(257 * 3))
    assert measure_change(before, after).linf_levels == pytest.approx(3.0)


def test_the_difference_does_not_wrap_round():
    before, after = (Picture(np.full((12, 12, 3), value, np.uint8)) for value in (3, 250))
    assert measure_change(before, after).linf_levels == 247
    assert measure_change(after, before).linf_levels == 247


def test_grey_compares_with_colour_as_grey_repeated():
    grey = picture(15, 15, 1)
    colour = grey.with_pixels(np.repeat(grey.pixels, 3, axis=2))
    assert measure_change(grey, colour).linf_levels == 0
    moved = colour.with_pixels(colour.pixels ^ 1)
    assert measure_change(grey, moved) == measure_change(colour, moved)


def test_pictures_of_other_sizes_or_depths_do_not_compare():
    with pytest.raises(ConfigError, match="Cannot compare"):
        measure_change(picture(4, 5), picture(5, 4))
    with pytest.raises(ConfigError, match="16 bits"):
        measure_change(picture(4, 5, 1), picture(4, 5, 1, depth=16))
