"""What is measured of a change, and where: against one pixel at a time, and what must hold for any two pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitterant.errors import ConfigError
from bitterant.imaging import Picture, Sight, flip_available, measure_visibility, tell_sights, visibility
from bitterant.imaging.visibility import ciede2000

needs_flip = pytest.mark.skipif(not flip_available(), reason="the extra flip is not installed")


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Picture:
    return Picture(np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8))


def moved(before: Picture, levels: int = 8, seed: int = 1) -> Picture:
    change = np.random.default_rng(seed).integers(-levels, levels + 1, before.pixels.shape)
    return before.with_pixels(np.clip(before.pixels + change, 0, 255).astype(np.uint8))


def naive_lab(linear: np.ndarray) -> np.ndarray:
    matrix = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    ratio = [sum(m * v for m, v in zip(row, linear, strict=True)) / sum(row) for row in matrix]
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t * (29 / 6) ** 2 / 3 + 4 / 29 for t in ratio)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def linear(pixel: np.ndarray) -> np.ndarray:
    return np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in pixel / 255])


def naive(before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """Means over pixels and over 8 x 8 patches, one at a time."""
    height, width = before.shape[:2]
    light = [np.array([[linear(pixel) for pixel in row] for row in pixels]) for pixels in (before, after)]
    pixels = [ciede2000(*(naive_lab(p[i, j]) for p in light)) for i in range(height) for j in range(width)]
    patches = []
    downs, acrosses = max(1, height // 8), max(1, width // 8)
    for i in range(downs):
        for j in range(acrosses):
            rows = slice(8 * i, height if i + 1 == downs else 8 * i + 8)
            columns = slice(8 * j, width if j + 1 == acrosses else 8 * j + 8)
            patches.append(ciede2000(*(naive_lab(p[rows, columns].mean(axis=(0, 1))) for p in light)))
    return float(np.mean(pixels)), float(np.mean(patches))


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 100))
def test_the_means_are_those_of_every_pixel_and_every_patch(height, width, seed):
    before = picture(height, width, seed=seed)
    after = moved(before, 30, seed)
    found = measure_visibility(before, after)
    pixels, patches = naive(before.pixels, after.pixels)
    assert found.ciede == pytest.approx(pixels, abs=2e-3)
    assert found.ciede_patches == pytest.approx(patches, abs=2e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.sampled_from([1, 3]), st.integers(0, 8), st.integers(0, 100))
def test_any_two_pictures_give_sane_figures(height, width, channels, levels, seed):
    before = picture(height, width, channels, seed)
    found = measure_visibility(before, moved(before, levels, seed))
    assert all(math.isfinite(v) and v >= 0 for v in (found.ciede, found.ciede_p95, found.ciede_patches))
    assert found.flip is None


def test_equal_pictures_do_not_differ():
    found = measure_visibility(picture(40, 50), picture(40, 50), with_flip=True)
    assert (found.ciede, found.ciede_p95, found.ciede_patches) == (0, 0, 0)
    assert found.flip == (0.0 if flip_available() else None)


def test_grain_averages_out_over_patches_and_a_cast_does_not():
    grey = Picture(np.full((64, 64, 3), 120, np.uint8))
    signs = np.random.default_rng(0).choice([-6, 6], (64, 64, 1))
    grain = measure_visibility(grey, grey.with_pixels((grey.pixels + signs).astype(np.uint8)))
    cast = measure_visibility(grey, grey.with_pixels((grey.pixels + np.array([6, 0, -6])).astype(np.uint8)))
    assert grain.ciede_patches < 0.3 * grain.ciede
    assert cast.ciede_patches == pytest.approx(cast.ciede, abs=0.01)
    assert cast.ciede == pytest.approx(cast.ciede_p95, abs=0.01)


def test_the_95th_percentile_is_one():
    before = Picture(np.full((10, 10, 3), 120, np.uint8))
    pixels = before.pixels.copy()
    pixels[0, :6] += 40
    assert measure_visibility(before, before.with_pixels(pixels)).ciede_p95 > 10
    pixels[0, 3:6] -= 40
    assert measure_visibility(before, before.with_pixels(pixels)).ciede_p95 == 0


@pytest.mark.parametrize(("size", "wanted"), [(1, [0]), (192, [0, 191]), (600, [68, 131, 268, 331, 468, 531])])
def test_large_pictures_are_looked_at_in_the_middle_of_their_thirds(size, wanted):
    bands = visibility._bands(size)
    assert len(bands) <= 192
    assert len(np.unique(bands)) == len(bands)
    assert set(wanted) <= set(bands.tolist())
    assert bands.min() == wanted[0]
    assert bands.max() == wanted[-1]
    assert 0 <= bands.min() <= bands.max() < size


def test_a_large_picture_is_measured_on_its_tiles_alone():
    before = picture(600, 700)
    after = moved(before)
    places = np.ix_(visibility._bands(600), visibility._bands(700))
    inside = measure_visibility(Picture(before.pixels[places]), Picture(after.pixels[places]))
    assert measure_visibility(before, after) == inside


def test_what_nobody_sees_is_left_out():
    before = picture(32, 32)
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[:16] = 0
    after = moved(before)
    masked = measure_visibility(
        Picture(before.pixels, alpha), Picture(np.concatenate([before.pixels[:16], after.pixels[16:]]), alpha)
    )
    half = measure_visibility(Picture(before.pixels[16:]), Picture(after.pixels[16:]))
    assert masked.ciede == pytest.approx(half.ciede, abs=1e-6)
    assert masked.ciede_patches == pytest.approx(half.ciede_patches, abs=1e-6)
    nothing = Picture(before.pixels, np.zeros((32, 32), np.uint8))
    assert measure_visibility(nothing, after).ciede == 0


def test_grey_16_bits_and_colour_agree():
    grey = picture(30, 30, 1)
    after = moved(grey)
    found = measure_visibility(grey, after)
    colour = [Picture(np.repeat(p.pixels, 3, axis=2)) for p in (grey, after)]
    deep = [Picture(p.pixels.astype(np.uint16) * 257, bit_depth=16) for p in (grey, after)]
    assert measure_visibility(*colour) == found
    assert measure_visibility(*deep) == found
    assert measure_visibility(grey, colour[1]) == found


def test_other_sizes_are_refused():
    with pytest.raises(ConfigError, match="Cannot compare"):
        measure_visibility(picture(4, 5), picture(5, 4))


def test_without_its_package_there_is_no_flip(monkeypatch):
    monkeypatch.setattr(visibility, "_flip", lambda: None)
    before = picture(30, 30)
    assert not flip_available()
    assert measure_visibility(before, moved(before), with_flip=True).flip is None


@needs_flip
def test_flip_is_that_of_its_own_tool():
    import flip_evaluator

    before = picture(40, 50)
    after = moved(before)
    first, second = (p.pixels.astype(np.float32) / 255 for p in (before, after))
    _, mean, used = flip_evaluator.evaluate(first, second, "LDR")
    assert measure_visibility(before, after, with_flip=True).flip == pytest.approx(mean, abs=1e-5)
    assert used["ppd"] == pytest.approx(visibility._PIXELS_PER_DEGREE, abs=1e-3)


@needs_flip
def test_flip_of_one_pixel_and_of_a_stronger_change():
    dot = Picture(np.full((1, 1, 3), 120, np.uint8))
    assert 0 < (measure_visibility(dot, moved(dot, 8, 3), with_flip=True).flip or 0) < 1
    before = picture(60, 60)
    weak, strong = (measure_visibility(before, moved(before, n), with_flip=True).flip or 0 for n in (4, 16))
    assert 0 < weak < strong < 1


def test_stains_on_plain_areas_are_told_apart_from_those_in_grain() -> None:
    rng = np.random.default_rng(0)
    pixels = np.full((64, 64, 3), 200, np.uint8)
    pixels[:, 32:] = rng.integers(0, 256, (64, 32, 3))
    stained = pixels.copy()
    stained[:, :32, 2] -= 24
    found = measure_visibility(Picture(pixels), Picture(stained))
    assert found.ciede_flat is not None
    assert found.ciede_flat > 1.9 * found.ciede_patches
    grain = Picture(np.ascontiguousarray(pixels[:, 32:]))
    moved = measure_visibility(grain, grain.with_pixels(grain.pixels // 2))
    assert moved.ciede_flat is None


def test_where_a_change_is_seen_is_told_with_names() -> None:
    assert tell_sights([Sight("fine.png", 1.9, 1.9), Sight("rough.png", 0.1, None)]) == []
    whole, flat = tell_sights([Sight("b.png", 4.0, 5.0), Sight("a.png", 4.0, None), Sight("sky.png", 1.0, 2.5)])
    assert "2 of 3 pictures" in whole
    assert "a.png (4.0), b.png (4.0)" in whole
    assert "flat areas" in flat
    assert "b.png (5.0), sky.png (2.5)" in flat
    (alone,) = tell_sights([Sight("sky.png", 1.0, 2.5)])
    assert alone.startswith("The change is visible")


# ------------------------------------------------------------------ SSIM of large pictures
def test_ssim_of_a_large_picture_is_the_mean_of_tiles_of_the_full_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at is a part of the full map, values at its edges included; a change everywhere is met."""
    rng = np.random.default_rng(0)
    before = rng.integers(0, 256, (1100, 1300, 1), dtype=np.uint8)
    after = np.clip(before + rng.integers(-9, 10, before.shape), 0, 255).astype(np.uint8)
    maps: list[np.ndarray] = []
    real = visibility._ssim_map

    def noted(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        maps.append(real(x, y))
        return maps[-1]

    monkeypatch.setattr(visibility, "_ssim_map", noted)
    some = visibility.structural_similarity(before, after, 255)
    few = [tile.tobytes() for tile in maps]
    assert len(few) == 48
    maps.clear()
    monkeypatch.setattr(visibility, "_ALL_OF", before.size)
    whole = visibility.structural_similarity(before, after, 255)
    assert {*few} < {tile.tobytes() for tile in maps}
    assert some == pytest.approx(whole, abs=0.002)
    assert some != whole


@pytest.mark.parametrize(("size", "most"), [(1, 4), (64, 4), (65, 4), (1000, 4), (1000, None), (5000, 12)])
def test_tiles_are_spread_over_a_side(size: int, most: int | None) -> None:
    starts = visibility._starts(size, 64, most)
    tiles = -(-size // 64)
    assert len(starts) == min(tiles, most or tiles)
    assert all(start % 64 == 0 and 0 <= start < size for start in starts)
    assert len(set(starts)) == len(starts)
    if most is not None and tiles > 2 * most:
        assert starts[0] < size / most
        assert starts[-1] > size - 64 - size / most
