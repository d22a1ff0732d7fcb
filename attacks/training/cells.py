"""A cell of the grid: one training of one victim, or of one probe, on one arm, as a pure function of its task."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...surrogates import CurvePoint, Recipe, train_classifier
from ..adversaries import Arm, Fit
from ..schema import CellRecord, CurveRow
from .probes import probe
from .store import Inputs
from .threads import one_thread
from .victims import create_victim

__all__ = ["Cell", "CellResult", "CellTask", "run_cell"]


@dataclass(frozen=True)
class Cell:
    """Arm x adversary x victim x seed.

    Attributes:
        adversary: the one whose pictures and labels are trained on; other conditions may read the cell too.
        victim: of a probe, the frozen network.
        seed_index: 0, 1, ...: which of the repeats.
        victim_seed: what initial weights, batch order and augmentation are drawn from; of a probe, its pictures.
    """

    arm: Arm
    adversary: str
    victim: str
    seed_index: int
    victim_seed: int


@dataclass(frozen=True)
class CellTask:
    """A cell with all it needs; small enough to be sent to another process.

    The arrays are ``.npy`` files, so that any number of workers share one copy in the page cache.

    Attributes:
        fit: what learns.
        recipe: how a network is trained; ``None`` for probes.
    """

    cell: Cell
    fit: Fit
    recipe: Recipe | None
    inputs: Inputs
    device: str
    evals: int


@dataclass(frozen=True)
class CellResult:
    """What a training left.

    Attributes:
        steps: optimiser steps; 0 for probes, which are solved and not trained step by step.
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


def run_cell(task: CellTask) -> CellResult:
    """Train and test one victim or probe. The same task gives the same result in any process."""
    paths = (task.inputs.train_images, task.inputs.train_labels, task.inputs.test_images, task.inputs.test_labels)
    images, labels, test_images, test_labels = (np.load(path, allow_pickle=False) for path in paths)
    if task.recipe is None:
        return _run_probe(task, images, labels, test_images)
    return _run_network(task, *(torch.from_numpy(array) for array in (images, labels, test_images, test_labels)))


def _run_probe(
    task: CellTask, features: NDArray[np.float32], labels: NDArray[np.int64], tested: NDArray[np.float32]
) -> CellResult:
    begun = time.perf_counter()
    assert task.fit != "network"
    fitted, predictions = probe(task.fit, features, labels, tested, seed=task.cell.victim_seed)
    return CellResult(
        cell=task.cell,
        steps=0,
        train_accuracy=float((fitted == labels).mean()),
        final_loss=math.nan,
        finite=bool(np.isfinite(features).all() and np.isfinite(tested).all()),
        predictions=predictions,
        peak_predictions=predictions,
        peak_step=0,
        curve=(),
        seconds=time.perf_counter() - begun,
    )


def _run_network(
    task: CellTask, images: torch.Tensor, labels: torch.Tensor, test_images: torch.Tensor, test_labels: torch.Tensor
) -> CellResult:
    cell = task.cell
    assert task.recipe is not None
    with one_thread(task.device):
        victim = create_victim(
            cell.victim, num_classes=task.inputs.classes, resolution=int(images.shape[-1]), seed=cell.victim_seed
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
