"""Captions go through to OUT; where a picture changed its name (a JPEG becomes a PNG), the caption table follows."""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ...errors import CaptionError, SetupError
from ...imaging.tables import TABLE_NAMES, visit_names
from ..records.manifest import ManifestRow

__all__ = ["Followed", "follow_names", "table_warnings"]

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class Followed:
    """A caption file for OUT.

    Attributes:
        data: its bytes.
        changed: how many names in it were changed.
        problem: why it could not be understood and is as it was; ``None`` where it could.
    """

    data: bytes
    changed: int = 0
    problem: str | None = None

    @property
    def reason(self) -> str | None:
        """What the manifest says of it."""
        if self.problem is not None:
            return f"{_AS_IT_IS}: {self.problem}"
        return f"file names that follow the new names of the pictures: {self.changed}" if self.changed else None


_AS_IT_IS: Final = "copied as it is, the names of pictures in it too, since it cannot be understood"


def follow_names(relative: str, data: bytes, names: Mapping[str, str]) -> Followed:
    """The caption file with the file names of OUT.

    Tables of the Hugging Face ``imagefolder`` layout name their pictures in ``file_name`` columns (see
    :func:`~bitterant.imaging.tables.is_name_column`), relative to the folder of the table. Only those values are
    changed; a file in which no name changes, that is of another kind, or that cannot be understood, comes back byte for
    byte.

    Args:
        relative: path of the caption file below SRC.
        data: its bytes.
        names: path of each picture below SRC to its path below OUT.
    """
    folder, _, name = relative.rpartition("/")
    places = _Places(folder, names)
    changed = 0

    def follow(row: int, value: str) -> str:
        nonlocal changed
        new = places.of(value)
        if new is None:
            return value
        changed += 1
        return new

    try:
        return Followed(visit_names(name, data, follow), changed)
    except (CaptionError, SetupError) as error:
        return Followed(data, problem=str(error))


class _Places:
    """Where pictures that a table names lie in OUT, seen from the folder of the table."""

    def __init__(self, folder: str, names: Mapping[str, str]) -> None:
        self.folder = folder
        self.names = names
        # A disk may store accents decomposed where the table has them composed.
        self.folded = {_fold(source): output for source, output in names.items()} if not _plain(names) else names

    def of(self, value: str) -> str | None:
        """The new name, or ``None`` where the value names no picture or need not change."""
        for spelt in (value, value.replace("\\", "/")):  # a table made on Windows
            # An absolute value or one that climbs out of SRC matches no picture, so it is left as it is.
            path = posixpath.normpath(posixpath.join(self.folder, spelt))
            output = self.names.get(path) or self.folded.get(_fold(path))
            if output is not None:
                new = posixpath.relpath(output, self.folder or ".")
                return None if new == posixpath.normpath(value) else new
        return None


def _plain(names: Iterable[str]) -> bool:
    return all(name.isascii() for name in names)


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def table_warnings(output: Path, rows: Iterable[ManifestRow]) -> list[str]:
    """What people must know of the tables in OUT: those that were not followed, and names that lead to no file.

    Args:
        output: OUT, all of its files written.
        rows: the manifest.
    """
    rows = list(rows)
    known = {_fold(row.output) for row in rows if row.output is not None}
    became: dict[str, ManifestRow] = {}
    for row in rows:
        if row.output is None:
            became[_fold(row.source)] = row
            # A picture that failed while it was written may stand in the table under the name it was to get.
            became.setdefault(_fold(posixpath.splitext(row.source)[0]), row)
    warnings = []
    for row in rows:
        name = posixpath.basename(row.source)
        if row.status != "copied" or row.output is None or name.lower() not in TABLE_NAMES:
            continue
        if row.reason is not None and row.reason.startswith(_AS_IT_IS):
            warnings.append(f"{row.source}: {row.reason}. Captions in it may belong to names that the output lacks.")
            continue
        folder = posixpath.dirname(row.output)
        missing: dict[str, str] = {}

        def look(line: int, value: str, folder: str = folder, missing: dict[str, str] = missing) -> str:
            path = posixpath.normpath(posixpath.join(folder, value.replace("\\", "/")))
            if value and not _URL.match(value) and _fold(path) not in known:
                lost = became.get(_fold(path)) or became.get(_fold(posixpath.splitext(path)[0]))
                why = f", {lost.source}: {lost.status}" if lost is not None else ""
                missing.setdefault(value, f"{value} (row {line}{why})")
            return value

        try:
            visit_names(name, (output / row.output).read_bytes(), look)
        except (CaptionError, SetupError, OSError):
            continue
        if missing:
            told = [*missing.values()][:_SHOWN]
            more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
            warnings.append(
                f"{row.source} names {len(missing)} files that the output lacks: {', '.join(told)}{more}. A program "
                "that loads the table will stop there: take these rows out, or mend the pictures and run again."
            )
    return warnings
