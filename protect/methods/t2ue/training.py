"""The training of a generator: captions in, contrastive loss through a frozen surrogate, a generator out.

Read in order: how it is done (:class:`TrainRecipe`), the losses, the learner, how noises compare
(:func:`measure_noise`), and the training itself.

The learner is a small network that learns along with the generator, from nothing, to tell texts by their noise. The
paper's frozen surrogate stands in for the outer minimisation of error-minimizing noise. A trainer who starts from
scratch is closer to a network that starts from scratch: the learner minimises the same loss as the generator, as the
surrogate of error-minimizing noise does (Huang et al. 2021, equation 2), and is replaced now and then.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...._version import __version__
from ....errors import ConfigError, FitError, UnknownNameError
from ....imaging.captions import GENERATOR_TEMPLATES
from ....surrogates import create_surrogate, crop_flip, draw_crops, fused, own_randomness, pad_images, transfer
from ....surrogates.image_text import ImageText
from ..checkpoint import Checkpoint, State, pack_optimiser, part_of, run_resumable, unpack_optimiser
from .data import CaptionPairs
from .generator import NoiseGenerator
from .pipeline import TextEmbedder, move


@dataclass(frozen=True, kw_only=True)
class TrainRecipe:
    """How a generator is trained. Defaults are ours; :meth:`paper` gives the published ones.

    Attributes:
        steps: optimiser steps.
        batch_size: texts a step.
        lr: peak learning rate, after a linear warm-up over ``warmup`` steps.
        schedule: ``linear``: over the last third linearly to 0; ``cosine``: along a half cosine, all the way.
        betas: of Adam; (0, 0.9) in the authors' code.
        weight_decay: of weights, not of norms, biases and gates.
        clip: largest gradient norm; 0 for no limit.
        ema: decay of the running mean of the weights that is kept; 0 keeps the last ones.
        surrogate_weight: of the contrastive loss through the frozen surrogate, the paper's loss.
        surrogate_images: pictures a step that the surrogate looks at; it is the dear part. 0: all.
        learner_weight: of the contrastive loss through a small network that learns along (not in the paper): it makes
            noise that a network trained from scratch picks up at once, as error-minimizing noise is made.
        learner_life: steps after which the learner starts anew once pictures are at full contrast, so that noise suits
            no single network.
        learner_lr: its learning rate.
        pace: share of a batch's texts that the learner must tell by their noise before pictures come up further. They
            start as an even gray and end at full contrast: on full pictures from the start, learner and generator find
            no signal in each other (measured: the loss stays at that of guessing).
        diversity: weight of :func:`sameness`.
        mismatched: put noise on a random picture instead of the one that the caption describes; noise depends on no
            picture, so it must work on any.
        reworded: noise that was made out of one sentence has to be told by another one of the same meaning (a second
            caption of the picture, another template): it then depends on what is said and not on how.
        image_side: of the pictures that noise is put on, in px.
        seed: of everything random.
    """

    steps: int = 800
    batch_size: int = 64
    lr: float = 1e-3
    warmup: int = 20
    schedule: Literal["linear", "cosine"] = "linear"
    betas: tuple[float, float] = (0.5, 0.99)
    weight_decay: float = 1e-4
    clip: float = 1.0
    ema: float = 0.99
    surrogate_weight: float = 0.25
    surrogate_images: int = 12
    learner_weight: float = 1.0
    learner_life: int = 200
    learner_lr: float = 2e-3
    pace: float = 0.5
    diversity: float = 0.0
    mismatched: bool = True
    reworded: bool = True
    image_side: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "image_side", "learner_life"):
            if getattr(self, name) < (2 if name == "batch_size" else 1):
                raise ConfigError(f"{name} of a training is {getattr(self, name)}: that is too small.")
        if not 0 < self.lr < float("inf"):
            raise ConfigError(f"lr of a training must be above 0, not {self.lr}.")
        if self.schedule not in ("linear", "cosine"):
            raise UnknownNameError("schedule of a training", str(self.schedule), ("linear", "cosine"))
        for name in (
            "clip",
            "surrogate_weight",
            "learner_weight",
            "diversity",
            "weight_decay",
            "surrogate_images",
            "warmup",
        ):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} of a training must be 0 or more, not {getattr(self, name)}.")
        if not 0 <= self.pace < 1:
            raise ConfigError(f"pace must lie in [0, 1), not {self.pace}.")
        if not 0 <= self.ema < 1:
            raise ConfigError(f"ema must lie in [0, 1), not {self.ema}.")
        if self.surrogate_weight == self.learner_weight == 0:
            raise ConfigError("Without surrogate and without learner there is nothing to train the generator on.")
        if self.surrogate_images == 1:
            raise ConfigError("A contrast needs two pictures at least: surrogate_images may not be 1.")

    @classmethod
    def paper(cls, **changes: Any) -> TrainRecipe:
        """Pairs as they are, the surrogate alone, AdamW 1e-4 along a cosine, batch 128, 224 px, 500 epochs of MSCOCO.

        From the paper but for the betas, which are those of the authors' code. That code lets the rate rise to 1e-3
        and changes pictures before the noise is added, of which the paper says nothing; the weight decay of 1e-4 is
        ours, the paper names none. No bound on the gradient.
        """
        published: dict[str, Any] = {
            "steps": 924 * 500, "batch_size": 128, "lr": 1e-4, "warmup": 0, "schedule": "cosine", "clip": 0.0,
            "ema": 0.0, "surrogate_images": 0, "surrogate_weight": 1.0, "learner_weight": 0.0, "betas": (0.0, 0.9),
            "mismatched": False, "reworded": False, "image_side": 224,
        }  # fmt: skip
        return cls(**{**published, **changes})

    def settings(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


def contrastive_loss(images: Tensor, texts: Tensor, scale: Tensor | float, groups: Tensor | None = None) -> Tensor:
    """Symmetric InfoNCE (equation 4 of the paper): each picture must find its text, and back.

    Args:
        images: unit vectors ``[B, D]``.
        texts: unit vectors ``[B, D]``; row i belongs to picture i.
        scale: what cosines are multiplied by.
        groups: int64 ``[B]``; rows of one group have the same text and are no negatives of each other.

    Returns:
        A scalar: half the cross-entropy over rows plus half that over columns.
    """
    logits = scale * images @ texts.T
    if groups is not None:
        twins = (groups[:, None] == groups[None, :]).fill_diagonal_(False)
        logits = logits.masked_fill(twins, -torch.inf)
    target = torch.arange(len(logits), device=logits.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target))


def sameness(first: Tensor, second: Tensor, *, free: float = 0.0) -> Tensor:
    """How alike the noises of one text with two random vectors are: mean of ``max(0, cosine - free)``.

    The contrastive loss rewards no difference between them, so that all noises of a text end up the same and whoever
    knows text and generator can subtract them.

    Args:
        first, second: noise ``[B, 3, S, S]``; row i of both has the same text.
        free: cosine that costs nothing.
    """
    return (F.cosine_similarity(first.flatten(1), second.flatten(1)) - free).clamp(min=0.0).mean()


_WIDTH = 128
_PADDING = 4


class Learner(nn.Module):
    """Pictures and text vectors into one small space.

    Args:
        text_dim: length of the text vectors.
        side: of the pictures in px.
        seed: of the first weights.
        network: name of a surrogate.
    """

    def __init__(self, text_dim: int, *, side: int, seed: int, network: str = "small-cnn") -> None:
        super().__init__()
        self.side = side
        self.images = create_surrogate(network, num_classes=_WIDTH, resolution=side, seed=seed)
        with own_randomness(seed):
            self.texts = nn.Linear(text_dim, _WIDTH)
        self.log_scale = nn.Parameter(torch.tensor(math.log(10.0)))
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, images: Tensor, text: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of both, and the scale; pictures are cropped and flipped as trainers do."""
        rows = torch.arange(len(images), device=images.device)
        crops = draw_crops(len(images), _PADDING, True, generator)
        seen = crop_flip(pad_images(images, _PADDING), rows, crops, images.shape[-1])
        features = self.images(seen.contiguous(memory_format=torch.channels_last)).float()
        return F.normalize(features, dim=-1), F.normalize(self.texts(text), dim=-1), self.log_scale.exp().clamp(max=100)


