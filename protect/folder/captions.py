"""Captions go through to OUT; where a picture changed its name (a JPEG becomes a PNG), the caption table follows."""

from __future__ import annotations

import csv
import io
import json
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ...imaging.structured import parse_json

__all__ = ["Followed", "follow_names"]


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
            return f"copied as it is, the names of pictures in it too, since it cannot be understood: {self.problem}"
        return f"file names that follow the new names of the pictures: {self.changed}" if self.changed else None


def follow_names(relative: str, data: bytes, names: Mapping[str, str]) -> Followed:
    """The caption file with the file names of OUT.

    ``metadata.jsonl`` and ``metadata.csv`` of the Hugging Face ``imagefolder`` layout name their pictures in a
    ``file_name`` column, relative to the folder of the table. Only those values are changed; a file in which no name
    changes, that is of another kind, or that cannot be understood, comes back byte for byte.

    Args:
        relative: path of the caption file below SRC.
        data: its bytes.
        names: path of each picture below SRC to its path below OUT.
    """
    folder, _, name = relative.rpartition("/")

    def follow(value: object) -> str | None:
        if not isinstance(value, str):
            return None
        # An absolute value or one that climbs out of SRC matches no picture, so it is left as it is.
        new = names.get(posixpath.normpath(posixpath.join(folder, value)))
        if new is None:
            return None
        new = posixpath.relpath(new, folder or ".")
        return None if new == posixpath.normpath(value) else new

    try:
        if name.lower() == "metadata.jsonl":
            return _follow_jsonl(data, follow)
        if name.lower() == "metadata.csv":
            return _follow_csv(data, follow)
    except (ValueError, csv.Error) as error:
        return Followed(data, problem=str(error))
    return Followed(data)


_Follow = Callable[[object], str | None]


def _follow_jsonl(data: bytes, follow: _Follow) -> Followed:
    lines, changed = data.split(b"\n"), 0
    for index, line in enumerate(lines):
        if not line.strip():
            continue
        entry = parse_json(line)
        new = follow(entry.get("file_name")) if isinstance(entry, dict) else None
        if new is not None:
            entry["file_name"] = new
            lines[index] = json.dumps(entry, ensure_ascii=False).encode("utf-8")
            changed += 1
    return Followed(b"\n".join(lines) if changed else data, changed)


def _follow_csv(data: bytes, follow: _Follow) -> Followed:
    text = data.decode("utf-8-sig")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows or "file_name" not in rows[0]:
        return Followed(data)
    column, changed = rows[0].index("file_name"), 0
    for row in rows[1:]:
        new = follow(row[column]) if len(row) > column else None
        if new is not None:
            row[column] = new
            changed += 1
    if not changed:
        return Followed(data)
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\r\n" if "\r\n" in text else "\n").writerows(rows)
    return Followed(out.getvalue().encode("utf-8"), changed)
