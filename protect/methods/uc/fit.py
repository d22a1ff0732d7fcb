"""One fit of Unlearnable Clusters: features, clusters, patterns, measures; resumable after every round."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....imaging import ImageSet
from ...clusters import Clusters, create_space, default_count, find_clusters, in_content_order
from ..base import FitContext
from ..emn.fit import EmnFit
from ..emn.stages import delta_by_class
from ..round_trip import RoundTrip
from .measures import measure
from .patterns import GeneratorPatterns, Patterns, PixelPatterns
from .pull import FeaturePull
from .recipe import UcRecipe

__all__ = ["UcFit"]

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
            allow_download=recipe.allow_download, device=recipe.device, precision=recipe.precision,
        )  # fmt: skip
        self.trip = None if recipe.paper else RoundTrip.of(dataset)

    def go(self) -> Tensor:
        """The patterns ``[p, 3, R, R]``; clusters and measures go to the context."""
        recipe, context, dataset = self.recipe, self.context, self.dataset
        context.tell("fit", 0.0, "looking for clusters")
        features, view = self.space.look(dataset)
        count = recipe.clusters if recipe.clusters is not None else min(default_count(len(dataset)), len(dataset))
        clusters = find_clusters(features, count, seed=recipe.seed)
        # Sums may run in another order on another machine: patterns of other clusters than these are no use then.
        context.checkpoint = context.checkpoint.bound(clusters.digest())
        # What pushes and what is measured happens at the working resolution, so centres are wanted there, too.
        here = self._centres_here(clusters) if view else clusters
        pull = FeaturePull(dataset, self.space, here, self.trip, recipe.windows, paper=recipe.paper)
        if recipe.objective != "labels":
            for name, precision in self.space.precisions.items():
                context.computed_in(name, precision)
        delta = self._patterns(here, pull)
        context.clusters = clusters.index(dataset.keys, view)
        context.surrogate_sha256 = self.space.maker
        context.tell("fit", 0.92, "measuring what moved")
        lookup = delta_by_class(delta, clusters.assignment.to(delta.device), None)
        found = measure(
            dataset, here, self.space, lambda index: lookup(index.to(delta.device)), recipe.epsilon,
            seed=recipe.seed,
        )  # fmt: skip
        context.report["clusters"] = {"side": view or dataset.resolution, **found}
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
            return self._by_features(clusters, pull)
        names = tuple(f"cluster-{number}" for number in range(len(clusters.centres)))
        labelled = replace(self.dataset, labels=clusters.assignment.to(self.dataset.images.device), classes=names)

        def extra(index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
            # The feature network costs a hundred times what the label network does: a part of the images steers it.
            some = torch.randperm(len(index), generator=generator)[: recipe.pull_images].to(index.device)
            return recipe.pull_weight * pull.scaled(index[some], own[some], delta, generator)

        joint = recipe.objective == "joint" and recipe.pull_weight > 0
        return EmnFit(recipe.labelled(), labelled, self.context.part(0.05, 0.9), extra=extra if joint else None).go()

    # ------------------------------------------------------------------ features alone
    def _by_features(self, clusters: Clusters, pull: FeaturePull) -> Tensor:
        recipe = self.recipe
        patterns = self._new_patterns(len(clusters.centres))
        log: list[dict[str, Any]] = []
        resumed = self.context.checkpoint.load()
        if resumed is not None:
            patterns.unpack({k: v.to(recipe.device) for k, v in resumed[0].items()})
            log = resumed[1]["log"]
        # The paper trains one generator after the other, `rounds` epochs each; we move all patterns together.
        turns = len(clusters.centres) if recipe.paper else 1
        turn, made = (log[-1]["turn"], log[-1]["round"] + 1) if log else (0, 0)
        while turn < turns:
            while made < recipe.rounds and not (turns == 1 and _plateau(log)):
                share = (turn + made / recipe.rounds) / turns
                self.context.tell("fit", 0.05 + 0.85 * share, f"features, round {made + 1} of at most {recipe.rounds}")
                loss = self._round(turn, made, clusters, pull, patterns)
                log.append({"turn": turn, "round": made, "loss": loss})
                made += 1
                self._save(patterns, log)
            turn, made = turn + 1, 0
        self.context.report["rounds"] = [{**row, "loss": round(row["loss"], 5)} for row in log]
        return patterns.delta().clone()

    def _new_patterns(self, count: int) -> Patterns:
        recipe, side = self.recipe, self.dataset.resolution
        if recipe.parametrisation == "pixels":
            return PixelPatterns(count, side, recipe.epsilon, recipe.step_size, recipe.device)
        return GeneratorPatterns(
            count, side, recipe.epsilon, width=recipe.width, bound=recipe.bound, lr=recipe.lr,
            weight_decay=recipe.weight_decay, seed=recipe.seed, device=recipe.device,
        )  # fmt: skip

    def _round(self, turn: int, made: int, clusters: Clusters, pull: FeaturePull, patterns: Patterns) -> float:
        """One round: ``updates`` shared steps, or in the paper's schedule one epoch for one cluster. The mean loss."""
        recipe, total = self.recipe, len(self.dataset)
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
            index, own = index.to(recipe.device), own.to(recipe.device)
            # One batch is one pass, so that the paper's mean is over the whole of it.
            gradient, loss = pull.on_patterns(index, own, patterns.delta(moving), generator, batch_size=size)
            patterns.step(gradient, moving, (made + number / steps) / recipe.rounds)
            losses.append(loss)
        return float(torch.stack(losses).mean())

    def _save(self, patterns: Patterns, log: list[dict[str, Any]]) -> None:
        """Keep the state where that is due: a skipped save costs only time."""
        if self.context.checkpoint.due():
            self.context.checkpoint.save(patterns.pack(), {"log": log})


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
