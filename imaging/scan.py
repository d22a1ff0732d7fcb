"""What is in a folder: the images in a fixed order, their labels, the captions, and everything left aside and why.

Folders come as people have them: with train and test parts, an images folder, loose pictures, and what operating
systems, file servers and photo programs leave in them and nobody means as input.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from ..errors import FolderError
from ..records.files import TEMPORARY_PREFIX
from ..records.manifest import HIDDEN, MANIFEST_NAME
from ..records.run_file import RUN_FILE_NAME
from ..records.run_state import STATE_PREFIX
from ..records.text import counted, counted_of
from .formats import EXTENSIONS
from .label_maps import find_label_maps
from .limits import MAX_FILE_BYTES
from .tables import TABLE_NAMES

#: Bins, thumbnails, indexes and snapshots, in lower case. What begins with a dot is hidden anyway.
_SYSTEM_NAMES: Final = frozenset(
    # Windows
    {"$recycle.bin", "recycler", "recycled", "$extend", "system volume information", "wpsystem"}
    | {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"}
    # macOS, and what its archives hold
    | {"__macosx", "network trash folder", "temporary items", "icon\r"}
    # Linux
    | {"lost+found"}
    # file servers: Synology, QNAP, NetApp
    | {"@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@sharebin", "@tmp", "@__thumb"}
    | {"~snapshot", "$snapshot"}
    # programs
    | {"picasa.ini", "zbthumbnail.info", "__pycache__"}
)
_NUMBERED: Final = re.compile(r"found\.\d{3}")  # what chkdsk saves

#: Folders that a photo program keeps as one document: previews, and originals that no one else may touch.
_BUNDLES: Final = {
    ".photoslibrary": "Photos",
    ".migratedphotolibrary": "iPhoto",
    ".photolibrary": "iPhoto",
    ".aplibrary": "Aperture",
    ".migratedaplibrary": "Aperture",
    ".lrdata": "Lightroom",
    ".lrcat-data": "Lightroom",
    ".lrlibrary": "Lightroom",
    ".cocatalog": "Capture One",
}


def why_left_aside(name: str) -> str | None:
    """Why a file or folder of this name is never input; ``None`` where it may be.

    :data:`HIDDEN` for hidden and system files, a text that people need to read for the library of a photo program.
    """
    folded = name.casefold()
    if name.startswith(".") or folded in _SYSTEM_NAMES or _NUMBERED.fullmatch(folded):
        return HIDDEN
    program = _BUNDLES.get(PurePosixPath(folded).suffix)
    if program is not None:
        return f"belongs to {program}, which keeps it as one document; export the pictures from there"
    return None


#: The class of pictures that lie in no class folder although others do. No folder can have this name.
LOOSE: Final = "."

#: Parts of a data set, by the word in their name: ``train``, ``Validation``, ``test_set``, ``val2017``.
_PART: Final = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<held>val(?:id(?:ation)?)?|dev|test(?:ing)?|eval(?:uation)?|hold[-_ ]?out))"
    r"(?:[-_ ]?(?:set|split|data|images|imgs|\d{4}))?"
)
#: A folder that says only that pictures lie in it.
_WRAPPERS: Final = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "pngimages", "pictures", "photos", "frames", "leftimg8bit"}
)
_NAMED: Final = 8


@dataclass(frozen=True)
class Layout:
    """The class of every picture.

    Attributes:
        class_of: relative path to class; ``None`` for all pictures of a flat folder.
        parts: folders whose sub-folders are the classes, such as ``train`` and ``val``; empty where the classes are
            the first-level folders.
        notes: what the user should know of it.
    """

    class_of: Mapping[str, str | None]
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def find_layout(relatives: Iterable[str]) -> Layout:
    """Tell class folders from folders that only hold them.

    First-level folders are classes, but for parts of a data set (``train/``, ``val/``, ``test/`` and the like) and
    folders that merely say that they hold pictures (``images/`` alone): of these the sub-folders are the classes, and
    the same name in two parts is one class.

    Pictures in no class folder are a class of their own, :data:`LOOSE`, where two class folders or more hold more
    pictures than lie loose. Otherwise the pictures are not sorted into classes, and the folder as a whole is flat.

    Args:
        relatives: paths of the pictures, with ``/`` between the parts.
    """
    relatives = list(relatives)
    opened = _open_folders(relatives)
    class_of = {relative: _class_below(relative, opened) for relative in relatives}
    classes = {name for name in class_of.values() if name is not None}
    loose = [relative for relative, name in class_of.items() if name is None]
    parts = tuple(sorted(folder.rstrip("/") for folder in opened if folder))
    if not classes or not loose:
        return Layout(class_of, parts)
    where = _places(loose)
    if len(classes) >= 2 and len(loose) * 2 < len(relatives):
        return Layout(
            {relative: name or LOOSE for relative, name in class_of.items()},
            parts,
            (
                f"{counted_of(len(loose), len(relatives), 'picture', 'lies', 'lie')} beside the class folders, "
                f"{where}, and will be protected as a class apart. What belongs to a class should be moved into "
                "its folder.",
            ),
        )
    return Layout(
        dict.fromkeys(relatives),
        parts,
        (
            f"{counted_of(len(loose), len(relatives), 'picture', 'lies', 'lie')} in no class folder, {where}, so all "
            f"are taken as one folder without classes, those in {_some(sorted(classes))} too. If the sub-folders are "
            "classes, sort the other pictures into such folders.",
        ),
    )


def _class_below(relative: str, opened: frozenset[str]) -> str | None:
    """The first folder on the way to a picture that is not merely a container."""
    prefix = ""
    for name in relative.split("/")[:-1]:
        prefix += f"{name}/"
        if prefix not in opened:
            return name
    return None


def _open_folders(relatives: list[str]) -> frozenset[str]:
    """The folders that hold classes and are none themselves, each with a ``/`` at its end, the root as ``""``."""
    below: dict[str, set[str]] = {}
    for relative in relatives:
        prefix = ""
        for name in relative.split("/")[:-1]:
            below.setdefault(prefix, set()).add(name)
            prefix += f"{name}/"
    opened, level, divided = {""}, [""], False
    while level:
        inside: dict[str, set[str]] = {}
        for folder in level:
            for name in below.get(folder, ()):
                inside.setdefault(name, set()).update(below.get(f"{folder}{name}/", ()))
        containers = _containers(inside, divided=divided)
        divided = divided or any(_part(name) for name in containers)
        level = [f"{folder}{name}/" for folder in level for name in below.get(folder, ()) if name in containers]
        opened.update(level)
    return frozenset(opened)


def _containers(inside: Mapping[str, set[str]], *, divided: bool) -> set[str]:
    """Those of the folders of one level that are no classes.

    Args:
        inside: the name of each folder and the names of those below it.
        divided: the parts of the data set were found above; there are no parts of parts.
    """
    names = set(inside)
    if len({name.casefold() for name in names}) == 1 and names.pop().casefold() in _WRAPPERS:
        return set(inside)
    if divided:
        return set()
    names = set(inside)
    parts = {name for name in names if _part(name)}
    if parts == names:
        return parts
    if _is_divided(parts):
        # Beside train and test lies more, such as extra/: a further part if it holds the same classes, else a class.
        known = set().union(*(inside[name] for name in parts))
        return parts | {name for name in names if inside[name] & known} if known else set()
    # One folder around the parts, as an archive unpacks to.
    return names if len(names) == 1 and _is_divided(*inside.values()) else set()


def _is_divided(names: Iterable[str]) -> bool:
    """Whether a training part and one held out are among the names."""
    return {"train", "held"} <= {_part(name) for name in names}


def _part(name: str) -> str | None:
    """``train`` or ``held`` (out) for a part of a data set, else ``None``."""
    found = _PART.fullmatch(name.casefold())
    return None if found is None else ("train" if found["train"] else "held")


def _places(loose: Iterable[str]) -> str:
    folders = sorted({relative.rpartition("/")[0] for relative in loose})
    return _some([f"in {folder}" if folder else "at the top" for folder in folders])


def _some(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")


#: Caption files of the Hugging Face ``imagefolder`` layout; same-stem ``.txt`` and ``.caption`` files are captions too.
CAPTION_NAMES: Final = TABLE_NAMES
CAPTION_SUFFIXES: Final = (".txt", ".caption")

#: Our own files at the root of an output folder; a protected folder can be scanned like any other. Exact names, so that
#: no folder or picture of the user is taken for one of ours.
OWN_NAMES: Final = (MANIFEST_NAME, RUN_FILE_NAME, "bitterant-report.html")
#: How the files are called that lie there only while a run is under way.
OWN_PREFIXES: Final = (STATE_PREFIX, TEMPORARY_PREFIX)

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
        pictures = counted(len(self.entries), "picture")
        where = f" below {', '.join(self.parts)}" if self.parts else ""
        if not self.classes:
            return f"{pictures} without class folders{where}"
        names = ", ".join(self.classes[:_SHOWN]) + (", ..." if len(self.classes) > _SHOWN else "")
        return f"{pictures} in {counted(len(self.classes), 'class', 'classes')}{where}: {names}"


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
    a folder is *flat* (its images have no labels), is told in :func:`~bitterant.imaging.scan.find_layout`. Only what
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
        elif stat.S_ISREG(status.st_mode) and status.st_size > MAX_FILE_BYTES:
            yield _skip(path, relative, f"larger than {MAX_FILE_BYTES >> 30} GiB, the most that is read of a file")
        elif stat.S_ISREG(status.st_mode):
            yield _Found(relative, path, status.st_size)
        else:
            # A pipe or a device would block or never end when opened.
            yield _skip(path, relative, "not a regular file")


def _skip(path: Path, relative: str, reason: str, kind: Literal["other", "link"] = "other") -> _Found:
    return _Found(relative, path, 0, SkippedPath(relative, reason, kind))
