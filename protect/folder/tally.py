"""What a run adds up from the rows of its manifest: row by row, so that its memory does not grow with the folder."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from typing import Final

from ...imaging.formats import is_picture_name
from ...imaging.perturb import FLOAT32_SLACK
from ...imaging.tables import TABLE_NAMES
from ...imaging.visibility import Sight, Sights
from ...records.figures import Figure, Figures
from ...records.manifest import ManifestRow, all_statuses
from ...records.text import counted
from .writing import UNMARKED

#: Share of the budget that the root mean square of a change must reach, or the picture is called hardly protected.
FAINT: Final = 1 / 8
_NAMED: Final = 3


class Tally:
    """Running sums over the rows of a manifest.

    Args:
        epsilon: the budget, as a fraction.
        rows: the first rows.

    Attributes:
        count: rows so far.
        counts: how many have each status.
        figures: of visibility.
        problems: the rows that people should hear of.
        tables: the rows of caption tables.
        over_budget: pictures whose change on disk is larger than the budget.
        unprotected: pictures that OUT lacks.
    """

    def __init__(self, epsilon: float, rows: Iterable[ManifestRow] = ()) -> None:
        self._levels = epsilon * 255
        self.count = 0
        self._counts: Counter[str] = Counter()
        self.figures = Figures()
        self.problems: list[ManifestRow] = []
        self.tables: list[ManifestRow] = []
        self.over_budget = 0
        self.unprotected = 0
        self._sights = Sights()
        self._faint, self._bare = _Named(), _Named()
        self._bare_formats: set[str] = set()
        for row in rows:
            self.add(row)

    @property
    def counts(self) -> dict[str, int]:
        """How many rows have each status; all names are present. Their sum is the number of inputs."""
        return all_statuses(self._counts)

    def add(self, row: ManifestRow) -> None:
        """Add the next row of the manifest."""
        self.figures.add(self.count, row)
        self.count += 1
        self._counts[row.status] += 1
        if row.is_problem:
            self.problems.append(row)
            self.unprotected += is_picture_name(row.source)
        if row.status == "copied" and posixpath.basename(row.source).lower() in TABLE_NAMES:
            self.tables.append(row)
        self.over_budget += row.linf_levels is not None and row.linf_levels > self._levels + FLOAT32_SLACK
        if row.reason is not None and UNMARKED in row.reason:
            self._bare.add(row.source)
            self._bare_formats.add(row.format or "")
        if row.status != "protected":
            return
        if row.ciede_patches is not None:
            self._sights.add(Sight(row.source, row.ciede_patches, row.ciede_flat))
        if _size(row) < FAINT * self._levels:
            self._faint.add(row.source)

    def warnings(self) -> list[str]:
        """What the user must know of how it looks, of pictures that took little of the noise, of what JPEG took away
        again, and of copies that could not be marked."""
        told = self._sights.tell()
        if told:
            told[-1] += " Look at the report before you publish; --strength subtle shows less."
        if self._faint.count:
            told.append(
                f"{counted(self._faint.count, 'picture')} could take little or nothing of the noise, being plain, "
                f"gray, transparent, black or white: {self._faint}. A trainer learns from them nearly as from the "
                "originals."
            )
        return [*told, *_losses(self.figures.of("kept")), *self._unmarked()]

    def _unmarked(self) -> list[str]:
        if not self._bare.count:
            return []
        formats = " and ".join(sorted(self._bare_formats))
        return [
            f"{counted(self._bare.count, 'copy bears', 'copies bear')} no mark, since {formats} files hold none: "
            f"{self._bare.first}. Convert them to PNG first to have them marked."
        ]


class _Named:
    """How many files, and the names of the first ones."""

    def __init__(self) -> None:
        self.count = 0
        self._names: list[str] = []

    def add(self, name: str) -> None:
        self.count += 1
        if len(self._names) < _NAMED:
            self._names.append(name)

    @property
    def first(self) -> str:
        return f"{self._names[0]}{', ...' if self.count > 1 else ''}"

    def __str__(self) -> str:
        return f"{', '.join(self._names)}{', ...' if self.count > _NAMED else ''}"


def _size(row: ManifestRow) -> float:
    """Root mean square of the change on disk, in 8-bit levels."""
    return 0.0 if row.psnr is None else 255.0 * 10 ** (-row.psnr / 20)


def _losses(kept: Figure) -> list[str]:
    """What the user must know of what JPEG took away again."""
    if not len(kept):
        return []
    (middle,) = kept.at((len(kept) - 1) // 2)
    return [
        f"JPEG left {100 * middle:.0f} % of the change on the median picture and {100 * kept.low:.0f} % on the "
        f"worst of {len(kept)}. What that means for the protection, `bitterant verify` tells."
    ]
