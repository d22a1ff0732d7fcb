"""Filters by frequency, colours, displacement and rows of transforms: each undoes what it should and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats
import torch

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.filters import offsets, radii
from bitterant.attacks.adversaries.transforms import equalized, whitened
from bitterant.errors import ConfigError, SetupError, UnknownNameError

SIDE = 64


def grating(cycles: float, *, degrees: float = 0.0, phase: float = 0.7, side: int = SIDE) -> np.ndarray:
    """A wave of 20 levels, ``cycles`` from edge to edge along its own direction, float ``[side, side]``."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    angle = np.deg2rad(degrees)
    return 20 * np.sin(2 * np.pi * cycles * (np.cos(angle) * x + np.sin(angle) * y) + phase)


def picture(pattern: np.ndarray, channels: tuple[float, ...] = (1, 1, 1)) -> np.ndarray:
    """One gray picture of 128 with a pattern in some channels, uint8 ``[1, 3, side, side]``."""
    return np.rint(128 + np.stack([weight * pattern for weight in channels])).astype(np.uint8)[None]


def left(name: str, pattern: np.ndarray, channels: tuple[float, ...] = (1, 1, 1)) -> float:
    """Share of the energy of a planted pattern that an adversary leaves."""
    before = picture(pattern, channels)
    after = create_adversary(name).transform(before)
    energy = [float(((pictures.astype(float) - 128) ** 2).sum()) for pictures in (before, after)]
    return energy[1] / energy[0]


def photo(count: int = 3, side: int = 32, seed: int = 0) -> np.ndarray:
    """Smooth random pictures with different colours, well inside 0..255."""
    rng = np.random.default_rng(seed)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(count, 3, side, side)), (0, 0, 3, 3), mode="wrap")
    smooth[:, 1:] += 0.7 * smooth[:, :1]
    scaled = smooth / np.abs(smooth).max(axis=(2, 3), keepdims=True)
    return np.rint(115 + 65 * scaled).astype(np.uint8)


# Filters by frequency


@pytest.mark.parametrize("phase", [0.0, 0.7, np.pi / 2])
@pytest.mark.parametrize("degrees", [0, 45, 90, 130])
def test_the_band_stop_removes_its_band_and_nothing_else(degrees: float, phase: float) -> None:
    assert left("bandstop:4-9", grating(6, degrees=degrees, phase=phase)) < 0.1
    assert left("bandstop:4-9", grating(20, degrees=degrees, phase=phase)) > 0.9
    assert left("bandstop:4-9", grating(1.5, degrees=degrees, phase=phase)) > 0.9


@pytest.mark.parametrize("channels", [(1, -1, 0), (0, 0, 1), (1, 1, 1)])
def test_the_band_stop_treats_chroma_as_it_does_luminance(channels: tuple[float, ...]) -> None:
    assert left("bandstop", grating(6), channels) < 0.1


def test_brightness_survives_every_filter() -> None:
    flat = np.full((1, 3, 32, 32), 17, dtype=np.uint8)
    flat[:, 1] = 200
    for name in ("bandstop:0.5-512", "lowpass:0.5", "lowpass:8"):
        assert (create_adversary(name).transform(flat) == flat).all()


def test_borders_do_not_ring() -> None:
    """Left and right edge differ by 200 levels: what wraps around would make a step of that."""
    slope = np.tile(np.linspace(20, 220, SIDE), (1, 3, SIDE, 1)).round().astype(np.uint8)
    spectrum = np.fft.fft2(slope.astype(float))
    cycles = np.hypot(*np.meshgrid(np.fft.fftfreq(SIDE) * SIDE, np.fft.fftfreq(SIDE) * SIDE))
    wrapped = np.fft.ifft2(spectrum * (cycles <= 8)).real
    ours = create_adversary("lowpass:8").transform(slope).astype(float)
    assert np.abs(wrapped - slope).max() > 30
    assert np.abs(ours - slope).max() < 4


@pytest.mark.parametrize("side", [15, 32])
def test_filters_are_those_of_the_dct(side: int) -> None:
    images = photo(2, side)
    cycles = np.array([[np.sqrt((u / 2) ** 2 + (v / 2) ** 2) for u in range(side)] for v in range(side)])
    assert np.allclose(radii(side).numpy(), cycles)
    spectrum = np.asarray(scipy.fft.dctn(images / 255, axes=(2, 3), norm="ortho"))
    for name, kept in (("lowpass:5", cycles <= 5), ("bandstop:2-4.5", (cycles < 2) | (cycles > 4.5))):
        expected = 255 * np.asarray(scipy.fft.idctn(spectrum * kept, axes=(2, 3), norm="ortho"))
        after = create_adversary(name).transform(images)
        assert np.abs(after - expected.clip(0, 255)).max() <= 0.51


