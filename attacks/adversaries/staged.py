"""Staged training: the shallow layers learn slowly where they sort the pictures by class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import Adversary

if TYPE_CHECKING:
    from ..learning import Learner

__all__ = ["Staged"]


class Staged(Adversary):
    """Slows the shallow layers of the victim while their activations cluster by class.

    The paper observes that a network under protected pictures learns perturbations in its shallow layers, which then
    hand them on. It measures how far activations cluster by class (Activation Cluster Measurement: distances between
    and within classes after a reduction of dimensions) and lowers the learning rates layer by layer, from the shallow
    ones on, in stages, whenever that measure says that perturbations are being learned.

    Ours is made in that spirit and is not the authors' code, of which none is published. The first third of the layers
    is cut into two blocks. After every step the activations of each block, rectified and averaged over the places, are
    compared within the batch: the share of their variance that lies between classes, corrected for chance, as a
    running mean (no reduction of dimensions). Every five steps the learning rate of the second block and of the first
    is halved where that share is above a fifth in the second, that of the first alone where it is so there only, down
    to 1/64 of the recipe's; it is doubled again where the share has fallen. Augmentations are those of every training,
    and the training is no longer than any other.
    """

    prefix = "staged"
    tier = "training"
    source = "after arXiv 2306.02064 (progressive staged training)"
    description = "shallow layers slowed while their activations cluster by class"
    cost = 1.1

    @property
    def phrase(self) -> str:
        return "a trainer who slows the shallow layers"

    def learner(self) -> Learner:
        from ..learning import StagedTraining

        return StagedTraining()
