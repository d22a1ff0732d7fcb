"""The texture of a picture, against the same thing written slowly, and what must hold of any."""

from __future__ import annotations

import cmath
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bitterant.attacks.adversaries import create_adversary
from bitterant.protect.methods.texture import natural_contents
from bitterant.protect.textures import TextureRecipe, Wave, code_book
from bitterant.protect.textures import wave as module
from bitterant.protect.textures.wave import (
    DrawnWave,
    draw_waves,
    envelope,
    is_soft,
    luma_601,
    plain_waves,
    small_brightness,
    texture,
)

SECRET = b"0123456789abcdef"
#: Hard edges on every picture: most definitions are about the sign.
RECIPE = TextureRecipe(soft_period=1e6)


def draw(seed: int, height: int, width: int, *, dtype: type = np.uint8, channels: int = 3) -> np.ndarray:
    """A picture with content of every frequency: smooth colours and grain."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8))
    smooth = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float64)
    pixels = np.clip(smooth + rng.normal(0, 12, (height, width, 1)), 0, 255) * (np.iinfo(dtype).max / 255)
    return pixels[..., :channels].astype(dtype)


def slow_envelope(
    small: np.ndarray, wave: DrawnWave, recipe: TextureRecipe, bend: float = 0.0
) -> tuple[np.ndarray, float]:
    """Fourier sums written out: the envelope, and the sign of the angle."""
    height, width = small.shape
    levels = np.pad(small - small.mean(), ((height // 2,) * 2, (width // 2,) * 2), mode="reflect")
    rows, columns = levels.shape

    def transform(size: int) -> np.ndarray:
        return np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(size)) / size)

    def frequencies(size: int, inside: int) -> np.ndarray:
        return np.array([(k if k < (size + 1) // 2 else k - size) * inside / size for k in range(size)])

    spectrum = transform(rows) @ levels @ transform(columns).T
    ky, kx = frequencies(rows, height), frequencies(columns, width)
    u, v = (np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height
    found = []
    for sign in (1.0, -1.0):
        across, down = wave.cycles * math.cos(wave.angle), sign * wave.cycles * math.sin(wave.angle)
        window = np.exp(-((kx - across) ** 2 + (ky[:, None] - down) ** 2) / (2 * recipe.sigma**2))
        whole = transform(rows).conj() @ (spectrum * window) @ transform(columns).conj().T / (rows * columns)
        field = whole[height // 2 : height // 2 + height, width // 2 : width // 2 + width]
        found.append((field, np.exp(2j * np.pi * (across * u + down * v[:, None])), sign))
    field, carrier, sign = max(found, key=lambda one: float((np.abs(one[0]) ** 2).sum()))
    values = field / carrier
    along = v[:, None] * math.cos(wave.angle) - u * sign * math.sin(wave.angle)
    swing = np.exp(1j * bend * np.sin(2 * np.pi * along + wave.swing))
    values = values + recipe.carrier_level * values.mean() / abs(values.mean()) * swing
    return values * cmath.exp(1j * wave.phase), sign


def slow_texture(
    pixels: np.ndarray, waves: tuple[DrawnWave, ...], recipe: TextureRecipe, bend: float = 0.0
) -> np.ndarray:
    """Before the sign or the soft edge is taken; pixel by pixel."""
    height, width = pixels.shape[:2]
    small = small_brightness(pixels, recipe.side).astype(np.float64)
    result = np.zeros((height, width))
    for wave in waves:
        values, sign = slow_envelope(small, wave, recipe, bend)
        values = values / np.abs(values)
        for y in range(height):
            for x in range(width):
                row = min(max((y + 0.5) * len(small) / height - 0.5, 0), len(small) - 1)
                column = min(max((x + 0.5) * small.shape[1] / width - 0.5, 0), small.shape[1] - 1)
                top, left = int(row), int(column)
                bottom, right = min(top + 1, len(small) - 1), min(left + 1, small.shape[1] - 1)
                a, b = row - top, column - left
                value = (values[top, left] * (1 - b) + values[top, right] * b) * (1 - a)
                value += (values[bottom, left] * (1 - b) + values[bottom, right] * b) * a
                u, v = (x + 0.5) / width, (y + 0.5) / height
                turn = u * math.cos(wave.angle) + sign * v * math.sin(wave.angle)
                result[y, x] += (value * cmath.exp(2j * math.pi * wave.cycles * turn)).real
    return result


@pytest.mark.parametrize(("height", "width"), [(32, 32), (17, 30), (40, 21)])
@pytest.mark.parametrize("angle", [4.5, 49.5, 85.5])
def test_the_envelope_is_that_of_the_definition(height: int, width: int, angle: float) -> None:
    small = luma_601(draw(3, height, width))
    wave = DrawnWave(5.6, math.radians(angle), 0.2, 1.1)
    for bend in (0.0, 1.7):
        found = envelope(small, wave, RECIPE, bend)
        values, sign = slow_envelope(small.astype(np.float64), wave, RECIPE, bend)
        assert math.copysign(1, found.down) == sign
        np.testing.assert_allclose(found.values, values, atol=1e-3)


@pytest.mark.parametrize(("height", "width", "count"), [(32, 32, 10), (24, 40, 10), (90, 70, 10), (70, 32, 100)])
def test_the_texture_is_that_of_the_definition(height: int, width: int, count: int) -> None:
    pixels = draw(height, height, width)
    waves = draw_waves(code_book(count)[5], RECIPE, SECRET, "a")
    slow, found = slow_texture(pixels, waves, RECIPE), texture(pixels, waves, RECIPE)
    assert found.dtype == np.float32
    assert set(np.unique(found)) == {-1.0, 1.0}
    sure = np.abs(slow) > 1e-3 * np.abs(slow).max()
    assert sure.mean() > 0.99
    assert np.array_equal(found[sure], np.sign(slow[sure]))


@pytest.mark.parametrize("count", [10, 100])
def test_large_pictures_have_soft_edges_and_small_ones_hard(count: int) -> None:
    recipe = TextureRecipe(soft_period=4.0, softness=2.5)
    pixels = draw(5, 72, 60)
    waves = draw_waves(code_book(count)[5], recipe, SECRET, "a", 0.5)
    highest = max(wave.cycles for wave in waves)
    bent = replace(recipe, side=48)
    slow, found = slow_texture(pixels, waves, bent, bent.bend), texture(pixels, waves, bent)
    np.testing.assert_allclose(found, np.clip(np.tanh(2.5 * slow) / math.tanh(2.5), -1, 1), atol=2e-3)
    slow, found = slow_texture(pixels, waves, recipe), texture(pixels, waves, recipe)
    assert 4.0 * highest < 60 < recipe.side
    np.testing.assert_allclose(found, np.clip(np.tanh(2.5 * slow) / math.tanh(2.5), -1, 1), atol=2e-3)
    hard = TextureRecipe(soft_period=60.1 / highest)
    assert set(np.unique(texture(pixels, waves, hard))) == {-1.0, 1.0}
    for short, soft in ((60, False), (61, True)):
        assert is_soft(waves, hard, short) is soft


def test_frequencies_scale_where_a_picture_is_small() -> None:
    plain = draw_waves(code_book(10)[3], RECIPE, SECRET, "a")
    half = draw_waves(code_book(10)[3], RECIPE, SECRET, "a", 0.5)
    assert [2 * wave.cycles for wave in half] == [wave.cycles for wave in plain]
    assert [wave.angle for wave in half] == [wave.angle for wave in plain]


def slow_contents(small: np.ndarray, waves: tuple[DrawnWave, ...], sigma: float) -> float:
    """Energy of the windowed field over the mirrored picture, pixel by pixel, under the better sign."""
    height, width = small.shape
    levels = np.pad(small - small.mean(), ((height // 2,) * 2, (width // 2,) * 2), mode="reflect")
    ky = np.fft.fftfreq(levels.shape[0]) * height
    kx = np.fft.fftfreq(levels.shape[1]) * width
    total = 0.0
    for wave in waves:
        energies = []
        for sign in (1, -1):
            across, down = wave.cycles * math.cos(wave.angle), sign * wave.cycles * math.sin(wave.angle)
            window = np.exp(-((kx - across) ** 2 + (ky[:, None] - down) ** 2) / (2 * sigma**2))
            energies.append((np.abs(np.fft.ifft2(np.fft.fft2(levels) * window)) ** 2).mean())
        total += max(energies)
    return math.log1p(total)


@pytest.mark.parametrize(("height", "width", "count"), [(32, 32, 10), (21, 40, 20), (64, 64, 100)])
def test_contents_are_the_energy_of_each_code(height: int, width: int, count: int) -> None:
    small, book = luma_601(draw(7, height, width)), code_book(count)
    (found,) = natural_contents([small], [0], book, 0.6)
    assert found.shape == (count,)
    for number in (0, 4, count - 1):
        assert found[number] == pytest.approx(slow_contents(small, plain_waves(book[number]), 0.6), rel=1e-4)


def test_contents_tell_the_code_of_a_stripe() -> None:
    book = code_book(10)
    v, u = np.meshgrid((np.arange(64) + 0.5) / 64, (np.arange(64) + 0.5) / 64, indexing="ij")
    for number in (0, 5, 9):
        (wave,) = plain_waves(book[number])
        turn = u * math.cos(wave.angle) - v * math.sin(wave.angle)
        stripes = (128 + 20 * np.cos(2 * np.pi * wave.cycles * turn)).astype(np.float32)
        (found,) = natural_contents([stripes], [0], book, 0.6)
        assert found.argmax() == number


def test_a_stripe_of_its_own_is_followed() -> None:
    """A picture of stripes near the class's own gets its texture in phase with them, under their sign."""
    v, u = np.meshgrid((np.arange(64) + 0.5) / 64, (np.arange(64) + 0.5) / 64, indexing="ij")
    for sign in (1, -1):
        stripes = np.cos(2 * np.pi * 5.6 * (u * math.cos(0.7) + sign * v * math.sin(0.7)) + 1.1)
        pixels = np.repeat((128 + 40 * stripes)[..., None], 3, axis=2).astype(np.uint8)
        found = texture(pixels, (DrawnWave(5.6, 0.7),), RECIPE)
        inside = (slice(8, -8), slice(8, -8))
        assert (found[inside] == np.sign(stripes[inside])).mean() > 0.95


