"""A few clean pictures with labels: the last layer fitted anew, or the whole network trained on for a while."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..parameters import share

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["LastLayer", "Recover"]


class _FewClean(Adversary):
    """Goes on from the victims that ``none`` trained; the arm ``untrained`` goes on from random weights instead.

    What the control reaches comes from the clean pictures alone, and no protection can prevent it.

    Args:
        parameter: share of the training pictures that the trainer has clean, stratified; at least one a class.

    Raises:
        ConfigError: the share is not above 0 and at most 1.
    """

    tier = "prior"
    arms = ("clean", "protected", "untrained")
    continues = True
    clean_share = 0.1

    def __init__(self, parameter: str | None = None) -> None:
        self.clean_share = share(self.prefix, parameter, default=self.clean_share)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self.clean_share:g}"


class LastLayer(_FewClean):
    """Freezes the body and fits a new last layer (deep feature reweighting)."""

    prefix = "last-layer"
    source = "arXiv 2305.19254, section 4; arXiv 2204.02937 (DFR)"
    description = "the last layer fitted anew on a clean share (last-layer:0.01 sets it, 0.1 if left out)"
    cost = 0.1

    @property
    def phrase(self) -> str:
        return f"a trainer who refits the last layer on {100 * self.clean_share:g} % clean pictures"

    def learner(self) -> Learner:
        from ...learning import LastLayerRefit

        return LastLayerRefit()


class Recover(_FewClean):
    """Trains all layers on, gently, on the clean pictures alone."""

    prefix = "recover"
    source = "arXiv 2405.03316 (PUE), recovery by slight changes of the weights"
    description = "trained on with a clean share alone (recover:0.05 sets it, 0.1 if left out)"
    cost = 0.3

    @property
    def phrase(self) -> str:
        return f"a trainer who goes on with {100 * self.clean_share:g} % clean pictures"

    def learner(self) -> Learner:
        from ...learning import Recovery

        return Recovery()
