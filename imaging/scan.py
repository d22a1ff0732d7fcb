"""What is in a folder: the images in a fixed order, their labels, the captions, and everything left aside and why."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ..errors import FolderError
from .atomic import TEMPORARY_PREFIX
from .formats import EXTENSIONS

__all__ = [
    "CAPTION_NAMES",
    "CAPTION_SUFFIXES",
    "HIDDEN",
    "OWN_NAMES",
    "OWN_PREFIXES",
    "Entry",
    "FolderScan",
    "SkippedPath",
    "is_own_file",
    "scan_folder",
]

#: Caption files of the Hugging Face ``imagefolder`` layout; same-stem ``.txt`` and ``.caption`` files are captions too.
CAPTION_NAMES: Final = ("metadata.jsonl", "metadata.csv")
CAPTION_SUFFIXES: Final = (".txt", ".caption")

#: Our own files at the root of an output folder; a protected folder can be scanned like any other. Exact names, so that
#: no folder or picture of the user is taken for one of ours.
OWN_NAMES: Final = ("bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html")
#: How the files are called that lie there only while a run is under way.
OWN_PREFIXES: Final = (".bitterant-state.", TEMPORARY_PREFIX)

#: The reason why a hidden file is left aside. Nobody needs to be told of these.
HIDDEN: Final = "hidden"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file.

    Attributes:
        relative: path below the root with ``/`` between the parts, spelled as on disk.
        path: the file itself.
        label: index into ``FolderScan.classes``, or None in a flat folder.
        class_name: name of the first-level folder, or None in a flat folder.
        size: bytes on disk.
    """

    relative: str
    path: Path
    label: int | None
    class_name: str | None
    size: int


@dataclass(frozen=True, slots=True)
class SkippedPath:
    """A path that is left aside, and why: ``link`` (not followed), ``unlabelled`` (no class folder) or ``other``."""

    relative: str
    reason: str
    kind: Literal["other", "link", "unlabelled"]


@dataclass(frozen=True)
class FolderScan:
    """What :func:`scan_folder` found. Every file below the root stands in exactly one of the three lists; what lies in
    a folder that is left aside as a whole (hidden, a link, unreadable) is represented by that folder.

    Attributes:
        root: the folder.
        entries: images, sorted by the bytes of their relative path.
        classes: names of the first-level folders with at least one image; empty for a flat folder.
        skipped: everything that is neither image nor caption, same order.
        captions: relative paths of caption files (``metadata.jsonl``, ``metadata.csv``, ``*.txt``, ``*.caption``), same
            order.
    """

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    skipped: tuple[SkippedPath, ...]
    captions: tuple[str, ...]

    @property
    def labelled(self) -> bool:
        """Whether the images lie in class folders."""
        return bool(self.classes)

    @property
    def total_bytes(self) -> int:
        """Bytes of all images on disk."""
        return sum(entry.size for entry in self.entries)


@dataclass(frozen=True, slots=True)
class _Found:
    relative: str
    path: Path
    size: int
    skip: SkippedPath | None = None


def scan_folder(root: Path, *, follow_links: bool = False) -> FolderScan:
    """List a folder of images.

    Images in first-level folders belong to the class of that name, at whatever depth they lie; class indices are those
    of torchvision's ``ImageFolder``. A folder without class folders is *flat*: its images have no labels. Nothing is
    opened, so damaged files are listed too. A folder without images gives an empty scan, not an error.

    Hidden files and folders are left aside, and our own files at the root (:func:`is_own_file`) are not listed at all.

    Args:
        root: the folder.
        follow_links: go through symbolic links too. A link that leads back to a folder above it is not followed.

    Raises:
        FolderError: ``root`` is missing, is not a folder, or cannot be opened.
    """
    root = Path(root)
    found = sorted(_walk_root(root, follow_links), key=lambda item: os.fsencode(item.relative))
    skipped = [item.skip for item in found if item.skip is not None]
    files = [item for item in found if item.skip is None]
    images = [item for item in files if Path(item.relative).suffix.lower() in EXTENSIONS]
    captions = tuple(item.relative for item in files if _is_caption(item.relative))
    skipped += [
        SkippedPath(item.relative, _reason_for_other(item.relative), "other")
        for item in files
        if Path(item.relative).suffix.lower() not in EXTENSIONS and not _is_caption(item.relative)
    ]
    # Sorted as text, as ImageFolder does, which for any valid name is also the order of the UTF-8 bytes.
    classes = tuple(sorted({item.relative.split("/", 1)[0] for item in images if "/" in item.relative}))
    index = {name: i for i, name in enumerate(classes)}
    entries: list[Entry] = []
    for item in images:
        head, slash, _ = item.relative.partition("/")
        if classes and not slash:
            reason = "lies beside the class folders, not in one; move it into a class folder"
            skipped.append(SkippedPath(item.relative, reason, "unlabelled"))
            continue
        name = head if classes else None
        entries.append(Entry(item.relative, item.path, None if name is None else index[name], name, item.size))
    skipped.sort(key=lambda path: os.fsencode(path.relative))
    return FolderScan(root, tuple(entries), classes, tuple(skipped), captions)


