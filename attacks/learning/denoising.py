"""Noise, then a denoiser that the trainer has trained: what is not typical of its pictures is gone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import TrainingResult, own_randomness
from .job import Job
from .plain import PlainTraining

__all__ = ["Denoiser", "NoiseAndDenoise", "noised_and_denoised", "train_denoiser"]

WIDTH = 32
KERNEL = 5
BATCH = 32
CROP = 24
RATE = 2e-3
WARM_UP = 0.1
BLOCK = 64


class Denoiser(nn.Module):
    """Replaces each pixel by an average of the 5 x 5 px about it, with weights that a network chooses for each place.

    After the kernel prediction of arXiv 1712.02327: averages cannot invent anything, and learn in few steps. The
    network is four 3 x 3 convolutions on 2 x 2 blocks of pixels, which sees 18 px. Before training it is a box blur.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (12, WIDTH, WIDTH):
            layers += [nn.Conv2d(inputs, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH), nn.ReLU()]
        last = nn.Conv2d(WIDTH, 4 * KERNEL**2, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]
        self.layers = nn.Sequential(*layers, last)

    def forward(self, noisy: Tensor) -> Tensor:
        """Float ``[B, 3, H, W]`` to the same, for any H and W of at least 3."""
        height, width = noisy.shape[-2:]
        even = F.pad(noisy, (0, width % 2, 0, height % 2), mode="replicate")
        scores = F.pixel_shuffle(self.layers(4 * (F.pixel_unshuffle(even, 2) - 0.5)), 2)[..., :height, :width]
        weights = scores.softmax(dim=1)
        around = F.pad(noisy, (KERNEL // 2,) * 4, mode="reflect")
        result = torch.zeros_like(noisy)
        for place in range(KERNEL**2):
            y, x = divmod(place, KERNEL)
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
    network.to(device, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=RATE)
    side = images.shape[-1]
    crop = min(CROP, side)
    for step in range(steps):
        rows = torch.randint(len(images), (BATCH,), generator=generator)
        top, left = torch.randint(side - crop + 1, (2,), generator=generator).tolist()
        # One way a step is enough variety, and spares a gather a picture.
        turns, mirror = torch.randint(4, (2,), generator=generator).tolist()
        given = images[rows][:, :, top : top + crop, left : left + crop].float() / 255
        given = torch.rot90(given.flip(-1) if mirror % 2 else given, turns, (2, 3))
        noisy = given + sigma * torch.randn(given.shape, generator=generator)
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1.0, (step + 1) / (WARM_UP * steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))
        found = network(noisy.to(device).contiguous(memory_format=torch.channels_last))
        loss = F.mse_loss(found, given.to(device)) / sigma**2
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
    generator = torch.Generator().manual_seed(seed)
    network.eval()
    parts = []
    for block in images.split(BLOCK):
        noisy = block.float() / 255 + sigma * torch.randn(block.shape, generator=generator)
        found = network(noisy.to(device).contiguous(memory_format=torch.channels_last))
        parts.append(found.clamp(0, 1).mul(255).round().to(torch.uint8).cpu())
    return torch.cat(parts).contiguous()


@dataclass(frozen=True)
class NoiseAndDenoise:
    """Trains a denoiser, sends training and test pictures through noise and denoiser, and trains the victim on that.

    Attributes:
        sigma: standard deviation of the noise, in [0, 1].
        few: train the denoiser on the few clean pictures, rather than on the training pictures of the arm.
        length: steps of the denoiser relative to the recipe's.
    """

    sigma: float
    few: bool = False
    length: float = 0.5

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        known = job.few()[0] if self.few else job.images
        steps = max(1, round(self.length * job.recipe.steps))
        network = train_denoiser(known, sigma=self.sigma, steps=steps, seed=job.seed, device=job.device)
        images, test_images = (
            noised_and_denoised(network, pictures, sigma=self.sigma, seed=job.seed + number, device=job.device)
            for number, pictures in ((1, job.images), (2, job.test_images))
        )
        result = PlainTraining()(replace(job, images=images, test_images=test_images, kept=None))
        return replace(result, seconds=time.perf_counter() - begun)
