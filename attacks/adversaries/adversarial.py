"""Adversarial training: small perturbations teach little to a network that trains on the worst pictures near each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import uniform
from .base import Adversary, real_number
from .learning import Learner, PlainTraining


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


DEFAULT_LEVELS = 8.0


class AdversarialTraining(Adversary):
    """Trains on the worst pictures that ten steps of projected gradient ascent find, a quarter of the radius each.

    Args:
        parameter: radius in levels of 255, 0.5 to 32; 8 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "adversarial"
    tier = "training"
    source = "arXiv 1706.06083 (PGD); arXiv 2308.03258 (APBench), L-inf 8/255, 10 steps"
    description = "adversarial training, PGD with 10 steps (adversarial:4 sets the radius in levels, 8 if left out)"
    cost = 7.0
    trainer = "W3"

    def __init__(self, parameter: str | None = None) -> None:
        self.levels = real_number(self.prefix, parameter, default=DEFAULT_LEVELS, least=0.5, most=32.0)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self.levels:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who trains adversarially"

    def learner(self) -> Learner:
        return PlainTraining(AdversarialObjective(self.levels / 255.0, steps=10, step_size=0.25))


class FastAdversarialTraining(AdversarialTraining):
    """Trains on one signed gradient step of 1.25 radii from a random start (FGSM-RS), cut back to the ball."""

    prefix = "fast-adversarial"
    source = "arXiv 2001.03994 (FGSM from a random start)"
    description = "adversarial training with one step (fast-adversarial:4 sets the radius in levels, 8 if left out)"
    cost = 1.5

    @property
    def phrase(self) -> str:
        return "a trainer who trains adversarially in one step"

    def learner(self) -> Learner:
        return PlainTraining(AdversarialObjective(self.levels / 255.0, steps=1, step_size=1.25))
