"""Networks that learn the protection and take it away: D-VAE from the protected set alone, another from leaked pairs.

D-VAE (arXiv 2405.01460) needs no clean picture: an autoencoder of limited rate lets through what is cheap to describe,
which noise of high frequency is not; an auxiliary decoder learns from an embedding of the class what goes with the
class and does not get through, and that is subtracted.

BridgePure (arXiv 2412.21061) fits a diffusion bridge to pairs of pictures before and after the protection. Here it is a
small residual network, fitted by squared error, that a CPU trains in a minute."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import LabelError
from ...surrogates import TrainingResult, epoch_order, fused, generator_on, own_randomness, transfer
from ..terms import Arm, Labelling, Pixels
from .base import Adversary, AttackData, real_number, whole_number
from .learning import Learner, PlainTraining, TrainingJob

FIT_LENGTH, MAX_FIT_STEPS = 1.5, 6000
"""Steps of a fit relative to those of the victim's recipe, and at most so many."""
FIT_BATCH, FIT_RATE, FIT_WARM_UP = 16, 3e-3, 50
APPLY_BLOCK = 256
"""Pictures that go through a fitted network at once."""


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions on ``[B, width, H, W]``, added to what came in."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


def padded(images: Tensor, multiple: int) -> Tensor:
    """Float pictures in [0, 1] of a side that is a multiple of this, grown at the right and at the bottom.

    Args:
        images: of any integer type in levels, ``[N, 3, R, R]``.
        multiple: in px.
    """
    extra = -images.shape[-1] % multiple
    return F.pad(images.float() / 255.0, (0, extra, 0, extra), mode="replicate")


def purifier_steps(length: float, recipe_steps: int) -> int:
    """Steps of a fit whose length is relative to the recipe's, at least 1 and at most :data:`MAX_FIT_STEPS`."""
    return min(max(1, round(length * recipe_steps)), MAX_FIT_STEPS)


def fit_purifier(
    model: nn.Module,
    loss_of: Callable[[Tensor], Tensor],
    count: int,
    *,
    steps: int,
    generator: torch.Generator,
    device: torch.device,
) -> None:
    """Minimise a loss of random batches in place, then leave the model in evaluation mode.

    Adam with gradients clipped at norm 1; the rate rises over 50 steps and falls to zero along a half cosine.

    Args:
        model: on its device.
        loss_of: indices int64 ``[B]`` on the device, of at most 16 pictures, to their loss.
        count: number of pictures.
        steps: of the optimiser.
        generator: of the order; on the CPU.
        device: where the model is.
    """
    model.train()
    optimiser = torch.optim.Adam(model.parameters(), lr=FIT_RATE, fused=fused(model.parameters()))
    batches: list[Tensor] = []
    for step in range(steps):
        if not batches:
            batches = epoch_order(count, min(FIT_BATCH, count), generator)
            batches = list(transfer(torch.cat(batches), device).split(len(batches[0])))
        loss = loss_of(batches.pop())
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / FIT_WARM_UP)
            group["lr"] = FIT_RATE * warm * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
    model.eval()


RATE_PENALTY = 0.02
FIRST_PASS_SHARE = 1 / 3
"""Rate of the first pass relative to the second, as in the paper (1 and 3 in its units)."""
LATENT_CELL = 4
"""Side in px of what one place of the latent space stands for."""
VAE_WIDTH, LATENTS, FINE_WIDTH = 64, 24, 24
PATCH_VALUES = 3 * LATENT_CELL**2
LINEAR_FIT_PICTURES = 4096
"""So many pictures the linear part is made from."""


