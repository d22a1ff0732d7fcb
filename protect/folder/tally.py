"""What a run adds up from the rows of its manifest: row by row, so that its memory does not grow with the folder.

How visible the change is over all pictures is told in quantiles, histograms and ranks.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from typing import Final

import numpy as np

from ...imaging.formats import is_picture_name
from ...imaging.perturb import FLOAT32_SLACK
from ...imaging.tables import TABLE_NAMES
from ...imaging.visibility import Sight, Sights
from ...records.manifest import ManifestRow, all_statuses
from ...records.on_disk import Table
from ...records.run_file import Quantiles, Stealth
from ...records.text import counted, some
from .writing import UNMARKED, tell_unmarked

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
            told[-1] += (
                " Look at the report before you publish; --strength subtle shows less, and hinders a trainer less."
            )
        if self._faint.count:
            told.append(
                f"{counted(self._faint.count, 'picture')} could take little or nothing of the noise, being plain, "
                f"gray, transparent, black or white: {self._faint}. A trainer learns from them nearly as from the "
                "originals."
            )
        unmarked = tell_unmarked(self._bare.count, self._bare.first, self._bare_formats)
        return [*told, *_losses(self.figures.of("kept")), *unmarked]


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
        return self._names[0] if self._names else ""

    def __str__(self) -> str:
        return some(self._names, total=self.count)


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


#: Figures that are counted together.
_TOGETHER: Final = 4096


class Figures:
    """All figures of visibility of the protected rows: the rows are added one by one, and not kept.

    Attributes:
        count: how many rows were measured.
    """

    _ALL: Final = ("linf_levels", "psnr", "ssim", "ciede", "ciede_p95", "ciede_patches", "flip")

    def __init__(self) -> None:
        self.count = 0
        self._table = Table(row="INTEGER", kept="REAL", **dict.fromkeys(self._ALL, "REAL"))
        self._unchanged = 0

    def add(self, number: int, row: ManifestRow) -> None:
        """Look at a row of the manifest; those that are not protected have no figures.

        Args:
            number: of the row, from 0.
            row: the row.
        """
        if row.status != "protected":
            return
        self.count += 1
        values = (row.kept, *(getattr(row, name) for name in self._ALL))
        self._table.append(number, *(None if value is None else float(value) for value in values))
        self._unchanged += row.linf_levels == 0

    def of(self, name: str) -> Figure:
        """All figures of a name, ``kept`` among them."""
        return Figure(self._table, name)

    def ranked(self) -> tuple[tuple[int, int, int] | None, str]:
        """Numbers of the rows whose change is least, in the middle, and most visible, and the figure that says so.

        By the mean of CIEDE2000 over patches, which judges casts and stains; by SSIM only where an older version, whose
        manifest is gone on with, measured nothing else. FLIP is better still, where all have it. ``None`` where no row
        was measured.
        """
        if not self.count:
            return None, "ssim"
        measured = (name for name in ("flip", "ciede_patches", "ssim") if len(self.of(name)) == self.count)
        name = next(measured, "row")
        order = f"{name} {'DESC' if name == 'ssim' else 'ASC'}, number"
        wanted = {0, self.count // 2, self.count - 1}
        rows = self._table.answers(f"SELECT row FROM rows ORDER BY {order}")
        found = {place: int(row) for place, (row,) in enumerate(rows) if place in wanted}
        return (found[0], found[self.count // 2], found[self.count - 1]), "ssim" if name == "row" else name

    def stealth(self, *, flip_reason: str | None = None) -> Stealth:
        """Quantiles of all of them.

        Args:
            flip_reason: why FLIP was not measured, said where no row has it.
        """
        flips = len(self.of("flip"))
        return Stealth(
            **{name: self.of(name).quantiles() for name in self._ALL},
            flip_files=flips,
            flip_reason=None if flips or not self.count else flip_reason,
            unchanged=self._unchanged,
        )


class Figure:
    """One figure of many pictures; those that lack it do not count.

    Args:
        table: has it as a column.
        name: of that column.
    """

    def __init__(self, table: Table, name: str) -> None:
        self._table = table
        self._name = name
        self._where = f"FROM rows WHERE {name} IS NOT NULL"
        self._count, self.low, self.high = table.ask(f"SELECT count(*), min({name}), max({name}) {self._where}")[0]

    def __len__(self) -> int:
        return int(self._count)

    def at(self, *places: int) -> list[float]:
        """The values at these places of all in their order, from 0."""
        ordered = self._table.answers(f"SELECT {self._name} {self._where} ORDER BY {self._name}")
        found = {place: float(value) for place, (value,) in enumerate(ordered) if place in places}
        return [found[place] for place in places]

    def quantiles(self) -> Quantiles | None:
        """``None`` where there is no value."""
        if not len(self):
            return None
        last = len(self) - 1
        places = [share * last for share in (0, 0.05, 0.5, 0.95, 1)]
        values = iter(self.at(*(min(last, int(place) + more) for place in places for more in (0, 1))))
        # Between two of them as numpy.quantile goes from one to the other.
        pairs = zip(values, values, places, strict=False)
        low, p05, median, p95, high = (round(float(np.quantile(pair, place % 1)), 6) for *pair, place in pairs)
        return Quantiles(minimum=low, p05=p05, median=median, p95=p95, maximum=high)

    def histogram(self, bins: int) -> tuple[np.ndarray, np.ndarray]:
        """How many values lie in each of so many parts of their range, and the ends of these; as ``numpy.histogram``
        has them."""
        span = (self.low, self.high) if self.high > self.low else None
        counts, edges = np.histogram([self.low], bins, span)
        counts[:] = 0
        values = (value for (value,) in self._table.answers(f"SELECT {self._name} {self._where}"))
        while part := list(islice(values, _TOGETHER)):
            counts += np.histogram(part, bins, span)[0]
        return counts, edges
