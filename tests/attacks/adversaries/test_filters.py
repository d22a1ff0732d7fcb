"""Filters against slow and obvious versions: each removes what it should and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.stats
import torch

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.filters import dct_matrix, denoise_nlm, denoise_tv, frequencies, low_pass, offsets
from bitterant.errors import ConfigError, SetupError

from .conftest import SIDE, grating, left, photo, picture


def smooth(count: int = 6, side: int = 20, seed: int = 0) -> np.ndarray:
    """Pictures with edges, slopes and a little noise, uint8."""
    rng = np.random.default_rng(seed)
    base = rng.integers(30, 220, (count, 3, 4, 4)).repeat((side + 3) // 4, axis=2).repeat((side + 3) // 4, axis=3)
    noisy = base[..., :side, :side] + rng.normal(0, 6, (count, 3, side, side))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def test_our_blur_blurs_and_the_published_one_does_not() -> None:
    """APBench's GaussianBlur(3, sigma=0.1) is the identity on 8 bits: the weight beside the centre is exp(-50)."""
    from torchvision.transforms.v2.functional import gaussian_blur

    images = smooth(side=32)
    theirs = gaussian_blur(torch.from_numpy(images), [3, 3], [0.1, 0.1]).numpy()
    assert (theirs == images).all()
    ours = create_adversary("blur:0.6").transform(images).astype(int)
    assert (np.abs(ours - images) > 0).mean() > 0.5
    with pytest.raises(ConfigError, match=r"0\.6 to 8"):
        create_adversary("blur:0.1")


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_blur_is_a_gaussian(sigma: float) -> None:
    images = smooth(2, 24)
    radius = int(np.ceil(2 * sigma))
    expected = scipy.ndimage.gaussian_filter(
        images.astype(float), (0, 0, sigma, sigma), mode="mirror", radius=(0, 0, radius, radius)
    )
    assert np.abs(create_adversary(f"blur:{sigma:g}").transform(images) - expected).max() <= 0.51


def test_median_is_the_median() -> None:
    images = smooth(2, 16)
    expected = scipy.ndimage.median_filter(images, (1, 1, 3, 3), mode="mirror")
    assert (create_adversary("median").transform(images) == expected).all()