def test_the_low_pass_removes_noise_above_its_radius() -> None:
    high = np.random.default_rng(0).normal(size=(32, 32))
    spectrum = np.asarray(scipy.fft.dctn(high, norm="ortho"))
    spectrum[radii(32).numpy() <= 8] = 0
    noise = 12 * np.asarray(scipy.fft.idctn(spectrum, norm="ortho"))
    below = create_adversary("lowpass:8").transform(photo())
    noisy = np.rint(below + noise).clip(0, 255).astype(np.uint8)
    assert np.abs(noisy.astype(int) - below).mean() > 5
    assert np.abs(create_adversary("lowpass:8").transform(noisy).astype(int) - below).mean() < 0.6
    assert left("lowpass:8", grating(6)) > 0.9
    assert left("lowpass:8", grating(12)) < 0.1


def test_a_filter_that_would_do_nothing_says_so() -> None:
    assert create_adversary("lowpass:8").check(16) is None
    assert create_adversary("bandstop").check(16) is None
    for name, side in (("lowpass:12", 16), ("bandstop:40-50", 32), ("lowpass:8", 8)):
        with pytest.raises(SetupError, match="changes nothing"):
            create_adversary(name).check(side)


def test_a_quarter_and_back_removes_what_is_above_an_eighth() -> None:
    adversary = create_adversary("down-up:0.25")
    assert adversary.name == "down-up:0.25"
    assert left("down-up:0.25", grating(20)) < 0.1
    assert left("down-up:0.25", grating(2)) > 0.7
    assert left("down-up:0.25", grating(8)) < 0.1
    assert left("down-up:0.5", grating(8)) > 0.3, "and not every scale does"


# Colours


def test_equalised_values_are_ranks() -> None:
    images = np.random.default_rng(1).integers(40, 90, (2, 3, 16, 16), dtype=np.uint8)
    after = create_adversary("equalize").transform(images)
    for channel, found in zip(images.reshape(6, -1), after.reshape(6, -1), strict=True):
        ranks = scipy.stats.rankdata(channel, method="max")
        assert np.abs(255 * (ranks - ranks.min()) / (256 - ranks.min()) - found).max() <= 0.51
        assert (found.min(), found.max()) == (0, 255)


def test_equalising_leaves_a_picture_of_one_colour() -> None:
    flat = np.full((1, 3, 8, 8), 77, dtype=np.uint8)
    flat[0, 0, :4] = 5
    after = equalized(flat)
    assert (after[0, 1:] == 77).all()
    assert set(after[0, 0].ravel().tolist()) == {0, 255}


CASTS = {
    "shift": lambda pixels: pixels + np.array([30, -25, 10])[:, None, None],
    "gain": lambda pixels: pixels * np.array([1.35, 0.8, 1.1])[:, None, None],
    "gamma": lambda pixels: 255 * (pixels / 255) ** np.array([1.2, 0.85, 1.1])[:, None, None],
}


@pytest.mark.parametrize(
    ("name", "cast"),
    [
        ("equalize", "shift"), ("equalize", "gain"), ("equalize", "gamma"),
        ("whiten", "shift"), ("whiten", "gain"), ("whiten:channels", "shift"), ("whiten:channels", "gain"),
    ],
)  # fmt: skip
def test_a_planted_colour_cast_is_undone(name: str, cast: str) -> None:
    images = photo()
    tinted = np.rint(CASTS[cast](images.astype(float))).clip(0, 255).astype(np.uint8)
    assert 0 < tinted.min() < tinted.max() < 255, "nothing was lost at the ends"
    assert np.abs(tinted.astype(int) - images).mean() > 8
    adversary = create_adversary(name)
    apart = np.abs(adversary.transform(tinted).astype(int) - adversary.transform(images)).mean()
    assert apart < 1.5
    assert np.abs(adversary.transform(photo(seed=1)).astype(int) - adversary.transform(images)).mean() > 20


def test_whitened_channels_are_alike_and_do_not_go_together() -> None:
    batch = torch.from_numpy(photo()).float() / 255
    for channels in (False, True):
        after = whitened(batch, channels=channels).flatten(2)
        assert torch.allclose(after.mean(2), torch.full((3, 3), 0.5), atol=1e-5)
        assert torch.allclose(after.std(2, correction=0), torch.full((3, 3), 0.22), atol=1e-4)
        found = np.array([np.corrcoef(picture) for picture in after.numpy()])
        before = np.array([np.corrcoef(picture) for picture in batch.flatten(2).numpy()])
        away = np.abs(found - np.eye(3)).max()
        assert (away < 0.15) == (not channels)
        if channels:
            assert np.allclose(found, before, atol=1e-3)
            assert away > 0.4


