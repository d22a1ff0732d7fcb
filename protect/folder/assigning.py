"""Finding the cluster of each picture that a bank does not know yet, in parts, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ...imaging.loading import load_image_set
from ...imaging.scan import FolderScan
from ..clusters import Assigned, assign, open_space, view_of
from ..records.state import InputRecord
from .interrupt import StopRequest
from .progress import ProgressCallback

__all__ = ["assign_pictures"]

PART = 256
"""Pictures that are in memory at a time."""


def assign_pictures(
    bank: Assigned,
    scan: FolderScan,
    records: Sequence[InputRecord],
    *,
    weights: Path | None,
    allow_download: bool,
    device: str,
    workers: int,
    max_pixels: int,
    progress: ProgressCallback,
    stop: StopRequest,
) -> Assigned:
    """The bank with a cluster for every picture that can be read. Those that cannot will fail when they are written.

    Raises:
        BankError: the surrogate's weights are not those of the fit.
        SetupError: they are not on this machine.
        Interrupted: a stop was asked for.
    """
    keys = {record.relative: record.key for record in records if record.kind == "image"}
    unknown = [entry for entry in scan.entries if (key := keys.get(entry.relative)) and bank.key_for(key) is None]
    if not unknown:
        return bank
    space = open_space(bank, weights=weights, allow_download=allow_download, device=device)
    for start in range(0, len(unknown), PART):
        part = unknown[start : start + PART]
        progress("assign", start, len(unknown), "finding the cluster of each picture")
        stop.check("Nothing was written yet.")
        dataset, entries, _ = load_image_set(
            replace(scan, entries=tuple(part)), bank.resolution, workers=workers, max_pixels=max_pixels,
            with_labels=False, describe=view_of(bank, space),
        )  # fmt: skip
        if entries:
            bank = assign(bank, dataset, space)
    progress("assign", len(unknown), len(unknown), "finding the cluster of each picture")
    return bank
