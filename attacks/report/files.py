"""Writes the result: report.json for programs, report.html for people, and what is needed to redo the statistics."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...errors import ImageError
from ...imaging import decode, difference_tile, png_data_uri, render_page, thumbnail, write_atomic
from ..data import VerificationData
from ..data.stealth import StealthFile, stealth_csv
from ..schema import Condition, Grade, Plan, VerificationReport
from ..training import CellResult
from .figures import accuracy_bars, learning_curves

__all__ = ["Tile", "choose_tiles", "plan_bytes", "plan_digest", "render_report", "write_plan", "write_report"]

_GAIN = 10
_SIDE = 320
_PIXELATED_BELOW = 160
_MOST_ISSUES = 50
_BADGES: dict[Grade, str] = {
    "strong": "ok",
    "moderate": "ok",
    "weak": "warn",
    "inconclusive": "warn",
    "none": "bad",
    "not graded": "",
    "not tested": "",
}


@dataclass(frozen=True)
class Tile:
    """One picture in three versions, as data URIs.

    Attributes:
        title: which of all it is.
        pixelated: small pictures are enlarged without smoothing.
    """

    title: str
    file: StealthFile
    clean: str
    protected: str
    difference: str
    pixelated: bool


def plan_bytes(plan: Plan) -> bytes:
    """``plan.json`` as it is written and hashed."""
    return plan.model_dump_json(indent=2).encode() + b"\n"


def plan_digest(plan: Plan) -> str:
    """sha256 of ``plan.json``."""
    return hashlib.sha256(plan_bytes(plan)).hexdigest()


def write_plan(folder: Path, plan: Plan) -> None:
    """Write ``plan.json``; done before the first training."""
    write_atomic(folder / "plan.json", plan_bytes(plan), overwrite=True)


def write_report(
    folder: Path,
    report: VerificationReport,
    data: VerificationData,
    cells: Sequence[CellResult],
    labels: Mapping[str, NDArray[np.int64]],
) -> None:
    """Write ``report.json``, ``report.html``, ``stealth.csv`` and ``predictions.npz`` into ``folder``.

    Args:
        folder: where to.
        report: the result.
        data: what it is about.
        cells: every training.
        labels: of the test pictures, by adversary.
    """
    write_atomic(folder / "stealth.csv", stealth_csv(data.files), overwrite=True)
    write_atomic(folder / "predictions.npz", _predictions(cells, data, labels), overwrite=True)
    write_atomic(folder / "report.json", report.model_dump_json(indent=2).encode() + b"\n", overwrite=True)
    write_atomic(folder / "report.html", render_report(report, choose_tiles(data)).encode(), overwrite=True)


def _predictions(cells: Sequence[CellResult], data: VerificationData, labels: Mapping[str, NDArray[np.int64]]) -> bytes:
    """Predicted classes of every training, and the true ones, so that anyone can redo the statistics."""
    arrays: dict[str, np.ndarray] = {"labels": data.test_labels.astype(np.uint16)}
    for adversary, own in labels.items():
        if not np.array_equal(own, data.test_labels):
            arrays[f"labels|{adversary}"] = own.astype(np.uint16)
    for result in cells:
        cell = result.cell
        name = f"{cell.victim}|{cell.adversary}|{cell.arm}|{cell.seed_index}"
        arrays[f"{name}|final"] = result.predictions.astype(np.uint16)
        arrays[f"{name}|peak"] = result.peak_predictions.astype(np.uint16)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def choose_tiles(data: VerificationData) -> list[Tile]:
    """The pictures on which the change shows least, in the middle and most: by rank, never by taste.

    By SSIM where it was measured on all, else by PSNR.
    """
    by_ssim = all(file.ssim is not None for file in data.files)

    def quality(file: StealthFile) -> float:
        value = file.ssim if by_ssim else file.psnr
        return float("inf") if value is None else value

    ranked = sorted(data.files, key=lambda file: (-quality(file), file.source))
    if not ranked:
        return []
    titles = {0: "least", len(ranked) // 2: "in the middle", len(ranked) - 1: "most"}
    tiles = [_tile(title, ranked[rank], data) for rank, title in sorted(titles.items())]
    return [tile for tile in tiles if tile is not None]


def _tile(title: str, file: StealthFile, data: VerificationData) -> Tile | None:
    pixels = _pixels(file, data)
    if pixels is None:
        return None
    before, after = pixels
    small = max(before.shape[:2]) < _PIXELATED_BELOW
    clean, protected, difference = (
        png_data_uri(thumbnail(picture, _SIDE)) for picture in (before, after, difference_tile(before, after, _GAIN))
    )
    return Tile(title, file, clean, protected, difference, small)


def _pixels(file: StealthFile, data: VerificationData) -> tuple[np.ndarray, np.ndarray] | None:
    if data.roots is not None:
        clean, protected = data.roots
        try:
            return decode(clean / file.source).rgb8(), decode(protected / file.output).rgb8()
        except (ImageError, OSError):  # removed since it was checked; the page can do without
            return None
    row = data.keys.index(file.source)
    return data.clean[row].transpose(1, 2, 0), data.protected[row].transpose(1, 2, 0)


def render_report(report: VerificationReport, tiles: Sequence[Tile] = ()) -> str:
    """The HTML page: one file, nothing loaded from elsewhere."""
    tested = [condition for condition in report.conditions if condition.clean is not None]
    return render_page(
        __package__ or "bitterant.attacks",
        "verify.html.j2",
        report=report,
        verdict=report.verdict,
        dataset=report.dataset,
        stealth=report.stealth,
        badges=_BADGES,
        tone=_tone(report),
        tested=tested,
        learned=[condition for condition in tested if condition.metric == "rho"],
        mixing=[condition for condition in tested if condition.metric == "mv"],
        bars=accuracy_bars(tested),
        has_noise=any(condition.noise is not None for condition in tested),
        by_class=any(condition.basis == "balanced accuracy" for condition in tested),
        curves=_curves(report, tested),
        tiles=tiles,
        gain=_GAIN,
        issues=report.dataset.issues[:_MOST_ISSUES],
        minutes=report.wall_seconds / 60,
    )


def _tone(report: VerificationReport) -> str:
    verdict = report.verdict
    if not verdict.valid:
        return "bad"
    grades = {tier.grade for tier in verdict.tiers if tier.upper is not None}
    if not verdict.graded or grades & {"inconclusive", "weak"}:
        return "warn" if "none" not in grades else "bad"
    return "bad" if "none" in grades else "ok"


def _curves(report: VerificationReport, tested: Sequence[Condition]) -> list[tuple[str, str]]:
    result = []
    for condition in tested:
        cells = [c for c in report.cells if c.victim == condition.victim and c.adversary == condition.adversary]
        if any(cell.curve for cell in cells):
            drawing = learning_curves(cells, condition.chance or 0.0)
            result.append((f"{condition.victim}, {condition.adversary}", drawing))
    return result
