"""Changes of the pictures: what all of them keep to, and each against a slow and obvious version."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from safetensors.torch import save_file

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.denoising import _tiny
from bitterant.attacks.adversaries.filters import dct_matrix, denoise_nlm, denoise_tv, low_pass
from bitterant.errors import ConfigError, WeightsError

CHANGING = [
    "jpeg:10", "jpeg:75", "jpeg:random", "webp:30", "grayscale", "bit-depth:2", "down-up:0.5", "blur:0.6", "blur:1",
    "median", "crop-resize:0.875", "sharpen-lowpass:0.5", "tv:0.1", "nlm:12",
    "lowpass:4", "bandstop:4-9", "equalize", "whiten", "whiten:channels", "coin:2", "down-up:0.25",
    "compose:grayscale+jpeg:10",
]  # fmt: skip


def smooth(count: int = 6, side: int = 20, seed: int = 0) -> np.ndarray:
    """Pictures with edges, slopes and a little noise, uint8."""
    rng = np.random.default_rng(seed)
    base = rng.integers(30, 220, (count, 3, 4, 4)).repeat((side + 3) // 4, axis=2).repeat((side + 3) // 4, axis=3)
    noisy = base[..., :side, :side] + rng.normal(0, 6, (count, 3, side, side))
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("side", [16, 21, 32])
@pytest.mark.parametrize("name", CHANGING)
def test_every_transform_keeps_the_form_and_changes_pixels(name: str, side: int) -> None:
    images = smooth(side=side)
    before = images.copy()
    adversary = create_adversary(name)
    assert adversary.name == name
    changed = adversary.transform(images)
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert (images == before).all(), "the cached pictures of an arm must not be written to"
    assert all((after != first).any() for after, first in zip(changed, images, strict=True)), "each picture changes"
    assert np.abs(changed.astype(int) - images).mean() < 60, "and stays the same picture"
    assert (changed == create_adversary(name).transform(images)).all(), "twice the same"


@pytest.mark.parametrize("name", CHANGING)
def test_the_nth_picture_is_treated_alike_in_every_arm(name: str) -> None:
    """What is done to a picture depends on its place and on nothing else in its array."""
    images, others = smooth(seed=0), smooth(seed=1)
    others[2] = images[2]
    adversary = create_adversary(name)
    assert (adversary.transform(images)[2] == adversary.transform(others)[2]).all()


def test_random_qualities_differ_from_picture_to_picture() -> None:
    same = np.repeat(smooth(1, 32), 12, axis=0)
    assert len({picture.tobytes() for picture in create_adversary("jpeg:random").transform(same)}) > 5


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


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_bit_depth_leaves_that_many_levels(bits: int) -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 3, 16, 16)
    changed = create_adversary(f"bit-depth:{bits}").transform(every)
    assert len(np.unique(changed)) == 2**bits
    assert (changed == every // 2 ** (8 - bits) * 2 ** (8 - bits)).all()


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


def tiny_autoencoder(folder: Path) -> Path:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, decoder = _tiny(4, 8, pooled=True)
    save_file(encoder.state_dict(), folder / "small_encoder.safetensors")
    save_file(decoder.state_dict(), folder / "small_decoder.safetensors")
    return folder / "small_encoder.safetensors"


@pytest.mark.parametrize("side", [16, 21])
def test_purify_reads_a_tiny_autoencoder(tmp_path: Path, side: int) -> None:
    adversary = create_adversary(f"purify:{tiny_autoencoder(tmp_path)}")
    assert adversary.check(side) == "autoencoder small, 4 channels at an eighth of the side"
    images = smooth(3, side)
    changed = adversary.transform(images)
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    assert (changed == adversary.transform(images)).all()


def test_purify_reads_an_autoencoder_of_diffusers(tmp_path: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_tiny import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(0)
        AutoencoderTiny(
            encoder_block_out_channels=(8, 8, 8, 8), decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1), num_decoder_blocks=(1, 1, 1, 1),
        ).save_pretrained(tmp_path / "tiny")  # fmt: skip
    adversary = create_adversary(f"purify:{tmp_path / 'tiny'}")
    assert adversary.check(16) == "autoencoder AutoencoderTiny from tiny"
    assert adversary.transform(smooth(2, 20)).shape == (2, 3, 20, 20)


def test_purify_says_what_it_cannot_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="purify needs"):
        create_adversary("purify")
    for name, words in (
        (tmp_path / "nothing.bin", "neither a folder"),
        (tmp_path / "x_encoder.safetensors", "no weights file"),
        (tmp_path, "cannot be read as an autoencoder"),
    ):
        with pytest.raises(WeightsError, match=words):
            create_adversary(f"purify:{name}").check(32)
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "UNet2DModel"}))
    with pytest.raises(WeightsError):
        create_adversary(f"purify:{tmp_path}").check(32)
    save_file({"1.weight": torch.zeros(8, 4, 3, 3)}, tmp_path / "x_decoder.safetensors")
    save_file({"0.weight": torch.zeros(1)}, tmp_path / "x_encoder.safetensors")
    with pytest.raises(WeightsError, match="no tiny autoencoder"):
        create_adversary(f"purify:{tmp_path / 'x_encoder.safetensors'}").check(32)
