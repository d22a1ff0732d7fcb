"""Early stopping: keep the network from the moment it was best."""

from __future__ import annotations

from .base import Adversary, Arm

__all__ = ["EarlyStop"]


class EarlyStop(Adversary):
    """Stops at the best moment of the learning curve, read from the trainings of ``none`` at no cost.

    The moment is chosen with the answers of the test set, which no trainer has: an upper bound for the trainer.
    """

    prefix = "early-stop"
    tier = "naive"
    source = "arXiv 2204.08615"
    description = "stops at the best moment, chosen with the test answers (an upper bound for the trainer)"
    readout = "peak"
    arms = ("clean", "protected", "noise")

    @property
    def phrase(self) -> str:
        return "a naive trainer who stops at the best moment"

    def trained_by(self, arm: Arm) -> str:
        return "none"
