"""A cell of the grid: one training of one victim on one arm, as a pure function of its task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...surrogates import CurvePoint, Recipe, train_classifier
from ..schema import Arm, CellRecord, CurveRow
from .victims import create_victim

__all__ = ["Cell", "CellResult", "CellTask", "run_cell"]


@dataclass(frozen=True)
class Cell:
    """Arm x adversary x victim x seed.

    Attributes:
        adversary: the one whose pictures are trained on; free adversaries read the cells of another.
        seed_index: 0, 1, ...: which of the repeats.
        victim_seed: what initial weights, batch order and augmentation are drawn from.
    """

    arm: Arm
    adversary: str
    victim: str
    seed_index: int
    victim_seed: int


@dataclass(frozen=True)
class CellTask:
    """A cell with all it needs; small enough to be sent to another process.

    The four arrays are ``.npy`` files, so that any number of workers share one copy in the page cache.
    """

    cell: Cell
    recipe: Recipe
    classes: int
    device: str
    evals: int
    train_images: Path
    train_labels: Path
    test_images: Path
    test_labels: Path


@dataclass(frozen=True)
class CellResult:
    """What a training left.

    Attributes:
        predictions: int64 ``[M]`` on the test pictures at the end.
        peak_predictions: the same at the step with the best test accuracy.
    """

    cell: Cell
    steps: int
    train_accuracy: float
    final_loss: float
    finite: bool
    predictions: NDArray[np.int64]
    peak_predictions: NDArray[np.int64]
    peak_step: int
    curve: tuple[CurvePoint, ...]
    seconds: float

    def record(self, labels: NDArray[np.int64]) -> CellRecord:
        """The row of the report; ``labels`` are those of the test pictures."""
        return CellRecord(
            arm=self.cell.arm,
            adversary=self.cell.adversary,
            victim=self.cell.victim,
            seed_index=self.cell.seed_index,
            victim_seed=self.cell.victim_seed,
            steps=self.steps,
            train_accuracy=self.train_accuracy,
            final_loss=_finite(self.final_loss),
            finite=self.finite,
            accuracy=float((self.predictions == labels).mean()),
            peak_accuracy=float((self.peak_predictions == labels).mean()),
            peak_step=self.peak_step,
            seconds=round(self.seconds, 3),
            curve=tuple(
                CurveRow(
                    step=point.step,
                    epoch=point.epoch,
                    train_loss=_finite(point.train_loss),
                    train_accuracy=point.train_accuracy,
                    test_accuracy=point.test_accuracy,
                )
                for point in self.curve
            ),
        )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


@contextmanager
def _one_thread(device: str) -> Iterator[None]:
    """One thread on a CPU: sums then run in one order, so the result is the same however many workers there are."""
    if not device.startswith("cpu"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _load(path: Path) -> torch.Tensor:
    return torch.from_numpy(np.array(np.load(path, mmap_mode="r", allow_pickle=False)))


def run_cell(task: CellTask) -> CellResult:
    """Train and test one victim. The same task gives the same result in any process."""
    images, labels = _load(task.train_images), _load(task.train_labels)
    test_images, test_labels = _load(task.test_images), _load(task.test_labels)
    cell = task.cell
    with _one_thread(task.device):
        victim = create_victim(
            cell.victim, num_classes=task.classes, resolution=int(images.shape[-1]), seed=cell.victim_seed
        )
        result = train_classifier(
            victim,
            images,
            labels,
            task.recipe,
            seed=cell.victim_seed,
            test_images=test_images,
            test_labels=test_labels,
            evals=task.evals,
            device=task.device,
        )
    # Without any prediction the loss was not finite before the first look at the test pictures; G7 will say so.
    empty = torch.zeros(len(test_labels), dtype=torch.int64)
    predictions = empty if result.predictions is None else result.predictions
    peak_predictions = predictions if result.peak_predictions is None else result.peak_predictions
    return CellResult(
        cell=cell,
        steps=result.steps,
        train_accuracy=result.train_accuracy,
        final_loss=result.final_loss,
        finite=result.finite,
        predictions=predictions.cpu().numpy(),
        peak_predictions=peak_predictions.cpu().numpy(),
        peak_step=result.peak_step,
        curve=result.curve,
        seconds=result.seconds,
    )
