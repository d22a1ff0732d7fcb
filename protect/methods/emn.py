"""Error-minimizing noise (Huang et al., ICLR 2021, arXiv 2101.04898).

A barely trained surrogate and the perturbations descend the same loss in turn, until the perturbed images look
already learned: a trainer's network then finds nothing left to learn from the pictures themselves.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ...errors import UnknownNameError
from ...imaging import Budget, ImageSet
from ...surrogates import Precision
from ..bank import Bank, Granularity
from .base import FitContext, FitEstimate, Method, settled_precision
from .minimization import PAPER_ROUNDS, TINT, MinimizationFit, MinimizationRecipe, estimate_fit
from .registry import SURROGATE, own_surrogate, register_method

_PAPER_SURROGATE = "resnet18-plain"


@register_method
class ErrorMinimizing(Method[Bank]):
    """Error-minimizing noise, one pattern a class or one perturbation an image.

    The default differs from the paper where that was measured to help (docs/methods/emn.md has the figures):
    patterns follow the sign of the class's summed gradient, taken through random crops and flips; sample-wise noise
    starts from the class patterns and leaves images alone that the surrogate already gets right; after crafting, a
    fresh victim is trained in seconds, and crafting starts again from another seed if that victim still learns.
    ``preset="paper"`` is the official code's: un-augmented, T = 20 (sample) or 1 (class), M = 10, until the error is
    0.01 however many rounds that takes, noise swept in batches of 512 over all pictures (sample) or a fixed fifth
    (class), surrogate ``resnet18-plain``, which sees pictures as they are in [0, 1], in float32, no check.

    Args:
        budget: default 8/255.
        granularity: ``class`` (default: fast, and a new picture needs no optimisation) or ``sample``.
        surrogate: registry name; default ``small-cnn``, on a GPU ``resnet18``, in the paper preset ``resnet18-plain``.
        seed: of everything random.
        device: where to compute.
        weights: weights of the surrogate; the paper's surrogate starts untrained.
        allow_download: let the surrogate fetch weights.
        preset: ``None`` or ``"paper"``.
        step_size: alpha of the class stage in units of the full range; default epsilon / 10, as in the paper.
        theta_steps: M, steps of the surrogate a round.
        rounds: of the class stage, at most; default 30, in the paper preset a thousand, a hundred times what it took.
        sample_rounds: of the sample stage, at most; default 3, in the paper preset a thousand.
        pgd_steps: T of the sample stage.
        stop_error: lambda.
        attempts: how often crafting may start anew after a failed self-check; 0 switches the check off.
        target: residual learnability (0..1) that the self-check accepts.
        tint: how far slow colours (casts, large stains) may shift, in 1/255 levels. Default: 0, which removes
            them (docs/methods/emn.md has what that costs); in the paper preset no bound.
        precision: ``float32``, ``bfloat16`` or ``auto``; the paper preset computes in float32.

    Raises:
        ConfigError: a value out of range.
    """

    name = "emn"
    needs = "labels"
    granularities = ("class", "sample")
    default_surrogate = SURROGATE
    default_for = "classes, on a network"

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        granularity: Granularity | None = None,
        surrogate: str | None = None,
        seed: int = 0,
        device: str = "auto",
        weights: Path | None = None,
        allow_download: bool = False,
        preset: Literal["paper"] | None = None,
        step_size: float | None = None,
        theta_steps: int = 10,
        rounds: int | None = None,
        sample_rounds: int | None = None,
        pgd_steps: int | None = None,
        stop_error: float = 0.01,
        attempts: int | None = None,
        target: float = 0.2,
        tint: float | None = None,
        precision: Precision = "auto",
    ) -> None:
        if preset not in (None, "paper"):
            raise UnknownNameError("preset of emn", str(preset), ["paper"])
        paper = preset == "paper"
        model = surrogate or (_PAPER_SURROGATE if paper else own_surrogate(device))
        super().__init__(
            budget=budget,
            granularity=granularity,
            surrogate=model,
            seed=seed,
            device=device,
            weights=weights,
            allow_download=allow_download,
        )
        self.recipe = MinimizationRecipe(
            granularity=self.granularity,
            epsilon=self.budget.epsilon,
            surrogate=model,
            seed=seed,
            device=self.device,
            weights=weights,
            allow_download=allow_download,
            preset=preset,
            step_size=step_size if step_size is not None else self.budget.epsilon / 10,
            theta_steps=theta_steps,
            rounds=rounds if rounds is not None else (PAPER_ROUNDS if paper else 30),
            sample_rounds=sample_rounds if sample_rounds is not None else (PAPER_ROUNDS if paper else 3),
            pgd_steps=pgd_steps if pgd_steps is not None else (20 if paper else 5),
            stop_error=stop_error,
            attempts=attempts if attempts is not None else (0 if paper else 3),
            target=target,
            tint=tint if tint is not None or paper else TINT,
            precision=settled_precision(precision, paper=paper),
        )

    @property
    def on_several_processes(self) -> bool:
        """They do."""
        return True

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe."""
        return {**super().settings(), **self.recipe.settings()}

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return MinimizationFit(self.recipe, dataset.to(self.device), context).run()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return estimate_fit(self.recipe, dataset.to(self.device), total)
