"""What an adversary is: something a trainer does to undo the protection."""

from __future__ import annotations

from abc import ABC
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError

__all__ = ["TIERS", "TIER_TITLES", "Adversary", "Pixels", "Readout", "Tier"]

Pixels = NDArray[np.uint8]
Tier = Literal["naive", "transforms", "training", "prior", "relabel", "mixing"]
Readout = Literal["final", "peak"]

TIERS: tuple[Tier, ...] = ("naive", "transforms", "training", "prior", "relabel", "mixing")
"""From the least to the most effort for the trainer (verification.md 3.7, T0 to T5)."""

TIER_TITLES: dict[Tier, str] = {
    "naive": "trains on the pictures as they are",
    "transforms": "cheap transforms before training",
    "training": "strong training: augmentation, adversarial training, purification",
    "prior": "prior knowledge: pretrained models, a few clean pictures",
    "relabel": "other labels on the same pictures",
    "mixing": "mixes protected with clean pictures",
}


class Adversary(ABC):
    """One thing a trainer can do. Sub-class it, one module each, and register it.

    Attributes:
        prefix: registry name; a parameter may follow a colon (``jpeg:50``).
        tier: how much effort it is.
        source: the paper that showed it.
        description: one line for people.
        phrase: ends the sentence "a trainer who ...".
        cost: training time relative to the adversary ``none``; 0.0 means it reads what another one trained.
        readout: ``final`` judges the victim at the end; ``peak`` at the best moment, chosen with the test answers.
        runs_as: name of the adversary whose trainings it reads (its own, unless it is free).
    """

    prefix: ClassVar[str]
    tier: ClassVar[Tier]
    source: ClassVar[str]
    description: ClassVar[str]
    cost: ClassVar[float] = 1.0
    readout: ClassVar[Readout] = "final"

    def __init__(self, parameter: str | None = None) -> None:
        if parameter is not None:
            raise ConfigError(f"The adversary {self.prefix!r} takes no parameter, but {parameter!r} was given.")

    @property
    def name(self) -> str:
        """Canonical name with every parameter spelled out."""
        return self.prefix

    @property
    def runs_as(self) -> str:
        """Name of the adversary whose trainings this one reads."""
        return self.name

    @property
    def phrase(self) -> str:
        """How the trainer is described in a sentence."""
        return f"a trainer who uses {self.name}"

    def transform(self, images: Pixels) -> Pixels:
        """Change the pictures once, before training and before testing.

        The same change is applied to the training pictures of every arm and to the test pictures, as in the
        literature (arXiv 2301.13838): the trainer owns the whole pipeline.

        Args:
            images: uint8 ``[N, 3, R, R]``; must not be written to.

        Returns:
            uint8 of the same shape.
        """
        return images
