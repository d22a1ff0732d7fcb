"""What a trainer would still learn: a fresh small victim, trained on the protected copies in seconds.

The surrogate's own stop error certifies nothing: at the same error, victims scored .10 or .51 in our trials. So a part
of the images is held out; a fresh victim trains on the protected copies of the rest and is tested on the clean held-out
ones, beside a victim trained on the clean rest. The two have the same seed in a first attempt; further attempts draw
another protected victim and compare it with the same clean one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from ...imaging import Budget, ImageSet
from ...surrogates import create_surrogate, recipe_for, train_classifier
from .ranks import ranks
from .written import WrittenCopies

VICTIM = "small-cnn"
LEARNABLE_MARGIN = 0.10
"""The clean victim must beat chance by this much, or the check cannot tell protection from a hard data set."""


@dataclass(frozen=True)
class CheckResult:
    """One self-check. Accuracies are shares in [0, 1] on held-out clean images.

    Attributes:
        protected_accuracy: of the victim trained on protected copies.
        clean_accuracy: of the victim trained on clean images.
        chance: share of the largest class among the held-out.
        train_accuracy: of the first victim on its own training images; near 1 when it took the bait.
        held_out: number of test images.
    """

    protected_accuracy: float
    clean_accuracy: float
    chance: float
    train_accuracy: float
    held_out: int

    @property
    def conclusive(self) -> bool:
        """Whether the clean victim learned enough for a comparison."""
        return self.clean_accuracy - self.chance >= LEARNABLE_MARGIN

    @property
    def residual(self) -> float:
        """Residual learnability in [0, 1]: 0 as if nothing could be learned, 1 as if nothing had been done."""
        gap = max(self.clean_accuracy - self.chance, 1e-9)
        return min(1.0, max(0.0, (self.protected_accuracy - self.chance) / gap))

    def to_json(self) -> dict[str, Any]:
        """The fields and the residual, JSON-safe."""
        return {**asdict(self), "residual": round(self.residual, 4), "conclusive": self.conclusive}


class SelfCheck:
    """Estimates what is still learnable from perturbations under way.

    Args:
        dataset: all images with labels, on the CPU.
        budget: what perturbations are rounded within.
        seed: of the split, the victims and their training.
        device: where to train.
        max_images: trained on at most; keeps the check at seconds for any folder.
        max_held_out: tested on at most.
        steps: optimiser steps of each victim.
    """

    def __init__(
        self,
        dataset: ImageSet,
        budget: Budget,
        *,
        seed: int,
        device: torch.device,
        max_images: int = 2000,
        max_held_out: int = 500,
        steps: int = 300,
    ) -> None:
        self._dataset, self._seed, self._device, self._steps = dataset, seed, device, steps
        self._train, self._held_out = _split(dataset, seed, max_images, max_held_out)
        self._written = WrittenCopies(dataset, budget)

    @property
    def possible(self) -> bool:
        """Whether two classes have images on both sides of the split."""
        labels = self._dataset.labels
        if labels is None or len(self._held_out) == 0:
            return False
        return len(labels[self._train].unique()) > 1 and len(labels[self._held_out].unique()) > 1

    def __call__(
        self, delta_of: Callable[[Tensor], Tensor], *, attempt: int, clean_accuracy: float | None = None
    ) -> CheckResult:
        """Run the check.

        Args:
            delta_of: positions ``[B]`` in the data set -> perturbations ``[B, 3, R, R]`` as the bank will hold them, in
                units of the full range. The victim trains on what the writer makes of them.
            attempt: varies the victim's seed, so that one lucky victim cannot pass every attempt.
            clean_accuracy: of an earlier check on the same data, to save the clean training.
        """
        labels = self._dataset.labels
        assert labels is not None
        jobs = [self._job(self._written(self._train, delta_of), attempt=attempt)]
        if clean_accuracy is None:
            jobs.append(self._job(self._dataset.images[self._train], attempt=0))
        (accuracy, fitted), *clean = ranks().map(_train_victim, jobs)
        if clean_accuracy is None:
            clean_accuracy, _ = clean[0]
        held_out = labels[self._held_out]
        return CheckResult(
            protected_accuracy=accuracy,
            clean_accuracy=clean_accuracy,
            chance=float(torch.bincount(held_out).max()) / len(held_out),
            train_accuracy=fitted,
            held_out=len(held_out),
        )

    def _job(self, images: Tensor, *, attempt: int) -> tuple[Any, ...]:
        labels = self._dataset.labels
        assert labels is not None
        seed = (self._seed * 1_000_003 + 7919 * (attempt + 1)) % 2**31
        tested = self._dataset.images[self._held_out], labels[self._held_out]
        classes = len(self._dataset.classes)
        return images, labels[self._train], *tested, classes, seed, self._steps, self._device


def _train_victim(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: int,
    seed: int,
    steps: int,
    device: torch.device,
) -> tuple[float, float]:
    """Accuracy on the test images and on its own."""
    victim = create_surrogate(VICTIM, num_classes=classes, resolution=images.shape[-1], seed=seed)
    result = train_classifier(
        victim,
        images,
        labels,
        recipe_for(VICTIM, steps=steps),
        seed=seed,
        test_images=test_images,
        test_labels=test_labels,
        evals=1,
        device=device,
    )
    assert result.predictions is not None
    return float((result.predictions == test_labels).float().mean()), result.train_accuracy


def _split(dataset: ImageSet, seed: int, max_images: int, max_held_out: int) -> tuple[Tensor, Tensor]:
    """A stratified 30 % held out, every class with at least two images on both sides."""
    labels = dataset.labels
    if labels is None:
        return torch.arange(0), torch.arange(0)
    generator = torch.Generator().manual_seed(seed)
    share_train = min(1.0, max_images / max(1, len(labels)))
    share_held = min(0.3, max_held_out / max(1, len(labels)))
    train, held = [], []
    for label in range(len(dataset.classes)):
        own = (labels == label).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=generator)]
        test_count = min(len(own) - 1, max(1, round(share_held * len(own)))) if len(own) > 1 else 0
        held.append(own[:test_count])
        rest = own[test_count:]
        train.append(rest[: max(1, round(share_train * len(rest)))] if len(rest) else rest)
    return torch.cat(train).sort().values, torch.cat(held).sort().values
