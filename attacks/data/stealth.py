"""How visible the change is: one row a file, and all of them together."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..facts import Spread, Stealth
from .distances import Distances
from .spread import spread_of

__all__ = ["LPIPS_FILES", "SSIM_FILES", "StealthFile", "chosen_names", "stealth_csv", "summarise_stealth"]

SSIM_FILES = 400
"""SSIM is slow; on larger folders it is measured on this many files, chosen by a hash of their names."""

LPIPS_FILES = 200
"""The same for LPIPS, which is slower."""

_TOLERANCE = 1e-4
_COLUMNS = (
    "source", "output", "width", "height", "linf_levels", "l2", "psnr", "ssim", "lpips", "clipped_fraction",
    "bytes_clean", "bytes_protected", "size_ratio", "over_budget",
)  # fmt: skip


@dataclass(frozen=True)
class StealthFile:
    """How far one protected file is from its original.

    Attributes:
        source: the original: path below CLEAN, or its key.
        output: the copy: path below PROTECTED, or its key.
        width, height: in pixels.
        distances: what was measured.
        bytes_clean, bytes_protected: lengths on disk; ``None`` for sets in memory.
    """

    source: str
    output: str
    width: int
    height: int
    distances: Distances
    bytes_clean: int | None = None
    bytes_protected: int | None = None

    @property
    def size_ratio(self) -> float | None:
        """Length of the copy over that of the original."""
        if not self.bytes_clean or self.bytes_protected is None:
            return None
        return self.bytes_protected / self.bytes_clean

    def breaks(self, budget_levels: float | None) -> bool:
        """Whether it changed by more than the budget, in 1/255; never where none is known."""
        return budget_levels is not None and self.distances.linf_levels > budget_levels + _TOLERANCE


def chosen_names(names: Iterable[str], count: int) -> set[str]:
    """At most ``count`` names, chosen by their hashes: the choice does not depend on order, nor on what is nice."""
    return set(sorted(names, key=_digest)[:count])


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def summarise_stealth(
    files: Sequence[StealthFile],
    *,
    budget_levels: float | None,
    budget_source: str,
    lpips_source: str | None = None,
    lpips_reason: str | None = "it was not asked for",
) -> Stealth:
    """Quantiles over the files, and which of them broke the budget.

    Args:
        files: all of them.
        budget_levels: the bound in 1/255, where one is known.
        budget_source: who stated it.
        lpips_source: which network LPIPS was measured with.
        lpips_reason: why it was not measured; only looked at where no file has it.
    """
    found = [file.distances for file in files]
    nothing = Spread(min=0.0, p01=0.0, p50=0.0, p99=0.0, max=0.0, mean=0.0)
    lpips = spread_of(distances.lpips for distances in found)
    return Stealth(
        files=len(files),
        budget_levels=budget_levels,
        budget_source=budget_source,
        linf=spread_of(distances.linf_levels for distances in found) or nothing,
        l2=spread_of(distances.l2 for distances in found),
        psnr=spread_of(distances.psnr for distances in found),
        ssim=spread_of(distances.ssim for distances in found),
        ssim_files=sum(distances.ssim is not None for distances in found),
        lpips=lpips,
        lpips_files=sum(distances.lpips is not None for distances in found),
        lpips_source=None if lpips is None else lpips_source,
        lpips_reason=(lpips_reason or "no file could be measured") if lpips is None else None,
        clipped=spread_of(distances.clipped for distances in found),
        size_ratio=spread_of(file.size_ratio for file in files),
        unchanged=sum(distances.linf_levels == 0 for distances in found),
        over_budget=tuple(file.output for file in files if file.breaks(budget_levels)),
    )


def stealth_csv(files: Sequence[StealthFile], *, budget_levels: float | None = None) -> bytes:
    """One line a file, for spreadsheets. What was not measured stays empty."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for file in files:
        found = file.distances
        writer.writerow(
            (
                file.source,
                file.output,
                file.width,
                file.height,
                f"{found.linf_levels:g}",
                _number(found.l2),
                _number(found.psnr),
                _number(found.ssim),
                _number(found.lpips),
                f"{found.clipped:.6f}",
                "" if file.bytes_clean is None else file.bytes_clean,
                "" if file.bytes_protected is None else file.bytes_protected,
                _number(file.size_ratio),
                "" if budget_levels is None else ("yes" if file.breaks(budget_levels) else "no"),
            )
        )
    return stream.getvalue().encode("utf-8", "surrogateescape")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
