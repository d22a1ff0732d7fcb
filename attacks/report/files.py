"""Writes the result: report.json for programs, report.html for people, and what is needed to redo the statistics."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...imaging import write_atomic
from ..data import VerificationData, stealth_csv
from ..places import is_own_report_file
from ..schema import Plan, VerificationReport
from ..training import CellResult
from .page import render_report
from .spectrum import Powers
from .tables import curves_csv, predictions_npz
from .tiles import choose_tiles

__all__ = ["REPORT_FILES", "plan_bytes", "plan_digest", "report_bytes", "write_plan", "write_report"]

REPORT_FILES = ("plan.json", "stealth.csv", "curves.csv", "predictions.npz", "report.json", "report.html")
"""Names of all files beside each other in the folder of a report."""

_NUMBERS = re.compile(rb"\[\s+((?:-?[0-9][-0-9.eE+]*|null)(?:,\s+(?:-?[0-9][-0-9.eE+]*|null))*)\s+\]")


def plan_bytes(plan: Plan) -> bytes:
    """``plan.json`` as it is written and hashed."""
    return plan.model_dump_json(indent=2).encode() + b"\n"


def plan_digest(plan: Plan) -> str:
    """sha256 of ``plan.json``."""
    return hashlib.sha256(plan_bytes(plan)).hexdigest()


def report_bytes(report: VerificationReport) -> bytes:
    """``report.json``: indented, with every list of numbers on one line."""
    text = report.model_dump_json(indent=2).encode() + b"\n"
    # Inside a text a line break is written as two signs, so nothing that spans lines can be part of one.
    return _NUMBERS.sub(lambda found: b"[" + b", ".join(re.split(rb",\s+", found[1])) + b"]", text)


def write_plan(folder: Path, plan: Plan) -> None:
    """Write ``plan.json``; done before the first training."""
    write_atomic(folder / "plan.json", plan_bytes(plan), overwrite=is_own_report_file)


def write_report(
    folder: Path,
    report: VerificationReport,
    data: VerificationData,
    cells: Sequence[CellResult],
    labels: Mapping[str, NDArray[np.int64]],
    powers: Powers,
) -> None:
    """Write ``report.json``, ``report.html``, ``stealth.csv``, ``curves.csv`` and ``predictions.npz`` into ``folder``.

    Args:
        folder: where to.
        report: the result.
        data: what it is about.
        cells: every training.
        labels: of the test pictures, by adversary.
        powers: of the change, for the picture of its spectrum.
    """
    page = render_report(report, files=data.files, tiles=choose_tiles(data, seed=report.plan.seed), powers=powers)
    contents = {
        "stealth.csv": stealth_csv(data.files, budget_levels=data.budget_levels),
        "curves.csv": curves_csv(report.cells),
        "predictions.npz": predictions_npz(cells, data.test_labels, labels),
        "report.json": report_bytes(report),
        "report.html": page.encode(),
    }
    for name, content in contents.items():
        write_atomic(folder / name, content, overwrite=is_own_report_file)
