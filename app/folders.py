"""Folders as the page shows them: what one holds, which ones lie in it, and what was typed or pasted."""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..attacks.terms import enough_to_verify
from ..errors import BitterantError, FolderError
from ..imaging import FolderScan, scan_folder
from ..imaging.formats import format_of_file
from ..imaging.scan import HIDDEN
from ..protect import read_run_file
from ..protect.request.config import ProtectConfig
from ..records.config import Strength, strengths_of
from ..records.run_file import records_of
from ..records.run_state import RunState, StateFiles
from ..records.text import visible

_NAMED: Final = 3
_COMPLETIONS: Final = 40
#: What a terminal may have asked of copies beyond their strength; the page leaves these as they are.
_WISHES: Final = ("format", "metadata", "mark")


@dataclass(frozen=True)
class LeftOut:
    """Files that are left out for one reason.

    Attributes:
        reason: in the words of the scan.
        count: how many.
        names: the first of them, below the folder.
    """

    reason: str
    count: int
    names: tuple[str, ...]


@dataclass(frozen=True)
class Found:
    """What a folder holds.

    Attributes:
        folder: it.
        headline: pictures and classes in a line.
        pictures: how many.
        classes: pictures a class; empty for a flat folder.
        formats: pictures a file format, the most frequent first.
        copied: caption files and label maps, which are copied as they are.
        left_out: everything that is neither, by reason.
        notes: how the folder was understood.
        enough: whether there are enough pictures to verify a protection of them.
    """

    folder: Path
    headline: str
    pictures: int
    classes: dict[str, int]
    formats: dict[str, int]
    copied: int
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    enough: bool


def survey(folder: Path) -> Found:
    """Look through a folder, without decoding a picture.

    Raises:
        FolderError: it is none, cannot be read, or holds no picture.
    """
    scan = scan_folder(folder)
    left_out = _left_out(scan)
    if not scan.entries:
        told = "".join(f" {item.count} left out: {item.reason}." for item in left_out)
        raise FolderError(f"There is no picture in {folder}.{told} Choose the folder that holds the pictures.")
    counts = Counter(entry.class_name for entry in scan.entries)
    classes = {name: count for name, count in counts.items() if name is not None}
    return Found(
        folder=folder,
        headline=scan.describe(),
        pictures=len(scan.entries),
        classes=dict(sorted(classes.items())),
        formats=dict(Counter(format_of_file(entry.path) or "unknown" for entry in scan.entries).most_common()),
        copied=len(scan.captions) + len(scan.label_maps),
        left_out=left_out,
        notes=scan.notes,
        enough=enough_to_verify(list(counts.values())),
    )


def _left_out(scan: FolderScan) -> tuple[LeftOut, ...]:
    reasons: dict[str, list[str]] = {}
    for item in scan.skipped:
        reasons.setdefault(item.reason, []).append(item.relative)
    # Nobody meant the hidden ones: they come last.
    ordered = sorted(reasons.items(), key=lambda pair: (pair[0] == HIDDEN, -len(pair[1]), pair[0]))
    return tuple(LeftOut(reason, len(names), tuple(names[:_NAMED])) for reason, names in ordered)


