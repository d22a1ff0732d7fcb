"""The records of a run over a folder, its manifest, run file and report; and where they lie, in OUT or beside it.

Beside a folder means: not in it, so that it can be published. Where it is a part of a data set, such as
``public/train``, what tells of it lies beside the data set, which is published as a whole: ``public-train-records``.
What is a part of a data set is told here first, by its name.

Records are found by what they are and not by a note of the place, so that OUT and the folder beside it may be moved
and renamed together, and so that somebody may move the three files from the one to the other.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .manifest import MANIFEST_NAME, ManifestRow
from .places import open_regular, sha256_or_none
from .run_file import RUN_FILE_NAME
from .run_state import StateFiles

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
