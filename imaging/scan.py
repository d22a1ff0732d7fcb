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
from .label_maps import find_label_maps
from .layout import find_layout
from .system_files import HIDDEN, why_left_aside
from .tables import TABLE_NAMES

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
    "scan_source",
]

#: Caption files of the Hugging Face ``imagefolder`` layout; same-stem ``.txt`` and ``.caption`` files are captions too.
CAPTION_NAMES: Final = TABLE_NAMES
CAPTION_SUFFIXES: Final = (".txt", ".caption")

#: Our own files at the root of an output folder; a protected folder can be scanned like any other. Exact names, so that
#: no folder or picture of the user is taken for one of ours.
OWN_NAMES: Final = ("bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html")
#: How the files are called that lie there only while a run is under way.
OWN_PREFIXES: Final = (".bitterant-state.", TEMPORARY_PREFIX)

_SHOWN: Final = 12
_LINK: Final = "a symbolic link, not followed; --follow-links takes what it leads to"


@dataclass(frozen=True, slots=True)
class Entry:
    """One image file.

    Attributes:
        relative: path below the root with ``/`` between the parts, spelled as on disk.
        path: the file itself.
        label: index into ``FolderScan.classes``, or None in a flat folder.
        class_name: name of its class folder, ``"."`` for one that lies beside the class folders, or None in a flat
            folder.
        size: bytes on disk.
    """

    relative: str
    path: Path
    label: int | None
    class_name: str | None
    size: int


@dataclass(frozen=True, slots=True)
class SkippedPath:
    """A path that is left aside, and why: ``link`` (not followed) or ``other``."""

    relative: str
    reason: str
    kind: Literal["other", "link"]