def is_own_file(name: str) -> bool:
    """Whether a file of this name at the root of a folder is one that bitterant writes there."""
    return name in OWN_NAMES or name.startswith(OWN_PREFIXES)


def _is_caption(relative: str) -> bool:
    name = relative.rsplit("/", 1)[-1].lower()
    return name in CAPTION_NAMES or name.endswith(CAPTION_SUFFIXES)


def _reason_for_other(relative: str) -> str:
    suffix = Path(relative).suffix
    return f"not an image type that is read ({suffix})" if suffix else "not an image (no extension)"


def _walk_root(root: Path, follow_links: bool) -> Iterator[_Found]:
    try:
        mode = root.stat().st_mode
    except FileNotFoundError:
        raise FolderError(f"There is no folder {root}. Check the path.") from None
    except OSError as error:
        raise FolderError(f"The folder {root} cannot be opened: {error.strerror or error}.") from error
    if not stat.S_ISDIR(mode):
        raise FolderError(f"{root} is a file, not a folder. Give the folder that holds the images.")
    try:
        with os.scandir(root):
            pass
    except OSError as error:
        raise FolderError(f"The folder {root} cannot be read: {error.strerror or error}.") from error
    yield from _walk(root, "", follow_links, frozenset({_identity(root)}))


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return (status.st_dev, status.st_ino)


def _walk(folder: Path, prefix: str, follow_links: bool, above: frozenset[tuple[int, int]]) -> Iterator[_Found]:
    """All paths below ``folder``. ``above`` holds the folders on the way down, to notice a link that leads back."""
    try:
        with os.scandir(folder) as listing:
            items = list(listing)
    except OSError as error:
        yield _skip(folder, prefix.rstrip("/"), f"the folder cannot be read: {error.strerror or error}")
        return
    for item in items:
        relative = prefix + item.name
        path = folder / item.name
        if not prefix and is_own_file(item.name) and not item.is_dir(follow_symlinks=False):
            continue
        if item.name.startswith("."):
            yield _skip(path, relative, HIDDEN)
            continue
        if not prefix and item.name in OWN_NAMES:
            yield _skip(path, relative, "a folder with the name of a file that bitterant writes; rename the folder")
            continue
        if item.is_symlink() and not follow_links:
            yield _skip(path, relative, "a symbolic link, not followed", "link")
            continue
        try:
            status = item.stat()
        except OSError as error:
            kind = "link" if item.is_symlink() else "other"
            yield _skip(path, relative, f"cannot be opened: {error.strerror or error}", kind)
            continue
        if stat.S_ISDIR(status.st_mode):
            here = _identity(path)
            if here in above:
                yield _skip(path, relative, "a symbolic link that leads back to a folder above it", "link")
            else:
                yield from _walk(path, relative + "/", follow_links, above | {here})
        elif stat.S_ISREG(status.st_mode):
            yield _Found(relative, path, status.st_size)
        else:
            # A pipe or a device would block or never end when opened.
            yield _skip(path, relative, "not a regular file")


def _skip(path: Path, relative: str, reason: str, kind: Literal["other", "link"] = "other") -> _Found:
    return _Found(relative, path, 0, SkippedPath(relative, reason, kind))
