"""Unlearnable Clusters (Zhang et al., CVPR 2023, arXiv 2301.01217).

Read in order: the hyper-parameters, one fit (features, clusters, patterns, measures), its cost, and the method.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from ....errors import ConfigError
from ....imaging import Budget, ImageSet
from ....records.config import Refusal
from ....surrogates import now, transfer
from ...bank import Bank
from ...clusters import (
    CLUSTER_SURROGATE,
    Clusters,
    FeatureSpace,
    SquareFeatures,
    create_space,
    default_count,
    find_clusters,
    in_content_order,
)
from ..base import FitContext, FitEstimate, Method
from ..checkpoint import State, run_resumable
from ..minimization import MinimizationFit, MinimizationRecipe
from ..minimization import estimate_fit as estimate_labels
from ..recipe import CraftingRecipe, StepSize, own_surrogate, tenth_of_the_budget
from ..registry import register_method
from ..surrogate_training import delta_by_class
from ..written import ResizeOperator
from .patterns import MEASURED_VERSIONS, MOST_MEASURED, FeaturePull, GeneratorPatterns, Patterns, PixelPatterns, measure

Objective = Literal["labels", "features", "joint"]


def _own_objective(told: Mapping[str, Any]) -> Objective:
    return "features" if told["parametrisation"] == "generator" else "labels"


class UcRecipe(CraftingRecipe):
    """Hyper-parameters of Unlearnable Clusters."""

    seed_places = (1009, 1_000_003)  # stage, round

    surrogate: str = CLUSTER_SURROGATE
    """Whose features are used, with ImageNet weights by default; in the paper preset ``resnet50/IMAGENET1K_V1``.
    ``a+b``: an ensemble."""
    clusters: int | None = Field(default=None, ge=2)
    """Number p; by default ten, fewer for small folders."""
    parametrisation: Literal["pixels", "generator"] = "pixels"
    """Of the patterns; the generator serves the objective ``features`` only."""
    objective: Objective = Field(default_factory=_own_objective)
    """``labels`` (error-minimizing noise for the cluster numbers), ``features`` (the paper's pull), or ``joint``
    (both). Default ``labels``, with the paper preset or a generator ``features``."""
    bound: Literal["clamp", "tanh"] = "tanh"
    """Of the generator; in the paper preset ``clamp``."""
    width: int = Field(default=16, ge=1)
    """Of the generator; in the paper preset 64."""
    lr: float = Field(default=2e-3, gt=0)
    """Of the generator; in the paper preset 1e-4."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Of the generator; in the paper preset 5e-4."""
    step_size: StepSize = Field(default_factory=tenth_of_the_budget)
    """Of pixels, in units of the full range; default epsilon / 10."""
    rounds: int = Field(default=30, ge=1)
    """At most; in the paper preset 50 epochs a cluster."""
    updates: int = Field(default=8, ge=1)
    """Steps a round."""
    batch_size: int = Field(default=64, ge=1)
    """Images a step; in the paper preset 256."""
    windows: bool = True
    """Craft through random windows of the pictures. In the paper preset instead each picture is enlarged by a seventh,
    cropped back at random and mirrored by chance before it gets its pattern."""
    train_on: Literal["all", "cluster"] = "cluster"
    """``cluster``: a pattern sees its own cluster's pictures; ``all``: every picture (the paper's code)."""
    label_surrogate: str = Field(default_factory=own_surrogate)
    """Network for the cluster labels; default ``small-cnn``, on a GPU ``resnet18``."""
    attempts: int = Field(default=3, ge=0)
    """How often crafting for the labels may start anew after a failed self-check; 0 switches it off."""
    pull_weight: float = Field(default=0.5, ge=0)
    """Weight of the features in ``joint``, relative to the labels."""
    pull_images: int = Field(default=24, ge=1)
    """Images an update whose features are looked at in ``joint``."""

    @field_validator("objective")
    @classmethod
    def _serves(cls, objective: str, info: ValidationInfo) -> str:
        if info.data.get("parametrisation") == "generator" and objective != "features":
            raise Refusal(
                ConfigError(
                    f"The generator serves the objective features only, not {objective}. Leave one of the two out."
                )
            )
        return objective

    def labelled(self) -> MinimizationRecipe:
        """Error-minimizing noise for the numbers of clusters."""
        return MinimizationRecipe(
            method=self.method, granularity="class", budget=self.budget, surrogate=self.label_surrogate, seed=self.seed,
            device=self.device, weights=self.weights.without_file(), precision=self.precision,
            step_size=self.step_size, rounds=self.rounds, attempts=self.attempts,
        )  # fmt: skip


UcRecipe.presets = {
    "fast": UcRecipe(preset="fast", rounds=15, attempts=1),
    "paper": UcRecipe(
        preset="paper", surrogate="resnet50/IMAGENET1K_V1", precision="float32", budget=Budget(16 / 255), clusters=10,
        parametrisation="generator", objective="features", bound="clamp", width=64, lr=1e-4, weight_decay=5e-4,
        rounds=50, batch_size=256, train_on="all",
    ),
}  # fmt: skip


PLATEAU = 5
"""A fit that has not lowered its loss by a hundredth in so many rounds is done."""

CENTRE_IMAGES = 64
"""Pictures whose mean stands for the centre of a cluster at the working resolution."""


class UcFit:
    """One fit.

    Args:
        recipe: hyper-parameters.
        dataset: on the device of computation.
        context: where to report, and where state is kept.
    """

    def __init__(self, recipe: UcRecipe, dataset: ImageSet, context: FitContext) -> None:
        dataset = in_content_order(dataset)
        self.recipe, self.dataset, self.context = recipe, dataset, context
        self.space = create_space(
            recipe.surrogate, dataset.resolution, seed=recipe.seed, weights=recipe.weights,
            device=recipe.device, precision=recipe.precision,
        )  # fmt: skip
        self.resize = None if recipe.paper else ResizeOperator.of(dataset)

    def run(self) -> Tensor:
        """The patterns ``[p, 3, R, R]``; clusters and measures go to the context."""
        recipe, context, dataset = self.recipe, self.context, self.dataset
        context.tell("fit", 0.0, "looking for clusters")
        features, feature_size = self.space.look(dataset)
        count = recipe.clusters if recipe.clusters is not None else min(default_count(len(dataset)), len(dataset))
        clusters = find_clusters(features, count, seed=recipe.seed)
        # Sums may run in another order on another machine: patterns of other clusters than these are no use then.
        context.checkpoint = context.checkpoint.bound(clusters.digest())
        # What pushes and what is measured happens at the working resolution, so centres are wanted there, too.
        here = self._centres_here(clusters) if feature_size else clusters
        pull = FeaturePull(dataset, self.space, here, self.resize, recipe.windows, paper=recipe.paper)
        if recipe.objective != "labels":
            for name, precision in self.space.precisions.items():
                context.computed_in(name, precision)
        delta = self._patterns(here, pull)
        context.clusters = clusters.index(dataset.keys, feature_size)
        context.surrogate_sha256 = self.space.fingerprint
        context.tell("fit", 0.92, "measuring what moved")
        lookup = delta_by_class(delta, clusters.assignment.to(delta.device), None)
        found = measure(
            dataset, here, self.space, lambda index: lookup(index.to(delta.device)), recipe.epsilon,
            seed=recipe.seed,
        )  # fmt: skip
        context.report["clusters"] = {"side": feature_size or dataset.resolution, **found}
        context.report.update({"surrogate": recipe.surrogate, "surrogate_source": self.space.source})
        context.tell("fit", 1.0, _say(found, aimed=recipe.objective != "labels"))
        return delta

    def _centres_here(self, clusters: Clusters) -> Clusters:
        """The same assignment, with the mean of some of their pictures' features at the working resolution."""
        generator = torch.Generator().manual_seed(self.recipe.derived_seed(9, 0))
        centres = []
        for number in range(len(clusters.centres)):
            own = (clusters.assignment == number).nonzero().flatten()
            some = own[torch.randperm(len(own), generator=generator)[:CENTRE_IMAGES]]
            centres.append(self.space.of(self.dataset.images[some.to(self.dataset.images.device)]).mean(0))
        return replace(clusters, centres=torch.stack(centres))

    def _patterns(self, clusters: Clusters, pull: FeaturePull) -> Tensor:
        recipe = self.recipe
        if len(clusters.centres) < 2 or recipe.objective == "features":
            return PatternFit(recipe, self.dataset, clusters, pull, self.context).run()
        names = tuple(f"cluster-{number}" for number in range(len(clusters.centres)))
        labelled = replace(self.dataset, labels=clusters.assignment.to(self.dataset.images.device), classes=names)

        def extra(index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
            # The feature network costs a hundred times what the label network does: a part of the images steers it.
            some = transfer(torch.randperm(len(index), generator=generator)[: recipe.pull_images], index.device)
            return recipe.pull_weight * pull.scaled(index[some], own[some], delta, generator)

        joint = recipe.objective == "joint" and recipe.pull_weight > 0
        return MinimizationFit(
            recipe.labelled(), labelled, self.context.part(0.05, 0.9), extra=extra if joint else None
        ).run()


class PatternFit:
    """Patterns by the pull of features alone; a piece of work is a round.

    Args:
        recipe: hyper-parameters.
        dataset: on the device of computation.
        clusters: of its images.
        pull: what gives the gradient.
        context: where to report and to keep state.
    """

    def __init__(
        self, recipe: UcRecipe, dataset: ImageSet, clusters: Clusters, pull: FeaturePull, context: FitContext
    ) -> None:
        self.recipe, self.dataset, self.clusters, self.pull, self.context = recipe, dataset, clusters, pull, context
        self.patterns = self._new_patterns(len(clusters.centres))
        self.log: list[dict[str, Any]] = []

    def run(self) -> Tensor:
        """The patterns ``[p, 3, R, R]``."""
        run_resumable(self, self.context.checkpoint)
        self.context.report["rounds"] = [{**row, "loss": round(row["loss"], 5)} for row in self.log]
        return self.patterns.delta().clone()

    def pieces(self) -> Iterator[bool]:
        """Rounds: of all patterns together, or in the paper's schedule of one generator after the other."""
        recipe, log = self.recipe, self.log
        turns = len(self.clusters.centres) if recipe.paper else 1
        turn, made = (log[-1]["turn"], log[-1]["round"] + 1) if log else (0, 0)
        while turn < turns:
            while made < recipe.rounds and not (turns == 1 and _plateau(log)):
                share = (turn + made / recipe.rounds) / turns
                self.context.tell("fit", 0.05 + 0.85 * share, f"features, round {made + 1} of at most {recipe.rounds}")
                log.append({"turn": turn, "round": made, "loss": self._round(turn, made)})
                made += 1
                yield False
            turn, made = turn + 1, 0

    def state_dict(self) -> State:
        """The patterns, and the rounds that were made."""
        return self.patterns.pack(), {"log": self.log}

    def load_state_dict(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.patterns.unpack({name: value.to(self.recipe.device) for name, value in tensors.items()})
        self.log = facts["log"]

    def _new_patterns(self, count: int) -> Patterns:
        recipe, side = self.recipe, self.dataset.resolution
        if recipe.parametrisation == "pixels":
            return PixelPatterns(count, side, recipe.epsilon, recipe.step_size, recipe.device)
        return GeneratorPatterns(
            count, side, recipe.epsilon, width=recipe.width, bound=recipe.bound, lr=recipe.lr,
            weight_decay=recipe.weight_decay, seed=recipe.seed, device=recipe.device,
        )  # fmt: skip

    def _round(self, turn: int, made: int) -> float:
        """One round: ``updates`` shared steps, or in the paper's schedule one epoch for one cluster. The mean loss."""
        recipe, total, clusters, patterns = self.recipe, len(self.dataset), self.clusters, self.patterns
        generator = torch.Generator().manual_seed(recipe.derived_seed(1 + turn, made))
        size = min(recipe.batch_size, total)
        steps = -(-total // size) if recipe.paper else recipe.updates
        everyone = list(range(len(clusters.centres)))
        if recipe.train_on == "cluster":
            batches = _balanced(clusters, steps, max(1, recipe.batch_size // len(everyone)), generator)
        else:
            order = torch.cat([torch.randperm(total, generator=generator) for _ in range(-(-steps * size // total))])
            batches = list(order[: total if recipe.paper else steps * size].split(size))
        losses = []
        for number, index in enumerate(batches):
            if recipe.paper:
                own, moving = torch.full_like(index, turn), [turn]
            elif recipe.train_on == "all":
                own, moving = (torch.arange(len(index)) + number) % len(everyone), everyone
            else:
                own, moving = clusters.assignment[index], everyone
            index, own = transfer(index, recipe.device), transfer(own, recipe.device)
            # One batch is one pass, so that the paper's mean is over the whole of it.
            gradient, loss = self.pull.on_patterns(index, own, patterns.delta(moving), generator, batch_size=size)
            patterns.step(gradient, moving, (made + number / steps) / recipe.rounds)
            losses.append(loss)
        return float(torch.stack(losses).mean())


def _balanced(clusters: Clusters, steps: int, each: int, generator: torch.Generator) -> list[Tensor]:
    """``steps`` batches with ``each`` images of every cluster: a small cluster's pattern moves as often as a large
    one's, and the cost of a round does not grow with the folder."""
    columns = []
    for cluster in range(len(clusters.centres)):
        own = (clusters.assignment == cluster).nonzero().flatten()
        times = -(-steps * each // len(own))
        order = torch.cat([own[torch.randperm(len(own), generator=generator)] for _ in range(times)])
        columns.append(order[: steps * each].view(steps, each))
    return list(torch.cat(columns, dim=1))


def _plateau(log: list[dict[str, Any]]) -> bool:
    losses = [row["loss"] for row in log]
    return len(losses) > 2 * PLATEAU and min(losses[-PLATEAU:]) > 0.99 * min(losses[:-PLATEAU])


def _say(found: dict[str, Any], *, aimed: bool) -> str:
    sizes = found["sizes"]
    text = f"{found['clusters']} clusters of {min(sizes)} to {max(sizes)} pictures"
    if not aimed:
        return text
    names = ("protected", "clean", "noise", "jpeg10")
    arrived, clean, noise, jpeg = (f"{100 * found[name]['on_target']:.0f} %" for name in names)
    return (
        f"{text}; {arrived} of the pictures are now nearest to the centre they were sent to (before: {clean}, with "
        f"random noise: {noise}, as JPEG 10: {jpeg})"
    )


_TRIED = 64


def estimate_fit(recipe: UcRecipe, dataset: ImageSet, space: FeatureSpace, total: int) -> FitEstimate:
    """The cost of fitting ``total`` images like those of ``dataset``, which is on the device of computation."""
    tried = dataset.select(range(min(_TRIED, len(dataset))))
    begun = now(space.device)
    features = space.of(tried.images).repeat(2, 1)  # two centres also of one picture
    look = (now(space.device) - begun) / len(tried)
    count = recipe.clusters or min(default_count(total), total)
    # Pictures that were looked at while they were read cost that in reading.
    looks = min(total, count * CENTRE_IMAGES) if dataset.features is not None else total
    seconds = look * (looks + len(MEASURED_VERSIONS) * min(total, MOST_MEASURED))
    pixel, peak = 3 * dataset.resolution**2, 0
    labelled = None
    if recipe.objective != "features":
        numbers = torch.arange(len(dataset), device=dataset.images.device) % min(count, len(dataset))
        names = tuple(str(number) for number in range(min(count, len(dataset))))
        labelled = recipe.labelled()
        found = estimate_labels(labelled, replace(dataset, labels=numbers, classes=names), total)
        seconds, peak = seconds + found.seconds, found.peak_bytes
    if recipe.objective != "labels":
        if recipe.paper:
            pulled = recipe.rounds * count * total
        elif labelled is not None:
            pulled = recipe.rounds * labelled.class_stage(dataset).updates * recipe.pull_images
        else:
            pulled = recipe.rounds * recipe.updates * recipe.batch_size
        seconds += pulled * _pull(recipe, tried, space, features)
        peak = max(peak, 20 * pixel * 16 + recipe.batch_size * pixel * 800)
    return FitEstimate(seconds=seconds, peak_bytes=peak)


def _pull(recipe: UcRecipe, tried: ImageSet, space: FeatureSpace, features: Tensor) -> float:
    """Seconds an image of pulling its features."""
    own = torch.arange(len(tried)) % 2
    pull = FeaturePull(
        tried, space, Clusters(features[:2], own), ResizeOperator.of(tried), recipe.windows, paper=recipe.paper
    )
    delta = torch.zeros(2, 3, tried.resolution, tried.resolution, device=tried.images.device)
    index = torch.arange(len(tried), device=delta.device)
    begun = now(space.device)
    pull.on_patterns(index, own.to(delta.device), delta, torch.Generator().manual_seed(0))
    return (now(space.device) - begun) / len(tried)


@register_method
class UnlearnableClusters(Method[Bank, UcRecipe]):
    """Unlearnable Clusters: no labels needed; one pattern for each cluster of pictures that look alike.

    Pictures are clustered by the features of a surrogate. ``preset="paper"`` is the published schedule: each cluster's
    pattern pulls pictures towards the centre of the next cluster, a generator a cluster, one cluster after the other
    over all images for 50 epochs, Adam 1e-4, hard clamp, epsilon 16/255 unless another budget is given.

    Our default keeps the clusters and leaves that pull: patterns are error-minimizing noise for the clusters as if they
    were labels. Pulled features hardly harmed a network that was trained from scratch, and error-minimizing noise for
    the clusters did; adding the pull to it (``joint``) changed nothing there (docs/methods/uc.md has the figures).

    Images that were read with ``load_image_set(..., describe=method.feature_extractor(resolution))`` are clustered by
    what the surrogate sees at 224 px, as folder runs do; without, by the working images, which is worth much less.

    Hyper-parameters are the fields of :class:`UcRecipe`.

    Raises:
        ConfigError: a value out of range, or too few different pictures.
    """

    name = "uc"
    needs = "nothing"
    granularities = ("cluster",)
    default_for = "no classes"
    recipe_class = UcRecipe

    @property
    def networks(self) -> tuple[str, ...]:
        """The surrogate, and the network that learns the numbers of clusters."""
        return (*super().networks, *(() if self.recipe.objective == "features" else (self.recipe.label_surrogate,)))

    @property
    def least_images(self) -> int:
        """One for each cluster, two where their number is left to us."""
        return self.recipe.clusters or 2

    @property
    def on_several_processes(self) -> bool:
        """In error minimisation for the numbers of the clusters; not where patterns are made by the pull alone."""
        return self.recipe.objective != "features"

    def feature_extractor(self, resolution: int) -> SquareFeatures | None:
        """Clusters are found on more detail than small working images hold."""
        return self._space(resolution).feature_extractor(resolution)

    def _space(self, resolution: int) -> FeatureSpace:
        return create_space(
            self.recipe.surrogate, resolution, seed=self.seed, weights=self.weights,
            device=self.device, precision=self.recipe.precision,
        )  # fmt: skip

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return UcFit(self.recipe, dataset.to(self.device), context).run()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return estimate_fit(self.recipe, dataset.to(self.device), self._space(dataset.resolution), total)
