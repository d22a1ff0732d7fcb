"""T2UE: unlearnable examples from text descriptions (Ma et al. 2025, arXiv 2508.03091)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from ....imaging import ImageSet
from ....records.secrets import RunKey, key_of_run, seed_of
from ...bank import Bank
from ..base import FitContext, FitEstimate, Method
from ..recipe import MethodRecipe
from ..registry import register_method
from .source import generator_folder, load_source

_BATCH = 32


class T2ueRecipe(MethodRecipe):
    """Hyper-parameters of T2UE. The seed is that of the random vectors, where there is neither key file nor secret; the
    weights are of a CLIP text tower, where the generator was trained with one."""

    generator: str | None = None
    """A folder written by ``bitterant t2ue train``; default the embedded one."""
    key_file: str | None = None
    """A file of hexadecimal digits, which the random vectors are drawn from. With captions, generator and seed anybody
    can compute the noise and subtract it; with a key file they would also need that file."""
    secret: bytes | None = Field(default=None, repr=False)
    """The key itself, 16 bytes or more that nobody can guess, instead of a file."""


@register_method
class TextToUnlearnable(Method[Bank, T2ueRecipe]):
    """T2UE: noise out of a caption, or a class name, by a generator that was trained before. No picture is looked at.

    Each picture's noise depends on its caption, the key and its identity alone. Per class: one
    noise a class, of its name in one sentence. Per sample: a picture's caption, or where there is none its class name
    in a sentence drawn from eighteen, and a random vector of its own.

    Noise of a generator that was trained at another budget is scaled. Hyper-parameters are the fields of
    :class:`T2ueRecipe`.

    Raises:
        ConfigError: a value out of range, or a key file that is none.
        WeightsError: no generator there.
    """

    name = "t2ue"
    needs = "captions"
    granularities = ("sample", "class")
    keyed = True

    recipe_class = T2ueRecipe

    def _set_up(self) -> None:
        recipe = self.recipe
        self.generator = None if recipe.generator is None else Path(recipe.generator)
        self._digest = generator_folder(self.generator)[1]
        key_file = None if recipe.key_file is None else Path(recipe.key_file)
        self._key = key_of_run(key_file, recipe.secret, recipe.seed, purpose=self.name)

    @property
    def key(self) -> RunKey:
        """What its noise is drawn from."""
        return self._key

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe; the key is not among them."""
        name = "embedded" if self.generator is None else self.generator.name
        return {**super().settings(), "generator": name, "generator_sha256": self._digest, **self.key.about}

    def prompts(self, dataset: ImageSet) -> list[str]:
        """What the generator is asked, a row of the bank each."""
        from .data import class_prompt

        if self.granularity == "class":
            return [class_prompt(name) for name in dataset.classes]
        if dataset.captions is not None:
            return list(dataset.captions)
        assert dataset.labels is not None
        names = [dataset.classes[label] for label in dataset.labels.tolist()]
        # The wording is drawn by the picture's identity, so that it does not depend on the order of the files.
        return [class_prompt(name, seed_of(b"template", key)) for name, key in zip(names, dataset.keys, strict=True)]

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        context.tell("t2ue", 0.0, "loading the generator")
        source = load_source(self.generator, str(self.device), self.weights)
        # Nothing is fitted: the network that the noise comes from takes the place of the surrogate in the records.
        context.surrogate, context.surrogate_sha256 = source.generator_id, source.generator_sha256
        prompts = self.prompts(dataset)
        rows = dataset.classes if self.granularity == "class" else dataset.keys
        delta = torch.empty(len(rows), 3, dataset.resolution, dataset.resolution)
        begun = time.perf_counter()
        for start in range(0, len(rows), _BATCH):
            part = slice(start, start + _BATCH)
            seeds = [seed_of(self.key.secret, key) for key in rows[part]]
            noise = source(prompts[part], seeds).delta * (self.budget.epsilon / source.epsilon)
            delta[part] = _at_side(noise, dataset.resolution)
            context.tell("t2ue", (start + len(noise)) / len(rows), "making noise out of text")
        context.report["t2ue"] = {
            "generator": source.generator_id,
            "generator_sha256": source.generator_sha256,
            "text_encoder": source.text_encoder,
            "native_size": source.native_size,
            "trained_at_levels": round(source.epsilon * 255, 3),
            "prompts": len(set(prompts)),
            "seconds": round(time.perf_counter() - begun, 3),
        }
        return delta

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        source = load_source(self.generator, str(self.device), self.weights)
        tried = self.prompts(dataset)[:4]
        source(tried, list(range(len(tried))))  # the first call sets kernels up
        begun = time.perf_counter()
        source(tried, list(range(len(tried))))
        each = (time.perf_counter() - begun) / len(tried)
        rows = len(dataset.classes) if self.granularity == "class" else total
        return FitEstimate(seconds=each * rows, peak_bytes=rows * 3 * dataset.resolution**2 * 4)


def _at_side(noise: Tensor, side: int) -> Tensor:
    """Noise ``[B, 3, S, S]`` at another side: both ways of resizing average, so that the bound holds."""
    if noise.shape[-1] == side:
        return noise
    shrink = noise.shape[-1] > side
    return F.interpolate(noise, (side, side), mode="bilinear", antialias=shrink, align_corners=False)
