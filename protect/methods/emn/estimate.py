"""What a fit of error-minimizing noise will cost, from a first batch."""

from __future__ import annotations

import torch

from ....imaging import ImageSet
from ....surrogates import now
from ..base import FitEstimate
from .recipe import EmnRecipe
from .stages import delta_by_class
from .sweep import class_gradient

__all__ = ["estimate_fit"]


def estimate_fit(recipe: EmnRecipe, dataset: ImageSet, total: int) -> FitEstimate:
    """The cost of fitting ``total`` images like those of ``dataset``, which is on the device of computation."""
    trainer, stage = recipe.trainer(dataset, 0), recipe.class_stage(dataset)
    generator = torch.Generator().manual_seed(0)
    labels = stage.dataset.labels
    assert labels is not None
    state = stage.start()
    patterns = delta_by_class(state["delta"], labels, stage.trip)
    trainer.steps(1, patterns, generator)  # the first pass also allocates: not timed
    begun = now(recipe.device)
    trainer.steps(2, patterns, generator)
    theta = (now(recipe.device) - begun) / 2
    # The sample may be smaller than a batch of the fit.
    theta *= min(recipe.batch_size, total) / min(recipe.batch_size, len(dataset))
    frozen, images = trainer.frozen(), stage.dataset.images[:128].float() / 255
    own, shift = labels[: len(images)], stage.shift(generator)
    class_gradient(frozen, images, own, state["delta"], shift=shift)
    begun = now(recipe.device)
    for _ in range(2):
        class_gradient(frozen, images, own, state["delta"], shift=shift)
    sweep = (now(recipe.device) - begun) / 2 / len(images)
    classes, paper = len(dataset.classes), recipe.paper
    seconds = 0.0
    if recipe.granularity == "class" or not paper:
        per_round = stage.subset * total if paper else stage.updates * stage.per_class * classes
        seconds += _expected(recipe.rounds, paper) * (recipe.theta_steps * theta + per_round * sweep * 1.3)
    if recipe.granularity == "sample":
        per_round = total * recipe.pgd_steps
        seconds += _expected(recipe.sample_rounds, paper) * (recipe.theta_steps * theta + per_round * sweep)
    if recipe.attempts:  # 300 steps of 64 images for each of two victims cost about 300 surrogate steps of 128
        seconds += 300 * theta
    pixel = 3 * dataset.resolution**2
    rows = total if recipe.granularity == "sample" else classes
    # Half precision now and a byte for the best attempt; at the end beside them the levels of the bank.
    return FitEstimate(seconds=seconds, peak_bytes=rows * pixel * (6 if paper else 4) + 512 * pixel * 64)


def _expected(rounds: int, paper: bool) -> int:
    """Ours are nearly always made; the paper's end when the error is small, ten on CIFAR-10."""
    return min(rounds, 10) if paper else rounds
