"""The training of a generator: captions in, contrastive loss through a frozen surrogate, a generator out."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...._version import __version__
from ....errors import ConfigError, FitError
from ....surrogates.image_text import ImageText
from ..checkpoint import Checkpoint
from .generator import NoiseGenerator
from .learner import Learner
from .losses import contrastive_loss, sameness
from .measures import NoiseMeasures, measure_noise
from .pairs import CaptionPairs
from .placing import move
from .recipe import TrainRecipe
from .text_embedder import TextEmbedder
from .weights_state import pack_optimiser, unpack_optimiser

__all__ = ["DTYPE", "TrainProgress", "TrainReport", "TrainingStopped", "noisy_pictures", "train_t2ue"]

DTYPE = "float32"
"""What generators are trained in, whatever the device would do faster."""

_SIDES = (1.0, 0.75, 0.5)
"""The learner sees pictures at one of these sizes, drawn each step: owners' pictures get resized too."""
_UP, _DOWN, _TOLD = 0.005, 0.002, 10
"""How far the contrast moves in a step, and over how many steps it is judged whether the learner can tell."""


class TrainingStopped(Exception):
    """Somebody asked the training to stop; what was done is kept in the checkpoint."""


@dataclass(frozen=True)
class TrainProgress:
    """After a step: its number from 1, of how many, and the losses of it."""

    step: int
    steps: int
    losses: dict[str, float]


@dataclass
class TrainReport:
    """What came of a training.

    Attributes:
        steps: done.
        losses: mean of each over the last tenth of the steps.
        measures: how the noises of other seeds, templates and texts compare.
        curve: ``(step, losses)``, a hundred points at most.
    """

    steps: int
    losses: dict[str, float]
    measures: NoiseMeasures
    curve: list[tuple[int, dict[str, float]]] = field(default_factory=list)


def noisy_pictures(pictures: Tensor, delta: Tensor) -> Tensor:
    """Noise of any side on float pictures ``[B, 3, R, R]``, in [0, 1]; differentiable."""
    side = pictures.shape[-1]
    if delta.shape[-1] != side:
        shrink = delta.shape[-1] > side
        delta = F.interpolate(delta, (side, side), mode="bilinear", antialias=shrink, align_corners=False)
    return (pictures + delta).clamp(0.0, 1.0)


def train_t2ue(
    pairs: CaptionPairs,
    surrogate: ImageText | None,
    generator: NoiseGenerator,
    embedder: TextEmbedder,
    recipe: TrainRecipe,
    *,
    device: torch.device,
    progress: Callable[[TrainProgress], None] | None = None,
    checkpoint: Path | None = None,
    stop: Callable[[], bool] | None = None,
) -> TrainReport:
    """Train ``generator`` in place; it ends on the CPU, in evaluation mode.

    Args:
        pairs: sentences and pictures.
        surrogate: frozen; may be left out where ``recipe.surrogate_weight`` is 0.
        generator: what is trained.
        embedder: makes the text vectors that the generator sees.
        recipe: how.
        device: where to compute.
        progress: called after every step.
        checkpoint: a file for state. A training that was stopped or killed goes on from it, with the same result.
        stop: asked after every step; True keeps the state and ends.

    Raises:
        FitError: the loss is no finite number.
        TrainingStopped: ``stop`` said so.
    """
    return _Training(pairs, surrogate, generator, embedder, recipe, device, checkpoint).run(progress, stop)


