"""Purification learned from pairs: a network that takes away what the protection put in (after arXiv 2412.21061).

BridgePure fits a diffusion bridge to pairs of pictures before and after the protection. Here it is a small residual
network, fitted by squared error, that a CPU trains in a minute.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import TrainingResult, own_randomness
from .job import Job
from .plain import PlainTraining
from .purifiers import BLOCK, STEPS, ResidualBlock, fit_purifier, padded, purifier_steps

__all__ = ["PairedPurification", "Remover", "fit_remover", "purify_by_pairs"]

STRIDE = 4
WIDTH, DEEP = 48, 64
SCALE = 8.0 / 255.0
"""The network counts in units of the usual budget."""


class Remover(nn.Module):
    """A U-Net of two scales that says what to take away; at the beginning nothing.

    Noise may be the same at the same place of every picture, which convolutions cannot know: a learned map of the
    places is added to the features, and one to the result. About 35 MMAC a picture of 32 px.

    Args:
        side: of the pictures in px; a multiple of :data:`STRIDE`.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.enter = nn.Conv2d(12, WIDTH, 3, padding=1)
        self.places = nn.Parameter(torch.zeros(WIDTH, side // 2, side // 2))
        self.down = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * WIDTH, DEEP, 1), ResidualBlock(DEEP))
        self.up = nn.Sequential(nn.ReLU(), nn.Conv2d(DEEP, 4 * WIDTH, 1), nn.PixelShuffle(2))
        self.near, self.joined = ResidualBlock(WIDTH), ResidualBlock(WIDTH)
        self.leave = nn.Conv2d(WIDTH, 12, 3, padding=1)
        nn.init.zeros_(self.leave.weight)
        self.leave.bias = nn.Parameter(torch.zeros(12))
        self.offset = nn.Parameter(torch.zeros(3, side, side))

    def forward(self, images: Tensor) -> Tensor:
        """Float ``[B, 3, R, R]`` in [0, 1] to what is to be subtracted, in units of :data:`SCALE`."""
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
    clean, changed = padded(before, STRIDE).to(device), padded(after, STRIDE).to(device)
    with own_randomness(seed):
        model = Remover(clean.shape[-1])
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def loss_of(index: Tensor) -> Tensor:
        index = index.to(device)
        batch = changed[index].contiguous(memory_format=torch.channels_last)
        return F.mse_loss(model(batch), (batch - clean[index]) / SCALE)

    fit_purifier(model, loss_of, len(clean), steps=steps, generator=generator)
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
    for start in range(0, len(images), BLOCK):
        batch = padded(images[start : start + BLOCK], STRIDE).to(device)
        left = (batch - SCALE * model(batch))[:, :, :side, :side].clamp(0, 1)
        result[start : start + BLOCK] = (left * 255.0).round().to(torch.uint8).cpu()
    return result


@dataclass(frozen=True)
class PairedPurification:
    """Fits a network to the leaked pairs, purifies the training pictures by it, then trains by the recipe.

    The test stays as it is.

    Attributes:
        length: steps of the network's fit relative to the recipe's; see :func:`purifier_steps`.
    """

    length: float = STEPS

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        steps = purifier_steps(self.length, job.recipe.steps)
        model = fit_remover(*job.pairs(), steps=steps, seed=job.seed, device=job.device)
        images = purify_by_pairs(model, job.images, device=job.device)
        result = PlainTraining()(replace(job, images=images, kept=None))
        return replace(result, seconds=time.perf_counter() - begun)
