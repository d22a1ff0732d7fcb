"""The run file: what was done to a folder, with which settings and versions, and how it came out."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from .._version import __version__
from ..errors import ResumeError
from .manifest import ManifestRow
from .on_disk import Table
from .places import read_regular
from .text import parse_json

RUN_FILE_NAME = "bitterant-run.json"

#: Figures that are counted together.
_TOGETHER: Final = 4096


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Quantiles(_Part):
    """Five points of a distribution over the protected pictures."""

    minimum: float
    p05: float
    median: float
    p95: float
    maximum: float


class Stealth(_Part):
    """How visible the change is, as read back from disk.

    Attributes:
        linf_levels: largest change a picture, in 1/255 units; ``None`` where nothing was protected.
        psnr: dB, over the pictures that changed.
        ssim: 1 is identical.
        ciede, ciede_p95, ciede_patches, flip: as in :class:`Visibility`; the larger, the more visible.
        flip_files: pictures on which FLIP was measured, a sample.
        flip_reason: why on none; ``None`` where it was.
        unchanged: pictures that came out identical (infinite PSNR), for example fully transparent ones.
    """

    linf_levels: Quantiles | None = None
    psnr: Quantiles | None = None
    ssim: Quantiles | None = None
    ciede: Quantiles | None = None
    ciede_p95: Quantiles | None = None
    ciede_patches: Quantiles | None = None
    flip: Quantiles | None = None
    flip_files: int = 0
    flip_reason: str | None = None
    unchanged: int = 0


class Timing(_Part):
    """Seconds. After a resume, ``total`` and ``write`` are those of the last part of the run.

    Attributes:
        total: from the first check to the run file.
        fit: the optimisation; of one that was interrupted, its last part.
        write: adding, encoding, reading back.
        images_per_second: pictures protected in the last part of the run over ``total``.
        resumed_rows: rows that an earlier, interrupted part of the run had finished.
    """

    total: float
    fit: float = 0.0
    write: float = 0.0
    images_per_second: float = 0.0
    resumed_rows: int = 0


class Shard(_Part):
    """A share of a run: the inputs whose content hashes fall to it, whatever they are called.

    Attributes:
        number: which share, from 1.
        of: how many there are.
        noise: digest of the noise, which all shares have in common; empty until it is known.
    """

    number: int = Field(ge=1)
    of: int = Field(ge=1)
    noise: str = ""

    @classmethod
    def parse(cls, text: str) -> Shard:
        """A share written ``2/8``.

        Raises:
            ValueError: it is none.
        """
        number, of = (int(part) for part in text.split("/"))
        if not 1 <= number <= of:
            raise ValueError(f"there is no share {number} of {of}")
        return cls(number=number, of=of)

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def holds(self, sha256: str | None) -> bool:
        """Whether an input of this content falls to it; what could not be read is in the first."""
        return (0 if sha256 is None else int(sha256[:16], 16) % self.of) == self.number - 1


class RunFile(_Part):
    """The content of ``bitterant-run.json``.

    Attributes:
        schema_version: of this file.
        command: what made it.
        repeat: the command line that asks for the same, with SRC and OUT for the folders and the names of other files;
            ``None`` in files of earlier versions, and where noise came from a bundle.
        plan: sha256 over settings and inputs but skipped ones; on a CPU, two runs with one plan and the same versions
            give the same pictures.
        settings: everything that decides about the result, resolved.
        seed: the one seed.
        versions: of Python and the packages that matter.
        surrogate: name and sha256 of the protector's model, empty where the method has none.
        inputs_sha256: sha256 over the (relative path, sha256) of all inputs.
        counts: protected, copied, skipped, failed; their sum is the number of inputs.
        over_budget: pictures whose change on disk is larger than epsilon (only ever with ``--format same``).
        stealth: how visible the change is.
        fit: the method's own report: stop rule, what the self-check reached.
        warnings: what the user should know.
        timing: seconds.
        bank_sha256: of the bank where it was kept; the bank itself never lies in the output folder.
        shard: which share of the run this is; ``None`` for the whole of it.
    """

    schema_version: Literal[1] = 1
    command: Literal["protect", "apply"]
    repeat: str | None = None
    plan: str
    settings: dict[str, Any]
    seed: int
    versions: dict[str, str]
    surrogate: dict[str, str] = Field(default_factory=dict)
    counts: dict[str, int]
    over_budget: int
    stealth: Stealth
    fit: dict[str, Any] = Field(default_factory=dict)
    warnings: list[str] = Field(default_factory=list)
    timing: Timing
    bank_sha256: str | None = None
    shard: Shard | None = None

    @property
    def resumed_by(self) -> dict[str, Any]:
        """The settings with which a command goes on with it."""
        return self.settings if self.shard is None else {**self.settings, "shard": str(self.shard)}

    def to_bytes(self) -> bytes:
        """As indented JSON."""
        return json.dumps(json_safe(self.model_dump(mode="python")), indent=2, allow_nan=False).encode("ascii") + b"\n"


def read_run_file(path: Path) -> RunFile | None:
    """Read and validate a run file; ``None`` where there is none.

    Raises:
        ResumeError: it is damaged or of another version.
    """
    try:
        data = read_regular(path)
        parse_json(data)  # what no JSON of ours holds ends here
        return RunFile.model_validate_json(data)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:  # a ValidationError is one, too
        raise ResumeError(
            f"{path} is damaged or of another version of bitterant. "
            "Start again with --no-resume (in Python: resume=False)."
        ) from error


def versions() -> dict[str, str]:
    """Versions of everything that can change a byte of the result. torch is looked up, not imported."""
    found = {"bitterant": __version__, "python": platform.python_version()}
    for name in ("torch", "numpy", "pillow", "scikit-learn"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found


def json_safe(value: Any) -> Any:
    """The value as strict JSON can hold it: NaN and infinity as text, undecodable file names escaped, the rest as text.

    Args:
        value: any nesting of mappings, sequences and scalars.
    """
    if isinstance(value, Mapping):
        return {json_safe(str(name)): json_safe(item) for name, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [json_safe(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


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
