"""The hyper-parameters of Unlearnable Clusters, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ....errors import ConfigError, UnknownNameError
from ....surrogates import Precision
from ..emn.recipe import TINT, EmnRecipe

__all__ = ["OBJECTIVES", "UcRecipe"]

OBJECTIVES = ("labels", "features", "joint")
_PARAMETRISATIONS = ("pixels", "generator")


@dataclass(frozen=True, kw_only=True)
class UcRecipe:
    """Resolved hyper-parameters; see :class:`UnlearnableClusters` for their meaning.

    Raises:
        ConfigError: a value out of range.
        UnknownNameError: an unknown word.
    """

    epsilon: float
    surrogate: str
    seed: int
    device: torch.device
    weights: Path | None
    allow_download: bool
    preset: Literal["paper"] | None
    clusters: int | None
    objective: str
    parametrisation: str
    bound: str
    width: int
    lr: float
    weight_decay: float
    step_size: float
    rounds: int
    updates: int
    batch_size: int
    windows: bool
    train_on: str
    label_surrogate: str
    attempts: int
    pull_weight: float
    pull_images: int
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        for kind, value, known in (
            ("objective of uc", self.objective, OBJECTIVES),
            ("parametrisation of uc", self.parametrisation, _PARAMETRISATIONS),
            ("bound of uc", self.bound, ("clamp", "tanh")),
            ("train_on of uc", self.train_on, ("all", "cluster")),
        ):
            if value not in known:
                raise UnknownNameError(kind, value, known)
        if self.clusters is not None and self.clusters < 2:
            raise ConfigError(f"clusters must be at least 2, not {self.clusters}: one pushes pictures nowhere.")
        for field in ("rounds", "updates", "batch_size", "width", "pull_images"):
            if getattr(self, field) < 1:
                raise ConfigError(f"{field} must be at least 1, not {getattr(self, field)}.")
        if not 0 < self.step_size <= 2 * self.epsilon:
            raise ConfigError(f"step_size {self.step_size:g} must lie in (0, 2 epsilon].")
        if self.attempts < 0:
            raise ConfigError(f"attempts must be at least 0, not {self.attempts}.")
        numbers = (self.lr, self.weight_decay, self.pull_weight, self.step_size)
        if not all(math.isfinite(number) for number in numbers):
            raise ConfigError("lr, weight_decay, pull_weight and step_size must be finite numbers.")
        if self.parametrisation == "generator" and self.objective != "features":
            raise ConfigError(
                f"The generator serves the objective features only, not {self.objective}. Leave one of the two out."
            )
        if self.lr <= 0 or self.weight_decay < 0 or self.pull_weight < 0:
            raise ConfigError("lr must be positive, weight_decay and pull_weight not negative.")

    @property
    def paper(self) -> bool:
        """Whether this is the published schedule."""
        return self.preset == "paper"

    def labelled(self) -> EmnRecipe:
        """Error-minimizing noise for the numbers of clusters."""
        return EmnRecipe(
            granularity="class", epsilon=self.epsilon, surrogate=self.label_surrogate, seed=self.seed,
            device=self.device, weights=None, allow_download=self.allow_download, preset=None,
            step_size=self.step_size, theta_steps=10, rounds=self.rounds, sample_rounds=3, pgd_steps=5,
            stop_error=0.01, attempts=self.attempts, target=0.2, tint=TINT,
            precision=self.precision,
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """Those that the base class does not know, JSON-safe."""
        names = (
            "preset", "clusters", "objective", "parametrisation", "bound", "width", "lr", "weight_decay", "step_size",
            "rounds", "updates", "batch_size", "windows", "train_on", "label_surrogate", "attempts", "pull_weight",
            "pull_images", "precision",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def derived_seed(self, stage: int, number: int) -> int:
        """The seed of one round: a round that is done again is the same round."""
        return ((self.seed * 1009 + stage) * 1_000_003 + number) % 2**63
