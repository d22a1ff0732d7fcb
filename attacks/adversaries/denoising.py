"""Denoising before training: an autoencoder from disk, or noise and a denoiser that the trainer has trained.

An autoencoder's latent space is too small for much of a perturbation. Noise drowns a perturbation, and a denoiser
then gives back what is typical of the pictures it was trained on."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, WeightsError
from ...records.text import read_json
from ...surrogates import TrainingResult, fused, generator_on, load_state, own_randomness, transfer
from ..terms import Pixels
from .base import Adversary, real_number, share
from .learning import Learner, PlainTraining, TrainingJob
from .transforms import in_blocks


@dataclass(frozen=True)
class Autoencoder:
    """There and back.

    Attributes:
        title: for people.
        multiple: the side of a picture must be a multiple of this many px.
        reconstruct: float ``[B, 3, H, W]`` in [0, 1] to the same shape.
    """

    title: str
    multiple: int
    reconstruct: Callable[[Tensor], Tensor]


# A folder names its class, and not any of diffusers' classes is fit to be made of a folder from elsewhere.
_DIFFUSERS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC", "AsymmetricAutoencoderKL", "VQModel")
_ENCODER, _DECODER = "_encoder.safetensors", "_decoder.safetensors"


@lru_cache(maxsize=1)
def load_autoencoder(path: Path) -> Autoencoder:
    """Read an autoencoder. Nothing is fetched.

    Args:
        path: a folder that diffusers saved, or ``NAME_encoder.safetensors`` beside ``NAME_decoder.safetensors``.

    Raises:
        WeightsError: there is nothing there, or it cannot be read as one.
    """
    if path.is_dir():
        return _from_diffusers(path)
    if not path.name.endswith(_ENCODER):
        raise WeightsError(
            f"{path} is neither a folder saved by diffusers nor a file NAME{_ENCODER} with NAME{_DECODER} beside it."
        )
    return _from_files(path, path.with_name(path.name.removesuffix(_ENCODER) + _DECODER))


def _from_diffusers(folder: Path) -> Autoencoder:
    import diffusers

    try:
        kind = read_json(folder / "config.json", repeats=True)["_class_name"]
        if kind not in _DIFFUSERS:
            raise ValueError(f"it is a {kind!s:.40}, and only {', '.join(_DIFFUSERS)} are read")
        model = getattr(diffusers, kind).from_pretrained(folder, local_files_only=True).eval()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise WeightsError(f"{folder} cannot be read as an autoencoder of diffusers: {error}") from error
    if not hasattr(model, "encode") or not hasattr(model, "decode"):
        raise WeightsError(f"{folder} holds a {kind}, which is no autoencoder.")
    channels = model.config.get("block_out_channels") or model.config.get("encoder_block_out_channels") or (0,) * 4

    def reconstruct(batch: Tensor) -> Tensor:
        encoded = model.encode(batch * 2 - 1)  # all of diffusers' autoencoders live in [-1, 1]
        # The middle of the distribution: drawing from it would make the pictures depend on a seed.
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        return (model.decode(latents).sample + 1) / 2

    return Autoencoder(f"{kind} from {folder.name}", 2 ** max(3, len(channels) - 1), reconstruct)


def _from_files(first: Path, second: Path) -> Autoencoder:
    states = [load_state(first), load_state(second)]
    try:
        latents, width = states[1]["1.weight"].shape[1], states[1]["1.weight"].shape[0]
        pooled = any(".pool." in key for key in states[0])
        networks = _tiny(latents, width, pooled=pooled)
        for network, state in zip(networks, states, strict=True):
            network.load_state_dict({key: value.float() for key, value in state.items()})
            network.eval()
    except (KeyError, IndexError, RuntimeError) as error:
        raise WeightsError(f"{first} and {second.name} are no tiny autoencoder: {error}") from error
    title = f"{first.name.removesuffix(_ENCODER)}, {latents} channels at an eighth of the side"
    return Autoencoder(title, 8, lambda batch: networks[1](networks[0](batch)).clamp(0, 1))


def _tiny(latents: int, width: int, *, pooled: bool) -> tuple[nn.Sequential, nn.Sequential]:
    """Encoder and decoder of madebyollin/taesd (MIT): three halvings, three blocks at each scale."""

    def blocks(*, deepest: bool = False) -> list[nn.Module]:
        return [_Block(width, pooled=pooled and deepest) for _ in range(3)]

    encoder = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), _Block(width, pooled=False),
        _half(width), *blocks(), _half(width), *blocks(), _half(width), *blocks(deepest=True),
        nn.Conv2d(width, latents, 3, padding=1),
    )  # fmt: skip
    decoder = nn.Sequential(
        _Clamp(), nn.Conv2d(latents, width, 3, padding=1), nn.ReLU(),
        *blocks(deepest=True), *_double(width), *blocks(), *_double(width), *blocks(), *_double(width),
        _Block(width, pooled=False), nn.Conv2d(width, 3, 3, padding=1),
    )  # fmt: skip
    return encoder, decoder


def _half(width: int) -> nn.Module:
    return nn.Conv2d(width, width, 3, stride=2, padding=1, bias=False)


def _double(width: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(width, width, 3, padding=1, bias=False)]


class _Block(nn.Module):
    """Three convolutions with a shortcut; ``pooled`` adds a normalised bottleneck of 1 x 1 convolutions before."""

    def __init__(self, width: int, *, pooled: bool) -> None:
        super().__init__()
        layers = [nn.Conv2d(width, width, 3, padding=1) for _ in range(3)]
        self.conv = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2])
        self.pool = None
        if pooled:
            wide = 4 * width
            self.pool = nn.Sequential(
                nn.Conv2d(width, wide, 1, bias=False), nn.GroupNorm(4, wide), nn.ReLU(),
                nn.Conv2d(wide, width, 1, bias=False),
            )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        if self.pool is not None:
            x = x + self.pool(x)
        return torch.relu(self.conv(x) + x)


class _Clamp(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(x / 3) * 3


AUTOENCODER_BLOCK = 32


class Purify(Adversary):
    """Encodes and decodes every picture at the working resolution with an autoencoder from disk.

    Args:
        parameter: a folder that diffusers saved an autoencoder to (with ``config.json``), or the encoder's file of a
            tiny autoencoder, ``NAME_encoder.safetensors``, with ``NAME_decoder.safetensors`` beside it.

    Raises:
        ConfigError: no path was given.
    """

    prefix = "purify"
    tier = "training"
    source = "arXiv 2303.08500 (AVATAR) purifies by diffusion; the autoencoder in its place is ours"
    description = "through an autoencoder (purify:PATH, a diffusers folder or NAME_encoder.safetensors)"
    trainer = "W4"  # the autoencoder was trained on pictures of the world
    doing = "purifies them with an autoencoder"

    def __init__(self, parameter: str | None = None) -> None:
        if not parameter:
            raise ConfigError(
                "purify needs an autoencoder on disk: purify:FOLDER saved by diffusers, or "
                "purify:NAME_encoder.safetensors with NAME_decoder.safetensors beside it."
            )
        self.path = Path(parameter)

    @property
    def name(self) -> str:
        return f"purify:{self.path.as_posix()}"

    def check(self, resolution: int) -> str | None:
        return f"autoencoder {self._load().title}"

    def transform(self, images: Pixels) -> Pixels:
        autoencoder = self._load()
        side = images.shape[-1]
        extra = -side % autoencoder.multiple
        near, far = extra // 2, extra - extra // 2

        def change(batch: Tensor, _: int) -> Tensor:
            padded = F.pad(batch, (near, far, near, far), mode="reflect" if far < side else "replicate")
            return autoencoder.reconstruct(padded)[:, :, near : near + side, near : near + side]

        return in_blocks(images, change, size=AUTOENCODER_BLOCK)

    def _load(self) -> Autoencoder:
        return load_autoencoder(self.path)


DENOISER_WIDTH = 32
DENOISER_KERNEL = 5
DENOISER_BATCH = 32
DENOISER_CROP = 24
DENOISER_RATE = 2e-3
DENOISER_WARM_UP = 0.1
DENOISER_BLOCK = 64


class Denoiser(nn.Module):
    """Replaces each pixel by an average of the 5 x 5 px about it, with weights that a network chooses for each place.

    After the kernel prediction of arXiv 1712.02327: averages cannot invent anything, and learn in few steps. The
    network is four 3 x 3 convolutions on 2 x 2 blocks of pixels, which sees 18 px. Before training it is a box blur.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (12, DENOISER_WIDTH, DENOISER_WIDTH):
            layers += [
                nn.Conv2d(inputs, DENOISER_WIDTH, 3, padding=1, bias=False),
                nn.BatchNorm2d(DENOISER_WIDTH),
                nn.ReLU(),
            ]
        last = nn.Conv2d(DENOISER_WIDTH, 4 * DENOISER_KERNEL**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, noisy: Tensor) -> Tensor:
        """Float ``[B, 3, H, W]`` to the same, for any H and W of at least 3."""
        height, width = noisy.shape[-2:]
        even = F.pad(noisy, (0, width % 2, 0, height % 2), mode="replicate")
        scores = F.pixel_shuffle(self.layers(4 * (F.pixel_unshuffle(even, 2) - 0.5)), 2)[..., :height, :width]
        weights = scores.softmax(dim=1)
        around = F.pad(noisy, (DENOISER_KERNEL // 2,) * 4, mode="reflect")
        result = torch.zeros_like(noisy)
        for place in range(DENOISER_KERNEL**2):
            y, x = divmod(place, DENOISER_KERNEL)
            result = result + weights[:, place : place + 1] * around[:, :, y : y + height, x : x + width]
        return result


def train_denoiser(images: Tensor, *, sigma: float, steps: int, seed: int, device: str) -> Denoiser:
    """Train a denoiser to undo Gaussian noise on these pictures: from noisy to given, by squared error.

    Adam at 0.002, rising over a tenth of the steps and falling to zero along a half cosine, on random crops of 24 px,
    turned and mirrored at random; 32 crops a step.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        sigma: standard deviation of the noise, in [0, 1].
        steps: of the optimiser.
        seed: of initial weights, crops and noise.
        device: where to train.
    """
    generator = torch.Generator().manual_seed(seed)
    with own_randomness(seed):
        network = Denoiser()
    place = torch.device(device)
    network.to(place, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=DENOISER_RATE, fused=fused(network.parameters()))
    images, draw = images.to(place), generator_on(place, generator)
    side = images.shape[-1]
    crop = min(DENOISER_CROP, side)
    for step in range(steps):
        rows = torch.randint(len(images), (DENOISER_BATCH,), generator=draw, device=place)
        top, left = torch.randint(side - crop + 1, (2,), generator=generator).tolist()
        # One way a step is enough variety, and spares a gather a picture.
        turns, mirror = torch.randint(4, (2,), generator=generator).tolist()
        given = images[rows][:, :, top : top + crop, left : left + crop].float() / 255
        given = torch.rot90(given.flip(-1) if mirror % 2 else given, turns, (2, 3))
        noisy = given + sigma * torch.randn(given.shape, generator=draw, device=place)
        for group in optimiser.param_groups:
            rise = min(1.0, (step + 1) / (DENOISER_WARM_UP * steps))
            group["lr"] = DENOISER_RATE * rise * 0.5 * (1 + math.cos(math.pi * step / steps))
        found = network(noisy.contiguous(memory_format=torch.channels_last))
        loss = F.mse_loss(found, given) / sigma**2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return network


@torch.no_grad()
def noised_and_denoised(network: Denoiser, images: Tensor, *, sigma: float, seed: int, device: str) -> Tensor:
    """Add Gaussian noise, take it out again, and round to levels.

    Args:
        images: uint8 ``[N, 3, R, R]``.
        sigma: standard deviation of the noise, in [0, 1].
        seed: of the noise: the n-th picture gets the same in every arm.

    Returns:
        uint8 of the same shape, on the CPU.
    """
    place = torch.device(device)
    draw = generator_on(place, torch.Generator().manual_seed(seed))
    network.eval()
    parts = []
    for block in images.split(DENOISER_BLOCK):
        block = transfer(block, place)
        noisy = block.float() / 255 + sigma * torch.randn(block.shape, generator=draw, device=place)
        found = network(noisy.contiguous(memory_format=torch.channels_last))
        parts.append(found.clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
    return torch.cat(parts).contiguous()


@dataclass(frozen=True)
class NoiseAndDenoise:
    """Trains a denoiser, sends training and test pictures through noise and denoiser, and trains the victim on that.

    Attributes:
        sigma: standard deviation of the noise, in [0, 1].
        clean_subset: train the denoiser on the trainer's clean pictures, rather than on those of the arm.
        length: steps of the denoiser relative to the recipe's.
    """

    sigma: float
    clean_subset: bool = False
    length: float = 0.5

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        known = job.clean_subset()[0] if self.clean_subset else job.images
        steps = max(1, round(self.length * job.recipe.steps))
        network = train_denoiser(known, sigma=self.sigma, steps=steps, seed=job.seed, device=job.device)
        images, test_images = (
            noised_and_denoised(network, pictures, sigma=self.sigma, seed=job.seed + number, device=job.device)
            for number, pictures in ((1, job.images), (2, job.test_images))
        )
        result = PlainTraining()(replace(job, images=images, test_images=test_images, checkpoint=None))
        return replace(result, seconds=time.perf_counter() - begun)


DEFAULT_NOISE_LEVELS = 16.0


class NoiseDenoise(Adversary):
    """Adds Gaussian noise and takes it out with a small denoiser, in training and test pictures alike.

    The denoiser is trained for every victim on the pictures of its own arm: from more noise to what was given. No clean
    picture is needed, but the denoiser holds for typical whatever most of the pictures of the arm share. Noise that
    differs from picture to picture goes; a pattern that fills a class may be restored. AVATAR (arXiv 2303.08500) and
    ECLIPSE (arXiv 2406.15093) use diffusion models trained on clean pictures: see :class:`CleanSubsetDenoise`.

    Args:
        parameter: standard deviation of the noise in levels of 255, 1 to 64; 16 where left out, twice the usual
            budget.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "noise-denoise"
    tier = "training"
    source = "after arXiv 2406.15093 (ECLIPSE), with a denoiser trained on the protected pictures themselves"
    description = "noise added, then a denoiser trained on the pictures (noise-denoise:32 sets the levels, 16)"
    cost = 2.0
    levels = real_number(default=DEFAULT_NOISE_LEVELS, least=1.0, most=64.0)
    doing = "drowns them in noise and denoises that"

    def learner(self) -> Learner:
        return NoiseAndDenoise(self.levels / 255.0)


class CleanSubsetDenoise(Adversary):
    """The same with a denoiser trained on a few clean pictures, whose labels are not needed.

    ECLIPSE trains a diffusion model on 2,000 clean pictures of 50,000, adds noise once and takes it out in many steps.
    Here one small network takes it out in one step; the noise is that of ``noise-denoise``. The victim is trained on
    the purified pictures of the arm alone, never on the clean ones.

    Args:
        parameter: share of the training pictures that the trainer has clean, above 0 and at most 1, stratified; 0.04
            where left out.

    Raises:
        ConfigError: it is no such share.
    """

    prefix = "few-denoise"
    clean_share = share(default=0.04)
    tier = "prior"
    source = "after arXiv 2406.15093 (ECLIPSE), 4 % clean pictures; arXiv 2303.08500 (AVATAR)"
    description = "noise added, then a denoiser trained on a clean share (few-denoise:0.01 sets it, 0.04 if left out)"
    cost = 2.0

    @property
    def phrase(self) -> str:
        return f"a trainer who denoises them with a network trained on {100 * self.clean_share:g} % clean pictures"

    def learner(self) -> Learner:
        return NoiseAndDenoise(DEFAULT_NOISE_LEVELS / 255.0, clean_subset=True)
