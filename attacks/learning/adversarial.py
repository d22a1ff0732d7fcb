"""Adversarial training: on the worst pictures within a ball about each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import uniform

__all__ = ["AdversarialObjective", "worst_in_ball"]


def worst_in_ball(
    model: nn.Module,
    batch: Tensor,
    target: Tensor,
    generator: torch.Generator,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
) -> Tensor:
    """Projected gradient ascent of the loss from a random start (arXiv 1706.06083).

    The model is in evaluation mode meanwhile, as in APBench: otherwise the pictures of a batch would be attacked
    through each other's batch statistics, and those would be learned from attacked pictures half done.

    Args:
        model: its mode is put back.
        batch: float ``[B, 3, R, R]`` in [0, 1].
        target: int64 ``[B]``.
        generator: of the start, uniform in the ball; on the CPU, or on the device of the pictures.
        epsilon: radius in the largest norm, in the units of the pictures.
        steps: at least 1.
        step_size: of the sign of the gradient.

    Returns:
        Pictures in [0, 1], at most ``epsilon`` from ``batch``.
    """
    was_training = model.training
    model.eval()
    low, high = (batch - epsilon).clamp_(min=0), (batch + epsilon).clamp_(max=1)
    start = uniform(batch.shape, generator, batch.device)
    start = start.mul_(2 * epsilon).sub_(epsilon)
    found = torch.minimum(torch.maximum(batch + start, low), high)
    for _ in range(steps):
        found = found.detach().requires_grad_()
        loss = F.cross_entropy(model(found).float(), target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, found)
        found = torch.minimum(torch.maximum(found.detach() + step_size * gradient.sign(), low), high)
    model.train(was_training)
    return found.detach().contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class AdversarialObjective:
    """Trains on the worst pictures that :func:`worst_in_ball` finds.

    Attributes:
        epsilon: radius in the units of the pictures, [0, 1].
        steps: 1 is FGSM-RS (arXiv 2001.03994), 10 the usual PGD.
        step_size: relative to ``epsilon``.
    """

    epsilon: float
    steps: int
    step_size: float

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        found = worst_in_ball(
            model, batch, target, generator,
            epsilon=self.epsilon, steps=self.steps, step_size=self.step_size * self.epsilon,
        )  # fmt: skip
        logits = model(found).float()
        return F.cross_entropy(logits, target), logits