def test_a_plain_picture_gets_the_plain_wave() -> None:
    pixels = np.full((40, 40, 3), 77, np.uint8)
    found = texture(pixels, (DrawnWave(5.6, 0.7),), RECIPE)
    v, u = np.meshgrid((np.arange(40) + 0.5) / 40, (np.arange(40) + 0.5) / 40, indexing="ij")
    wave = np.cos(2 * np.pi * 5.6 * (u * math.cos(0.7) + v * math.sin(0.7)))
    sure = np.abs(wave) > 1e-6
    assert np.array_equal(found[sure], np.sign(wave[sure]))


def test_a_bent_wave_outlasts_what_takes_straight_ones_out() -> None:
    """Of the texture of a plain picture."""
    plain = np.full((160, 160, 3), 128, np.uint8)
    code = code_book(10)[4]
    left = {}
    for bend in (0.0, 2.0):
        recipe = TextureRecipe(bend=bend, angle_jitter=0.0)
        levels = 12 * texture(plain, draw_waves(code, recipe, SECRET, "a"), recipe)
        copy = np.rint(128 + np.repeat(levels[None, None], 3, axis=1)).astype(np.uint8)
        after = create_adversary("destripe:10").transform(copy).astype(float)
        left[bend] = after.std() / copy.astype(float).std()
    assert left[0.0] < 0.4
    assert left[2.0] > 0.8


