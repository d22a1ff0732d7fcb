"""A cell of the grid: one training of one victim, or of one probe, on one arm, as a pure function of its task."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...surrogates import CurvePoint, Recipe
from ...surrogates.arithmetic import one_thread
from ...surrogates.probes import probe
from ...surrogates.tasks import FileTask
from ..adversaries.learning import Learner, PlainTraining, TrainingJob
from ..own_victims import Victim
from ..schema import CellRecord, CurveRow
from ..terms import Arm, Fit
from .store import Inputs


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
class CellTask(FileTask):
    """A cell with all it needs; small enough to be sent to another process.

    The arrays are ``.npy`` files, so that any number of workers share one copy in the page cache. The checkpoint is
    the network that adversaries go on from; most cells have to do with none.

    Attributes:
        fit: what learns.
        recipe: how a network is trained; ``None`` for probes.
        learner: who trains it; ``None`` for the plain training.
        own: the victim itself, where it is none of ours.
    """

    cell: Cell
    fit: Fit
    recipe: Recipe | None
    inputs: Inputs
    device: str
    evals: int
    learner: Learner | None = None
    own: Victim | None = None

    def reads(self) -> tuple[Path, ...]:
        """See :class:`FileTask`."""
        return self.inputs.paths()


@dataclass(frozen=True)
class CellResult:
    """What a training left.

    Attributes:
        steps: optimiser steps; 0 for probes, which are solved and not trained step by step.
        predictions: int64 ``[M]`` on the test pictures at the end.
        peak_predictions: the same at the step with the best test accuracy.
        validated_predictions: the same at the step that is best for other clean pictures (see the function of that
            name); ``None`` where the end is all there is.
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
    validated_predictions: NDArray[np.int64] | None = None

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
    if task.recipe is not None:
        return _run_network(task)
    paths = (task.inputs.train_images, task.inputs.train_labels, task.inputs.test_images)
    return _run_probe(task, *map(task.load, paths))


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


def _run_network(task: CellTask) -> CellResult:
    job = _job_of(task)
    with one_thread(task.device):
        result = (task.learner or PlainTraining())(job)
    # Without any prediction the loss was not finite before the first look at the test pictures; G7 will say so.
    predictions = torch.zeros_like(job.test_labels) if result.predictions is None else result.predictions
    peak_predictions = predictions if result.peak_predictions is None else result.peak_predictions
    history = predictions[None] if result.history is None else result.history
    return CellResult(
        cell=task.cell,
        steps=result.steps,
        train_accuracy=result.train_accuracy,
        final_loss=result.final_loss,
        finite=result.finite,
        predictions=predictions.cpu().numpy(),
        peak_predictions=peak_predictions.cpu().numpy(),
        peak_step=result.peak_step,
        curve=result.curve,
        seconds=result.seconds,
        validated_predictions=validated_predictions(history.cpu().numpy(), job.test_labels.numpy()),
    )


def _job_of(task: CellTask) -> TrainingJob:
    cell, inputs = task.cell, task.inputs
    assert task.recipe is not None

    def read(path: Path | None) -> torch.Tensor | None:
        return None if path is None else torch.from_numpy(task.load(path))

    images, labels, test_images, test_labels = (
        torch.from_numpy(task.load(path))
        for path in (inputs.train_images, inputs.train_labels, inputs.test_images, inputs.test_labels)
    )
    return TrainingJob(
        arm=cell.arm,
        victim=cell.victim,
        classes=inputs.classes,
        images=images,
        labels=labels,
        test_images=test_images,
        test_labels=test_labels,
        clean_subset_images=read(inputs.clean_subset_images),
        clean_subset_labels=read(inputs.clean_subset_labels),
        recipe=task.recipe,
        seed=cell.victim_seed,
        evals=task.evals,
        device=task.device,
        checkpoint=task.checkpoint,
        clean_subset_in_arm=read(inputs.clean_subset_in_arm),
        own=task.own,
    )


VALIDATION = 200
"""Pictures that a choice rests on, at most: a trainer who had many more would train on them."""


def validated_predictions(
    history: NDArray[np.int64], labels: NDArray[np.int64], *, size: int = VALIDATION
) -> NDArray[np.int64]:
    """For each half of the test pictures, the predictions at the moment that is best for pictures of the other half.

    The halves are fixed, at random: they do not depend on the seed of the training, so arms stay paired.

    Args:
        history: predictions ``[E, M]`` at each moment.
        labels: int64 ``[M]``.
        size: pictures a choice rests on, at most.

    Returns:
        Predictions int64 ``[M]``; of equally good moments, the later.
    """
    order = np.random.default_rng(0).permutation(len(labels))
    halves = order[: len(order) // 2], order[len(order) // 2 :]
    result = history[-1].copy()
    for judged, choosing in (halves, halves[::-1]):
        if len(choosing) == 0:
            continue
        rows = choosing[:size]
        accuracy = (history[:, rows] == labels[rows]).mean(axis=1)
        best = len(accuracy) - 1 - int(accuracy[::-1].argmax())
        result[judged] = history[best, judged]
    return result
