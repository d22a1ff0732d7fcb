"""What a victim is trained on, and who trains it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ...surrogates import Recipe, Surrogate, TrainingResult, create_surrogate
from ..adversaries import Arm

__all__ = ["Job", "Learner"]


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        arm: what the pictures are; ``untrained`` asks for the control.
        victim: name of the network.
        classes: number of classes K.
        images, labels: int ``[N, 3, R, R]`` and int64 ``[N]``.
        test_images, test_labels: the same for testing.
        few_images, few_labels: what the trainer has clean, or ``None``.
        few_changed: ``few_images`` as the arm has them, for adversaries that learn from such pairs, or ``None``.
        recipe: of the plain training.
        seed: of everything random.
        evals: points of the learning curve.
        device: where to train.
        kept: file for the network of the plain training, written by it and read by adversaries that go on from it;
            ``None`` where nobody does.
    """

    arm: Arm
    victim: str
    classes: int
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    few_images: Tensor | None
    few_labels: Tensor | None
    recipe: Recipe
    seed: int
    evals: int
    device: str
    kept: Path | None = None
    few_changed: Tensor | None = None

    def few(self) -> tuple[Tensor, Tensor]:
        """What the trainer has clean. Only for adversaries with a ``clean_share``."""
        assert self.few_images is not None
        assert self.few_labels is not None
        return self.few_images, self.few_labels

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Pictures before and after the protection. Only for adversaries with :meth:`Adversary.leaked`."""
        assert self.few_images is not None
        assert self.few_changed is not None
        return self.few_images, self.few_changed

    def fresh_network(self) -> Surrogate:
        """The victim before training, on its device."""
        network = create_surrogate(
            self.victim, num_classes=self.classes, resolution=int(self.images.shape[-1]), seed=self.seed
        )
        return network.to(self.device)


class Learner(Protocol):
    """Trains and tests a victim. Importable by name and picklable: it is sent to other processes."""

    def __call__(self, job: Job) -> TrainingResult:
        """The same job gives the same result in any process."""
        ...
