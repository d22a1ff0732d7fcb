"""What every method shares: checks, identity of perturbations, projection, progress, resumption.

``fit`` is final. The base does not trust the method: whatever ``_fit`` returns is projected, put on the 8-bit grid
and checked before it becomes a bank.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, final

import torch
from torch import Tensor

from ..._version import __version__
from ...errors import ConfigError, LabelError
from ...imaging import Budget, ImageSet
from ...surrogates import resolve_device
from ..bank import Bank, Granularity
from .checkpoint import Checkpoint

__all__ = ["FitContext", "FitEstimate", "FitProgress", "Method", "ProgressCallback"]


@dataclass(frozen=True)
class FitProgress:
    """Where a fit stands: the stage's name, the share of the fit done in [0, 1], a line for people, figures."""

    stage: str
    fraction: float
    message: str = ""
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class FitEstimate:
    """What a fit will cost: wall seconds, and peak bytes of tensors beyond the image set."""

    seconds: float
    peak_bytes: int


ProgressCallback = Callable[[FitProgress], None]


class FitContext:
    """What a method gets besides data: where to report, where to keep its state."""

    def __init__(self, progress: ProgressCallback | None, checkpoint: Checkpoint) -> None:
        self._progress = progress
        self.checkpoint = checkpoint
        self.report: dict[str, Any] = {}
        self.surrogate_sha256 = ""

    def tell(self, stage: str, fraction: float, message: str = "", **metrics: float) -> None:
        """Report progress; never fails without a listener."""
        if self._progress is not None:
            self._progress(FitProgress(stage, min(1.0, max(0.0, fraction)), message, metrics))


class Method(ABC):
    """A way to make data unlearnable. Hyper-parameters are keyword-only; data comes with :meth:`fit`.

    Class attributes:
        name: registry name.
        needs: ``labels`` or ``nothing``.
        granularities: those it offers, the default first.
        default_surrogate: registry name, or ``None`` for methods without a surrogate.
    """

    name: ClassVar[str]
    needs: ClassVar[Literal["labels", "nothing"]]
    granularities: ClassVar[tuple[Granularity, ...]]
    default_surrogate: ClassVar[str | None] = None

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
    ) -> None:
        chosen = granularity or self.granularities[0]
        if chosen not in self.granularities:
            raise ConfigError(f"{self.name} works per {' or per '.join(self.granularities)}, not per {chosen}.")
        if not 0 <= seed < 2**31:
            raise ConfigError(f"The seed must lie in 0..{2**31 - 1}, not {seed}.")
        self.budget = budget or Budget(8 / 255)
        self.granularity: Granularity = chosen
        self.surrogate = surrogate or self.default_surrogate
        self.seed = seed
        self.device = resolve_device(device)
        self.weights = weights
        self.allow_download = allow_download

    # ------------------------------------------------------------------ for users
    @final
    def fit(
        self,
        dataset: ImageSet,
        *,
        progress: ProgressCallback | None = None,
        checkpoint: Path | None = None,
    ) -> Bank:
        """Craft the perturbations of a data set.

        Args:
            dataset: images uint8 ``[N, 3, R, R]``, with labels where the method needs them. Their order does not
                matter: work is done in the order of the keys.
            progress: called often, with what is going on.
            checkpoint: a file in which state is kept while fitting; a fit that was killed goes on from it and ends
                with the same bank. It is removed at the end by the caller.

        Returns:
            A bank with one perturbation a class, or one a distinct key.

        Raises:
            LabelError: labels are needed and absent, or fewer than two classes have images.
            ConfigError: no images.
        """
        self._check(dataset)
        ordered = _in_key_order(dataset)
        rows = ordered.classes if self.granularity == "class" else ordered.keys
        context = FitContext(progress, Checkpoint(checkpoint, self._identity(ordered)))
        delta = self._fit(ordered, context)
        expected = (len(rows), 3, ordered.resolution, ordered.resolution)
        if tuple(delta.shape) != expected:
            raise RuntimeError(f"{self.name} returned {tuple(delta.shape)} where {expected} was due.")
        levels = self.budget.quantise(self.budget.project(torch.nan_to_num(delta.detach().float().cpu())))
        return Bank(
            method=self.name,
            granularity=self.granularity,
            budget=self.budget,
            levels=levels,
            keys=tuple(rows),
            surrogate=self.surrogate or "",
            surrogate_sha256=context.surrogate_sha256,
            seed=self.seed,
            report=context.report,
        )

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe."""
        return {
            "method": self.name,
            "granularity": self.granularity,
            "epsilon": self.budget.epsilon,
            "norm": self.budget.norm,
            "surrogate": self.surrogate,
            "weights": str(self.weights) if self.weights else None,
            "seed": self.seed,
            "device": str(self.device),
        }

    def estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        """The cost of fitting ``total`` images like those of ``dataset``, measured on a first batch."""
        self._check(dataset)
        return self._estimate(_in_key_order(dataset), total)

    def __repr__(self) -> str:
        shown = {k: v for k, v in self.settings().items() if k not in ("method", "norm", "device", "weights")}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    # ------------------------------------------------------------------ for authors of methods
    @abstractmethod
    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        """Float ``[M, 3, R, R]`` in units of the full range: a row a class, or a row an image of ``dataset``."""

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return FitEstimate(seconds=0.0, peak_bytes=0)

    # ------------------------------------------------------------------ inside
    def _check(self, dataset: ImageSet) -> None:
        if len(dataset) == 0:
            raise ConfigError("There are no images to fit on.")
        if self.needs == "labels":
            if dataset.labels is None:
                raise LabelError(f"{self.name} needs labels: put the pictures in one folder per class.")
            present = int((torch.bincount(dataset.labels, minlength=1) > 0).sum())
            if present < 2:
                raise LabelError(
                    f"{self.name} needs at least two classes, and the images are all of one: there is nothing for a "
                    "shortcut to tell apart. Add a folder of other pictures as a second class."
                )
        if self.granularity == "class" and dataset.labels is None:
            raise LabelError(f"{self.name} per class needs labels; give them, or work per sample.")

    def _identity(self, dataset: ImageSet) -> str:
        parts = json.dumps(
            [__version__, self.settings(), dataset.classes, dataset.keys, dataset.native_size], sort_keys=True
        )
        digest = hashlib.sha256(parts.encode())
        digest.update(dataset.images.numpy().tobytes())
        return digest.hexdigest()


def _in_key_order(dataset: ImageSet) -> ImageSet:
    """One image a key, sorted by key: the order of files, and their copies, cannot change the result."""
    first: dict[str, int] = {}
    for position, key in enumerate(dataset.keys):
        first.setdefault(key, position)
    return dataset.select([first[key] for key in sorted(first)])
