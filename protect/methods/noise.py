"""Random noise of the same budget: the placebo that every method must beat."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ...imaging import ImageSet
from ..bank import Bank
from .base import FitContext, FitEstimate, Method
from .recipe import MethodRecipe
from .registry import register_method


@register_method
class RandomNoise(Method[Bank, MethodRecipe]):
    """Every value is +epsilon or -epsilon with equal chance: the strongest noise inside the budget.

    Per sample it does nothing to a victim (.497 against .505 clean); per class it is a weak shortcut. Each row's signs
    depend on the seed and the row's key alone, so that no image's noise depends on which others are in the folder.
    """

    name = "noise"
    needs = "nothing"
    granularities = ("sample", "class")
    instant = True
    protects = False

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        keys = dataset.classes if self.granularity == "class" else dataset.keys
        side = dataset.resolution
        delta = torch.empty(len(keys), 3, side, side)
        generator = torch.Generator()
        for row, key in enumerate(keys):
            digest = hashlib.sha256(f"{self.seed}:{key}".encode()).digest()
            generator.manual_seed(int.from_bytes(digest[:7], "big"))
            signs = torch.randint(0, 2, (3, side, side), generator=generator)
            delta[row] = (2 * signs - 1) * self.budget.epsilon
            if row % 256 == 0:
                context.tell("noise", row / len(keys), "drawing random noise")
        context.report["note"] = "Random noise is a placebo: it does not protect."
        return delta

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        rows = len(dataset.classes) if self.granularity == "class" else total
        size = 3 * dataset.resolution**2
        return FitEstimate(seconds=rows * size * 1e-8, peak_bytes=rows * size * 4)  # the float32 signs
