"""Which copy belongs to which picture, and whether the copies are as they should be: measured on what is on disk."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...errors import FolderError
from ...imaging import FolderScan, scan_folder
from ...imaging.places import lies_in
from ..data.checking import check_files
from ..data.pairing import Pair, pair_folders, read_manifest_rows, read_run_settings
from ..data.provenance import stated_budget, stated_protection
from ..data.sets import Step
from ..data.stealth import StealthFile, summarise_stealth
from ..facts import PairIssue, Protection, Stealth

__all__ = ["CopyCheck", "Paired", "apart", "check_copies", "name_some", "pair_copies", "scan_pictures"]

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
class CopyCheck:
    """What decoding the pairs showed.

    Attributes:
        pairs: those that could be compared.
        files: how far each of them is from its original, decoded at full size.
        issues: files that do not fit, those found in pairing included.
        stealth: all files together, and which of them broke the bound.
        protection: what the run file says; ``None`` without one.
    """

    pairs: tuple[Pair, ...]
    files: tuple[StealthFile, ...]
    issues: tuple[PairIssue, ...]
    stealth: Stealth
    protection: Protection | None

    @property
    def lossy(self) -> bool:
        """The run file says that copies keep their format (``--format same``), which cannot keep a bound."""
        return self.protection is not None and self.protection.format == "same"

    @property
    def faults(self) -> tuple[str, ...]:
        """Why nothing can be said about the protection by these copies, in words; empty where they are sound."""
        counts = Counter(issue.kind for issue in self.issues)
        over, budget = len(self.stealth.over_budget), self.stealth.budget_levels or 0.0
        found = [f"{over} over the budget of {budget:g} levels"] if over and not self.lossy else []
        return (*found, *(f"{counts[kind]} {words}" for kind, words in _FAULTS.items() if counts[kind]))


def scan_pictures(folder: Path, what: str) -> FolderScan:
    """Scan a folder, with class folders or flat.

    Raises:
        FolderError: it is missing or holds no pictures.
    """
    scan = scan_folder(folder, follow_links=True)  # only read, never published
    if not scan.entries:
        raise FolderError(f"{what} holds no images: {folder}. Check the path.")
    return scan


def apart(one: Path, what: str, other: Path, whose: str) -> None:
    """Raise where two folders are one or lie one in the other.

    Raises:
        FolderError: they do.
    """
    if lies_in(one, other) or lies_in(other, one):
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
    run = read_run_settings(paired.protected.root)
    budget, source = stated_budget(epsilon, run)
    return CopyCheck(
        pairs=found.pairs,
        files=found.files,
        issues=(*paired.issues, *found.issues),
        stealth=summarise_stealth(found.files, budget_levels=budget, budget_source=source),
        protection=stated_protection(run, paired.protected.root),
    )


def name_some(names: Sequence[str], most: int = 3) -> str:
    """The first few names, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
