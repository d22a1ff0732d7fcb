"""The trainer who takes the pictures as they are, stops at the best moment, or mixes clean ones in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from ..terms import Arm, Pixels
from .base import Adversary, Material


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


DEFAULT_PROTECTED_SHARE = 0.5


class Mix(Adversary):
    """Has clean copies of some pictures and protected ones of the rest; each picture has one version for ever.

    What the protected rest is worth is compared with the clean part alone (arm ``part``), trained for equally many
    optimiser steps, with all pictures clean, and with a rest of random noise.

    Args:
        parameter: the protected share, above 0 and below 1; a half where left out.

    Raises:
        ConfigError: the share is out of range.
    """

    prefix = "mix"
    tier = "mixing"
    source = "arXiv 2101.04898 (shares of clean pictures); the clean part alone at equal steps is ours"
    description = "a share of the pictures protected, the rest clean (mix:0.8 sets the share, 0.5 if left out)"
    arms = ("clean", "mixed", "part", "noise-mixed")
    metric = "mv"

    def __init__(self, parameter: str | None = None) -> None:
        try:
            share = DEFAULT_PROTECTED_SHARE if parameter is None else float(parameter)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            raise ConfigError(f"The protected share {parameter!r} is not between 0 and 1. Write for example mix:0.5.")
        self.share = self.protected_share = share

    @property
    def name(self) -> str:
        return f"mix:{self.share:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who has {100 * (1 - self.share):.0f} % of the pictures clean"

    def trained_by(self, arm: Arm) -> str:
        return "none" if arm == "clean" else self.name

    def compose(self, arm: Arm, material: Material) -> tuple[Pixels, NDArray[np.int64] | None]:
        covered = material.covered(self.share)
        clean = material.pictures("clean")
        if arm == "part":
            kept = np.flatnonzero(~covered)
            return clean[kept], kept
        rest = material.pictures("noise" if arm == "noise-mixed" else "protected")
        return np.where(covered[:, None, None, None], rest, clean), None
