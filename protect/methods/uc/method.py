"""Unlearnable Clusters (Zhang et al., CVPR 2023, arXiv 2301.01217)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ....errors import UnknownNameError
from ....imaging import Budget, ImageSet
from ....surrogates import Precision
from ...bank import Bank, Granularity
from ...clusters import CLUSTER_SURROGATE, FeatureSpace, View, create_space
from ..base import FitContext, FitEstimate, Method, settled_precision
from ..defaults import own_surrogate
from ..registry import register_method
from .estimate import estimate_fit
from .fit import UcFit
from .recipe import UcRecipe

__all__ = ["UnlearnableClusters"]

_PAPER_SURROGATE = "resnet50/IMAGENET1K_V1"


@register_method
class UnlearnableClusters(Method[Bank]):
    """Unlearnable Clusters: no labels needed; one pattern for each cluster of pictures that look alike.

    Pictures are clustered by the features of a surrogate. ``preset="paper"`` is the published schedule: each cluster's
    pattern pulls pictures towards the centre of the next cluster, a generator a cluster, one cluster after the other
    over all images for 50 epochs, Adam 1e-4, hard clamp, epsilon 16/255 unless another budget is given.

    Our default keeps the clusters and leaves that pull: patterns are error-minimizing noise for the clusters as if they
    were labels. Pulled features hardly harmed a network that was trained from scratch, and error-minimizing noise for
    the clusters did; adding the pull to it (``joint``) changed nothing there (docs/methods/uc.md has the figures).

    Images that were read with ``load_image_set(..., describe=method.describer(resolution))`` are clustered by what the
    surrogate sees at 224 px, as folder runs do; without, by the working images, which is worth much less.

    Args:
        budget: default 8/255, in the paper preset 16/255.
        granularity: ``cluster``.
        surrogate: whose features are used; default ``efficientnet-lite0`` (ImageNet weights), in the paper preset
            ``resnet50/IMAGENET1K_V1``. ``a+b``: an ensemble.
        seed: of everything random.
        device: where to compute.
        weights: weights of the surrogate.
        allow_download: let the surrogate fetch weights.
        preset: ``None`` or ``"paper"``.
        clusters: number p; by default ten, fewer for small folders.
        objective: ``labels`` (error-minimizing noise for the cluster numbers), ``features`` (the paper's pull), or
            ``joint`` (both). Default ``labels``, with the paper preset or a generator ``features``.
        parametrisation: ``pixels`` or ``generator``; the generator serves the objective ``features`` only.
        bound: of the generator, ``clamp`` or ``tanh``.
        width: of the generator.
        lr: of the generator.
        weight_decay: of the generator.
        step_size: of pixels, in units of the full range; default epsilon / 10.
        rounds: at most; in the paper preset epochs a cluster.
        updates: steps a round.
        batch_size: images a step.
        windows: craft through random windows of the pictures. In the paper preset instead each picture is enlarged by
            a seventh, cropped back at random and mirrored by chance before it gets its pattern.
        train_on: ``cluster``: a pattern sees its own cluster's pictures; ``all``: every picture (the paper's code).
        label_surrogate: network for the cluster labels; default ``small-cnn``, on a GPU ``resnet18``.
        attempts: how often crafting for the labels may start anew after a failed self-check; 0 switches it off.
        pull_weight: weight of the features in ``joint``, relative to the labels.
        pull_images: images an update whose features are looked at in ``joint``.
        precision: ``float32``, ``bfloat16`` or ``auto``; the paper preset computes in float32.

    Raises:
        ConfigError: a value out of range, or too few different pictures.
    """

    name = "uc"
    needs = "nothing"
    granularities = ("cluster",)
    default_surrogate = CLUSTER_SURROGATE

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
        clusters: int | None = None,
        objective: str | None = None,
        parametrisation: str | None = None,
        bound: str | None = None,
        width: int | None = None,
        lr: float | None = None,
        weight_decay: float | None = None,
        step_size: float | None = None,
        rounds: int | None = None,
        updates: int = 8,
        batch_size: int | None = None,
        windows: bool = True,
        train_on: str | None = None,
        label_surrogate: str | None = None,
        attempts: int = 3,
        pull_weight: float = 0.5,
        pull_images: int = 24,
        precision: Precision = "auto",
    ) -> None:
        if preset not in (None, "paper"):
            raise UnknownNameError("preset of uc", str(preset), ["paper"])
        paper = preset == "paper"
        model = surrogate or (_PAPER_SURROGATE if paper else CLUSTER_SURROGATE)
        super().__init__(
            budget=budget or (Budget(16 / 255) if paper else None),
            granularity=granularity,
            surrogate=model,
            seed=seed,
            device=device,
            weights=weights,
            allow_download=allow_download,
        )
        made = parametrisation or ("generator" if paper else "pixels")
        self.recipe = UcRecipe(
            epsilon=self.budget.epsilon,
            surrogate=model,
            seed=seed,
            device=self.device,
            weights=weights,
            allow_download=allow_download,
            preset=preset,
            clusters=clusters if clusters is not None or not paper else 10,
            objective=objective or ("features" if paper or made == "generator" else "labels"),
            parametrisation=made,
            bound=bound or ("clamp" if paper else "tanh"),
            width=width if width is not None else (64 if paper else 16),
            lr=lr if lr is not None else (1e-4 if paper else 2e-3),
            weight_decay=weight_decay if weight_decay is not None else (5e-4 if paper else 0.0),
            step_size=step_size if step_size is not None else self.budget.epsilon / 10,
            rounds=rounds if rounds is not None else (50 if paper else 30),
            updates=updates,
            batch_size=batch_size if batch_size is not None else (256 if paper else 64),
            windows=windows,
            train_on=train_on or ("all" if paper else "cluster"),
            label_surrogate=label_surrogate or own_surrogate(device),
            attempts=attempts,
            pull_weight=pull_weight,
            pull_images=pull_images,
            precision=settled_precision(precision, paper=paper),
        )

    @property
    def networks(self) -> tuple[str, ...]:
        """The surrogate, and the network that learns the numbers of clusters."""
        return (*super().networks, *(() if self.recipe.objective == "features" else (self.recipe.label_surrogate,)))

    @property
    def least_images(self) -> int:
        """One for each cluster, two where their number is left to us."""
        return self.recipe.clusters or 2

    def describer(self, resolution: int) -> View | None:
        """Clusters are found on more detail than small working images hold."""
        return self._space(resolution).describer(resolution)

    def _space(self, resolution: int) -> FeatureSpace:
        return create_space(
            self.recipe.surrogate, resolution, seed=self.seed, weights=self.weights,
            allow_download=self.allow_download, device=self.device, precision=self.recipe.precision,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe."""
        return {**super().settings(), **self.recipe.settings()}

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return UcFit(self.recipe, dataset.to(self.device), context).go()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return estimate_fit(self.recipe, dataset.to(self.device), self._space(dataset.resolution), total)
