"""SimCLR: features learned from pictures without labels (Chen et al. 2020, arXiv 2002.05709)."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import Surrogate, TrainingResult, own_randomness, train_classifier
from .job import Job
from .randomness import seeded
from .refit import judged, refit

__all__ = ["Contrastive", "nt_xent"]

PROJECTION = 64


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy of two views ``[B, D]`` each: who is whose other half."""
    both = F.normalize(torch.cat([first, second]), dim=1)
    likeness = both @ both.T / temperature
    likeness.fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.arange(2 * count, device=both.device).roll(count)
    return F.cross_entropy(likeness, partner)


@lru_cache(maxsize=4)
def _views(side: int) -> nn.Module:
    """Crops, flips and colours as in the paper, section 3; without the blur, which it leaves out at 32 px."""
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomResizedCrop((side, side), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    )


class _Projected(nn.Module):
    """Trunk and projection; gives logits that mean nothing, so that the plain loop can train it."""

    def __init__(self, network: Surrogate) -> None:
        super().__init__()
        self.trunk = network.trunk()
        width = network.head.in_features
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTION))

    def forward(self, images: Tensor) -> Tensor:
        return self.project(self.trunk(images))


@dataclass(frozen=True)
class _ContrastiveObjective:
    temperature: float

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), seeded(generator, batch.device):
            views = _views(batch.shape[-1])
            both = torch.cat([views(batch), views(batch)]).contiguous(memory_format=torch.channels_last)
        projected = model(both).float()
        loss = nt_xent(projected[: len(batch)], projected[len(batch) :], self.temperature)
        return loss, projected[: len(batch)].detach()


@dataclass(frozen=True)
class Contrastive:
    """Pretrains on the arm's pictures without labels, then fits a linear classifier on clean pictures with labels.

    Attributes:
        length: steps relative to the recipe's; contrastive learning is slow.
        rate: learning rate of Adam.
        temperature: of the loss; 0.5 is the paper's for CIFAR-10.
    """

    length: float = 4.0
    rate: float = 1e-3
    temperature: float = 0.5

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        network, steps = job.fresh_network(), max(1, round(self.length * job.recipe.steps))
        if job.arm == "untrained":
            return refit(job, network, 0, begun)
        recipe = replace(job.recipe, steps=steps, optimiser="adamw", lr=self.rate, weight_decay=1e-4, warmup=0.1)
        with own_randomness(job.seed):
            model = _Projected(network)
        trained = train_classifier(
            model,
            job.images,
            job.labels,
            recipe,
            seed=job.seed,
            evals=1,
            device=job.device,
            objective=_ContrastiveObjective(self.temperature),
        )
        if not trained.finite:
            empty = torch.zeros(len(job.test_labels), dtype=torch.int64)
            return judged(empty, 0.0, steps, float("nan"), begun)
        return refit(job, network, steps, begun)
