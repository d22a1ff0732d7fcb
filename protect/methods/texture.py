"""Brightness textures whose direction and period say the class: nothing is optimised, and no picture is looked at."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...errors import ConfigError
from ...imaging import Budget, ImageSet
from ..bank import Granularity
from ..key_file import read_key
from ..textures import TextureBank, TextureRecipe
from ..textures.code_book import Wave, check_resolution, code_book, scale_for
from ..textures.nature import natural_contents
from ..textures.wave import small_brightness
from .base import FitContext, FitEstimate, FitProgress, Method, ProgressCallback
from .registry import register_method

__all__ = ["Texture"]

#: Pictures of each class that are looked at.
SAMPLE_A_CLASS = 64


@register_method
class Texture(Method[TextureBank]):
    """Class-coded textures: waves of brightness whose direction and period are the class. Instant.

    Every class has a code, one wave or two that cross, and every picture a texture of its class's code that follows
    what the picture itself has of that wave. Small turns of it are drawn from a key and the file's content. A fit deals
    codes to the names of the classes; it looks at no picture, and its bank serves new pictures of these classes.

    Patterns that are easy to tell apart are what networks learn first: Yu et al., *Availability Attacks Create
    Shortcuts* (KDD 2022, arXiv 2111.00898); Sandoval-Segura et al., *Autoregressive Perturbations for Data Poisoning*
    (NeurIPS 2022, arXiv 2206.03693), whose patterns need no surrogate either. These are in brightness alone, so that
    grayscale takes nothing away, and of long periods, which survive compression and blur.

    Args:
        budget: default 8/255.
        granularity: ``sample``.
        surrogate: none.
        seed: the key is made of it where there is no key file; with one, it makes another key.
        device: not used.
        weights: none.
        allow_download: not used.
        key_file: a file of at least 16 secret bytes. Without it, anybody who guesses the seed can compute the textures
            and take them off.
        for_resolution: side in px at which a trainer is expected to look at the pictures: periods are then at least
            5 px there. Without it they are so from 28 px on with up to ten classes, from 74 px on with more than fifty.
        floor: share of the budget on areas that mask nothing, in (0, 1]; 1 is the full budget everywhere. Pictures of
            less than some 72 px get it everywhere.

    Raises:
        ConfigError: a value out of range, or a key file that is none.
    """

    name = "texture"
    needs = "labels"
    granularities = ("sample",)

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
        key_file: str | None = None,
        for_resolution: int | None = None,
        floor: float = TextureRecipe.floor,
    ) -> None:
        super().__init__(
            budget=budget, granularity=granularity, surrogate=surrogate, seed=seed, device=device, weights=weights,
            allow_download=allow_download,
        )  # fmt: skip
        if weights is not None:
            raise ConfigError("texture uses no network, so weights would do nothing. Leave them out.")
        check_resolution(for_resolution)
        self.recipe = TextureRecipe(floor=floor)
        self.for_resolution = for_resolution
        self.secret = read_key(None if key_file is None else Path(key_file), seed, purpose=self.name)
        self._keyed = key_file is not None

    @property
    def needs_pixels(self) -> bool:
        """Names of classes are enough."""
        return False

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe; of the key only what tells it from another one."""
        return {
            **super().settings(),
            "key_file": self._keyed,
            "key_id": hmac.new(self.secret, b"id", hashlib.sha256).hexdigest()[:16],
            "for_resolution": self.for_resolution,
            "recipe": asdict(self.recipe),
        }

    @property
    def sampled_a_class(self) -> int:
        """Enough to see what the classes have of each code by nature."""
        return SAMPLE_A_CLASS

    def fit_classes(
        self, classes: Sequence[str], *, sample: ImageSet | None = None, progress: ProgressCallback | None = None
    ) -> TextureBank:
        """Deal codes to the classes: against what nature gives their pictures where some can be seen, else by the key.

        The same names, pictures and key give the same bank.

        Raises:
            ConfigError: more classes than a code book holds.
            LabelError: fewer than two.
        """
        bank = TextureBank.of_classes(
            classes,
            self.secret,
            found=None if sample is None else self._contents(sorted(classes), sample),
            budget=self.budget,
            for_resolution=self.for_resolution,
            recipe=self.recipe,
            seed=self.seed,
        )
        if progress is not None:
            progress(FitProgress("texture", 1.0, f"{len(bank.classes)} classes got their codes"))
        return replace(bank, report={**bank.report, "key_file": self._keyed})

    def _fit(self, dataset: ImageSet, context: FitContext) -> TextureBank:
        assert dataset.labels is not None
        present = dataset.labels.unique().tolist()
        # The first of each class in the order of the keys, which is that of the contents.
        rows = [(dataset.labels == label).nonzero().flatten()[:SAMPLE_A_CLASS] for label in present]
        return self.fit_classes(
            [dataset.classes[label] for label in present],
            sample=dataset.select(torch.cat(rows).tolist()),
            progress=lambda step: context.tell(step.stage, step.fraction),
        )

    def _contents(self, names: list[str], sample: ImageSet) -> np.ndarray | None:
        """What the pictures of each class have of each code; ``None`` where the sample lacks a class."""
        assert sample.labels is not None
        numbers = {name: number for number, name in enumerate(names)}
        labels = [numbers.get(sample.classes[label], -1) for label in sample.labels.tolist()]
        if set(labels) != set(range(len(names))):
            return None
        book = code_book(len(names), for_resolution=self.for_resolution)
        side = min(self.recipe.side, sample.resolution)
        small = [small_brightness(image, side) for image in sample.images.permute(0, 2, 3, 1).cpu().numpy()]
        scale = scale_for(book, sample.resolution)
        seen = [tuple(Wave(wave.cycles * scale, wave.angle) for wave in code) for code in book]
        return natural_contents(small, labels, seen, self.recipe.sigma)

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        # Dealing a thousand codes takes some hundredths of a second.
        return FitEstimate(seconds=1e-3, peak_bytes=1 << 20)
