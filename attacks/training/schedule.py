"""How long a victim is trained: long enough to fit, equally long in every arm."""

from __future__ import annotations

import math
from dataclasses import replace

from ...surrogates import Recipe

__all__ = ["fit_recipe", "training_steps"]

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
