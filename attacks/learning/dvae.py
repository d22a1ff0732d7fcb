"""Purification by a rate-limited autoencoder that learns the noise of each class beside it (D-VAE, arXiv 2405.01460).

No clean picture is needed. What is cheap to describe survives a small rate; noise of high frequency does not. What goes
with the class but does not get through is what an auxiliary decoder learns from an embedding of the class, and is
subtracted.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import TrainingResult, own_randomness
from .job import Job
from .plain import PlainTraining
from .purifiers import BLOCK, STEPS, ResidualBlock, fit_purifier, padded, purifier_steps

__all__ = ["DisentangledAutoencoder", "RateLimitedPurification", "purify_by_rate"]

PENALTY = 0.02
FIRST_SHARE = 1 / 3
"""Rate of the first pass relative to the second, as in the paper (1 and 3 in its units)."""


CELL = 4
"""Side in px of what one place of the latent space stands for."""

WIDTH, LATENTS, FINE = 64, 24, 24
PATCH = 3 * CELL**2
FITTED = 4096
"""So many pictures the linear part is made from."""


def _silent(layer: nn.Conv2d) -> nn.Conv2d:
    """Zero weights: at the beginning nothing is added to what it is added to."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


class DisentangledAutoencoder(nn.Module):
    """A convolutional VAE, and a decoder of its own for what belongs to the class.

    Encoder and decoder are a linear map of patches and back, which :meth:`begin_with` sets, plus a network that starts
    at zero. About 20 MMAC a picture of 32 px; the cost grows with the area.

    Args:
        classes: number of classes K.
        side: of the pictures in px; a multiple of :data:`CELL`.
    """

    def __init__(self, classes: int, side: int) -> None:
        super().__init__()
        self.patches, self.pixels = nn.PixelUnshuffle(CELL), nn.PixelShuffle(CELL)
        self.analysis, self.synthesis = nn.Conv2d(PATCH, 2 * LATENTS, 1), nn.Conv2d(LATENTS, PATCH, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(PATCH, WIDTH, 3, padding=1),
            ResidualBlock(WIDTH),
            nn.ReLU(),
            _silent(nn.Conv2d(WIDTH, 2 * LATENTS, 1)),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(LATENTS, WIDTH, 3, padding=1), ResidualBlock(WIDTH), nn.ReLU(), nn.Conv2d(WIDTH, 4 * FINE, 1),
            nn.PixelShuffle(2), nn.Conv2d(FINE, FINE, 3, padding=1), nn.ReLU(),
            _silent(nn.Conv2d(FINE, 12, 3, padding=1)), nn.PixelShuffle(2),
        )  # fmt: skip
        self.embeddings = nn.Parameter(torch.zeros(classes, PATCH, side // CELL, side // CELL))
        self.auxiliary = nn.Sequential(
            nn.Conv2d(PATCH + LATENTS, WIDTH, 3, padding=1), nn.ReLU(), _silent(nn.Conv2d(WIDTH, PATCH, 1))
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
        rows = self.patches(images).permute(0, 2, 3, 1).reshape(-1, PATCH).double()
        mean = rows.mean(0)
        values, vectors = torch.linalg.eigh((rows - mean).T @ (rows - mean) / len(rows))
        values, vectors = values.flip(0)[:LATENTS].clamp(min=1e-8), vectors.flip(1)[:, :LATENTS]
        low, high = 1e-12, float(values[0])
        for _ in range(100):
            middle = math.sqrt(low * high)
            bits = 0.5 * torch.log2((values / middle).clamp(min=1)).sum() / CELL**2
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
            drawn: standard normal ``[B, LATENTS, R / CELL, R / CELL]``.

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


def _draw(count: int, side: int, generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(count, LATENTS, side // CELL, side // CELL, generator=generator).to(device)


def _fit(
    images: Tensor, labels: Tensor, classes: int, *, rate: float, steps: int, generator: torch.Generator
) -> DisentangledAutoencoder:
    """Train on float pictures ``[N, 3, R, R]``, on their device."""
    side, device = images.shape[-1], images.device
    with own_randomness(int(torch.randint(2**62, (), generator=generator))):
        model = DisentangledAutoencoder(classes, side)
    some = torch.randperm(len(images), generator=generator)[:FITTED]
    model.begin_with(images[some.to(device)].cpu(), rate)
    model.to(device)

    def loss_of(index: Tensor) -> Tensor:
        drawn = _draw(len(index), side, generator, device)
        batch, target = images[index.to(device)], labels[index.to(device)]
        reconstructed, noise, bits = model(batch, target, drawn)
        # The noise is what the rate left over; the reconstruction does not learn to leave more.
        residue = F.mse_loss(noise, (batch - reconstructed).detach())
        return F.mse_loss(reconstructed, batch) + residue + PENALTY * (bits.mean() - rate).clamp(min=0)

    fit_purifier(model, loss_of, len(images), steps=steps, generator=generator)
    return model


@torch.no_grad()
def _through(
    model: DisentangledAutoencoder, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Pictures, reconstructions and noise, a block at a time.

    The latents are drawn, not their means: only then no more than the rate comes through.
    """
    for start in range(0, len(images), BLOCK):
        rows = slice(start, start + BLOCK)
        drawn = _draw(len(images[rows]), images.shape[-1], generator, images.device)
        reconstructed, noise, _ = model(images[rows], labels[rows], drawn)
        yield images[rows], reconstructed, noise


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
    pictures, labels = padded(images, CELL).to(device), labels.to(device)
    for allowed in (FIRST_SHARE * rate, rate):
        model = _fit(pictures, labels, classes, rate=allowed, steps=steps, generator=generator)
        passed = _through(model, pictures, labels, generator)
        pictures = torch.cat([(batch - noise).clamp(0, 1) for batch, _, noise in passed])
    whole = torch.cat([found for _, found, _ in _through(model, pictures, labels, generator)])
    return (whole[:, :, :side, :side].clamp(0, 1) * 255.0).round().to(torch.uint8).cpu()


@dataclass(frozen=True)
class RateLimitedPurification:
    """Purifies the training pictures by :func:`purify_by_rate`, then trains by the recipe. The test stays as it is.

    Attributes:
        rate: of the second pass in bits a pixel.
        length: steps of each pass relative to the recipe's; see :func:`purifier_steps`.
    """

    rate: float
    length: float = STEPS

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        images = purify_by_rate(
            job.images, job.labels, job.classes, rate=self.rate, steps=purifier_steps(self.length, job.recipe.steps),
            seed=job.seed, device=job.device,
        )  # fmt: skip
        result = PlainTraining()(replace(job, images=images, kept=None))
        return replace(result, seconds=time.perf_counter() - begun)
