"""SimCLR: most protections aim at labels, and this trainer needs none to learn features."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..optional import check_kornia
from ..parameters import share

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["SimClr"]


class SimClr(Adversary):
    """Pretrains on the pictures of the arm without labels, then fits a linear classifier on clean, labelled ones.

    The control ``untrained`` fits the same classifier on a body of random weights.

    Args:
        parameter: share of the training pictures that the trainer has clean for the classifier; 0.1 where left out.
            The literature's linear evaluation is 1.

    Raises:
        ConfigError: the share is not above 0 and at most 1.
    """

    prefix = "simclr"
    tier = "prior"
    source = "arXiv 2002.05709; arXiv 2402.04010 (protection against contrastive learning), linear evaluation"
    description = "SimCLR, then a linear classifier on a clean share (simclr:1 sets it, 0.1 if left out)"
    cost = 10.0
    arms = ("clean", "protected", "untrained")
    clean_share = 0.1

    def __init__(self, parameter: str | None = None) -> None:
        self.clean_share = share(self.prefix, parameter, default=self.clean_share)

    @property
    def name(self) -> str:
        return f"simclr:{self.clean_share:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who learns features without labels (SimCLR)"

    def check(self, resolution: int) -> str | None:
        """Make sure that kornia, which it augments with, is installed."""
        check_kornia(self.name)
        return super().check(resolution)

    def learner(self) -> Learner:
        from ...learning import Contrastive

        return Contrastive()
