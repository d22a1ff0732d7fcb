"""Cutout: a black square in every picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary
from ..parameters import real_number

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["Cutout"]


class Cutout(Adversary):
    """A black square at a random place in every picture of every batch.

    Args:
        parameter: its side relative to the picture's, 0.1 to 0.9; a half where left out, as 16 of 32 px.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "cutout"
    tier = "training"
    source = "arXiv 1708.04552; arXiv 2308.03258 (APBench)"
    description = "trained with a black square in every picture (cutout:0.25 sets its side, 0.5 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.share = real_number(self.prefix, parameter, default=0.5, least=0.1, most=0.9)

    @property
    def name(self) -> str:
        return f"cutout:{self.share:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who augments with cutout"

    def learner(self) -> Learner:
        from ...learning import CutoutObjective, PlainTraining

        return PlainTraining(CutoutObjective(self.share))
