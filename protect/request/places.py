"""SRC and OUT: that they do not overlap, that OUT can be written, and which files in OUT and beside it are ours."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from ...errors import BitterantError, FolderError, OutputError
from ...imaging.page import is_own_page
from ...imaging.scan import is_own_file
from ...records.files import TEMPORARY_PREFIX
from ...records.places import identity_of, lies_in, walk
from ...records.run_file import RECORD_NAMES, REPORT_NAME, RecordsPlace, RunRecords, find_records
from ...records.run_state import StateFiles
from ...records.stores import as_url, is_url, masked
from ...records.text import some

#: Litter that desktops leave in any folder; never a reason to refuse one.
_LITTER = frozenset({".ds_store", "thumbs.db", "desktop.ini", ".directory"})


#: What messages call a folder that is written to.
OUTPUT: Final = "output folder"
RECORDS: Final = "folder of the records"


def overlap_problem(source: Path, output: Path, what: str = OUTPUT) -> FolderError | None:
    """Why OUT may not be used with SRC, or ``None``. Both are compared as places, under whatever names; see
    :func:`lies_in`.

    Args:
        source: SRC.
        output: OUT, or the folder of its records; need not exist.
        what: what messages call it.
    """
    src, out = source.resolve(), output.resolve()
    remedy = "Originals are never touched. Choose an output folder beside it."
    if what == RECORDS:
        remedy = "Originals are never touched. Choose another output folder, or keep the records inside it."
    if out == src or (identity_of(out) is not None and identity_of(out) == identity_of(src)):
        return FolderError(f"The {what} is the source folder itself: {source}. {remedy}")
    if lies_in(out, src):
        return FolderError(f"The {what} {output} lies inside the source folder {source}. {remedy}")
    if lies_in(src, out):
        return FolderError(f"The {what} {output} contains the source folder {source}. {remedy}")
    return None


def linked_problem(paths: Iterable[Path], folders: Mapping[Path, str]) -> FolderError | None:
    """Why folders may not be written to with files that followed links lead to, or ``None``: these lie in one.

    Args:
        paths: the files.
        folders: OUT and others, which need not exist, and what messages call them.
    """
    places = {folder.resolve(): (folder, what) for folder, what in folders.items()}
    for path in paths:
        for above in path.resolve().parents:
            if above in places:
                folder, what = places[above]
                return FolderError(
                    f"{path} leads into the {what} {folder}. Originals are never touched. Choose another output folder."
                )
    return None


def place_of_records(output: Path, asked: RecordsPlace, *, resume: bool) -> RunRecords:
    """Where a run keeps its records: where one that was begun has them, unless it starts over.

    Args:
        output: OUT.
        asked: where they are to lie otherwise.
        resume: whether to go on with what is there.
    """
    return (find_records(output) if resume else None) or RunRecords.at(output, asked)


def records_problem(records: RunRecords) -> BitterantError | None:
    """Why the folder that records are to lie in may not be used, or ``None``: it is none, or holds something else.

    In OUT itself they may lie with anything: that is looked through as a whole, by :func:`survey_output`.
    """
    folder = records.folder
    if records.place == "inside" or not os.path.lexists(folder):
        return None
    remedy = _elsewhere(records)
    if folder.is_symlink() or not folder.is_dir():
        what = "a link, and nothing is written through a link" if folder.is_symlink() else "a file, not a folder"
        return FolderError(f"The {RECORDS} {folder} is {what}. {remedy}")
    try:
        with os.scandir(folder) as listing:
            others = sorted(item.name for item in listing if not _may_lie_with_records(item))
    except OSError as error:
        return OutputError(f"The {RECORDS} {folder} cannot be read: {error.strerror or error}. {remedy}")
    theirs = records.are_of_output
    if others:
        remedy = "Move that away." if theirs else remedy
        return FolderError(f"The {RECORDS} {folder} holds what is no record of a run: {some(others)}. {remedy}")
    if any(os.path.lexists(path) for path in records.files) and not theirs:
        return foreign_records(records)
    return None


def foreign_records(records: RunRecords) -> FolderError:
    """What to say where the folder of the records holds those of another run."""
    return FolderError(
        f"The {RECORDS} {records.folder} holds the records of another folder than {records.output}, or of what it held "
        f"before. {_elsewhere(records)}"
    )


def _elsewhere(records: RunRecords) -> str:
    return (
        f"It is left alone: move it away, choose another output folder than {records.output}, or keep the records "
        'inside that (--records inside, in Python records="inside").'
    )


def _may_lie_with_records(item: os.DirEntry[str]) -> bool:
    if not item.is_file(follow_symlinks=False):
        return False
    if item.name == REPORT_NAME:
        return is_own_page(Path(item.path))
    lock = StateFiles(Path(item.path).parent).lock.name
    ours = item.name in RECORD_NAMES or item.name == lock or item.name.startswith(TEMPORARY_PREFIX)
    return ours or item.name.lower() in _LITTER


def existing_parent(path: Path) -> Path:
    """The nearest folder above (or at) ``path`` that exists."""
    resolved = path.resolve()
    return next((p for p in (resolved, *resolved.parents) if p.is_dir()), Path(resolved.anchor))


def check_writable(output: Path, *, create: bool, what: str = OUTPUT) -> None:
    """Make sure that files can be written to a folder, by writing one.

    Args:
        output: OUT, or the folder of a bank.
        create: make the folder and write a file for a moment; otherwise only ask the system for the permission.
        what: what messages call it.

    Raises:
        OutputError: it cannot be written.
        FolderError: it is a file, or a URL.
    """
    if is_url(output):
        raise FolderError(
            f"The {what} is {masked(as_url(output))}, and this command writes to a folder on this machine. Give one "
            "and copy it there; or make a bank with `bitterant fit` or `bitterant code-book`, and `bitterant apply "
            "SRC OUT --bank BANK` writes there itself."
        )
    if output.exists() and not output.is_dir():
        raise FolderError(f"The {what} {output} is a file, not a folder. Choose another name.")
    if not create:
        parent = existing_parent(output)
        if not os.access(parent, os.W_OK | os.X_OK):
            raise OutputError(f"The {what} {output} cannot be written: no permission in {parent}.")
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=output, prefix=TEMPORARY_PREFIX):
            pass
    except OSError as error:
        raise OutputError(
            f"The {what} {output} cannot be written: {error.strerror or error}. "
            "Choose another folder, or fix its permissions."
        ) from error


def remove_empty_folders(folder: Path, stop: Path) -> None:
    """Remove ``folder`` and those above it, up to and with ``stop``, as long as they are empty."""
    while True:
        try:
            folder.rmdir()
        except OSError:
            return
        if folder == stop or stop not in folder.parents:
            return
        folder = folder.parent


def survey_output(output: Path) -> Iterator[str]:
    """All files in OUT that are neither ours at its root nor litter, as paths with forward slashes, in no order.

    Links count as files, whatever they are called, and are not followed, so that nothing is ever written through one.

    Args:
        output: OUT; may be missing.
    """
    for item in walk(output):
        if item.is_dir(follow_symlinks=False):
            continue
        relative = Path(item.path).relative_to(output).as_posix()
        ours = "/" not in relative and is_own_file(item.name) and not item.is_symlink()
        if not ours and item.name.lower() not in _LITTER:
            yield relative