@dataclass(frozen=True)
class FolderScan:
    """What :func:`scan_folder` found. Every file below the root stands in exactly one of the four lists; what lies in
    a folder that is left aside as a whole (hidden, a link, unreadable) is represented by that folder.

    Attributes:
        root: the folder.
        entries: images, sorted by the bytes of their relative path.
        classes: names of the class folders with at least one image; empty for a flat folder.
        skipped: everything that is none of the others, same order.
        captions: relative paths of caption files (``metadata.jsonl``, ``metadata.csv``, ``metadata.parquet``,
            ``*.txt``, ``*.caption``), same order.
        label_maps: relative paths of masks and other pictures that hold numbers, same order.
        parts: folders whose sub-folders are the classes, such as ``train`` and ``val``; usually none.
        notes: what people should know of how the folder was understood.
    """

    root: Path
    entries: tuple[Entry, ...]
    classes: tuple[str, ...]
    skipped: tuple[SkippedPath, ...]
    captions: tuple[str, ...]
    label_maps: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the images lie in class folders."""
        return bool(self.classes)

    @property
    def total_bytes(self) -> int:
        """Bytes of all images on disk."""
        return sum(entry.size for entry in self.entries)

    @property
    def links(self) -> int:
        """How many paths are left aside because they are symbolic links."""
        return sum(path.kind == "link" for path in self.skipped)

    def describe(self) -> str:
        """What was found, in one line for people: how many pictures, and what the classes are."""
        pictures = f"{len(self.entries)} pictures" if len(self.entries) != 1 else "1 picture"
        where = f" below {', '.join(self.parts)}" if self.parts else ""
        if not self.classes:
            return f"{pictures} without class folders{where}"
        names = ", ".join(self.classes[:_SHOWN]) + (", ..." if len(self.classes) > _SHOWN else "")
        return f"{pictures} in {len(self.classes)} {'class' if len(self.classes) == 1 else 'classes'}{where}: {names}"


@dataclass(frozen=True, slots=True)
class _Found:
    relative: str
    path: Path
    size: int
    skip: SkippedPath | None = None


def scan_folder(root: Path, *, follow_links: bool = False) -> FolderScan:
    """List a folder of images.

    Images in a class folder belong to the class of that name, at whatever depth they lie; where the class folders are
    the first-level ones, class indices are those of torchvision's ``ImageFolder``. Which folders are classes, and when
    a folder is *flat* (its images have no labels), is told in :func:`~bitterant.imaging.layout.find_layout`. Only what
    may be a label map is opened, so damaged files are listed too. A folder without images gives an empty scan, not an
    error.

    Hidden files and folders, and those of the system, are left aside, and our own files at the root
    (:func:`is_own_file`) are not listed at all.

    Args:
        root: the folder.
        follow_links: go through symbolic links too. A link that leads back to a folder above it is not followed.

    Raises:
        FolderError: ``root`` is missing, is not a folder, or cannot be opened.
    """
    root = Path(root)
    return _sort(root, list(_walk_root(root, follow_links)))


def scan_source(source: Path, *, follow_links: bool = False) -> FolderScan:
    """List a folder of images as :func:`scan_folder` does, or one image file alone.

    The scan of a file is flat, has the file's folder as its root, and holds caption files of the same name.

    Raises:
        FolderError: ``source`` is missing, is not an image by its name, or cannot be opened.
    """
    source = Path(source)
    if not source.is_file():
        return scan_folder(source, follow_links=follow_links)
    if source.suffix.lower() not in EXTENSIONS:
        raise FolderError(
            f"{source} is a file, and {_reason_for_other(source.name)}. Give a picture, or a folder of pictures."
        )
    found = [_Found(source.name, source, source.stat().st_size)]
    for beside in (source.with_suffix(suffix) for suffix in CAPTION_SUFFIXES):
        if beside.is_file():
            found.append(_Found(beside.name, beside, beside.stat().st_size))
    return _sort(source.parent, found)


def _sort(root: Path, found: list[_Found]) -> FolderScan:
    """Every path found to its list."""
    found = sorted(found, key=lambda item: os.fsencode(item.relative))
    skipped = [item.skip for item in found if item.skip is not None]
    files = [item for item in found if item.skip is None]
    captions = tuple(item.relative for item in files if _is_caption(item.relative))
    images = [item for item in files if Path(item.relative).suffix.lower() in EXTENSIONS]
    skipped += [
        SkippedPath(item.relative, _reason_for_other(item.relative), "other")
        for item in files
        if Path(item.relative).suffix.lower() not in EXTENSIONS and not _is_caption(item.relative)
    ]
    maps = find_label_maps({item.relative: item.path for item in images})
    pictures = [item for item in images if item.relative not in maps.names]
    layout = find_layout(item.relative for item in pictures)
    # Sorted as text, as ImageFolder does, which for any valid name is also the order of the UTF-8 bytes.
    classes = tuple(sorted({name for name in layout.class_of.values() if name is not None}))
    index = {name: i for i, name in enumerate(classes)}
    entries: list[Entry] = []
    for item in pictures:
        name = layout.class_of[item.relative]
        entries.append(Entry(item.relative, item.path, None if name is None else index[name], name, item.size))
    skipped.sort(key=lambda path: os.fsencode(path.relative))
    return FolderScan(
        root,
        tuple(entries),
        classes,
        tuple(skipped),
        captions,
        label_maps=tuple(item.relative for item in images if item.relative in maps.names),
        parts=layout.parts,
        notes=(*layout.notes, *maps.notes),
    )


def is_own_file(name: str) -> bool:
    """Whether a file of this name at the root of a folder is one that bitterant writes there."""
    return name in OWN_NAMES or name.startswith(OWN_PREFIXES)


def _is_caption(relative: str) -> bool:
    name = relative.rsplit("/", 1)[-1].lower()
    return name in CAPTION_NAMES or name.endswith(CAPTION_SUFFIXES)


def _reason_for_other(relative: str) -> str:
    suffix = Path(relative).suffix
    return f"not an image type that is read ({suffix.lower()})" if suffix else "not an image (no extension)"


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
        if (why := why_left_aside(item.name)) is not None:
            yield _skip(path, relative, why)
            continue
        if not prefix and item.name in OWN_NAMES:
            yield _skip(path, relative, "a folder with the name of a file that bitterant writes; rename the folder")
            continue
        if item.is_symlink() and not follow_links:
            yield _skip(path, relative, _LINK, "link")
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
