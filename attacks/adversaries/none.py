"""The naive trainer: flip and crop, nothing else."""

from __future__ import annotations

from .base import Adversary

__all__ = ["NoAdversary"]


class NoAdversary(Adversary):
    """Trains on the pictures as they are. The noise arm is trained here, where the gate that needs it (G2) looks."""

    prefix = "none"
    tier = "naive"
    source = "arXiv 2101.04898, section 4"
    description = "standard training with flip and crop"
    arms = ("clean", "protected", "noise")

    @property
    def phrase(self) -> str:
        return "a naive trainer"