@pytest.mark.parametrize("side", [8, 15])
def test_the_low_pass_is_that_of_the_dct(side: int) -> None:
    matrix = dct_matrix(side)
    assert torch.allclose(matrix @ matrix.T, torch.eye(side), atol=1e-5)
    images = np.random.default_rng(0).random((2, 3, side, side)).astype(np.float32)
    spectrum = np.asarray(scipy.fft.dctn(images, axes=(2, 3), norm="ortho"))
    spectrum[:, :, side // 2 :] = 0
    spectrum[:, :, :, side // 2 :] = 0
    expected = np.asarray(scipy.fft.idctn(spectrum, axes=(2, 3), norm="ortho"))
    assert np.allclose(low_pass(torch.from_numpy(images), side // 2).numpy(), expected, atol=1e-5)


def test_total_variation_falls_and_the_mean_stays() -> None:
    batch = torch.from_numpy(smooth(2, 24)).float() / 255

    def energy(result: torch.Tensor, weight: float = 0.1) -> float:
        down, right = torch.zeros_like(result), torch.zeros_like(result)
        down[:, :, :-1], right[..., :-1] = result[:, :, 1:] - result[:, :, :-1], result[..., 1:] - result[..., :-1]
        variation = (down.square() + right.square()).sqrt().sum()
        return float((result - batch).square().sum() / 2 + weight * variation)

    found = denoise_tv(batch, 0.1)
    longer = denoise_tv(batch, 0.1, iterations=600)
    assert energy(found) < 0.8 * energy(batch)
    assert energy(longer) <= energy(found) < 1.05 * energy(longer), "60 iterations are nearly there"
    assert torch.allclose(found.mean(dim=(2, 3)), batch.mean(dim=(2, 3)), atol=1e-4)
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):  # a minimiser: no small step from it is better by more than what is left of the iterations
        step = 0.01 * torch.randn(batch.shape, generator=generator)
        assert energy(longer + step) > energy(longer)


def test_total_variation_is_the_iteration_of_chambolle() -> None:
    """Equation 9 of the paper, pixel by pixel and each picture for itself."""
    batch = torch.from_numpy(smooth(2, 6)).float() / 255
    weight, iterations = 0.1, 3
    found = denoise_tv(batch, weight, iterations=iterations).numpy()
    for given, expected in zip(batch.numpy().reshape(-1, 6, 6), found.reshape(-1, 6, 6), strict=True):
        p, result = np.zeros((2, 6, 6)), given.astype(float)
        for _ in range(iterations):
            for y, x in np.ndindex(6, 6):
                step = (
                    result[y + 1, x] - result[y, x] if y < 5 else 0.0,
                    result[y, x + 1] - result[y, x] if x < 5 else 0.0,
                )
                p[:, y, x] = (p[:, y, x] - 0.25 * np.array(step)) / (1 + 0.25 / weight * np.hypot(*step))
            for y, x in np.ndindex(6, 6):
                above, left_of = p[0, y - 1, x] if y else 0.0, p[1, y, x - 1] if x else 0.0
                result[y, x] = given[y, x] + above + left_of - p[:, y, x].sum()
        assert np.allclose(result, expected, atol=1e-5)


def test_non_local_means_is_the_mean_of_what_looks_alike() -> None:
    batch = torch.from_numpy(smooth(1, 9)).float() / 255
    strength, patch, search = 0.1, 1, 2
    found = denoise_nlm(batch, strength, patch=patch, search=search)[0].numpy()
    image, padded = batch[0].numpy(), np.pad(batch[0].numpy(), ((0, 0), (search,) * 2, (search,) * 2), mode="reflect")
    for y, x in ((4, 4), (0, 0), (8, 3)):
        total, weights = np.zeros(3), 0.0
        for down in range(2 * search + 1):
            for right in range(2 * search + 1):
                apart = [
                    ((padded[:, v + down, u + right] - image[:, v, u]) ** 2).mean()
                    for v in range(max(0, y - patch), min(9, y + patch + 1))
                    for u in range(max(0, x - patch), min(9, x + patch + 1))
                ]
                weight = np.exp(-np.mean(apart) / strength**2)
                total += weight * padded[:, y + down, x + right]
                weights += weight
        assert np.allclose(found[:, y, x], total / weights, atol=1e-4)


@pytest.mark.parametrize("name", ["tv:0.1", "nlm:12"])
def test_denoisers_take_noise_out(name: str) -> None:
    clean = np.full((2, 3, 24, 24), 90, dtype=np.uint8)
    clean[..., 12:] = 170
    noisy = np.clip(clean + np.random.default_rng(0).integers(-8, 9, clean.shape), 0, 255).astype(np.uint8)
    after = create_adversary(name).transform(noisy).astype(int)
    assert np.abs(after - clean).mean() < 0.6 * np.abs(noisy.astype(int) - clean).mean()


@pytest.mark.parametrize("phase", [0.0, 0.7, np.pi / 2])
@pytest.mark.parametrize("degrees", [0, 45, 90, 130])
def test_the_band_stop_removes_its_band_and_nothing_else(degrees: float, phase: float) -> None:
    assert left("bandstop:4-9", grating(6, degrees=degrees, phase=phase)) < 0.1
    assert left("bandstop:4-9", grating(20, degrees=degrees, phase=phase)) > 0.9
    assert left("bandstop:4-9", grating(1.5, degrees=degrees, phase=phase)) > 0.9


@pytest.mark.parametrize("channels", [(1, -1, 0), (0, 0, 1), (1, 1, 1)])
def test_the_band_stop_treats_chroma_as_it_does_luminance(channels: tuple[float, ...]) -> None:
    assert left("bandstop", grating(6), channels) < 0.1


@pytest.mark.parametrize("tilt", [0, 15, 30])
@pytest.mark.parametrize("turned", [0, 90])
@pytest.mark.parametrize("sign", [1, -1])
def test_stripes_of_its_directions_are_removed_and_no_others(tilt: int, turned: int, sign: int) -> None:
    name = f"destripe:{tilt}"
    assert left(name, grating(6, degrees=turned + sign * tilt, phase=0.7)) < (0.01 if tilt == 0 else 0.35)
    assert left(name, grating(6, degrees=turned + sign * (tilt + 15), phase=0.7)) > 0.8
    assert left(name, grating(6, degrees=turned + sign * (tilt - 15), phase=0.7)) > 0.8


def test_without_a_tilt_the_means_of_rows_and_columns_go() -> None:
    images = photo(2).astype(float)
    level = images.mean((2, 3), keepdims=True)
    expected = images - (images.mean(2, keepdims=True) - level) - (images.mean(3, keepdims=True) - level)
    after = create_adversary("destripe").transform(photo(2))
    assert np.abs(after - expected.clip(0, 255)).max() <= 0.51


def test_brightness_survives_every_filter() -> None:
    flat = np.full((1, 3, 32, 32), 17, dtype=np.uint8)
    flat[:, 1] = 200
    for name in ("bandstop:0.5-512", "lowpass:0.5", "lowpass:8", "destripe:0", "destripe:30"):
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
    assert np.allclose(torch.hypot(frequencies(side)[:, None], frequencies(side)).numpy(), cycles)
    spectrum = np.asarray(scipy.fft.dctn(images / 255, axes=(2, 3), norm="ortho"))
    for name, kept in (("lowpass:5", cycles <= 5), ("bandstop:2-4.5", (cycles < 2) | (cycles > 4.5))):
        expected = 255 * np.asarray(scipy.fft.idctn(spectrum * kept, axes=(2, 3), norm="ortho"))
        after = create_adversary(name).transform(images)
        assert np.abs(after - expected.clip(0, 255)).max() <= 0.51


def test_the_low_pass_removes_noise_above_its_radius() -> None:
    high = np.random.default_rng(0).normal(size=(32, 32))
    spectrum = np.asarray(scipy.fft.dctn(high, norm="ortho"))
    spectrum[torch.hypot(frequencies(32)[:, None], frequencies(32)).numpy() <= 8] = 0
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
