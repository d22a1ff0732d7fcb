"""Error-minimizing noise (Huang et al., ICLR 2021, arXiv 2101.04898).

A barely trained surrogate and the perturbations descend the same loss in turn, until the perturbed images look
already learned: a trainer's network then finds nothing left to learn from the pictures themselves.
"""

from __future__ import annotations

from torch import Tensor

from ...imaging import ImageSet
from ..bank import Bank
from .base import FitContext, FitEstimate, Method
from .minimization import MinimizationFit, MinimizationRecipe, estimate_fit
from .registry import register_method


@register_method
class ErrorMinimizing(Method[Bank, MinimizationRecipe]):
    """Error-minimizing noise, one pattern a class or one perturbation an image.

    The default differs from the paper where that was measured to help (docs/methods/emn.md has the figures):
    patterns follow the sign of the class's summed gradient, taken through random crops and flips; sample-wise noise
    starts from the class patterns and leaves images alone that the surrogate already gets right; after crafting, a
    fresh victim is trained in seconds, and crafting starts again from another seed if that victim still learns.
    ``preset="paper"`` is the official code's: un-augmented, T = 20 (sample) or 1 (class), M = 10, until the error is
    0.01 however many rounds that takes, noise swept in batches of 512 over all pictures (sample) or a fixed fifth
    (class), surrogate ``resnet18-plain``, which sees pictures as they are in [0, 1], in float32, no check.

    Patterns belong to classes (the default: fast, and a new picture needs no optimisation) or to samples.
    Hyper-parameters are the fields of :class:`~bitterant.protect.methods.minimization.MinimizationRecipe`.

    Raises:
        ConfigError: a value out of range.
    """

    name = "emn"
    needs = "labels"
    granularities = ("class", "sample")
    default_for = "classes, on a network"
    recipe_class = MinimizationRecipe

    @property
    def on_several_processes(self) -> bool:
        """They do."""
        return True

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return MinimizationFit(self.recipe, dataset.to(self.device), context).run()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return estimate_fit(self.recipe, dataset.to(self.device), total)
