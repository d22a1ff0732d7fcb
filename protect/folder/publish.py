"""Publishing: out of OUT into a folder of its own goes what may be shown, and nothing else.

What may be shown is what the manifest proves: protected pictures whose bytes are still those that were read back and
checked, and the captions and label maps that belong to such pictures alone. Everything else stays behind and is named
with the reason: our own files (the report shows originals), originals that somebody put there, and tables that would
tell of pictures that are not protected.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from ...errors import CaptionError, ConfigError, FolderError, OutputError, ResumeError, SetupError
from ...imaging.formats import is_picture_name
from ...imaging.label_maps import partner_of, partner_stem
from ...imaging.scan import is_own_file
from ...imaging.tables import TABLE_NAMES, visit_names
from ...records.files import TEMPORARY_PREFIX, exclusive, sweep_temporaries, sync_folder, write_atomic
from ...records.manifest import ManifestRow, count_statuses
from ...records.places import lies_in, read_regular
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_file import find_records
from ...records.run_state import StateFiles
from ...records.text import counted, some
from ..request import check_writable
from ..request.places import survey_output
from .inputs import hash_paths
from .session import Session

#: The file of the TDM Reservation Protocol (W3C community group), which a site shows below ``/.well-known/``.
TDMREP_NAME: Final = "tdmrep.json"
#: A path of a URL, with the protocol's two signs: ``*`` for any characters, ``$`` for the end.
_URL_PATH: Final = re.compile(r"/(?:[A-Za-z0-9._~!&'()+,;=:@/*$-]|%[0-9A-Fa-f]{2})*")
_SHOWN: Final = 3
_FOREIGN: Final = "bitterant did not write it"
_OURS: Final = "for you alone: it helps whoever wants to take the protection off"


@dataclass(frozen=True)
class LeftFile:
    """A file that was not published, by its path below OUT, or below SRC where OUT has none; and why."""

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class PublishSummary:
    """The outcome of :func:`publish_folder`.

    Attributes:
        output: OUT.
        destination: DEST.
        pictures: protected pictures that DEST holds now, or would hold.
        companions: captions, tables and label maps beside them.
        bytes: of all of these.
        new: files written by this call; the others were there already.
        left: what was left behind, and why.
        tdmrep: path of ``tdmrep.json``, or ``None``.
        dry_run: nothing was written.
    """

    output: Path
    destination: Path
    pictures: int
    companions: int
    bytes: int
    new: int
    left: list[LeftFile] = field(default_factory=list)
    tdmrep: Path | None = None
    dry_run: bool = False

    @property
    def headline(self) -> str:
        """The outcome in one or two sentences."""
        what = counted(self.pictures, "protected picture")
        if self.companions:
            what += f" and {counted(self.companions, 'caption or label file')}"
        if self.dry_run:
            text = f"{what} would be published to {self.destination}; nothing was written."
        elif not self.new:
            text = f"Nothing to do: {self.destination} holds {what} already."
        else:
            text = f"{self.destination} holds {what} now."
        left = [item for item in self.left if item.reason != _OURS]
        return f"{text} {counted(len(left), 'file')} left behind." if left else text

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        return {
            "headline": self.headline,
            "exit_code": 0,
            "output": str(self.output),
            "destination": str(self.destination),
            "pictures": self.pictures,
            "companions": self.companions,
            "bytes": self.bytes,
            "new": self.new,
            "left": [{"name": item.name, "reason": item.reason} for item in self.left],
            "tdmrep": None if self.tdmrep is None else str(self.tdmrep),
            "dry_run": self.dry_run,
        }


def publish_folder(
    output: Path | str,
    destination: Path | str,
    *,
    tdmrep: str | None = None,
    dry_run: bool = False,
    workers: int = 2,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> PublishSummary:
    """Copy what may be shown of a finished OUT to DEST.

    Every file is compared with the manifest before the first is written. Files appear whole or not at all; after a kill
    the same call goes on, and on a finished DEST it does nothing. Nothing is ever replaced.

    Args:
        output: OUT, finished by :func:`protect_folder` or :func:`apply_folder`.
        destination: DEST; new, empty, or begun by an earlier call. It may not be, contain or lie in OUT.
        tdmrep: path of a URL under which DEST will be reached, such as ``"/photos"``. ``tdmrep.json`` is then written
            to DEST; it reserves the right of text and data mining for all files below that path.
        dry_run: check and count, write nothing.
        workers: threads that compare files.
        progress: told about every file.
        stop: a flag to stop at the next file.

    Raises:
        FolderError: OUT is missing, DEST overlaps it, or DEST holds other things.
        ResumeError: OUT is unfinished or in use, or files in it are not what the manifest says.
        ConfigError: ``tdmrep`` is no path of a URL, or nothing may be shown.
        OutputError: DEST cannot be written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    output, destination = Path(output), Path(destination)
    progress, stop = progress or silent, stop or StopRequest()
    reservation = None if tdmrep is None else _reservation(tdmrep)
    if not output.is_dir():
        raise FolderError(f"{output} is no folder. Name the output folder of `bitterant protect`.")
    _check_apart(output, destination)
    records = find_records(output)
    if records is not None and records.place == "beside":
        _check_apart(records.folder, destination)
    with ExitStack() as stack:
        if not dry_run and os.access(output, os.W_OK):  # what nobody can write to needs no lock
            stack.enter_context(exclusive(StateFiles(output).lock))
        rows = _finished(output)
        chosen, left = _choose(output, rows)
        if not any(row.status == "protected" for row in chosen):
            raise ConfigError(f"{output} holds no protected picture, so there is nothing to publish.")
        _check_unchanged(output, chosen, workers=workers, progress=progress, stop=stop)
        files = {str(row.output): str(row.sha256_out) for row in chosen}
        if reservation is not None:
            if TDMREP_NAME in files:
                raise ConfigError(f"{output} holds a {TDMREP_NAME} of its own. Publish without --with-tdmrep.")
            files = {TDMREP_NAME: hashlib.sha256(reservation).hexdigest(), **files}
        there = _look_at(destination, files)
        missing = [name for name in files if name not in there]
        if not dry_run and missing:
            check_writable(destination, create=True)
            sweep_temporaries(destination)
            _copy(output, destination, {name: files[name] for name in missing}, reservation, progress, stop)
    return PublishSummary(
        output=output,
        destination=destination,
        pictures=sum(row.status == "protected" for row in chosen),
        companions=sum(row.status == "copied" for row in chosen),
        bytes=sum((output / str(row.output)).stat().st_size for row in chosen),
        new=0 if dry_run else len(missing),
        left=left,
        tdmrep=None if reservation is None else destination / TDMREP_NAME,
        dry_run=dry_run,
    )


