"""Early stopping: keep the network from the moment it was best."""

from __future__ import annotations

from .base import Adversary, Arm

__all__ = ["EarlyStop", "ValidatedStop"]


class EarlyStop(Adversary):
    """Stops at the best moment of the learning curve, read from the trainings of ``none`` at no cost.

    The moment is chosen with the answers of the test set, which no trainer has: an upper bound for the trainer, which
    is shown and not graded. What a trainer can do, and what is graded, is :class:`ValidatedStop`.
    """

    prefix = "early-stop"
    tier = "naive"
    source = "arXiv 2204.08615"
    description = "stops at the best moment, chosen with the test answers (an upper bound, not graded)"
    cost = 0.0
    readout = "peak"
    arms = ("clean", "protected", "noise")

    @property
    def phrase(self) -> str:
        return "a naive trainer who stops at the best moment"

    def trained_by(self, arm: Arm) -> str:
        return "none"


class ValidatedStop(EarlyStop):
    """Stops at the moment that is best for a few clean pictures, of which the trainer needs no more than 200.

    They are taken from the test set crosswise: the moment for one half is chosen with pictures of the other, so that
    no picture has a say about itself.
    """

    prefix = "validated-stop"
    tier = "prior"
    source = "arXiv 2204.08615, with the validation set that it asks for"
    description = "stops at the moment that is best for 200 other clean pictures"
    readout = "validated"
    clean_pictures = 200

    @property
    def phrase(self) -> str:
        return "a trainer who stops by 200 clean validation pictures"
