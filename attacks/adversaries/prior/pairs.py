"""Leaked pairs: a trainer who has some pictures before and after the protection learns to take it away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ....errors import LabelError
from ..base import Adversary, Arm, Labelling, Material, Pixels
from ..parameters import whole_number

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["LeakedPairs"]


class LeakedPairs(Adversary):
    """Fits a residual network to pairs, purifies the pictures of the arm with it, and trains on them.

    The pairs are taken from the training pictures, evenly over the classes, and leave the training of every arm: what
    comes back comes from the network, not from clean pictures. Where the run file says how the pictures were protected,
    the tool itself is run on the trainer's pictures with another seed (a public tool is its own oracle); else they are
    pairs of this very folder, made with its own noise. The plan says which. In the clean arm both sides of a pair are
    the original.

    Test pictures stay as they are, as in the paper.

    Args:
        parameter: number of pairs, 8 to 100,000; 500 where left out, the paper's.

    Raises:
        ConfigError: it is no whole number in that range.
    """

    prefix = "pairs"
    trainer = "W5"
    tier = "prior"
    source = "arXiv 2412.21061 (BridgePure), with a residual network instead of a diffusion bridge"
    description = "noise taken away as learned from leaked pairs (pairs:100 sets their number, 500 if left out)"
    cost = 2.0
    leaks = True

    def __init__(self, parameter: str | None = None) -> None:
        self.count = whole_number(self.prefix, parameter, default=500, least=8, most=100_000)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self.count}"

    @property
    def phrase(self) -> str:
        return f"a trainer who has {self.count} pictures before and after the protection"

    def learner(self) -> Learner:
        from ...learning import PairedPurification

        return PairedPurification()

    def relabel(self, material: Material) -> Labelling:
        total = len(material.labels)
        if total < 2 * self.count:
            raise LabelError(
                f"{self.name} takes {self.count} of the training pictures away for pairs, and of {total} at least half "
                f"must be left. Give more pictures, or fewer pairs: {self.prefix}:{max(8, total // 2)}."
            )
        chosen = self._chosen(material)
        made, how = material.protected_again(np.flatnonzero(chosen))
        if made is None:
            how = f"leaked from this folder, with its own noise, since {how}"
        return Labelling(
            material.labels, material.test_labels, len(material.classes), f"{int(chosen.sum())} pairs, {how}"
        )

    def compose(self, arm: Arm, material: Material) -> tuple[Pixels, NDArray[np.int64] | None]:
        images, _ = super().compose(arm, material)
        rows = np.flatnonzero(~self._chosen(material))
        return images[rows], rows

    def leaked(self, arm: Arm, material: Material) -> tuple[Pixels, Pixels, NDArray[np.int64]]:
        rows = np.flatnonzero(self._chosen(material))
        before = material.pictures("clean")[rows]
        after = super().compose(arm, material)[0][rows]
        if arm == "protected":
            made, _ = material.protected_again(rows)
            after = after if made is None else made
        return before, after, material.labels[rows]

    def _chosen(self, material: Material) -> NDArray[np.bool_]:
        """Which training pictures the pairs are, ``[N]``."""
        return material.covered(self.count / len(material.labels))