def _reservation(path: str) -> bytes:
    """``tdmrep.json`` for all files below a path of a URL: an array of rules, even of one, with the number 1 for
    "reserved" (TDM Reservation Protocol, W3C community group, section "TDM File on the Origin Server",
    https://w3c.github.io/tdm-reservation-protocol/spec/). A location is matched as in robots.txt: from the start, ``*``
    for anything, ``$`` for the end.

    Raises:
        ConfigError: it is no such path.
    """
    if not _URL_PATH.fullmatch(path):
        raise ConfigError(
            f"{path!r} is no path of a URL. Write what follows the host's name, such as /photos for "
            "https://example.org/photos/a.png, with %20 for a blank."
        )
    location = path if "*" in path or path.endswith("$") else f"{path.rstrip('/')}/*"
    return json.dumps([{"location": location, "tdm-reservation": 1}], indent=2).encode("ascii") + b"\n"


def _check_apart(output: Path, destination: Path) -> None:
    if lies_in(destination, output) or lies_in(output, destination):
        raise FolderError(
            f"{destination} is, contains or lies in {output}. What is published must lie apart from what is kept: "
            "choose another folder."
        )
    if os.path.lexists(destination) and not destination.is_dir():
        raise FolderError(f"{destination} is no folder. Choose another name.")


def _finished(output: Path) -> tuple[ManifestRow, ...]:
    """The manifest of a finished run.

    Raises:
        ResumeError: there is none.
    """
    session = Session.open(output, resume=True)
    if session.finished is None:
        what = session.missing if session.fresh else "is unfinished: run the same command as before again"
        raise ResumeError(f"{output} {what}. Only finished folders are published.")
    if count_statuses(session.log.rows) != session.finished.counts:
        raise ResumeError(f"{session.manifest} is not the one that {session.run_file} tells of. Nothing was published.")
    return tuple(session.log.rows)


def _choose(output: Path, rows: Sequence[ManifestRow]) -> tuple[list[ManifestRow], list[LeftFile]]:
    """What may be shown, pictures first, and what is left behind."""
    shown = [row for row in rows if row.status == "protected" and row.output is not None]
    left: dict[str, str] = {}
    for row in rows:
        if row.is_problem:
            left[row.source] = f"{row.status}: {row.reason}"
    copied = [row for row in rows if row.status == "copied" and row.output is not None]
    pictures = {row.source: row.status == "protected" for row in rows if row.status != "copied" and _pictured(row)}
    companions = _Companions(pictures)
    tables = [row for row in copied if posixpath.basename(row.source).lower() in TABLE_NAMES]
    for row in copied:
        if row not in tables:
            reason = companions.why_not(row.source)
            if reason is None:
                shown.append(row)
            else:
                left[str(row.output)] = reason
    known = {_fold(str(row.output)) for row in shown}
    for row in tables:
        reason = _why_not_table(output, row, known)
        if reason is None:
            shown.append(row)
        else:
            left[str(row.output)] = reason
    chosen = {str(row.output) for row in shown}
    left.update((name, _FOREIGN) for name in survey_output(output) if name not in chosen and name not in left)
    lock = StateFiles(output).lock.name
    left.update((name, _OURS) for name in _own_files_in(output) if name != lock)
    return shown, [LeftFile(name, reason) for name, reason in left.items()]