class DisentangledAutoencoder(nn.Module):
    """A convolutional VAE, and a decoder of its own for what belongs to the class.

    Encoder and decoder are a linear map of patches and back, which :meth:`begin_with` sets, plus a network that starts
    at zero. About 20 MMAC a picture of 32 px; the cost grows with the area.

    Args:
        classes: number of classes K.
        side: of the pictures in px; a multiple of :data:`LATENT_CELL`.
    """

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.patches, self.pixels = nn.PixelUnshuffle(LATENT_CELL), nn.PixelShuffle(LATENT_CELL)
        self.analysis, self.synthesis = nn.Conv2d(PATCH_VALUES, 2 * LATENTS, 1), nn.Conv2d(LATENTS, PATCH_VALUES, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(PATCH_VALUES, VAE_WIDTH, 3, padding=1),
            ResidualBlock(VAE_WIDTH),
            nn.ReLU(),
            _silent(nn.Conv2d(VAE_WIDTH, 2 * LATENTS, 1)),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENTS, VAE_WIDTH, 3, padding=1), ResidualBlock(VAE_WIDTH), nn.ReLU(),
            nn.Conv2d(VAE_WIDTH, 4 * FINE_WIDTH, 1), nn.PixelShuffle(2),
            nn.Conv2d(FINE_WIDTH, FINE_WIDTH, 3, padding=1), nn.ReLU(),
            _silent(nn.Conv2d(FINE_WIDTH, 12, 3, padding=1)), nn.PixelShuffle(2),
        )  # fmt: skip
        self.embeddings = nn.Parameter(torch.zeros(classes, PATCH_VALUES, side // LATENT_CELL, side // LATENT_CELL))
        self.auxiliary = nn.Sequential(
            nn.Conv2d(PATCH_VALUES + LATENTS, VAE_WIDTH, 3, padding=1),
            nn.ReLU(),
            _silent(nn.Conv2d(VAE_WIDTH, PATCH_VALUES, 1)),
        )

    @torch.no_grad()
    def begin_with(self, images: Tensor, rate: float) -> None:
        """Make the linear part the best linear code of independent Gaussian patches at this rate.

        Principal components of the patches get bits by reverse water-filling (Cover, Thomas, section 10.3.3): all of
        them the same error, those of less variance nothing. Starting there saves most of the training.

        Args:
            images: float ``[B, 3, R, R]`` in [0, 1].
            rate: in bits a pixel.
        """
        rows = self.patches(images).permute(0, 2, 3, 1).reshape(-1, PATCH_VALUES).double()  # one patch each
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        values, vectors = values.flip(0)[:LATENTS].clamp(min=1e-8), vectors.flip(1)[:, :LATENTS]
        low, high = 1e-12, float(values[0])
        for _ in range(100):
            middle = math.sqrt(low * high)
            bits = 0.5 * torch.log2((values / middle).clamp(min=1)).sum() / LATENT_CELL**2
            low, high = (middle, high) if bits > rate else (low, middle)
        lost = (high / values).clamp(max=1.0)
        gain = (1 - lost).sqrt()
        towards = (vectors * (gain / values.sqrt())).T
        back = vectors * (gain * values.sqrt())
        nothing = torch.zeros_like(towards)

        def layer(weight: Tensor, bias: Tensor) -> nn.Conv2d:
            made = nn.Conv2d(weight.shape[1], len(weight), 1)
            made.weight, made.bias = nn.Parameter(weight.float()[:, :, None, None]), nn.Parameter(bias.float())
            return made

        self.analysis = layer(torch.cat([towards, nothing]), torch.cat([-towards @ mean, lost.log()]))
        self.synthesis = layer(back, mean)

    def forward(self, images: Tensor, labels: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reconstruct pictures, and guess their noise.

        Args:
            images: float ``[B, 3, R, R]`` in [0, 1].
            labels: int64 ``[B]``.
            drawn: standard normal ``[B, LATENTS, R / LATENT_CELL, R / LATENT_CELL]``.

        Returns:
            Reconstructions and noise, like ``images``, and the rate of each picture in bits a pixel, ``[B]``: the
            divergence of its latent distribution from the standard normal one.
        """
        patches = self.patches(images)
        mean, log_variance = (self.analysis(patches) + self.encoder(patches - 0.5)).chunk(2, dim=1)
        log_variance = log_variance.clamp(-12, 6)
        latent = mean + drawn * (0.5 * log_variance).exp()
        nats = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(dim=(1, 2, 3))
        reconstructed = self.pixels(self.synthesis(latent)) + self.decoder(latent)
        embedded = self.embeddings[labels]
        noise = self.pixels(embedded + self.auxiliary(torch.cat([embedded, latent], dim=1)))
        return reconstructed, noise, nats / (math.log(2) * images.shape[-1] * images.shape[-2])


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """Zero weights: at the beginning nothing is added to what it is added to."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def purify_by_rate(
    images: Tensor, labels: Tensor, classes: int, *, rate: float, steps: int, seed: int, device: str = "cpu"
) -> Tensor:
    """Both passes: subtract what goes with the class, then keep what a rate lets through.

    After the paper (arXiv 2405.01460): an autoencoder with a small rate is fitted and the noise it finds subtracted; a
    second one with a larger rate is fitted to what is left, the noise that it finds subtracted again, and the rest
    reconstructed.

    Args:
        images: uint8 ``[N, 3, R, R]`` (or another integer type, in levels).
        labels: int64 ``[N]``.
        classes: number of classes K.
        rate: of the second pass in bits a pixel; the first has a third of it.
        steps: of each pass, with batches of 16.
        seed: of initial weights, order and latents.
        device: where to train.

    Returns:
        uint8 ``[N, 3, R, R]`` on the CPU.
    """
    generator = torch.Generator().manual_seed(seed)
    side = images.shape[-1]
    pictures, labels = padded(images, LATENT_CELL).to(device), labels.to(device)
    for allowed in (FIRST_PASS_SHARE * rate, rate):
        model = fit_disentangled(pictures, labels, classes, rate=allowed, steps=steps, generator=generator)
        passed = pass_through(model, pictures, labels, generator)
        pictures = torch.cat([(batch - noise).clamp(0, 1) for batch, _, noise in passed])
    whole = torch.cat([found for _, found, _ in pass_through(model, pictures, labels, generator)])
    return (whole[:, :, :side, :side].clamp(0, 1) * 255.0).round().to(torch.uint8).cpu()


def fit_disentangled(
    images: Tensor, labels: Tensor, classes: int, *, rate: float, steps: int, generator: torch.Generator
) -> DisentangledAutoencoder:
    """Train on float pictures ``[N, 3, R, R]``, on their device."""
    side, device = images.shape[-1], images.device
    with own_randomness(int(torch.randint(2**62, (), generator=generator))):
        model = DisentangledAutoencoder(classes, side)
    some = torch.randperm(len(images), generator=generator)[:LINEAR_FIT_PICTURES]
    model.begin_with(images[some.to(device)].cpu(), rate)
    model.to(device)
    draw = generator_on(device, generator)

    def loss_of(index: Tensor) -> Tensor:
        drawn = _draw(len(index), side, draw)
        batch, target = images[index], labels[index]
        reconstructed, noise, bits = model(batch, target, drawn)
        # The noise is what the rate left over; the reconstruction does not learn to leave more.
        residue = F.mse_loss(noise, (batch - reconstructed).detach())
        return F.mse_loss(reconstructed, batch) + residue + RATE_PENALTY * (bits.mean() - rate).clamp(min=0)

    fit_purifier(model, loss_of, len(images), steps=steps, generator=generator, device=device)
    return model


@torch.no_grad()
def pass_through(
    model: DisentangledAutoencoder, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pictures, reconstructions and noise, a block at a time.

    The latents are drawn, not their means: only then no more than the rate comes through.
    """
    draw = generator_on(images.device, generator)
    for start in range(0, len(images), APPLY_BLOCK):
        rows = slice(start, start + APPLY_BLOCK)
        drawn = _draw(len(images[rows]), images.shape[-1], draw)
        reconstructed, noise, _ = model(images[rows], labels[rows], drawn)
        yield images[rows], reconstructed, noise


def _draw(count: int, side: int, draw: torch.Generator) -> Tensor:
    cells = side // LATENT_CELL
    return torch.randn(count, LATENTS, cells, cells, generator=draw, device=draw.device)


@dataclass(frozen=True)
class RateLimitedPurification:
    """Purifies the training pictures by :func:`purify_by_rate`, then trains by the recipe. The test stays as it is.

    Attributes:
        rate: of the second pass in bits a pixel.
        length: steps of each pass relative to the recipe's; see :func:`purifier_steps`.
    """

    rate: float
    length: float = FIT_LENGTH

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        images = purify_by_rate(
            job.images, job.labels, job.classes, rate=self.rate, steps=purifier_steps(self.length, job.recipe.steps),
            seed=job.seed, device=job.device,
        )  # fmt: skip
        result = PlainTraining()(replace(job, images=images, checkpoint=None))
        return replace(result, seconds=time.perf_counter() - begun)


class Dvae(Adversary):
    """Fits two rate-limited autoencoders to the pictures of the arm, and trains on what comes through.

    The trainer needs no clean picture. Test pictures stay as they are, as in the paper; through the second autoencoder
    they are recognised no better.

    Args:
        parameter: rate in bits a pixel, 0.05 to 8; 1 where left out. Less removes more of the noise and of the picture.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "dvae"
    tier = "training"
    source = "after arXiv 2405.01460 (D-VAE), with smaller networks"
    description = (
        "through a rate-limited autoencoder trained on the pictures (dvae:0.5 sets bits a pixel, 1 if left out)"
    )
    cost = 3.0
    rate = real_number(default=1.0, least=0.05, most=8.0)
    doing = "purifies them with a rate-limited autoencoder (D-VAE)"

    def learner(self) -> Learner:
        return RateLimitedPurification(self.rate)


REMOVER_STRIDE = 4
REMOVER_WIDTH, REMOVER_DEEP_WIDTH = 48, 64
REMOVER_SCALE = 8.0 / 255.0
"""The network counts in units of 8 levels."""


class Remover(nn.Module):
    """A U-Net of two scales that says what to take away; at the beginning nothing.

    Noise may be the same at the same place of every picture, which convolutions cannot know: a learned map of the
    places is added to the features, and one to the result. About 35 MMAC a picture of 32 px.

    Args:
        side: of the pictures in px; a multiple of :data:`REMOVER_STRIDE`.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(12, REMOVER_WIDTH, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(REMOVER_WIDTH, side // 2, side // 2))
        self.down = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(4 * REMOVER_WIDTH, REMOVER_DEEP_WIDTH, 1), ResidualBlock(REMOVER_DEEP_WIDTH)
        )
        self.up = nn.Sequential(nn.ReLU(), nn.Conv2d(REMOVER_DEEP_WIDTH, 4 * REMOVER_WIDTH, 1), nn.PixelShuffle(2))
        self.near, self.joined = ResidualBlock(REMOVER_WIDTH), ResidualBlock(REMOVER_WIDTH)
        self.leave = nn.Conv2d(REMOVER_WIDTH, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        self.leave.bias = nn.Parameter(torch.zeros(12))
        self.offset = nn.Parameter(torch.zeros(3, side, side))

    def forward(self, images: Tensor) -> Tensor:
        """Float ``[B, 3, R, R]`` in [0, 1] to what is to be subtracted, in units of :data:`REMOVER_SCALE`."""
        found = self.near(self.enter(F.pixel_unshuffle(images - 0.5, 2)) + self.places)
        found = self.joined(found + self.up(self.down(found)))
        return F.pixel_shuffle(self.leave(F.relu(found)), 2) + self.offset


def fit_remover(before: Tensor, after: Tensor, *, steps: int, seed: int, device: str = "cpu") -> Remover:
    """Fit the network to pairs.

    Args:
        before, after: uint8 ``[P, 3, R, R]``, the same pictures clean and protected.
        steps: with batches of 16.
        seed: of initial weights and order.
        device: where to train.
    """
    generator = torch.Generator().manual_seed(seed)
    clean, changed = padded(before, REMOVER_STRIDE).to(device), padded(after, REMOVER_STRIDE).to(device)
    with own_randomness(seed):
        model = Remover(clean.shape[-1])
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss_of(index: Tensor) -> Tensor:
        batch = changed[index].contiguous(memory_format=torch.channels_last)
        return F.mse_loss(model(batch), (batch - clean[index]) / REMOVER_SCALE)

    fit_purifier(model, loss_of, len(clean), steps=steps, generator=generator, device=clean.device)
    return model


@torch.no_grad()
def purify_by_pairs(model: Remover, images: Tensor, *, device: str = "cpu") -> Tensor:
    """Pictures without what the network finds in them.

    Args:
        model: from :func:`fit_remover`.
        images: uint8 ``[N, 3, R, R]``.
        device: where the network is.

    Returns:
        uint8 ``[N, 3, R, R]`` on the CPU.
    """
    side = images.shape[-1]
    result = torch.empty(images.shape, dtype=torch.uint8)
    for start in range(0, len(images), APPLY_BLOCK):
        batch = padded(images[start : start + APPLY_BLOCK], REMOVER_STRIDE).to(device)
        left = (batch - REMOVER_SCALE * model(batch))[:, :, :side, :side].clamp(0, 1)
        result[start : start + APPLY_BLOCK] = (left * 255.0).round().to(torch.uint8).cpu()
    return result


@dataclass(frozen=True)
class PairedPurification:
    """Fits a network to the leaked pairs, purifies the training pictures by it, then trains by the recipe.

    The test stays as it is.

    Attributes:
        length: steps of the network's fit relative to the recipe's; see :func:`purifier_steps`.
    """

    length: float = FIT_LENGTH

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        steps = purifier_steps(self.length, job.recipe.steps)
        model = fit_remover(*job.pairs(), steps=steps, seed=job.seed, device=job.device)
        images = purify_by_pairs(model, job.images, device=job.device)
        result = PlainTraining()(replace(job, images=images, checkpoint=None))
        return replace(result, seconds=time.perf_counter() - begun)


_LEAST_PAIRS = 8


class LeakedPairs(Adversary):
    """Fits a residual network to pairs, purifies the pictures of the arm with it, and trains on them.

    The pairs are taken from the training pictures, evenly over the classes, and leave the training of every arm: what
    comes back comes from the network, not from clean pictures. Where the run file says how the pictures were protected,
    the tool itself is run on the trainer's pictures with another seed (a public tool is its own oracle); else they are
    pairs of this very folder, made with its own noise. The plan says which. In the clean arm both sides of a pair are
    the original.

    Test pictures stay as they are, as in the paper.

    Args:
        parameter: number of pairs, 8 to 100,000; 500 where left out, the paper's.

    Raises:
        ConfigError: it is no whole number in that range.
    """

    prefix = "pairs"
    trainer = "W5"
    tier = "prior"
    source = "arXiv 2412.21061 (BridgePure), with a residual network instead of a diffusion bridge"
    description = "noise taken away as learned from leaked pairs (pairs:100 sets their number, 500 if left out)"
    cost = 2.0
    leaks = True
    count = whole_number(default=500, least=_LEAST_PAIRS, most=100_000)
    doing = "has {self.count} pictures before and after the protection"

    def learner(self) -> Learner:
        return PairedPurification()

    def relabel(self, material: AttackData) -> Labelling:
        total = len(material.labels)
        if total < 2 * self.count:
            fewer = f", or fewer pairs: {self.prefix}:{total // 2}" if total >= 2 * _LEAST_PAIRS else ""
            raise LabelError(
                f"{self.name} takes {self.count} of the training pictures away for pairs, and of {total} at least half "
                f"must be left. Give more pictures{fewer}."
            )
        chosen = self._chosen(material)
        made, how = material.protected_again(np.flatnonzero(chosen))
        if made is None:
            how = f"leaked from this folder, with its own noise, since {how}"
        return Labelling(
            material.labels, material.test_labels, len(material.classes), f"{int(chosen.sum())} pairs, {how}"
        )

    def compose(self, arm: Arm, material: AttackData) -> tuple[Pixels, NDArray[np.int64] | None]:
        images, _ = super().compose(arm, material)
        rows = np.flatnonzero(~self._chosen(material))
        return images[rows], rows

    def leaked(self, arm: Arm, material: AttackData) -> tuple[Pixels, Pixels, NDArray[np.int64]]:
        rows = np.flatnonzero(self._chosen(material))
        before = material.pictures("clean")[rows]
        after = super().compose(arm, material)[0][rows]
        if arm == "protected":
            made, _ = material.protected_again(rows)
            after = after if made is None else made
        return before, after, material.labels[rows]

    def _chosen(self, material: AttackData) -> NDArray[np.bool_]:
        """Which training pictures the pairs are, ``[N]``."""
        return material.covered(self.count / len(material.labels))
