"""TrivialAugment, and UEraser: the worst of several strong augmentations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
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
    """Trains on the worst of five strongly augmented versions (UEraser-max), the same variant for every protection.

    The published benchmark picks a variant with JPEG for two methods, which tells the trainer the method; and in its
    code the compressed pictures are then not used. Here the variant is part of the name.

    Args:
        parameter: ``jpeg`` compresses each version to quality 10 as well.

    Raises:
        ConfigError: it is another word.
    """

    prefix = "ueraser"
    tier = "training"
    source = "arXiv 2303.15127 (UEraser-max, K = 5)"
    description = "trained on the worst of five strong augmentations (ueraser:jpeg compresses each as well)"
    cost = 7.0

    def __init__(self, parameter: str | None = None) -> None:
        self.jpeg = one_of(self.prefix, parameter, ("jpeg",)) is not None

    @property
    def name(self) -> str:
        return "ueraser:jpeg" if self.jpeg else "ueraser"

    @property
    def phrase(self) -> str:
        return f"a trainer who uses UEraser{' with JPEG' if self.jpeg else ''}"

    def learner(self) -> Learner:
        from ...learning import PlainTraining, UEraserObjective

        return PlainTraining(UEraserObjective(jpeg=self.jpeg))