def test_whitening_gray_and_flat_pictures_gives_pictures() -> None:
    gray = np.repeat(photo()[:, :1], 3, axis=1)
    flat = np.full((1, 3, 16, 16), 9, dtype=np.uint8)
    after = create_adversary("whiten").transform(gray)
    assert np.abs(after[:, 0].astype(int) - after[:, 1]).max() <= 1, "no colour comes out of rounding"
    assert (create_adversary("whiten").transform(flat) == 128).all()


# Displacement


def test_every_pixel_is_interpolated_where_its_offset_points() -> None:
    images = photo(2, 21)
    after = create_adversary("coin:2").transform(images)
    y, x = np.mgrid[0:21, 0:21].astype(float)
    for number in range(2):
        down, right = offsets(number, 21, 2.0)
        for channel in range(3):
            expected = scipy.ndimage.map_coordinates(
                images[number, channel].astype(float), [y + down, x + right], order=1, mode="nearest"
            )
            assert np.abs(after[number, channel] - expected).max() <= 0.52


def test_offsets_are_independent_and_belong_to_the_number() -> None:
    drawn = np.stack([offsets(number, 32, 2.0) for number in range(8)])
    assert np.abs(drawn).max() <= 2
    assert abs(drawn.std() - 2 / np.sqrt(3)) < 0.05
    neighbours = np.corrcoef(drawn[..., 1:].ravel(), drawn[..., :-1].ravel())[0, 1]
    assert abs(neighbours) < 0.05, "no smooth field"
    assert np.abs(np.corrcoef(drawn.reshape(8, -1)) - np.eye(8)).max() < 0.1
    images = np.repeat(photo(1), 300, axis=0)
    after = create_adversary("coin").transform(images)
    assert (after[280] == create_adversary("coin").transform(images[:281])[280]).all(), "also in a later block"
    assert (after[280] != after[24]).any()


def test_coin_breaks_a_code_of_class_wise_blur_and_a_checkerboard() -> None:
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    checks = 20.0 * (-1) ** (x + y)
    assert left("coin:2", checks) < 0.35
    coherent = float(((create_adversary("coin:2").transform(picture(checks))[0].astype(float) - 128) * checks).mean())
    assert abs(coherent) < 0.1 * 400, "and what is left no longer follows the board"
    # A convolution is told by the ratio of two spectra. After COIN two kernels are hardly told apart.
    sources = np.concatenate([photo(40, 32, seed) for seed in range(2)])
    grain = np.random.default_rng(3).integers(-40, 41, sources.shape)
    sources = (sources + grain).clip(0, 255).astype(np.uint8)

    def apart(change: bool) -> float:
        powers = []
        for axis in (2, 3):
            coded = scipy.ndimage.uniform_filter1d(sources.astype(float), 3, axis=axis).round().astype(np.uint8)
            seen = create_adversary("coin:2").transform(coded) if change else coded
            waves = [np.abs(np.diff(seen.astype(float), axis=direction)).mean() for direction in (2, 3)]
            powers.append(np.log(waves[0] / waves[1]))
        return abs(powers[0] - powers[1])

    assert apart(change=False) > 0.9
    assert apart(change=True) < 0.3


def test_smooth_pictures_survive_coin() -> None:
    images = photo(2, 64)
    assert np.abs(create_adversary("coin:2").transform(images).astype(int) - images).mean() < 8


# In a row


def test_a_row_is_its_parts_one_after_the_other() -> None:
    images = photo(4)
    row = create_adversary("compose:grayscale+jpeg")
    assert row.name == "compose:grayscale+jpeg:10", "every parameter is spelled out"
    assert row.phrase == "a trainer who applies grayscale, then jpeg:10"
    gray, jpeg = create_adversary("grayscale"), create_adversary("jpeg:10")
    assert (row.transform(images) == jpeg.transform(gray.transform(images))).all()
    orders = [create_adversary(f"compose:{names}").transform(images) for names in ("blur+median", "median+blur")]
    assert (orders[0] != orders[1]).any(), "the order counts"
    three = create_adversary("compose:down-up:.5+bandstop+bit-depth")
    assert three.name == "compose:down-up:0.5+bandstop:4-9+bit-depth:2"
    assert create_adversary(three.name).name == three.name
    expected = images
    for name in ("down-up:0.5", "bandstop:4-9", "bit-depth:2"):
        expected = create_adversary(name).transform(expected)
    assert (three.transform(images) == expected).all()


