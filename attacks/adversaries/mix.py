"""Mixing: train on clean and protected pictures together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ...errors import ConfigError
from .base import Adversary, Arm, Material, Pixels

__all__ = ["Mix"]

DEFAULT_SHARE = 0.5


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
            share = DEFAULT_SHARE if parameter is None else float(parameter)
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
