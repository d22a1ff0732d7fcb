"""The hyper-parameters of error-minimizing noise, checked, and what is built from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ....errors import ConfigError
from ....imaging import ImageSet
from ....surrogates import Precision, create_surrogate
from ...bank import Granularity
from ..round_trip import RoundTrip
from ..theta import SurrogateTrainer
from ..tint import TintBound
from .stages import ClassStage, SampleStage

__all__ = ["PAPER_ROUNDS", "TINT", "EmnRecipe"]

PAPER_ROUNDS = 1000
"""The official code goes on until the error is small enough, ten rounds on CIFAR-10; some sets never get there."""


#: Levels by which slow colours may shift, unless the preset is the paper's.
TINT = 0.0


@dataclass(frozen=True, kw_only=True)
class EmnRecipe:
    """Resolved hyper-parameters; see :class:`ErrorMinimizing` for their meaning.

    Raises:
        ConfigError: a value out of range.
    """

    granularity: Granularity
    epsilon: float
    surrogate: str
    seed: int
    device: torch.device
    weights: Path | None
    allow_download: bool
    preset: Literal["paper"] | None
    step_size: float
    theta_steps: int
    rounds: int
    sample_rounds: int
    pgd_steps: int
    stop_error: float
    attempts: int
    target: float
    tint: float | None = None
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        whole = {"theta_steps": 1, "rounds": 1, "sample_rounds": 1, "pgd_steps": 1, "attempts": 0}
        for field, least in whole.items():
            if getattr(self, field) < least:
                raise ConfigError(f"{field} must be at least {least}, not {getattr(self, field)}.")
        if not 0 < self.step_size <= 2 * self.epsilon:
            raise ConfigError(f"step_size {self.step_size:g} must lie in (0, 2 epsilon].")
        if self.tint is not None and not 0.0 <= self.tint <= 255.0:
            raise ConfigError(f"tint is a number of levels from 0 to 255, not {self.tint}.")
        for field in ("stop_error", "target"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ConfigError(f"{field} is a share in [0, 1], not {getattr(self, field)}.")

    @property
    def paper(self) -> bool:
        """Whether this is the published schedule."""
        return self.preset == "paper"

    @property
    def batch_size(self) -> int:
        """Images a step of the surrogate and a pass of the sweep."""
        return 512 if self.paper else 128

    def settings(self) -> dict[str, Any]:
        """Those that the base class does not know, JSON-safe."""
        names = ("preset", "step_size", "theta_steps", "rounds", "sample_rounds", "pgd_steps", "stop_error")
        return {name: getattr(self, name) for name in (*names, "attempts", "target", "tint", "precision")}

    def tint_bound(self, dataset: ImageSet) -> TintBound | None:
        """The bound on slow colours at the resolution of ``dataset``, where there is one."""
        return None if self.tint is None else TintBound(dataset.resolution, self.tint, dataset.images.device)

    def class_stage(self, dataset: ImageSet) -> ClassStage:
        """The class-wise stage with these hyper-parameters."""
        paper = self.paper
        return ClassStage(
            dataset=dataset,
            epsilon=self.epsilon,
            step_size=self.step_size,
            theta_steps=self.theta_steps,
            rounds=self.rounds,
            min_rounds=1 if paper else min(self.rounds, 20),
            stop_error=self.stop_error,
            batch_size=self.batch_size,
            through_shifts=not paper,
            trip=None if paper else RoundTrip.of(dataset),
            tint=self.tint_bound(dataset),
            paper=paper,
            subset_seed=self.derived_seed(0, 9, 0),
        )

    def sample_stage(self, dataset: ImageSet) -> SampleStage:
        """The sample-wise stage with these hyper-parameters."""
        paper = self.paper
        return SampleStage(
            dataset=dataset,
            epsilon=self.epsilon,
            step_size=self.epsilon / 10,
            theta_steps=self.theta_steps,
            rounds=self.sample_rounds,
            min_rounds=1,
            stop_error=self.stop_error,
            batch_size=self.batch_size,
            through_shifts=not paper,
            trip=None if paper else RoundTrip.of(dataset),
            tint=self.tint_bound(dataset),
            paper=paper,
            steps=self.pgd_steps,
            skip_below=0.0 if paper else 0.01,
        )

    def trainer(self, dataset: ImageSet, attempt: int) -> SurrogateTrainer:
        """A fresh surrogate; another draw of its weights in every attempt."""
        assert dataset.labels is not None
        model = create_surrogate(
            self.surrogate,
            num_classes=len(dataset.classes),
            resolution=dataset.resolution,
            seed=self.derived_seed(attempt, 0, 0),
            weights=self.weights,
            allow_download=self.allow_download,
        )
        return SurrogateTrainer(
            model, dataset.images, dataset.labels, batch_size=self.batch_size, augment=not self.paper,
            clamp=not self.paper, precision=self.precision,
        )  # fmt: skip

    def derived_seed(self, attempt: int, stage: int, number: int) -> int:
        """The seed of one round: a round that is done again is the same round."""
        # torch takes 64 bits; a seed of 31 would need 65.
        return (((self.seed * 1009 + attempt) * 1009 + stage) * 10007 + number) % 2**63
