"""The run file: what was done to a folder, with which settings and versions, and how it came out; and where the records
of a run lie, its manifest, run file and report: in OUT or beside it.

Beside a folder means: not in it, so that it can be published. Where it is a part of a data set, such as
``public/train``, what tells of it lies beside the data set, which is published as a whole: ``public-train-records``.
What is a part of a data set is told here first, by its name.

Records are found by what they are and not by a note of the place, so that OUT and the folder beside it may be moved
and renamed together, and so that somebody may move the three files from the one to the other.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from .._version import __version__
from ..errors import ResumeError
from .manifest import MANIFEST_NAME, ManifestRow
from .places import open_regular, read_regular, sha256_or_none
from .run_state import StateFiles
from .text import parse_json

RUN_FILE_NAME = "bitterant-run.json"


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


#: Parts of a data set, by the word in their name: ``train``, ``Validation``, ``test_set``, ``val2017``.
_PART: Final = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<held>val(?:id(?:ation)?)?|dev|test(?:ing)?|eval(?:uation)?|hold[-_ ]?out))"
    r"(?:[-_ ]?(?:set|split|data|images|imgs|\d{4}))?"
)


def part_of(name: str) -> Literal["train", "held"] | None:
    """``train`` or ``held`` (out) for a name of parts of data sets, such as ``train2017`` or ``val``; else ``None``."""
    found = _PART.fullmatch(name.casefold())
    return None if found is None else ("train" if found["train"] else "held")


def data_set_of(folder: Path) -> Path:
    """The data set that a folder is a part of, or the folder itself, as an absolute path.

    Links are not followed: what lies beside lies beside what was named. A part that is held out, such as ``test``, is
    taken for one only where a training part lies beside it.
    """
    wholes = list(_above(folder))
    for part in wholes:
        kind = part_of(part.name)
        if kind is None or (kind == "held" and not any(part_of(name) == "train" for name in _names(part.parent))):
            return part
    return wholes[-1]


def beside(folder: Path, what: str, whole: Path | None = None) -> Path:
    """``FOLDER-what`` beside a folder, relative where the folder is and holds no ``..``.

    Args:
        folder: it need not exist.
        what: what it is called.
        whole: the data set beside which it lies; by default :func:`data_set_of`.
    """
    place = _absolute(folder)
    whole = data_set_of(folder) if whole is None else whole
    found = whole.parent / f"{'-'.join(place.relative_to(whole.parent).parts)}-{what}"
    return found if folder.is_absolute() or ".." in folder.parts else Path(os.path.relpath(found))


def places_beside(folder: Path, what: str) -> Iterator[Path]:
    """All places that :func:`beside` may have given, as other parts came and went; that of now comes first."""
    now = data_set_of(folder)
    yield beside(folder, what, now)
    yield from (beside(folder, what, whole) for whole in _above(folder) if whole != now)


def _above(folder: Path) -> Iterator[Path]:
    """A folder, and those above it that its name may be a part of."""
    whole = _absolute(folder)
    yield whole
    while part_of(whole.name) is not None and whole.parent.name:
        whole = whole.parent
        yield whole


def _absolute(folder: Path) -> Path:
    """A name, also where the folder is ``..``; links stay."""
    return Path(os.path.abspath(folder))  # noqa: PTH100


def _names(folder: Path) -> list[str]:
    try:
        return [found.name for found in folder.iterdir()]
    except OSError:
        return []


REPORT_NAME: Final = "bitterant-report.html"
#: What the three files are called, wherever they lie.
RECORD_NAMES: Final = (MANIFEST_NAME, RUN_FILE_NAME, REPORT_NAME)

RecordsPlace = Literal["inside", "beside"]
"""Where records lie: in OUT, or in a folder ``OUT-records`` beside it or beside the data set that OUT is a part of."""

_WHAT: Final = "records"
#: Files of a manifest that are compared before it is taken for another folder's.
_COMPARED: Final = 16


@dataclass(frozen=True)
class RunRecords:
    """The records of one OUT.

    Attributes:
        output: OUT.
        folder: where they lie: OUT itself, or a folder that is theirs alone.
    """

    output: Path
    folder: Path

    @classmethod
    def at(cls, output: Path, place: RecordsPlace) -> RunRecords:
        """Where a new run keeps its records."""
        return cls(output, output if place == "inside" else beside(output, _WHAT))

    @property
    def place(self) -> RecordsPlace:
        """In OUT or beside it."""
        return "inside" if self.folder == self.output else "beside"

    @property
    def manifest(self) -> Path:
        """Path of the manifest."""
        return self.folder / MANIFEST_NAME

    @property
    def run_file(self) -> Path:
        """Path of the run file."""
        return self.folder / RUN_FILE_NAME

    @property
    def report(self) -> Path:
        """Path of the report for people."""
        return self.folder / REPORT_NAME

    @property
    def files(self) -> tuple[Path, Path, Path]:
        """All three."""
        return (self.manifest, self.run_file, self.report)

    @property
    def are_there(self) -> bool:
        """Whether a manifest or a run file lies there; a report alone tells nothing."""
        return os.path.lexists(self.manifest) or os.path.lexists(self.run_file)

    @property
    def are_of_output(self) -> bool:
        """Whether they tell of OUT, as those inside it do by where they lie.

        Of records beside it the manifest names a file that OUT holds, byte for byte: one of the first few that are
        there, for names alone may be those of originals. Or it names no file at all, and then a run is under way in
        OUT, or none of its inputs was written. One that cannot be read counts, for its reader to tell.
        """
        if self.place == "inside":
            return True
        # The file first: a name may be too long, which pathlib tells by an error.
        if not _is_file(self.manifest) or self.folder.is_symlink() or not self.output.is_dir():
            return False
        rows, named, compared = False, False, 0
        try:
            with open_regular(self.manifest) as file:
                for line in file:
                    try:
                        row = ManifestRow.from_line(line)
                    except ValueError:  # damaged, or cut by a kill
                        continue
                    rows = True
                    if row.output is not None:
                        named = True
                        found = sha256_or_none(self.output / row.output)
                        if found is not None and found == row.sha256_out:
                            return True
                        compared += found is not None
                        if compared == _COMPARED:
                            return False
        except OSError:
            return True
        return not named and (rows or os.path.lexists(StateFiles(self.output).plan))


def _is_file(path: Path) -> bool:
    """Whether a file, and no link to one, has this name."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def find_records(output: Path) -> RunRecords | None:
    """The records of OUT: those in it, otherwise those beside it; ``None`` where there are none."""
    inside = RunRecords.at(output, "inside")
    if inside.are_there:
        return inside
    return next(records_beside(output), None)


def records_beside(output: Path) -> Iterator[RunRecords]:
    """Those beside OUT, wherever those in it may be."""
    found = (RunRecords(output, folder) for folder in places_beside(output, _WHAT))
    return (records for records in found if records.are_of_output)


def records_of(output: Path) -> RunRecords:
    """The records of OUT, or where they would lie if it had any: in it."""
    return find_records(output) or RunRecords.at(output, "inside")


def where_looked(output: Path) -> str:
    """Where :func:`find_records` looks, in words."""
    places = [str(output), *(str(folder) for folder in places_beside(output, _WHAT))]
    return f"{', '.join(places[:-1])} and {places[-1]}"
