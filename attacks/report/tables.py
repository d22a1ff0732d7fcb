"""Tables beside the report, for spreadsheets and for redoing the statistics."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..schema import CellRecord
from ..training import CellResult

__all__ = ["curves_csv", "predictions_npz"]

_CURVE_COLUMNS = (
    "victim", "adversary", "arm", "seed_index", "victim_seed", "step", "epoch", "train_loss", "train_accuracy",
    "test_accuracy",
)  # fmt: skip


def curves_csv(cells: Sequence[CellRecord]) -> bytes:
    """One line a point of a learning curve. A loss that was not finite, and what was not measured, stay empty."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_CURVE_COLUMNS)
    for cell in cells:
        identity = (cell.victim, cell.adversary, cell.arm, cell.seed_index, cell.victim_seed)
        for point in cell.curve:
            figures = (point.epoch, point.train_loss, point.train_accuracy, point.test_accuracy)
            writer.writerow((*identity, point.step, *("" if value is None else f"{value:.6g}" for value in figures)))
    return stream.getvalue().encode()


def predictions_npz(
    cells: Sequence[CellResult], test_labels: NDArray[np.int64], labels: Mapping[str, NDArray[np.int64]]
) -> bytes:
    """Predicted classes of every training, and the true ones.

    Args:
        cells: every training.
        test_labels: true classes of the test pictures, ``[M]``.
        labels: the same under each adversary, by name.
    """
    arrays: dict[str, np.ndarray] = {"labels": test_labels.astype(np.uint16)}
    for adversary, own in labels.items():
        if not np.array_equal(own, test_labels):
            arrays[f"labels|{adversary}"] = own.astype(np.uint16)
    for result in cells:
        cell = result.cell
        name = f"{cell.victim}|{cell.adversary}|{cell.arm}|{cell.seed_index}"
        arrays[f"{name}|final"] = result.predictions.astype(np.uint16)
        arrays[f"{name}|peak"] = result.peak_predictions.astype(np.uint16)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()
