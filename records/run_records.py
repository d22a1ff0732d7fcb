"""The records of a run over a folder, its manifest, run file and report; and where they lie, in OUT or beside it.

They are found by what they are and not by a note of the place, so that OUT and the folder beside it may be moved and
renamed together, and so that somebody may move the three files from the one to the other.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from .beside import beside, places_beside
from .manifest import MANIFEST_NAME, ManifestRow
from .places import open_regular, sha256_or_none
from .run_file import RUN_FILE_NAME
from .run_state import StateFiles

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