def typed_folder(text: str) -> Path:
    """The absolute path that somebody typed or pasted: with quotes, with ``~``, or as an address of a file manager.

    Raises:
        FolderError: nothing, or no path, was typed.
    """
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'":
        text = text[1:-1]
    if text.lower().startswith("file:"):
        try:
            text = url2pathname(urlsplit(text).path)
        except ValueError:
            raise FolderError(f"{text} is no address of a folder. Type its path.") from None
    if not text:
        raise FolderError("No folder is named. Type its path, or look for it with Browse.")
    if "\0" in text:
        raise FolderError("A path cannot hold a NUL character. Type it again.")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise FolderError(f"{text}: there is no such user. Type the whole path.") from None
    return Path(os.path.abspath(path))  # noqa: PTH100 - links stay as they were named


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder that people see, sorted as they read.

    Raises:
        FolderError: it cannot be read.
    """
    try:
        with os.scandir(folder) as listing:
            names = [item.name for item in listing if not item.name.startswith((".", "$")) and _is_folder(item)]
    except OSError as error:
        raise FolderError(f"The folder {folder} cannot be read: {error.strerror or error}.") from error
    return sorted(names, key=lambda name: (name.casefold(), name))


def _is_folder(item: os.DirEntry[str]) -> bool:
    try:
        return item.is_dir()
    except OSError:
        return False


def complete(text: str) -> list[str]:
    """Paths of folders that begin with what was typed, spelled as it began."""
    cut = max(text.rfind(separator) for separator in {"/", os.sep}) + 1
    if not cut:
        return []
    try:
        names = subfolders(typed_folder(text[:cut]))
    except FolderError:
        return []
    begun = text[cut:].casefold()
    fitting = (name for name in names if name.casefold().startswith(begun) and visible(name) == name)
    return [text[:cut] + name for name in fitting][:_COMPLETIONS]


def places() -> list[tuple[str, Path]]:
    """Where to begin looking: the home folder, its pictures, the current folder, and the disks."""
    home = Path.home()
    found = [("Home", home), *((name, home / name) for name in ("Pictures", "Photos", "Desktop"))]
    found.append(("Current folder", Path.cwd()))
    if sys.platform == "win32":
        found += [(f"{letter}:", Path(f"{letter}:\\")) for letter in "CDEFGHIJ"]
    else:
        mounts = (Path("/Volumes"), Path("/media"), Path("/mnt"), Path("/run/media"))
        found += [(str(mount), mount) for mount in mounts]
        found.append(("Whole computer", Path("/")))
    seen: set[Path] = set()
    return [(name, path) for name, path in found if path.is_dir() and not (path in seen or seen.add(path))]


@dataclass(frozen=True)
class Earlier:
    """Copies of a folder that a run made before, or began to make.

    Attributes:
        output: where they are.
        finished: whether the run came to its end.
        strength: how strong; ``None`` where it is none of those that have a name.
        wishes: what was asked for in a terminal beyond that, by the names of the library's options: the run goes on
            only with the same.
    """

    output: Path
    finished: bool
    strength: Strength | None
    wishes: Mapping[str, str] = field(default_factory=dict)


def earlier_copies(folder: Path) -> list[Earlier]:
    """Copies beside a folder, under the names that :func:`free_output` gives, the latest first."""
    found = []
    for output in _outputs(folder):
        if not os.path.lexists(output):
            break
        try:
            run_file = read_run_file(records_of(output).run_file)
            state = None if run_file is not None else RunState.read(StateFiles(output).plan)
        except (BitterantError, OSError):  # damaged, or another's: it is left alone
            continue
        settings = run_file.settings if run_file is not None else None if state is None else state.settings
        if settings is not None:
            found.append(Earlier(output, run_file is not None, _strength(settings), _wishes(settings)))
    return found[::-1]


def free_output(folder: Path, strength: Strength) -> Path:
    """Where the copies go when nobody says: ``<folder>-protected`` beside it, with a number where that is taken.

    One that an unfinished run of this strength has begun is not taken: the run goes on there.
    """
    for earlier in earlier_copies(folder):
        if not earlier.finished and earlier.strength == strength:
            return earlier.output
    return next(output for output in _outputs(folder) if not os.path.lexists(output) or _empty(output))


def free_beside(folder: Path, what: str) -> Path:
    """``<folder>-<what>`` beside a folder, with a number where that is taken."""
    return next(place for place in _beside(folder, what) if not os.path.lexists(place))


def _outputs(folder: Path) -> Iterator[Path]:
    return _beside(folder, "protected")


def _beside(folder: Path, what: str) -> Iterator[Path]:
    first = folder.with_name(f"{folder.name}-{what}") if folder.name else folder / what
    yield first
    yield from (first.with_name(f"{first.name}-{number}") for number in itertools.count(2))


def _empty(folder: Path) -> bool:
    try:
        return not folder.is_symlink() and not any(folder.iterdir())
    except OSError:
        return False


def _wishes(settings: Mapping[str, Any]) -> dict[str, str]:
    usual = ProtectConfig()
    asked = {name: settings.get(name) for name in _WISHES}
    return {name: value for name, value in asked.items() if isinstance(value, str) and value != getattr(usual, name)}


def _strength(settings: Mapping[str, Any]) -> Strength | None:
    epsilon, words = settings.get("epsilon"), strengths_of(str(settings.get("method")))
    if not isinstance(epsilon, float | int):
        return None
    return next((name for name, levels in words.items() if math.isclose(epsilon * 255, levels)), None)
