"""Whether what a verification writes can be written, asked before anything is read or trained."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from ..errors import FolderError, OutputError
from ..imaging.atomic import check_free
from ..imaging.page import is_own_page
from ..imaging.places import lies_in, open_regular

__all__ = ["check_place", "check_places", "is_own_report_file"]

_SCHEMA = b'"schema_version"'
"""The first field of every JSON file of a report."""
_JSON_FILES = ("plan.json", "report.json")

_PROBE = b"\0" * 65536
"""As much as a small file of the report, so that a disk that is full is told."""


def check_places(
    report: Path | None, cells: Path | None, names: Iterable[str], pictures: Iterable[Path | None]
) -> None:
    """Check the folder of the report and that of the kept trainings.

    Args:
        report, cells: the folders; ``None`` where nothing is to be written.
        names: of the files that will lie in the report's folder.
        pictures: folders of pictures, in which neither may lie.

    Raises:
        FolderError: a place is a file, lies among the pictures, or a folder stands where a file of the report must.
        OutputError: a place cannot be read or written, or holds a file that is not ours where one of the report must.
    """
    folders = [folder for folder in pictures if folder is not None]
    for name, place, files in (("report", report, names), ("cells", cells, ())):
        if place is not None:
            _check_beside(name, place, folders)
            check_place(name, place, files)


def check_place(name: str, place: Path, files: Iterable[str] = ()) -> None:
    """Try whether files can be written into a folder that may not be there yet. Nothing of the trial is left.

    Args:
        name: what the folder is for; the option that names it is called so too.
        place: the folder.
        files: names of the files that will be written or replaced in it.

    Raises:
        FolderError: it is no folder, or another folder stands in the way of a file.
        OutputError: it cannot be read or written, or a file that is not ours has the name of one of them.
    """
    try:
        there = _nearest(place)
        if not there.is_dir():
            raise FolderError(
                f"The {name} folder {place} cannot be made: {there} is a file. "
                f"Name another folder with --{name}; it need not be there yet."
            )
        if there == place.absolute():
            for _ in os.scandir(place):
                break
            blocked = [file for file in files if (place / file).is_dir()]
            if blocked:
                raise FolderError(
                    f"{place / blocked[0]} is a folder where a file of the {name} must be written. "
                    f"Move it away, or name another folder with --{name}."
                )
            for file in files:
                check_free(place / file, overwrite=is_own_report_file)
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"The {name} folder {place} cannot be used: {error.strerror or error}. Nothing was trained. Change its "
            f"permissions or free some space, or name another folder with --{name}."
        ) from error


def is_own_report_file(path: Path) -> bool:
    """Whether a file belongs to a report that bitterant wrote, so that another may take its place. Tables and arrays
    say nothing of their maker: they do where one of the JSON files beside them is ours.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix == ".html":
        return is_own_page(path)
    if path.suffix == ".json":
        with open_regular(path) as file:
            return file.read(64).lstrip(b"{ \r\n").startswith(_SCHEMA)
    return any((path.parent / name).is_file() and is_own_report_file(path.parent / name) for name in _JSON_FILES)


def _nearest(place: Path) -> Path:
    """The folder itself, or else the last part of its path that is there."""
    path = place.absolute()
    while path != path.parent:
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            if path.is_symlink():  # it leads nowhere, so that no folder can be made of that name
                raise
            path = path.parent
        else:
            break
    return path


def _check_beside(name: str, place: Path, folders: Iterable[Path]) -> None:
    """A folder without images inside an image folder would be taken for a class, or stop a loader."""
    for folder in folders:
        if lies_in(place, folder):
            raise FolderError(
                f"The {name} folder {place} lies in {folder}, where loaders would take it for a class. "
                f"Choose a place beside it with --{name}."
            )