def test_a_row_undoes_what_neither_part_does() -> None:
    """A slow wave of pure colour and a faster one of brightness: grayscale leaves the one, the band-stop the other."""
    colour, brightness = grating(1.5), grating(6)
    planted = np.stack([brightness + 0.5 * colour, brightness, brightness - 0.5 * 0.299 / 0.114 * colour])
    both = np.rint(128 + planted).astype(np.uint8)[None]
    spread = {
        name: float(np.abs(create_adversary(name).transform(both).astype(float) - 128).mean())
        for name in ("grayscale", "bandstop:4-9", "compose:grayscale+bandstop:4-9")
    }
    assert spread["compose:grayscale+bandstop:4-9"] < 0.3 * min(spread["grayscale"], spread["bandstop:4-9"])


def test_a_row_has_the_tier_of_its_hardest_part_and_checks_all() -> None:
    assert create_adversary("compose:grayscale+median").tier == "transforms"
    assert create_adversary("compose:grayscale+tv").tier == "training"
    assert create_adversary("compose:grayscale+median").check(32) is None
    with pytest.raises(SetupError, match="changes nothing"):
        create_adversary("compose:grayscale+lowpass:40").check(32)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("compose", "at least two"),
        ("compose:", "at least two"),
        ("compose:jpeg:10", "at least two"),
        ("compose:jpeg+", "at least two"),
        ("compose:grayscale+compose:jpeg", "part of itself"),
        ("compose:grayscale+mixup", "mixup cannot be a part.*These do: jpeg, webp, grayscale"),
        ("compose:none+jpeg", "cannot be a part"),
        ("compose:early-stop+jpeg", "cannot be a part"),
        ("compose:grayscale+projection", "cannot be a part"),
        ("compose:grayscale+last-layer:0.1", "cannot be a part"),
        ("compose:grayscale+mix:0.5", "cannot be a part"),
        ("compose:grayscale+adversarial:8", "cannot be a part"),
        ("compose:grayscale+noise-denoise", "cannot be a part"),
        ("compose:grayscale+jpeg:0", "jpeg:0 is not"),
        ("bandstop:9-4", "A-B"), ("bandstop:4", "A-B"), ("bandstop:0-9", "A-B"), ("bandstop:x-9", "A-B"),
        ("bandstop:4-nan", "A-B"), ("bandstop:", "A-B"),
        ("lowpass:0", r"0\.5 to 512"), ("lowpass:x", r"0\.5 to 512"), ("lowpass:inf", r"0\.5 to 512"),
        ("coin:0", r"0\.25 to 8"), ("coin:9", r"0\.25 to 8"), ("equalize:2", "no parameter"),
        ("whiten:zca", "whiten:channels"), ("rotate:0", "1 to 180"), ("rotate:181", "1 to 180"),
        ("staged:1", "no parameter"), ("noise-denoise:0", "1 to 64"), ("noise-denoise:x", "1 to 64"),
        ("few-denoise:0", "share"), ("few-denoise:1.5", "share"),
    ],
)  # fmt: skip
def test_wrong_parameters_are_told(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        create_adversary(name)


def test_unknown_parts_are_told() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'grayscale'"):
        create_adversary("compose:greyscale+jpeg")


@pytest.mark.parametrize(
    ("name", "canonical", "tier"),
    [
        ("lowpass", "lowpass:8", "transforms"), ("lowpass:5.50", "lowpass:5.5", "transforms"),
        ("bandstop", "bandstop:4-9", "transforms"), ("bandstop:2.0-3", "bandstop:2-3", "transforms"),
        ("coin", "coin:2", "transforms"), ("equalize", "equalize", "transforms"), ("whiten", "whiten", "transforms"),
        ("rotate", "rotate:30", "training"), ("staged", "staged", "training"),
        ("noise-denoise", "noise-denoise:16", "training"), ("few-denoise", "few-denoise:0.04", "prior"),
    ],
)  # fmt: skip
def test_names_are_spelled_out(name: str, canonical: str, tier: str) -> None:
    adversary = create_adversary(name)
    assert (adversary.name, adversary.tier) == (canonical, tier)
    assert create_adversary(canonical).name == canonical
    assert adversary.phrase.startswith("a trainer who ")
    assert adversary.source
    assert adversary.description
