"""Adversarial training: small perturbations teach nothing to a network that is trained against them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Adversary
from .parameters import real_number

if TYPE_CHECKING:
    from ..learning import Learner

__all__ = ["AdversarialTraining", "FastAdversarialTraining"]

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
        from ..learning import AdversarialObjective, PlainTraining

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
        from ..learning import AdversarialObjective, PlainTraining

        return PlainTraining(AdversarialObjective(self.levels / 255.0, steps=1, step_size=1.25))
