"""Trainings that are done, one file each, so that nobody has to do them again."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import OutputError
from ...imaging import sweep_temporaries_of, write_atomic
from ...surrogates import CurvePoint
from .cells import Cell, CellResult
from .keys import CELL_FORMAT, Identity

__all__ = ["CellCache"]

logger = logging.getLogger(__name__)

_FORMAT = "bitterant-cell"
# https://bford.info/cachedir: programs that make backups know it, and leave out what can be made again.
_TAG = b"Signature: 8a477f597d28d172789f06886806bc55\n# Trainings of 'bitterant verify'. May be deleted at any time.\n"


class CellCache:
    """A folder of finished cells. Any number of verifications may share one, also at the same time.

    A file appears whole or not at all. What cannot be read, or is not what its name says, is told and trained again;
    what cannot be kept is told once. Neither stops a run.

    Args:
        folder: made if it is not there.
        fresh: do not read what is there; it is replaced.

    Raises:
        OutputError: nothing can be written there.
    """

    def __init__(self, folder: Path, *, fresh: bool = False) -> None:
        self.folder, self._fresh = folder, fresh
        self._told = False
        self._networks: set[Path] = set()
        write_atomic(folder / "CACHEDIR.TAG", _TAG, overwrite=_is_tag)

    def read(self, identity: Identity, cell: Cell, tests: int) -> CellResult | None:
        """The kept result of a cell.

        Args:
            identity: what it depends on.
            cell: whose result it shall be; the file does not know how others call it.
            tests: number of test pictures.

        Returns:
            ``None`` where there is none, or none that can be used.
        """
        path = self._path(identity)
        if self._fresh:
            return None
        if not path.exists():
            sweep_temporaries_of(path)
            return None
        try:
            return _read(path, identity.key, cell, tests)
        except Exception as error:  # a file may hold anything, and its training can be done again
            logger.warning(
                "%s is not used: %s. Its training is done again.", path, f"{error}".rstrip(".") or type(error).__name__
            )
            return None

    def write(self, identity: Identity, result: CellResult) -> None:
        """Keep the result of a cell."""
        try:
            write_atomic(self._path(identity), _bytes(identity, result), overwrite=True, private=True)
        except OutputError as error:
            if not self._told:
                logger.warning("Finished trainings cannot be kept, so a stopped run would do them again: %s", error)
            self._told = True

    def network(self, identity: Identity) -> Path:
        """File for the trained network of this identity; who goes on from it reads it, or trains it anew."""
        path = self.folder / f"{identity.key}.safetensors"
        if path not in self._networks:
            self._networks.add(path)
            if self._fresh:
                with suppress(OSError):
                    path.unlink(missing_ok=True)
        return path

    def close(self) -> None:
        """Remove what workers that were stopped left half-written. Only call it when they are gone."""
        for path in self._networks:
            sweep_temporaries_of(path)

    def _path(self, identity: Identity) -> Path:
        return self.folder / f"{identity.key}.npz"


def _is_tag(path: Path) -> bool:
    """Whether a folder is marked already, by whatever program."""
    return path.read_bytes()[:43] == _TAG[:43]


def _bytes(identity: Identity, result: CellResult) -> bytes:
    about = {
        "format": _FORMAT,
        "version": CELL_FORMAT,
        "key": identity.key,
        "identity": json.loads(identity.facts),
        "steps": result.steps,
        "peak_step": result.peak_step,
        "finite": result.finite,
    }
    arrays: dict[str, NDArray[np.generic]] = {
        "about": np.array(json.dumps(about)),
        # Numbers as arrays: JSON has no words for those that are not finite.
        "numbers": np.array([result.train_accuracy, result.final_loss, result.seconds], dtype=np.float64),
        "curve": _table(result.curve),
        "predictions": result.predictions,
        "peak_predictions": result.peak_predictions,
    }
    if result.validated_predictions is not None:
        arrays["validated_predictions"] = result.validated_predictions
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _table(curve: Sequence[CurvePoint]) -> NDArray[np.float64]:
    rows = [
        (p.step, p.epoch, p.train_loss, p.train_accuracy, np.nan if p.test_accuracy is None else p.test_accuracy)
        for p in curve
    ]
    return np.array(rows, dtype=np.float64).reshape(-1, 5)


def _read(path: Path, key: str, cell: Cell, tests: int) -> CellResult:
    """The result in a file.

    Raises:
        Exception: whatever reading a file can raise that is damaged; ValueError where it is not the one looked for.
    """
    with np.load(path, allow_pickle=False) as saved:
        about = json.loads(str(saved["about"]))
        if (about["format"], about["version"], about["key"]) != (_FORMAT, CELL_FORMAT, key):
            raise ValueError("it holds another training than its name says")
        names = ("predictions", "peak_predictions", "validated_predictions")
        told = {name: saved[name] for name in names if name in saved}
        train_accuracy, final_loss, seconds = saved["numbers"].tolist()
        rows = saved["curve"].tolist()
    for predictions in told.values():
        if predictions.shape != (tests,) or predictions.dtype != np.int64:
            raise ValueError(f"it does not hold predictions for {tests} test pictures")
    return CellResult(
        cell=cell,
        steps=int(about["steps"]),
        train_accuracy=train_accuracy,
        final_loss=final_loss,
        finite=bool(about["finite"]),
        predictions=told["predictions"],
        peak_predictions=told["peak_predictions"],
        peak_step=int(about["peak_step"]),
        curve=tuple(
            CurvePoint(int(step), epoch, loss, trained, None if tested != tested else tested)
            for step, epoch, loss, trained, tested in rows
        ),
        seconds=seconds,
        validated_predictions=told.get("validated_predictions"),
    )
