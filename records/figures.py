"""How visible the change is over all pictures of a run, from the rows of its manifest: quantiles, histograms, ranks."""

from __future__ import annotations

from itertools import islice
from typing import Final

import numpy as np

from .manifest import ManifestRow
from .on_disk import Table
from .run_file import Quantiles, Stealth

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