@pytest.mark.parametrize(("side", "bent"), [(40, False), (63, False), (64, True)])
def test_soft_waves_are_bent_from_sixty_four_pixels_on(side: int, bent: bool) -> None:
    waves = plain_waves(code_book(10)[0])
    assert is_soft(waves, TextureRecipe(), side)
    plain = np.full((side, side, 3), 128, np.uint8)
    found, straight = (texture(plain, waves, recipe) for recipe in (TextureRecipe(), TextureRecipe(bend=0.0)))
    assert np.array_equal(found, straight) is not bent


@given(seed=st.integers(0, 99), height=st.integers(24, 80), width=st.integers(24, 80), code=st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_mirroring_stays_within_the_class(seed: int, height: int, width: int, code: int) -> None:
    """The texture of the mirrored picture is the mirrored texture: a trainer's flips make no new code."""
    pixels, waves = draw(seed, height, width), plain_waves(code_book(10)[code])
    found = texture(pixels, waves, RECIPE)
    for axis in (0, 1):
        mirrored = texture(np.ascontiguousarray(np.flip(pixels, axis)), waves, RECIPE)
        assert (mirrored == np.flip(found, axis)).mean() > 0.995


def test_what_is_drawn_stays_in_its_bounds_and_depends_on_key_and_content() -> None:
    code = (Wave(5.6, 45.0), Wave(8.0, 30.0))
    drawn = [draw_waves(code, RECIPE, SECRET, str(number)) for number in range(400)]
    for place, wave in enumerate(code):
        cycles = np.array([one[place].cycles / wave.cycles for one in drawn])
        turns = np.degrees([one[place].angle for one in drawn]) - wave.angle
        phases = np.array([one[place].phase for one in drawn])
        swings = np.array([one[place].swing for one in drawn])
        for values, middle, reach in ((cycles, 1.0, 0.04), (turns, 0.0, 1.0), (phases, 0.0, 0.3), (swings, 0.0, np.pi)):
            assert np.abs(values - middle).max() <= reach + 1e-9
            assert np.abs(values - middle).max() > 0.9 * reach
            assert abs(values.mean() - middle) < 0.2 * reach
    assert draw_waves(code, RECIPE, SECRET, "7") == drawn[7]
    assert draw_waves(code, RECIPE, b"another key, as long", "7") != drawn[7]
    assert len({wave for one in drawn for wave in one}) == 800


@given(
    height=st.integers(8, 150),
    width=st.integers(8, 150),
    channels=st.sampled_from([1, 3]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
)
@settings(max_examples=60, deadline=None)
def test_any_picture_gets_ones_of_both_signs(height: int, width: int, channels: int, dtype: type) -> None:
    pixels = draw(height, height, width, dtype=dtype, channels=channels)
    found = texture(pixels, plain_waves(code_book(10)[4]), RECIPE)
    assert found.shape == (height, width)
    assert set(np.unique(found)) == {-1.0, 1.0}


def test_sixteen_bits_and_grey_are_followed_as_eight_and_colour_are() -> None:
    grey = draw(1, 50, 60, channels=1)
    waves = plain_waves(code_book(10)[2])
    plain = texture(grey, waves, RECIPE)
    assert (texture(np.repeat(grey, 3, axis=2), waves, RECIPE) == plain).mean() > 0.999
    assert (texture(grey.astype(np.uint16) * 257, waves, RECIPE) == plain).mean() > 0.999


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, waves = draw(5, 200, 130), draw_waves(code_book(100)[5], RECIPE, SECRET, "a")
    small, whole = small_brightness(pixels, 64), texture(pixels, waves, RECIPE)
    levels = Image.fromarray(luma_601(pixels))
    np.testing.assert_allclose(small, np.asarray(levels.resize((64, 64), Image.Resampling.BILINEAR)), atol=1e-3)
    monkeypatch.setattr(module, "_BLOCK", 1000)
    assert np.array_equal(small_brightness(pixels, 64), small)
    assert np.array_equal(texture(pixels, waves, RECIPE), whole)


@pytest.mark.skipif(sys.platform != "linux", reason="resource counts in kilobytes there")
def test_a_photo_takes_little_memory() -> None:
    """12 megapixels: 36 MB of pixels, 48 MB of result, and not much besides."""
    script = (
        "import resource\n"
        "import numpy as np\n"
        "from bitterant.protect.textures import TextureRecipe, code_book\n"
        "from bitterant.protect.textures.wave import plain_waves, texture\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)\n"
        "texture(pixels[:500], plain_waves(code_book(10)[0]), TextureRecipe())\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "texture(pixels, plain_waves(code_book(10)[0]), TextureRecipe())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 80_000
