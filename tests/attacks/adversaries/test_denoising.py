"""Autoencoders from disk, and noise with a denoiser that the trainer has trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.denoising import (
    Denoiser,
    NoiseAndDenoise,
    _tiny,
    noised_and_denoised,
    train_denoiser,
)
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.errors import ConfigError, WeightsError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe


def smooth(count: int = 6, side: int = 20, seed: int = 0) -> np.ndarray:
    """Pictures with edges, slopes and a little noise, uint8."""
    rng = np.random.default_rng(seed)
    base = rng.integers(30, 220, (count, 3, 4, 4)).repeat((side + 3) // 4, axis=2).repeat((side + 3) // 4, axis=3)
    noisy = base[..., :side, :side] + rng.normal(0, 6, (count, 3, side, side))
    return np.clip(noisy, 0, 255).astype(np.uint8)


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


WIDE = 24


def smooth_tensors(count: int, seed: int, side: int = WIDE) -> Tensor:
    """Smooth pictures, uint8."""
    rng = np.random.default_rng(seed)
    pictures = scipy.ndimage.gaussian_filter(rng.normal(size=(count, 3, side, side)), (0, 0, 3, 3))
    return torch.from_numpy(np.rint(128 + 70 * pictures / np.abs(pictures).max()).astype(np.uint8))


@pytest.mark.parametrize("side", [15, 16])
def test_an_untrained_denoiser_is_a_box_blur(side: int) -> None:
    batch = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0))
    expected = batch.numpy()
    for axis in (2, 3):
        expected = scipy.ndimage.uniform_filter1d(expected, 5, axis=axis, mode="mirror")
    assert np.allclose(Denoiser().eval()(batch).detach().numpy(), expected, atol=1e-5)


def test_noise_that_was_there_before_goes_with_the_noise_that_is_added() -> None:
    sigma = 16 / 255
    network = train_denoiser(smooth_tensors(60, 0), sigma=sigma, steps=30, seed=0, device="cpu")
    clean = smooth_tensors(12, 1)
    noise = torch.randint(-1, 2, clean.shape, generator=torch.Generator().manual_seed(2)).sign() * 8
    dirty = (clean.int() + noise).clamp(0, 255).to(torch.uint8)
    after = noised_and_denoised(network, dirty, sigma=sigma, seed=3, device="cpu")
    assert (after.shape, after.dtype) == (clean.shape, torch.uint8)
    before_error, after_error = (
        (pictures.float() - clean.float()).square().mean().sqrt() for pictures in (dirty, after)
    )
    assert float(before_error) > 6
    assert float(after_error) < 0.7 * float(before_error), "for all the noise that was added"
    undenoised = noised_and_denoised(nn.Identity(), dirty, sigma=sigma, seed=3, device="cpu")  # type: ignore[arg-type]
    assert float((undenoised.float() - clean.float()).square().mean().sqrt()) > 14
    again = noised_and_denoised(network, dirty[:5], sigma=sigma, seed=3, device="cpu")
    apart = [float((again.float() - after[rows].float()).abs().mean()) for rows in (slice(0, 5), slice(5, 10))]
    assert apart[0] < 5 < apart[1], "no picture is mixed up with another"


def test_a_denoiser_that_learned_keeps_edges() -> None:
    """Better than the box blur it starts from, on pictures of its kind."""
    rng = np.random.default_rng(0)
    steps = rng.integers(20, 236, (40, 3, 3, 3)).repeat(8, axis=2).repeat(8, axis=3).astype(np.uint8)
    train, test = torch.from_numpy(steps[:30]), torch.from_numpy(steps[30:])
    trained = train_denoiser(train, sigma=16 / 255, steps=40, seed=0, device="cpu")
    found = [
        float((noised_and_denoised(network, test, sigma=16 / 255, seed=1, device="cpu").float() - test.float())
              .square().mean().sqrt())
        for network in (trained, Denoiser())
    ]  # fmt: skip
    assert found[0] < 0.7 * found[1]


def test_the_same_seed_gives_the_same_denoiser() -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = train_denoiser(smooth_tensors(9, 0), sigma=0.1, steps=2, seed=5, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    second = train_denoiser(smooth_tensors(9, 0), sigma=0.1, steps=2, seed=5, device="cpu")
    other = train_denoiser(smooth_tensors(9, 0), sigma=0.1, steps=2, seed=6, device="cpu")
    weights = [network.layers[0].weight for network in (first, second, other)]
    assert torch.equal(weights[0], weights[1])  # type: ignore[arg-type]
    assert not torch.equal(weights[0], weights[2])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def job(train_set: ImageSet, test_set: ImageSet) -> TrainingJob:
    assert train_set.labels is not None
    assert test_set.labels is not None
    return TrainingJob(
        arm="protected", victim="small-cnn", classes=4, images=train_set.images, labels=train_set.labels,
        test_images=test_set.images[:40], test_labels=test_set.labels[:40], clean_subset_images=train_set.images[:8],
        clean_subset_labels=train_set.labels[:8], recipe=Recipe(steps=4, batch_size=32), seed=5, evals=1, device="cpu",
    )  # fmt: skip


@pytest.mark.parametrize("few", [False, True])
def test_who_denoises_learns_from_its_own_pictures_or_from_the_few(
    few: bool, job: TrainingJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bitterant.attacks.adversaries import denoising

    known: list[Tensor] = []
    trained: list[TrainingJob] = []

    def note_denoiser(images: Tensor, **options: object) -> nn.Module:
        known.append(images)
        assert options["steps"] == 2, "half of the recipe's"
        return nn.Identity()

    class NoteTraining:
        def __call__(self, job: TrainingJob) -> object:
            trained.append(job)
            return PlainTraining()(job)

    monkeypatch.setattr(denoising, "train_denoiser", note_denoiser)
    monkeypatch.setattr(denoising, "PlainTraining", NoteTraining)
    result = NoiseAndDenoise(16 / 255, clean_subset=few)(job)
    assert result.finite
    assert known[0] is (job.clean_subset_images if few else job.images)
    for now, before in ((trained[0].images, job.images), (trained[0].test_images, job.test_images)):
        assert 8 < float((now.float() - before.float()).std()) < 18, "training and test pictures went through"
    assert torch.equal(trained[0].labels, job.labels)


def test_denoisers_and_who_has_what() -> None:
    assert create_adversary("noise-denoise:32").learner() == NoiseAndDenoise(32 / 255)
    assert create_adversary("noise-denoise").clean_share == 0
    few = create_adversary("few-denoise:0.01")
    assert few.clean_share == 0.01
    assert few.learner() == NoiseAndDenoise(16 / 255, clean_subset=True)
