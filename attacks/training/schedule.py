"""How long a victim is trained: long enough to fit, equally long in every arm."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from ...surrogates import Recipe

__all__ = ["PUBLISHED", "PublishedRecipe", "fit_recipe", "published_recipe", "training_steps"]

_REFERENCE_IMAGES = 1000
_SHORTEST, _LONGEST = 0.5, 4.0


def training_steps(base: int, images: int, *, scale: float = 1.0) -> int:
    """Optimiser steps for a training set of this size.

    ``base`` steps at 1,000 images (400 steps of 64 are 26 epochs), growing with the square root of the number of
    images, at least half and at most four times ``base``, times ``scale``. Small sets are seen more often, large ones
    less often, and the time stays bearable on two cores.
    """
    factor = min(_LONGEST, max(_SHORTEST, math.sqrt(images / _REFERENCE_IMAGES)))
    steps = base * factor * scale
    return max(1, round(steps)) if steps < 20 else 10 * round(steps / 10)


def fit_recipe(recipe: Recipe, images: int, *, scale: float = 1.0) -> Recipe:
    """The recipe with the number of steps, and a batch no larger than the set."""
    return replace(
        recipe,
        steps=training_steps(recipe.steps, images, scale=scale),
        batch_size=min(recipe.batch_size, max(2, images)),
    )


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


def published_recipe(name: str, images: int) -> Recipe:
    """The recipe of the literature, in steps for so many images."""
    published = PUBLISHED[name]
    batch = min(published.recipe.batch_size, max(2, images))
    return replace(published.recipe, batch_size=batch, steps=max(1, published.epochs * images // batch))
