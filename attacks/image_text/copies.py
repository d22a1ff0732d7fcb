"""Which copy belongs to which picture, and whether the copies are as they should be: measured on what is on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import FolderError
from ...imaging import FolderScan, scan_folder
from ..data.pairing import Pair, pair_folders, read_manifest_rows, read_run_settings
from ..data.sets import Step
from ..data.stealth import check_files
from ..schema import PairIssue

__all__ = ["CopyChange", "CopyCheck", "Paired", "apart", "check_copies", "name_some", "pair_copies", "scan_pictures"]

_TOLERANCE = 1e-4
_FAULTS = {
    "relabelled": "in another class folder",
    "resized": "of another size or mode",
    "unreadable": "unreadable",
    "extra": "without an original",
}
"""Kinds of issues after which the copies are not those of the originals, as for ``bitterant verify`` (gate G6)."""


@dataclass(frozen=True)
class Paired:
    """Two folders, file by file.

    Attributes:
        clean, protected: the scans.
        pairs: originals with their copies, in the order of ``clean``.
        issues: what did not fit.
    """

    clean: FolderScan
    protected: FolderScan
    pairs: tuple[Pair, ...]
    issues: tuple[PairIssue, ...]


@dataclass(frozen=True)
class CopyChange:
    """How far one copy is from its original, decoded at full size.

    Attributes:
        source, output: paths below CLEAN and PROTECTED.
        linf_levels: largest change of any value, in 1/255.
        psnr: in dB; ``None`` where nothing changed.
    """

    source: str
    output: str
    linf_levels: float
    psnr: float | None


@dataclass(frozen=True)
class CopyCheck:
    """What decoding the pairs showed.

    Attributes:
        pairs: those that could be compared.
        changes: one for each of them.
        issues: files that do not fit, those found in pairing included.
        budget_levels: the bound in 1/255, or ``None`` where nobody stated one.
        budget_source: who did.
        lossy: the run file says that copies keep their format (``--format same``), which cannot keep a bound.
        method: what protected them, as the run file says.
    """

    pairs: tuple[Pair, ...]
    changes: tuple[CopyChange, ...]
    issues: tuple[PairIssue, ...]
    budget_levels: float | None
    budget_source: str
    lossy: bool
    method: str | None

    @property
    def over_budget(self) -> tuple[str, ...]:
        """Copies that changed by more than was promised."""
        if self.budget_levels is None:
            return ()
        limit = self.budget_levels + _TOLERANCE
        return tuple(change.output for change in self.changes if change.linf_levels > limit)

    @property
    def faults(self) -> tuple[str, ...]:
        """Why nothing can be said about the protection by these copies, in words; empty where they are sound."""
        counts = Counter(issue.kind for issue in self.issues)
        over = len(self.over_budget)
        found = [f"{over} over the budget of {self.budget_levels:g} levels"] if over and not self.lossy else []
        return (*found, *(f"{counts[kind]} {words}" for kind, words in _FAULTS.items() if counts[kind]))


def scan_pictures(folder: Path, what: str) -> FolderScan:
    """Scan a folder, with class folders or flat.

    Raises:
        FolderError: it is missing or holds no pictures.
    """
    scan = scan_folder(folder)
    if not scan.entries:
        raise FolderError(f"{what} holds no images: {folder}. Check the path.")
    return scan


def apart(one: Path, what: str, other: Path, whose: str) -> None:
    """Raise where two folders are one or lie one in the other.

    Raises:
        FolderError: they do.
    """
    first, second = one.resolve(), other.resolve()
    if first == second or first in second.parents or second in first.parents:
        raise FolderError(f"{what}, {one}, and {whose}, {other}, are one folder or lie one in the other.")


def pair_copies(clean: Path, protected: Path) -> Paired:
    """Match originals and copies, by the manifest in PROTECTED and else by their paths.

    Raises:
        FolderError: a folder is missing, empty or part of the other, or nothing in them belongs together.
    """
    before, after = scan_pictures(clean, "CLEAN"), scan_pictures(protected, "PROTECTED")
    apart(clean, "CLEAN", protected, "PROTECTED")
    pairs, issues = pair_folders(before, after, read_manifest_rows(protected))
    if not pairs:
        raise FolderError(
            f"No file in {protected} belongs to one in {clean}. The copies must have the paths of the originals "
            "(another extension does no harm), or PROTECTED must still hold its bitterant-manifest.jsonl."
        )
    return Paired(before, after, tuple(pairs), tuple(issues))


def check_copies(paired: Paired, *, epsilon: float | None, step: Step) -> CopyCheck:
    """Decode every pair at full size and compare.

    Args:
        paired: the pairs.
        epsilon: the promised bound in (0, 1]; without it, what the run file in PROTECTED says.
        step: told the stage ``compare``, files done and of all.
    """
    pairs = paired.pairs
    step("compare", 0, len(pairs), "")
    threads = max(1, min(8, os.cpu_count() or 1))
    found = check_files(pairs, workers=threads, progress=lambda done, total: step("compare", done, total, ""))
    settings = _settings(paired.protected.root)
    stated = settings.get("epsilon")
    if epsilon is not None:
        budget, source = epsilon * 255.0, "given by the caller"
    elif isinstance(stated, int | float) and not isinstance(stated, bool) and 0 < stated <= 1:
        budget, source = float(stated) * 255.0, "stated by the run file"
    else:
        budget, source = None, "not stated"
    method = settings.get("method")
    return CopyCheck(
        pairs=found.pairs,
        changes=tuple(CopyChange(f.source, f.output, f.linf_levels, f.psnr) for f in found.files),
        issues=(*paired.issues, *found.issues),
        budget_levels=budget,
        budget_source=source,
        lossy=settings.get("format") == "same",
        method=method if isinstance(method, str) else None,
    )


def _settings(protected: Path) -> dict[str, Any]:
    """Of the run file, which any version may have written, or a hand."""
    run = read_run_settings(protected)
    settings = run.get("settings") if run else None
    return settings if isinstance(settings, dict) else {}


def name_some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