_THINGS = ("airplane", "car", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck", "shirt", "shoes")


@dataclass(frozen=True)
class NoiseMeasures:
    """Mean cosines between noises, and how much of them lies at the bound.

    Attributes:
        same_text: one text, two random vectors. Near 1 the random vector does nothing (z-collapse): whoever has the
            caption and the generator can compute the noise and subtract it.
        same_class: one class in two templates.
        other_class: two classes. Near 1 there is no shortcut.
        saturated: share of values above 0.98 of the bound.
    """

    same_text: float
    same_class: float
    other_class: float
    saturated: float

    def facts(self) -> dict[str, Any]:
        """JSON-safe."""
        return asdict(self)


@torch.no_grad()
def measure_noise(
    generator: NoiseGenerator, embedder: TextEmbedder, *, things: Sequence[str] = _THINGS, seed: int = 0
) -> NoiseMeasures:
    """Measured on a dozen classes that are no names of ImageNet's."""
    generator.eval()
    plain = embedder([GENERATOR_TEMPLATES[0].format(thing) for thing in things])
    worded = embedder([GENERATOR_TEMPLATES[9].format(thing) for thing in things])
    count = len(things)

    def noise(text: Tensor, offset: int) -> Tensor:
        z = torch.stack([generator.draw(seed + offset + row) for row in range(count)])
        return cast(Any, generator)(z.to(text.device), text).delta.flatten(1).float()

    first, second, other = noise(plain, 0), noise(plain, count), noise(worded, 0)
    between = F.cosine_similarity(first[:, None], first[None, :], dim=-1)
    apart = between[~torch.eye(count, dtype=torch.bool, device=between.device)]
    return NoiseMeasures(
        same_text=float(F.cosine_similarity(first, second).mean()),
        same_class=float(F.cosine_similarity(first, other).mean()),
        other_class=float(apart.mean()),
        saturated=float((first.abs() > 0.98 * generator.epsilon).float().mean()),
    )


DTYPE = "float32"
"""What generators are trained in, whatever the device would do faster."""

_SIDES = (1.0, 0.75, 0.5)
"""The learner sees pictures at one of these sizes, drawn each step: owners' pictures get resized too."""
_UP, _DOWN, _TOLD = 0.005, 0.002, 10
"""How far the contrast moves in a step, and over how many steps it is judged whether the learner can tell."""
_ASKED = 10
"""Steps that a GPU makes before it is asked for their losses: each question makes it wait."""


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
        Stopped: ``stop`` said so.
    """
    work = GeneratorTraining(pairs, surrogate, generator, embedder, recipe, device, progress)
    run_resumable(work, Checkpoint(checkpoint, work.identity()), stop=stop)
    return work.report()


class GeneratorTraining:
    """One training; a piece of work is a step, on a GPU ten, after which the contrast follows.

    See :func:`train_t2ue`.
    """

    def __init__(
        self, pairs: CaptionPairs, surrogate: ImageText | None, generator: NoiseGenerator, embedder: TextEmbedder,
        recipe: TrainRecipe, device: torch.device, progress: Callable[[TrainProgress], None] | None = None,
    ) -> None:  # fmt: skip
        self.pairs, self.recipe, self.device, self.progress = pairs, recipe, device, progress
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
        self._waiting: list[tuple[dict[str, Tensor], Tensor | None]] = []

    def pieces(self) -> Iterator[bool]:
        """The steps that are left."""
        steps = self.recipe.steps
        asked = 1 if self.device.type == "cpu" else _ASKED
        while self.step < steps:
            for _ in range(min(asked, steps - self.step)):
                self._one_step()
            self._settle()
            if self.step < steps:
                yield False

    def report(self) -> TrainReport:
        """Finish the generator, and say what came of it."""
        steps = self.recipe.steps
        if self.recipe.ema:
            self.generator.load_state_dict(self.mean)
        self.generator.register_to_config(steps=steps, trained_on=self.pairs.name)
        self.generator.eval().cpu()
        self.embedder.cpu()
        means = {name: sum(row[name] for row in self.last) / len(self.last) for name in self.last[-1]}
        measures = measure_noise(self.generator, self.embedder, seed=self.recipe.seed)
        return TrainReport(self.step, means, measures, self.curve)

    # ------------------------------------------------------------------ a step
    def _one_step(self) -> dict[str, Tensor]:
        """The next step. Its losses stay on the device; what they say waits for :meth:`_settle`."""
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
        rows, other, behind = (transfer(index, self.device) for index in (rows, other, behind))
        text, answers = self.text[rows], self.text[other]
        pictures = self.pictures[behind].float() / 255.0
        pictures = 0.5 + self.contrast * (pictures - 0.5)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        total, losses = torch.zeros((), device=self.device), dict[str, Tensor]()
        told: Tensor | None = None
        # In float32 throughout: bfloat16 is computed differently by every kind of processor (DTYPE).
        delta = self._noise(seeds[0], text)
        noisy = noisy_pictures(pictures, delta)
        if self.surrogate is not None:
            losses["surrogate"] = self._surrogate_loss(noisy, other)
            total = total + recipe.surrogate_weight * losses["surrogate"]
        if self.learner is not None:
            losses["learner"], told = self._learner_loss(noisy, answers)
            total = total + recipe.learner_weight * losses["learner"]
        if recipe.diversity:
            losses["sameness"] = sameness(delta, self._noise(seeds[1], text))
            total = total + recipe.diversity * losses["sameness"]
        for optimiser in (self.optimiser, self.learner_optimiser):
            if optimiser is not None:
                optimiser.zero_grad(set_to_none=True)
        total.backward()
        losses = {name: value.detach() for name, value in losses.items()}
        # Elsewhere the next copy tells; nothing is kept of a training that broke down.
        if self.device.type == "cpu" and not math.isfinite(float(total.detach())):
            raise _broken(self.step + 1)
        self._waiting.append(({"": total.detach(), **losses}, told))
        if recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.generator.parameters(), recipe.clip)
        self.optimiser.step()
        if self.learner_optimiser is not None:
            self.learner_optimiser.step()
        self._average()
        self.step += 1
        return losses

    def _settle(self) -> None:
        """Account for the steps since the last time; all that waits comes from the device in one copy."""
        steps = self.recipe.steps
        every, begun = max(1, steps // 100), self.step - len(self._waiting)
        pairs = ((*losses.values(), told) for losses, told in self._waiting)
        flat = [value.float() for values in pairs for value in values if value is not None]
        found = iter(torch.stack(flat).tolist() if flat else [])
        waiting, self._waiting = self._waiting, []
        for step, (tensors, told) in enumerate(waiting, start=begun + 1):
            losses = {name: next(found) for name in tensors}
            if not math.isfinite(losses.pop("")):
                raise _broken(step)
            if told is not None:
                self._pace(next(found))
            if step % every == 0 or step == steps:
                self.curve.append((step, losses))
            if step > 0.9 * steps:
                self.last.append(losses)
            if self.progress is not None:
                self.progress(TrainProgress(step, steps, losses))

    def _wordings(self, chosen: list[int]) -> Tensor:
        """One row of each of these meanings."""
        dice = torch.rand(len(chosen), generator=self.draw).tolist()
        return torch.stack(
            [self.wordings[m][int(die * len(self.wordings[m]))] for m, die in zip(chosen, dice, strict=True)]
        )

    def _noise(self, seeds: list[int], text: Tensor) -> Tensor:
        z = transfer(torch.stack([self.generator.draw(seed) for seed in seeds]), self.device)
        return self.generator(z, text).delta

    def _surrogate_loss(self, noisy: Tensor, rows: Tensor) -> Tensor:
        assert self.surrogate is not None
        assert self.meaning is not None
        count = self.recipe.surrogate_images or len(rows)
        seen, meaning = noisy[:count], self.meaning[rows[:count]]
        return contrastive_loss(self.surrogate(seen), meaning, self.surrogate.scale)

    def _learner_loss(self, noisy: Tensor, text: Tensor) -> tuple[Tensor, Tensor | None]:
        """The loss, and while pictures come up the share of the texts that are told by their noise."""
        assert self.learner is not None
        share = _SIDES[int(torch.randint(len(_SIDES), (), generator=self.draw))]
        side = max(16, round(noisy.shape[-1] * share))
        if side < noisy.shape[-1]:
            noisy = F.interpolate(noisy, (side, side), mode="bilinear", antialias=True, align_corners=False)
        images, texts, scale = self.learner(noisy, text, self.draw)
        told = None
        if self.contrast < 1.0:
            cosines = images.detach() @ texts.detach().T
            right = cosines.argmax(1) == torch.arange(len(cosines), device=cosines.device)
            told = right.float().mean()
        return contrastive_loss(images, texts, scale), told

    def _pace(self, told: float) -> None:
        """Bring the pictures up while the learner can tell the texts, and back a little when it cannot."""
        if self.contrast >= 1.0:
            return
        self.told = [*self.told[1 - _TOLD :], told]
        well = sum(self.told) / len(self.told) > self.recipe.pace
        self.contrast = min(1.0, max(0.0, self.contrast + (_UP if well else -_DOWN)))

    def _renew_learner(self) -> None:
        recipe = self.recipe
        if not recipe.learner_weight or (self.learner is not None and self.learner_age < recipe.learner_life):
            self.learner_age += self.contrast >= 1.0
            return
        self._settle()  # the old one's answers say nothing about the new one
        self._new_learner(recipe.seed + 1 + self.step)
        self.learner_age, self.contrast, self.told = 0, 0.0, []

    def _new_learner(self, seed: int) -> None:
        self.learner = Learner(self.text.shape[1], side=self.recipe.image_side, seed=seed).to(self.device).train()
        self.learner_optimiser = torch.optim.Adam(
            self.learner.parameters(), lr=self.recipe.learner_lr, fused=fused(self.learner.parameters())
        )

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
    def identity(self) -> str:
        """Digest of everything that the training depends on."""
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

    def state_dict(self) -> State:
        """Both networks with their optimisers, and what was drawn so far."""
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
        return tensors, facts

    def load_state_dict(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.step = int(facts["step"])
        self.curve = [(int(step), losses) for step, losses in facts["curve"]]
        self.last, self.told = list(facts["last"]), list(facts["told"])
        self.contrast, self.learner_age = float(facts["contrast"]), int(facts["learner_age"])
        self.generator.load_state_dict(part_of(tensors, "generator"))
        self.mean = {key: value.to(self.device) for key, value in part_of(tensors, "mean").items()}
        unpack_optimiser(self.optimiser, part_of(tensors, "optimiser"))
        self.draw.set_state(tensors["draw"])
        learned = part_of(tensors, "learner")
        if self.recipe.learner_weight and learned:
            self._new_learner(0)
            assert self.learner is not None
            assert self.learner_optimiser is not None
            self.learner.load_state_dict(learned)
            unpack_optimiser(self.learner_optimiser, part_of(tensors, "learner_optimiser"))


def _broken(step: int) -> FitError:
    return FitError(f"The training broke down at step {step}: its loss is no finite number. Use a lower lr.")


def _optimiser(generator: NoiseGenerator, recipe: TrainRecipe) -> torch.optim.Optimizer:
    heavy = [p for p in generator.parameters() if p.ndim > 1]
    light = [p for p in generator.parameters() if p.ndim <= 1]
    groups = [{"params": heavy, "weight_decay": recipe.weight_decay}, {"params": light, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=recipe.lr, betas=recipe.betas, fused=fused(heavy + light))


def _resized(images: Tensor, side: int) -> Tensor:
    parts = [
        F.interpolate(part.float(), (side, side), mode="bilinear", antialias=True, align_corners=False)
        .round()
        .clamp(0, 255)
        .to(torch.uint8)
        for part in images.split(256)
    ]
    return torch.cat(parts)
