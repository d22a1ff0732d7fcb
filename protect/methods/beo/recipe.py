"""The hyper-parameters of Bayes-error ascent, checked, and what is built from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ....errors import ConfigError, UnknownNameError
from ....imaging import Budget, ImageSet
from ....surrogates import (
    ChosenPrecision,
    FrozenSurrogate,
    Precision,
    Surrogate,
    choose_precision,
    create_surrogate,
)
from ..round_trip import RoundTrip
from ..theta import SurrogateTrainer, crop_padding
from .ascent import Stepper
from .copies import Copies
from .posterior import Kind, Scale
from .references import EXACT_LIMIT

__all__ = ["BATCH_SIZE", "CLEAN_TARGET", "UNDERFIT", "BeoRecipe", "Training"]

UNDERFIT = 0.3
"""A surrogate whose uncertainty about the clean images (a leave-one-out error, in [0, 1]) is above this cannot tell the
classes apart: there is nothing to raise. A prototype that began at .70 did nothing at all.
"""

CLEAN_TARGET = 0.1
"""The first training goes on until the uncertainty is at most this, or its cap is reached."""

BATCH_SIZE = 128
_PEAK, _FLOOR = 0.1, 0.02
_PAPER_DECAY = 0.01  # of AdamW, torch's default
_MOST_STEPS = 4000  # of the planned first training, whatever the size of the folder
_LEAST_CAP = 1500  # small folders need steps, not epochs
_ROUND_STEPS = 200  # of the continued training in a round: linear cost would be paid again in every round


@dataclass(frozen=True)
class Training:
    """The plan of one training from scratch, in blocks that are each saved and each a pure function of their number.

    Attributes:
        blocks: planned.
        most: blocks at most, as long as the surrogate is underfit.
        steps: optimiser steps of a block.
    """

    blocks: int
    most: int
    steps: int


@dataclass(frozen=True, kw_only=True)
class BeoRecipe:
    """Resolved hyper-parameters; see :class:`BayesErrorAscent` for their meaning.

    Raises:
        ConfigError: a value out of range.
        UnknownNameError: no such kind, scaling or rule of ascent.
    """

    budget: Budget
    surrogate: str
    seed: int
    device: torch.device
    weights: Path | None
    allow_download: bool
    preset: Literal["paper"] | None
    kind: Kind
    sigma: float
    scaling: Scale
    ascent: Literal["sign", "adam"]
    step_size: float
    rounds: int
    inner_steps: int
    first_epochs: int
    epochs: int
    restart_every: int
    estimate_images: int
    estimate_steps: int
    rms: float | None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        choices = {"kind": ("max", "true"), "scaling": ("unit", "global"), "ascent": ("sign", "adam")}
        for field, known in choices.items():
            if getattr(self, field) not in known:
                raise UnknownNameError(f"{field} of beo", str(getattr(self, field)), known)
        whole = {"rounds": 1, "inner_steps": 1, "first_epochs": 1, "epochs": 1, "restart_every": 0}
        for field, least in {**whole, "estimate_images": 0, "estimate_steps": 1}.items():
            if getattr(self, field) < least:
                raise ConfigError(f"{field} must be at least {least}, not {getattr(self, field)}.")
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ConfigError(f"sigma must be a positive number, not {self.sigma}. Usual values lie between .1 and 1.")
        if self.rms is not None and not (math.isfinite(self.rms) and self.rms * 255 >= 1):
            raise ConfigError(
                f"rms {self.rms} is under one level of 255: such a perturbation would be rounded away. "
                "It is a fraction of the full range; 4 levels are 4/255 = 0.0157."
            )
        if not 0 < self.step_size <= 2 * self.budget.epsilon:
            raise ConfigError(f"step_size {self.step_size:g} must lie in (0, 2 epsilon].")

    @property
    def paper(self) -> bool:
        """Whether this is the public code's schedule."""
        return self.preset == "paper"

    def settings(self) -> dict[str, Any]:
        """Those that the base class does not know, JSON-safe."""
        names = ("preset", "kind", "sigma", "scaling", "ascent", "step_size", "rounds", "inner_steps", "first_epochs")
        return {
            name: getattr(self, name)
            for name in (*names, "epochs", "restart_every", "estimate_images", "estimate_steps", "rms", "precision")
        }

    def starts_anew(self, number: int) -> bool:
        """Whether a fresh surrogate is trained from scratch at the start of this round."""
        return number == 0 or (self.restart_every > 0 and number % self.restart_every == 0)

    def trainer(self, points: ImageSet, number: int) -> SurrogateTrainer:
        """A fresh surrogate for this round; another draw of its weights in each."""
        assert points.labels is not None
        model = create_surrogate(
            self.surrogate,
            num_classes=len(points.classes),
            resolution=points.resolution,
            seed=self.derived_seed(number, 0, 0),
            weights=self.weights,
            allow_download=self.allow_download,
        )
        return SurrogateTrainer(
            model, points.images, points.labels, batch_size=BATCH_SIZE, augment=not self.paper, lr=_PEAK,
            clip_norm=math.inf if self.paper else 5.0, precision=self.precision,
        )  # fmt: skip

    def training(self, count: int) -> Training:
        """The plan of a training from scratch on ``count`` images."""
        epoch = -(-count // BATCH_SIZE)
        if self.paper:
            return Training(blocks=self.first_epochs, most=self.first_epochs, steps=epoch)
        planned = min(self.first_epochs * epoch, _MOST_STEPS)
        steps = max(10, -(-planned // 10))
        blocks = -(-planned // steps)
        return Training(blocks=blocks, most=max(3 * blocks, -(-_LEAST_CAP // steps)), steps=steps)

    def learning_rate(self, block: int, plan: Training) -> float:
        """That of a block: a half cosine from .1 over the planned ones; ours ends at .02 and stays there."""
        falling = _PEAK * 0.5 * (1 + math.cos(math.pi * min(block, plan.blocks) / plan.blocks))
        return falling if self.paper else max(falling, _FLOOR)

    def round_steps(self, count: int) -> int:
        """Optimiser steps of the continued training in one round on ``count`` images."""
        return min(self.epochs * -(-count // BATCH_SIZE), _ROUND_STEPS)

    @property
    def round_rate(self) -> float:
        """Learning rate of the continued training."""
        return _FLOOR

    def padding(self, resolution: int) -> int:
        """Of the random crops that gradients are taken through, in px; the paper takes none."""
        return 0 if self.paper else crop_padding(resolution)

    def stepper(self, copies: Copies) -> Stepper:
        """What moves the perturbations."""
        decay = _PAPER_DECAY if self.paper and self.ascent == "adam" else 0.0
        return Stepper(copies, self.budget, size=self.step_size, adam=self.ascent == "adam", decay=decay, rms=self.rms)

    def start(self, points: ImageSet, own: int) -> Copies:
        """The images without any perturbation yet; the paper's is kept in single precision."""
        trip = None if self.paper else RoundTrip.of(points)
        return Copies.start(points, own, trip, kind=torch.float32 if self.paper else torch.float16)

    @property
    def most_exact(self) -> int | None:
        """Images that are compared all with all; in the paper any number."""
        return None if self.paper else EXACT_LIMIT

    def members(self, model: Surrogate, resolution: int) -> tuple[list[FrozenSurrogate], dict[str, ChosenPrecision]]:
        """The networks of a surrogate, frozen and giving features, and what each is computed in."""
        frozen: list[FrozenSurrogate] = []
        chosen: dict[str, ChosenPrecision] = {}
        for member in model.members:
            found = choose_precision(member, self.device, resolution=resolution, asked=self.precision)
            chosen[member.name] = found
            frozen.append(FrozenSurrogate(member, bf16=found.bf16, features=True))
        return frozen, chosen

    def derived_seed(self, number: int, stage: int, block: int) -> int:
        """The seed of one piece of work: what is done again is done alike."""
        return (((self.seed * 10007 + number) * 101 + stage) * 10007 + block) % 2**63
