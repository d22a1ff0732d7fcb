"""TrivialAugment, and UEraser: the worst of several strong augmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..optional import check_kornia
from ..parameters import one_of

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["TrivialAugment", "UEraser"]


class TrivialAugment(Adversary):
    """A random operation (colour, contrast, shear, ...) of random strength."""

    prefix = "trivial-augment"
    tier = "training"
    source = "arXiv 2103.10158"
    description = "trained with one random operation of random strength on each picture"

    @property
    def phrase(self) -> str:
        return "a trainer who augments with TrivialAugment"

    def learner(self) -> Learner:
        from ...learning import PlainTraining, TrivialAugmentObjective

        return PlainTraining(TrivialAugmentObjective())


class UEraser(Adversary):
    """Trains on the worst of five strongly augmented versions for a quarter of the time, then on one of them.

    ``ueraser:max`` looks for the worst to the end. That is the strongest row of the published benchmark, but small
    victims on 1,000 pictures learn little under it in our short trainings (17 % on clean CIFAR-10), and what does not
    learn the clean pictures proves nothing.

    The published benchmark picks a variant with JPEG for two methods, which tells the trainer the method; and in its
    code the compressed pictures are then not used. Here the variant is part of the name.

    Args:
        parameter: ``max``, see above; ``jpeg`` compresses each version to quality 10 as well; ``max-jpeg`` does both.

    Raises:
        ConfigError: it is another word.
    """

    prefix = "ueraser"
    tier = "training"
    source = "arXiv 2303.15127, K = 5"
    description = "trained on the worst of five strong augmentations (ueraser:max to the end, ueraser:jpeg)"
    cost = 3.0

    def __init__(self, parameter: str | None = None) -> None:
        self.variant = one_of(self.prefix, parameter, ("max", "jpeg", "max-jpeg"))

    @property
    def name(self) -> str:
        return self.prefix if self.variant is None else f"{self.prefix}:{self.variant}"

    @property
    def phrase(self) -> str:
        return f"a trainer who uses UEraser{'' if self.variant is None else f' ({self.variant})'}"

    def check(self, resolution: int) -> str | None:
        """Make sure that kornia, which it augments with, is installed."""
        check_kornia(self.name)
        return super().check(resolution)

    def learner(self) -> Learner:
        from ...learning import PlainTraining, UEraserObjective

        words = (self.variant or "").split("-")
        return PlainTraining(UEraserObjective(worst_until=1.0 if "max" in words else 0.25, jpeg="jpeg" in words))
