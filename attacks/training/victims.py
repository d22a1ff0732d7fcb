"""Victims: the networks that a trainer would train, always from scratch, how, and for how long.

A victim is a row of the table of :mod:`bitterant.surrogates.registry` that brings no trained weights of its own. What
there is to say about it stands there: architecture, family, recipe, cost. Others register
their own (:mod:`bitterant.attacks.own_victims`).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace

import torch

from ...errors import ConfigError, SetupError, UnknownNameError
from ...surrogates import (
    ChosenPrecision,
    Precision,
    Recipe,
    Surrogate,
    choose_precision,
    create_surrogate,
    recipe_for,
    surrogate_family,
    surrogate_names,
    surrogate_spec,
)
from ..own_victims import Victim, find_victim, own_victims

EPOCHS = 12.0
"""Passes over the pictures, where that is more steps than small sets get.

Short recipes for CIFAR-10 take 8 to 16 (KellerJordan/cifar10-airbench), papers 30 to 60. Twelve lie among the former,
and four times as many, the length of the preset ``full``, among the latter.
"""

_REFERENCE_IMAGES = 1000
_SHORTEST = 0.5


def training_steps(base: int, images: int, *, batch_size: int = 64, scale: float = 1.0) -> int:
    """Optimiser steps for a training set of this size: :data:`EPOCHS` passes, and for small sets more.

    ``base`` steps at 1,000 images (400 steps of 64 are 26 epochs), growing with the square root of the number of
    images, at least half of ``base``: few pictures have to be seen often. From 4,550 images on (with 400 steps and
    batches of 64) the passes are more, and count. All times ``scale``.
    """
    few = base * max(_SHORTEST, math.sqrt(images / _REFERENCE_IMAGES))
    steps = max(few, EPOCHS * images / batch_size) * scale
    return max(1, round(steps)) if steps < 20 else 10 * round(steps / 10)


def epochs_of(recipe: Recipe, images: int) -> float:
    """How often a training by this recipe sees each of so many pictures."""
    return recipe.steps * min(recipe.batch_size, images) / max(1, images)


def fit_recipe(recipe: Recipe, images: int, *, scale: float = 1.0, epochs: float | None = None) -> Recipe:
    """The recipe with the number of steps, and a batch no larger than the set.

    Args:
        recipe: its ``steps`` are those at 1,000 images.
        images: training pictures.
        scale: of the length.
        epochs: exactly so many passes instead.
    """
    batch = min(recipe.batch_size, max(2, images))
    if epochs is None:
        steps = training_steps(recipe.steps, images, batch_size=batch, scale=scale)
    else:
        steps = max(1, round(epochs * images / batch))
    return replace(recipe, steps=steps, batch_size=batch)


@dataclass(frozen=True)
class PublishedRecipe:
    """A recipe in epochs, as papers state it.

    Attributes:
        epochs: passes over the training pictures.
        recipe: the rest; ``steps`` is replaced.
        source: where it stands.
    """

    epochs: int
    recipe: Recipe
    source: str


PUBLISHED: dict[str, PublishedRecipe] = {
    "emn": PublishedRecipe(
        60,
        Recipe(batch_size=128, lr=0.1, momentum=0.9, weight_decay=5e-4, warmup=0.0, clip_norm=5.0),
        "arXiv 2101.04898 and its configurations for CIFAR-10: 60 epochs, cosine to 0, gradient norm at most 5",
    ),
    "apbench": PublishedRecipe(
        200,
        Recipe(batch_size=128, lr=0.1, momentum=0.9, weight_decay=5e-4, warmup=0.0, clip_norm=math.inf, halvings=1),
        "arXiv 2308.03258 and its code for CIFAR-10: 200 epochs, learning rate halved after 100",
    ),
}
"""Recipes of the literature, so that figures can stand beside the papers'.

Two things differ on purpose: momentum is Nesterov's, and the border of a crop is reflected and not black. APBench's
code has batches of 128 (its table of settings says 256), which it does not shuffle; here they are shuffled.
"""


def published_recipe(name: str, images: int, *, epochs: float | None = None) -> Recipe:
    """The recipe of the literature, in steps for so many images; ``epochs`` instead of the published ones."""
    published = PUBLISHED[name]
    batch = min(published.recipe.batch_size, max(2, images))
    passes = published.epochs if epochs is None else epochs
    return replace(published.recipe, batch_size=batch, steps=max(1, int(passes * images) // batch))


def victim_names() -> tuple[str, ...]:
    """Names of the registry; besides these, ``timm:NAME`` takes any network of timm, with random weights."""
    return (*(name for name in surrogate_names() if not _is_pretrained(name)), *own_victims())


def _is_pretrained(name: str) -> bool:
    """Whether it starts from trained weights; a trainer who has those belongs to the tier "prior"."""
    spec = surrogate_spec(name)
    return spec is not None and spec.embedded


def check_victim(name: str) -> str:
    """``name`` itself if it can be a victim.

    Raises:
        UnknownNameError: no such network.
        ConfigError: it starts from trained weights, or is a plug-in that cannot be used.
    """
    if not name.startswith("timm:") and name not in surrogate_names() and find_victim(name) is None:
        raise UnknownNameError("victim", name, [*victim_names(), "timm:NAME"])
    if _is_pretrained(name):
        raise ConfigError(
            f"{name!r} starts from trained weights, so it is no victim for training from scratch. "
            f"Choose one of {', '.join(victim_names())}."
        )
    return name


def victim_family(name: str) -> str:
    """The architecture family, to tell a victim that resembles the protector's surrogate from one that does not."""
    own = find_victim(name)
    return surrogate_family(name) if own is None else own.family or own.name


def create_victim(name: str, *, num_classes: int, resolution: int, seed: int) -> Surrogate:
    """A victim with random weights."""
    own = find_victim(name)
    if own is not None:
        return own.make(num_classes, resolution, seed)
    return create_surrogate(name, num_classes=num_classes, resolution=resolution, seed=seed)


@dataclass(frozen=True)
class PrecisionTask:
    """A network whose arithmetic is to be chosen where it will be trained.

    Attributes:
        own: the victim itself, where it is none of ours.
        asked: see :func:`choose_precision`.
        needed: whether there is no going on without this network.
    """

    name: str
    own: Victim | None
    num_classes: int
    resolution: int
    device: str
    asked: Precision
    needed: bool


def find_precision(task: PrecisionTask) -> ChosenPrecision | None:
    """What to train a network in; ``None`` where it is not needed and what it needs is not here.

    Raises:
        SetupError: a network that is needed cannot be built.
    """
    try:
        if task.own is not None:
            network = task.own.make(task.num_classes, task.resolution, 0)
        else:
            network = create_surrogate(task.name, num_classes=task.num_classes, resolution=task.resolution, seed=0)
    except SetupError:
        if task.needed:
            raise
        return None  # weights that are not here: the adversary is left out, and says so
    return choose_precision(network, torch.device(task.device), resolution=task.resolution, asked=task.asked)


def victim_recipe(name: str, images: int, *, scale: float = 1.0, epochs: float | None = None) -> Recipe:
    """How this victim is trained on so many images; the same for every arm and every adversary."""
    own = find_victim(name)
    recipe = recipe_for(name) if own is None or own.recipe is None else own.recipe
    return fit_recipe(recipe, images, scale=scale, epochs=epochs)


def victim_seed(seed: int, index: int) -> int:
    """Seed of the ``index``-th training, the same in every arm.

    Derived by a hash, so that it is never the seed of the protector's surrogate: a victim with the very same initial
    weights would flatter the protection.
    """
    digest = hashlib.sha256(f"bitterant victim {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