class _Training:
    def __init__(
        self, pairs: CaptionPairs, surrogate: ImageText | None, generator: NoiseGenerator, embedder: TextEmbedder,
        recipe: TrainRecipe, device: torch.device, checkpoint: Path | None,
    ) -> None:  # fmt: skip
        self.pairs, self.recipe, self.device = pairs, recipe, device
        self.surrogate = surrogate if recipe.surrogate_weight else None
        if recipe.surrogate_weight and surrogate is None:
            raise ValueError("a surrogate is wanted and none was given")
        self.generator, self.embedder = generator, embedder
        self.wordings = pairs.wordings()
        if len(self.wordings) < 2:
            raise ConfigError("All captions say the same: there is nothing for the noise to tell apart.")
        move(self.generator, device).train()
        move(embedder, device)
        # Sentences never change, so both towers read them once.
        self.text = embedder(pairs.captions, batched=True).to(device)
        self.meaning = None
        if self.surrogate is not None:
            self.surrogate.to(device).requires_grad_(False)
            same = self.surrogate.texts.fingerprint() == embedder.tower_sha256
            with torch.no_grad():
                texts = self.text if same else self.surrogate.texts(pairs.captions)
            self.meaning = F.normalize(texts, dim=-1).to(device)
        self.pictures = pairs.images.to(device)
        if recipe.image_side != pairs.side:
            self.pictures = _resized(self.pictures, recipe.image_side)
        self.optimiser = _optimiser(generator, recipe)
        self.mean = {key: value.detach().clone() for key, value in generator.state_dict().items()}
        self.draw = torch.Generator().manual_seed(recipe.seed)
        self.learner: Learner | None = None
        self.learner_optimiser: torch.optim.Optimizer | None = None
        self.step = self.learner_age = 0
        self.contrast = 0.0 if recipe.learner_weight else 1.0
        self.told: list[float] = []
        self.curve: list[tuple[int, dict[str, float]]] = []
        self.last: list[dict[str, float]] = []
        self.checkpoint = Checkpoint(checkpoint, self._identity())

    def run(self, progress: Callable[[TrainProgress], None] | None, stop: Callable[[], bool] | None) -> TrainReport:
        self._resume()
        steps = self.recipe.steps
        every = max(1, steps // 100)
        while self.step < steps:
            losses = self._one_step()
            self.step += 1
            if self.step % every == 0 or self.step == steps:
                self.curve.append((self.step, losses))
            if self.step > 0.9 * steps:
                self.last.append(losses)
            if progress is not None:
                progress(TrainProgress(self.step, steps, losses))
            stopped = stop is not None and stop()
            if stopped or self.step % max(1, min(250, steps // 10)) == 0:
                self._keep()
            if stopped and self.step < steps:
                raise TrainingStopped
        if self.recipe.ema:
            self.generator.load_state_dict(self.mean)
        self.generator.register_to_config(steps=steps, trained_on=self.pairs.name)
        self.generator.eval().cpu()
        self.embedder.cpu()
        means = {name: sum(row[name] for row in self.last) / len(self.last) for name in self.last[-1]}
        measures = measure_noise(self.generator, self.embedder, seed=self.recipe.seed)
        return TrainReport(self.step, means, measures, self.curve)

    # ------------------------------------------------------------------ a step
    def _one_step(self) -> dict[str, float]:
        recipe = self.recipe
        self._renew_learner()
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.lr * self._rate()
        # Noise is made out of one wording, and has to be told by another one of the same meaning: it must depend on
        # what is said and not on how.
        chosen = torch.randperm(len(self.wordings), generator=self.draw)[: recipe.batch_size].tolist()
        rows = self._wordings(chosen)
        other = self._wordings(chosen) if recipe.reworded else rows
        if recipe.mismatched or self.pairs.owners is None:
            behind = torch.randint(len(self.pictures), (len(rows),), generator=self.draw)
        else:
            behind = self.pairs.owners[rows]
        seeds = torch.randint(2**62, (2, len(rows)), generator=self.draw).tolist()
        text, answers = self.text[rows.to(self.device)], self.text[other.to(self.device)]
        pictures = self.pictures[behind.to(self.device)].float() / 255.0
        pictures = 0.5 + self.contrast * (pictures - 0.5)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        total, losses = torch.zeros((), device=self.device), {}
        # In float32 throughout: bfloat16 is computed differently by every kind of processor (DTYPE).
        delta = self._noise(seeds[0], text)
        noisy = noisy_pictures(pictures, delta)
        if self.surrogate is not None:
            losses["surrogate"] = self._surrogate_loss(noisy, other)
            total = total + recipe.surrogate_weight * losses["surrogate"]
        if self.learner is not None:
            losses["learner"] = self._learner_loss(noisy, answers)
            total = total + recipe.learner_weight * losses["learner"]
        if recipe.diversity:
            losses["sameness"] = sameness(delta, self._noise(seeds[1], text))
            total = total + recipe.diversity * losses["sameness"]
        for optimiser in (self.optimiser, self.learner_optimiser):
            if optimiser is not None:
                optimiser.zero_grad(set_to_none=True)
        total.backward()
        if not math.isfinite(float(total.detach())):
            raise FitError(
                f"The training broke down at step {self.step + 1}: its loss is no finite number. Use a lower lr."
            )
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), recipe.clip)
        self.optimiser.step()
        if self.learner_optimiser is not None:
            self.learner_optimiser.step()
        self._average()
        return {name: float(value.detach()) for name, value in losses.items()}

    def _wordings(self, chosen: list[int]) -> Tensor:
        """One row of each of these meanings."""
        dice = torch.rand(len(chosen), generator=self.draw).tolist()
        return torch.stack(
            [self.wordings[m][int(die * len(self.wordings[m]))] for m, die in zip(chosen, dice, strict=True)]
        )

    def _noise(self, seeds: list[int], text: Tensor) -> Tensor:
        z = torch.stack([self.generator.draw(seed) for seed in seeds]).to(self.device)
        return self.generator(z, text).delta

    def _surrogate_loss(self, noisy: Tensor, rows: Tensor) -> Tensor:
        assert self.surrogate is not None
        assert self.meaning is not None
        count = self.recipe.surrogate_images or len(rows)
        seen, meaning = noisy[:count], self.meaning[rows[:count].to(self.device)]
        return contrastive_loss(self.surrogate(seen), meaning, self.surrogate.scale)

    def _learner_loss(self, noisy: Tensor, text: Tensor) -> Tensor:
        assert self.learner is not None
        share = _SIDES[int(torch.randint(len(_SIDES), (), generator=self.draw))]
        side = max(16, round(noisy.shape[-1] * share))
        if side < noisy.shape[-1]:
            noisy = F.interpolate(noisy, (side, side), mode="bilinear", antialias=True, align_corners=False)
        images, texts, scale = self.learner(noisy, text, self.draw)
        self._pace(images.detach() @ texts.detach().T)
        return contrastive_loss(images, texts, scale)

    def _pace(self, cosines: Tensor) -> None:
        """Bring the pictures up while the learner can tell the texts, and back a little when it cannot."""
        if self.contrast >= 1.0:
            return
        right = cosines.argmax(1) == torch.arange(len(cosines), device=cosines.device)
        self.told = [*self.told[1 - _TOLD :], float(right.float().mean())]
        well = sum(self.told) / len(self.told) > self.recipe.pace
        self.contrast = min(1.0, max(0.0, self.contrast + (_UP if well else -_DOWN)))

    def _renew_learner(self) -> None:
        recipe = self.recipe
        if not recipe.learner_weight or (self.learner is not None and self.learner_age < recipe.learner_life):
            self.learner_age += self.contrast >= 1.0
            return
        self._new_learner(recipe.seed + 1 + self.step)
        self.learner_age, self.contrast, self.told = 0, 0.0, []

    def _new_learner(self, seed: int) -> None:
        self.learner = Learner(self.text.shape[1], side=self.recipe.image_side, seed=seed).to(self.device).train()
        self.learner_optimiser = torch.optim.Adam(self.learner.parameters(), lr=self.recipe.learner_lr)

    def _rate(self) -> float:
        done = self.step / self.recipe.steps
        rise = (self.step + 1) / max(1, self.recipe.warmup)
        if self.recipe.schedule == "cosine":
            return min(1.0, rise) * 0.5 * (1.0 + math.cos(math.pi * done))
        return min(1.0, rise, 3.0 * (1.0 - done))

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        for key, value in self.generator.state_dict().items():
            kept = self.mean[key]
            if self.recipe.ema and kept.is_floating_point():
                kept.lerp_(value, 1 - decay)
            else:
                kept.copy_(value)

    # ------------------------------------------------------------------ state
    def _identity(self) -> str:
        surrogate = self.surrogate.fingerprint() if self.surrogate is not None else ""
        told_later = ("steps", "trained_on")
        config: dict[str, Any] = dict(self.generator.config)
        network = {key: value for key, value in config.items() if key[0] != "_" and key not in told_later}
        parts = [
            __version__, self.recipe.settings(), network, self.embedder.tower_id, self.pairs.captions, surrogate,
            [rows.tolist() for rows in self.wordings],
        ]  # fmt: skip
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode())
        digest.update(self.pairs.images.contiguous().view(-1).numpy().data)
        return digest.hexdigest()

    def _keep(self) -> None:
        tensors = {f"generator.{k}": v for k, v in self.generator.state_dict().items()}
        tensors |= {f"mean.{k}": v for k, v in self.mean.items()}
        tensors |= {f"optimiser.{k}": v for k, v in pack_optimiser(self.optimiser).items()}
        if self.learner is not None and self.learner_optimiser is not None:
            tensors |= {f"learner.{k}": v for k, v in self.learner.state_dict().items()}
            tensors |= {f"learner_optimiser.{k}": v for k, v in pack_optimiser(self.learner_optimiser).items()}
        tensors["draw"] = self.draw.get_state()
        facts = {
            "step": self.step, "curve": self.curve, "last": self.last, "told": self.told, "contrast": self.contrast,
            "learner_age": self.learner_age,
        }  # fmt: skip
        self.checkpoint.save(tensors, facts)

    def _resume(self) -> None:
        kept = self.checkpoint.load()
        if kept is None:
            return
        tensors, facts = kept
        self.step = int(facts["step"])
        self.curve = [(int(step), losses) for step, losses in facts["curve"]]
        self.last, self.told = list(facts["last"]), list(facts["told"])
        self.contrast, self.learner_age = float(facts["contrast"]), int(facts["learner_age"])

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(f"{name}."): v for k, v in tensors.items() if k.startswith(f"{name}.")}

        self.generator.load_state_dict(part("generator"))
        self.mean = {key: value.to(self.device) for key, value in part("mean").items()}
        unpack_optimiser(self.optimiser, part("optimiser"))
        self.draw.set_state(tensors["draw"])
        if self.recipe.learner_weight and part("learner"):
            self._new_learner(0)
            assert self.learner is not None
            assert self.learner_optimiser is not None
            self.learner.load_state_dict(part("learner"))
            unpack_optimiser(self.learner_optimiser, part("learner_optimiser"))


def _optimiser(generator: NoiseGenerator, recipe: TrainRecipe) -> torch.optim.Optimizer:
    heavy = [p for p in generator.parameters() if p.ndim > 1]
    light = [p for p in generator.parameters() if p.ndim <= 1]
    groups = [{"params": heavy, "weight_decay": recipe.weight_decay}, {"params": light, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas)


def _resized(images: Tensor, side: int) -> Tensor:
    parts = [
        F.interpolate(part.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in images.split(256)
    ]
    return torch.cat(parts)