def _pictured(row: ManifestRow) -> bool:
    return row.status == "protected" or is_picture_name(row.source)


class _Companions:
    """Which pictures a text file or label map belongs to, and whether all of them are protected.

    Args:
        pictures: path of each picture below SRC, and whether it is protected.
    """

    def __init__(self, pictures: Mapping[str, bool]) -> None:
        self._by_path: dict[str, list[bool]] = {}
        self._by_name: dict[str, list[bool]] = {}
        for source, protected in pictures.items():
            self._by_path.setdefault(_fold(partner_of(source)), []).append(protected)
            self._by_name.setdefault(partner_stem(source), []).append(protected)

    def why_not(self, source: str) -> str | None:
        """Why a file may not be shown; ``None`` where it may."""
        # The picture beside it; else, for folders of labels, those of the same name in other folders.
        found = self._by_path.get(_fold(partner_of(source))) or self._by_name.get(partner_stem(source))
        if not found:
            return "it belongs to no picture that is published"
        return None if all(found) else "a picture that it may belong to is not protected"


def _why_not_table(output: Path, row: ManifestRow, known: set[str]) -> str | None:
    """Why a table may not be shown: it names other files than those that are; ``None`` where it may."""
    name, folder = posixpath.basename(row.source), posixpath.dirname(str(row.output))
    others: dict[str, None] = {}
    named = 0

    def look(line: int, value: str) -> str:
        nonlocal named
        named += 1
        path = posixpath.normpath(posixpath.join(folder, value.replace("\\", "/")))
        if value and _fold(path) not in known:
            others[value] = None
        return value

    try:
        visit_names(name, read_regular(output / str(row.output)), look)
    except (CaptionError, SetupError, OSError) as error:
        return f"it may name pictures that are not published, and cannot be understood: {error}"
    if not named:
        return "it names no picture"
    if others:
        return (
            f"it names {counted(len(others), 'file')} not published: {some(others)}. Take these rows out of the table "
            "in the source folder and protect that again, or put a copy without them into the published folder by hand"
        )
    return None


def _check_unchanged(
    output: Path, rows: Sequence[ManifestRow], *, workers: int, progress: ProgressCallback, stop: StopRequest
) -> None:
    paths = [output / str(row.output) for row in rows]
    digests = hash_paths(
        paths, len(paths), workers=workers, stop=stop, progress=progress, message="comparing with the manifest"
    )
    wrong = [
        str(row.output)
        for row, path, digest in zip(rows, paths, digests, strict=True)
        if digest != row.sha256_out or path.is_symlink()
    ]
    if wrong:
        raise ResumeError(
            f"{len(wrong)} files in {output} are missing or were changed since they were protected: {some(wrong)}. "
            "Nothing was published: what they are now was never checked. Put them back, or protect again."
        )


def _look_at(destination: Path, files: Mapping[str, str]) -> set[str]:
    """Which of the files are in DEST already.

    Args:
        destination: DEST.
        files: path below DEST of what is to be there, and its sha256.

    Raises:
        FolderError: it holds other things.
    """
    found, others = set(), []
    for name in _files_in(destination):
        path = destination / name
        if name in files and not path.is_symlink() and hashlib.sha256(read_regular(path)).hexdigest() == files[name]:
            found.add(name)
        elif not posixpath.basename(name).startswith(TEMPORARY_PREFIX):
            others.append(name)
    if others:
        raise FolderError(
            f"{destination} holds {len(others)} files that are not among those to be published: {some(others)}. "
            "Nothing was written. Give a new or empty folder."
        )
    return found


def _files_in(folder: Path) -> Iterator[str]:
    """All files and links below a folder; what desktops leave there does not count."""
    if folder.is_dir():
        yield from survey_output(folder)
        yield from _own_files_in(folder)  # no part of what is published, so as foreign as any


def _own_files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if is_own_file(path.name) and path.is_file())


def _copy(
    output: Path,
    destination: Path,
    files: Mapping[str, str],
    reservation: bytes | None,
    progress: ProgressCallback,
    stop: StopRequest,
) -> None:
    """The reservation first: no picture is there without it."""
    folders: set[Path] = set()
    for done, (name, digest) in enumerate(files.items(), start=1):
        stop.check(f"{done - 1} of {len(files)} files are published and whole.")
        if name == TDMREP_NAME and reservation is not None:
            data = reservation
        else:
            try:
                data = read_regular(output / name)
            except OSError as error:
                raise OutputError(f"{output / name} cannot be read: {error.strerror or error}.") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise ResumeError(f"{output / name} was changed while it was to be published. It was left out.")
        target = destination / name
        write_atomic(target, data, overwrite=False, lasting=False)
        folders.add(target.parent)
        progress("write", done, len(files), name)
    for folder in folders:
        sync_folder(folder)


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path)
