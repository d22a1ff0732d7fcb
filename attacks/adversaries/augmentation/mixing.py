"""Mixup and CutMix: two pictures in one, with both labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary

if TYPE_CHECKING:
    from ...learning import Learner

__all__ = ["CutMix", "Mixup"]


class Mixup(Adversary):
    """Every picture blended with another one of the batch, labels alike."""

    prefix = "mixup"
    tier = "training"
    source = "arXiv 1710.09412; arXiv 2308.03258 (APBench)"
    description = "trained on blends of two pictures"

    @property
    def phrase(self) -> str:
        return "a trainer who augments with mixup"

    def learner(self) -> Learner:
        from ...learning import MixupObjective, PlainTraining

        return PlainTraining(MixupObjective())


class CutMix(Adversary):
    """A square of another picture of the batch in every picture, labels by area."""

    prefix = "cutmix"
    tier = "training"
    source = "arXiv 1905.04899; arXiv 2308.03258 (APBench)"
    description = "trained with a square of another picture in each"

    @property
    def phrase(self) -> str:
        return "a trainer who augments with CutMix"

    def learner(self) -> Learner:
        from ...learning import CutMixObjective, PlainTraining

        return PlainTraining(CutMixObjective())
