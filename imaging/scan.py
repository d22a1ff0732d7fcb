"""What is in a folder: the images in a fixed order, their labels, the captions, and everything left aside and why.

Folders come as people have them: with train and test parts, an images folder, loose pictures, and what operating
systems, file servers and photo programs leave in them and nobody means as input.
"""

from __future__ import annotations

import os
import re
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from ..errors import FolderError
from ..records.files import TEMPORARY_PREFIX
from ..records.manifest import HIDDEN
from ..records.on_disk import Names, Rows, Table, as_blob
from ..records.run_file import RECORD_NAMES, part_of
from ..records.run_state import STATE_PREFIX
from ..records.text import counted, counted_of, some
from .formats import EXTENSIONS, MAX_FILE_BYTES
from .label_maps import find_label_maps
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

#: A folder that says only that pictures lie in it.
_WRAPPERS: Final = frozenset(
    {"images", "image", "imgs", "img", "jpegimages", "pngimages", "pictures", "photos", "frames", "leftimg8bit"}
)
#: A folder that says only when its pictures were taken: ``2020``, ``2020-05``, ``2020_05_17``, ``20200517``.
_DATE: Final = re.compile(r"(?:19|20)\d\d(?:[-_. ]?\d\d){0,2}")
_NAMED: Final = 8


class Layout:
    """The class of every picture.

    Attributes:
        class_of: relative path to class; ``None`` for all pictures of a flat folder. Worked out when it is asked for.
        classes: names of the classes, sorted as text.
        parts: folders whose sub-folders are the classes, such as ``train`` and ``val``; empty where the classes are
            the first-level folders.
        notes: what the user should know of it.
    """

    def __init__(
        self, class_of: Mapping[str, str | None], classes: Iterable[str], parts: tuple[str, ...], notes: Iterable[str]
    ) -> None:
        self.class_of = class_of
        self.classes = tuple(sorted(classes))
        self.parts = parts
        self.notes = tuple(notes)


class _Classes(Mapping[str, "str | None"]):
    """The class of each picture by where it lies.

    Args:
        relatives: the pictures.
        opened: the folders that hold classes and are none.
        loose: the class of those in no class folder.
        flat: all are so.
    """

    def __init__(
        self, relatives: Sequence[str], opened: frozenset[str], *, loose: str | None = None, flat: bool = False
    ) -> None:
        self._relatives = relatives
        self._opened = opened
        self._loose = loose
        self._flat = flat

    def __getitem__(self, relative: str) -> str | None:
        return None if self._flat else _class_below(relative, self._opened) or self._loose

    def __iter__(self) -> Iterator[str]:
        return iter(self._relatives)

    def __len__(self) -> int:
        return len(self._relatives)


def find_layout(relatives: Sequence[str]) -> Layout:
    """Tell class folders from folders that only hold them.

    First-level folders are classes, but for parts of a data set (``train/``, ``val/``, ``test/`` and the like),
    folders that merely say that they hold pictures (``images/`` alone), and a folder that is alone on its level and
    holds several others, as an archive unpacks to: of these the sub-folders are the classes, and the same name in two
    parts is one class. A folder whose sub-folders are dates is a class all the same.

    Pictures in no class folder are a class of their own, :data:`LOOSE`, where two class folders or more hold more
    pictures than lie loose. Otherwise the pictures are not sorted into classes, and the folder as a whole is flat.

    Args:
        relatives: paths of the pictures, with ``/`` between the parts.
    """
    opened, alone = _open_folders(relatives)
    class_of = _Classes(relatives, opened)
    classes: set[str] = set()
    loose, places = 0, set[str]()
    for relative in relatives:
        name = class_of[relative]
        if name is None:
            loose += 1
            places.add(relative.rpartition("/")[0])
        else:
            classes.add(name)
    parts = tuple(sorted(folder.rstrip("/") for folder in opened if folder))
    wrapped = tuple(
        f"{name} is the only folder there and holds several, so these are taken as the classes. If {name} is a class "
        "itself, put the folders of the other classes beside it."
        for name in alone
    )
    if not classes or not loose:
        return Layout(class_of, classes, parts, wrapped)
    where = some((f"in {folder}" if folder else "at the top" for folder in sorted(places)), _NAMED)
    lie = counted_of(loose, len(relatives), "picture", "lies", "lie")
    if len(classes) >= 2 and loose * 2 < len(relatives):
        note = (
            f"{lie} beside the class folders, {where}, and will be protected as a class apart. What belongs to a class "
            "should be moved into its folder."
        )
        return Layout(_Classes(relatives, opened, loose=LOOSE), {*classes, LOOSE}, parts, [*wrapped, note])
    note = (
        f"{lie} in no class folder, {where}, so all are taken as one folder without classes, those in "
        f"{some(sorted(classes), _NAMED)} too. If the sub-folders are classes, sort the other pictures into such "
        "folders."
    )
    return Layout(_Classes(relatives, opened, flat=True), (), parts, [note])


def _class_below(relative: str, opened: frozenset[str]) -> str | None:
    """The first folder on the way to a picture that is not merely a container."""
    prefix = ""
    for name in relative.split("/")[:-1]:
        prefix += f"{name}/"
        if prefix not in opened:
            return name
    return None


def _open_folders(relatives: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """The folders that hold classes and are none themselves, each with a ``/`` at its end, the root as ``""``; and the
    names of those whose classes are known only by being several."""
    tree = _Tree(relatives)
    opened, level, divided, alone = {""}, [""], False, ()
    while level:
        inside = tree.inside(level)
        containers = _containers(inside, divided=divided)
        wraps = not containers and tree.only_wraps(level)
        if wraps:
            containers = set(inside)
        divided = divided or any(part_of(name) for name in containers)
        level = [f"{folder}{name}/" for folder in level for name in tree.below.get(folder, ()) if name in containers]
        opened.update(level)
        # Where more is opened below, it is by the names there that the classes are known.
        alone = tuple(inside) if wraps else () if level else alone
    return frozenset(opened), alone


class _Tree:
    """Folders and how many pictures they hold. Folders are written with a ``/`` at their end, the root as ``""``.

    Attributes:
        below: names of the folders in each folder.
        held: pictures at any depth below each folder.
        direct: pictures in each folder itself.
    """

    def __init__(self, relatives: Iterable[str]) -> None:
        self.below: dict[str, set[str]] = {}
        self.held: Counter[str] = Counter()
        self.direct: Counter[str] = Counter()
        for relative in relatives:
            prefix = ""
            self.held[prefix] += 1
            for name in relative.split("/")[:-1]:
                self.below.setdefault(prefix, set()).add(name)
                prefix += f"{name}/"
                self.held[prefix] += 1
            self.direct[prefix] += 1

    def inside(self, level: Iterable[str]) -> dict[str, set[str]]:
        """The names in these folders, each with the names below it; the same name in two folders counts as one."""
        found: dict[str, set[str]] = {}
        for folder in level:
            for name in self.below.get(folder, ()):
                found.setdefault(name, set()).update(self.below.get(f"{folder}{name}/", ()))
        return found

    def only_wraps(self, level: list[str]) -> bool:
        """Whether the one folder that there is on a level merely holds class folders.

        It does if it leads to several folders that hold more pictures than lie beside them.
        """
        while len(names := self.inside(level)) == 1:
            ((name, inside),) = names.items()
            level = [f"{folder}{name}/" for folder in level if name in self.below.get(folder, ())]
            if sum(self.direct[folder] for folder in level) * 2 >= sum(self.held[folder] for folder in level):
                return False
            if len(inside) > 1:
                return not all(_DATE.fullmatch(name) for name in inside)
        return False


def _containers(inside: Mapping[str, set[str]], *, divided: bool) -> set[str]:
    """Those of the folders of one level that are no classes, by their names.

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
    parts = {name for name in names if part_of(name)}
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
    return {"train", "held"} <= {part_of(name) for name in names}


#: Caption files of the Hugging Face ``imagefolder`` layout; same-stem ``.txt`` and ``.caption`` files are captions too.
CAPTION_NAMES: Final = TABLE_NAMES
CAPTION_SUFFIXES: Final = (".txt", ".caption")

#: Our own files at the root of an output folder; a protected folder can be scanned like any other. Exact names, so that
#: no folder or picture of the user is taken for one of ours.
OWN_NAMES: Final = RECORD_NAMES
#: How the files are called that lie there only while a run is under way.
OWN_PREFIXES: Final = (STATE_PREFIX, TEMPORARY_PREFIX)

_SHOWN: Final = 12
#: Why a symbolic link is left aside.
LINK: Final = "a symbolic link, not followed; --follow-links takes what it leads to"


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


SkipKind = Literal["other", "link", "unread"]


@dataclass(frozen=True, slots=True)
class SkippedPath:
    """A path that is left aside, and why: ``link`` (not followed), ``unread`` (it could not be looked at, and may be
    input) or ``other``."""

    relative: str
    reason: str
    kind: SkipKind


class EntryList(Rows[Entry]):
    """Entries sorted by the bytes of their relative path; each is made when it is asked for.

    Args:
        root: the folder.
        table: ``name``, ``label`` (index of the class; ``None`` for none) and ``size`` of each.
        classes: names of the classes.
    """

    def __init__(self, root: Path, table: Table, classes: tuple[str, ...]) -> None:
        def entry(name: bytes, label: int | None, size: int) -> Entry:
            relative = os.fsdecode(name)
            return Entry(relative, root / relative, label, None if label is None else classes[label], size)

        super().__init__(table, "name, label, size", entry)
        self.names = Names(table)

    @property
    def total_bytes(self) -> int:
        """Bytes on disk of all of them."""
        return int(self.table.ask("SELECT total(size) FROM rows")[0][0])


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
    entries: Sequence[Entry]
    classes: tuple[str, ...]
    skipped: Sequence[SkippedPath]
    captions: Sequence[str]
    label_maps: Sequence[str] = ()
    parts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def labelled(self) -> bool:
        """Whether the images lie in class folders."""
        return bool(self.classes)

    @property
    def total_bytes(self) -> int:
        """Bytes of all images on disk."""
        entries = self.entries
        return entries.total_bytes if isinstance(entries, EntryList) else sum(entry.size for entry in entries)

    @property
    def links(self) -> int:
        """How many paths are left aside because they are symbolic links."""
        return sum(path.kind == "link" for path in self.skipped)

    def describe(self) -> str:
        """What was found, in one line for people: how many pictures, and what the classes are."""
        pictures = counted(len(self.entries), "picture")
        innermost = [part for part in self.parts if not any(other.startswith(f"{part}/") for other in self.parts)]
        where = f" below {', '.join(innermost)}" if innermost else ""
        if not self.classes:
            return f"{pictures} without class folders{where}"
        names = some(self.classes, _SHOWN)
        return f"{pictures} in {counted(len(self.classes), 'class', 'classes')}{where}: {names}"


@dataclass(frozen=True, slots=True)
class _Found:
    relative: str
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
    return _sort(root, _walk_root(root, follow_links))


def scan_source(source: Path, *, follow_links: bool = False) -> FolderScan:
    """List a folder of images as :func:`scan_folder` does, or one image file alone.

    The scan of a file is flat, has the file's folder as its root, and holds caption files of the same name.

    Raises:
        FolderError: ``source`` is missing, is not an image by its name, too large, or cannot be opened.
    """
    source = Path(source)
    if not source.is_file():
        return scan_folder(source, follow_links=follow_links)
    if source.suffix.lower() not in EXTENSIONS:
        raise FolderError(
            f"{source} is a file, and {why_not_a_picture(source.name)}. Give a picture, or a folder of pictures."
        )
    size = source.stat().st_size
    if size > MAX_FILE_BYTES:
        raise FolderError(f"{source} is larger than {MAX_FILE_BYTES >> 30} GiB, the most that is read of a file.")
    found = [_Found(source.name, size)]
    for beside in (source.with_suffix(suffix) for suffix in CAPTION_SUFFIXES):
        if beside.is_file():
            found.append(_Found(beside.name, beside.stat().st_size))
    return _sort(source.parent, found)


class _Paths(Mapping[str, Path]):
    """Where each of some names lies."""

    def __init__(self, root: Path, names: Sequence[str]) -> None:
        self._root, self._names = root, names

    def __getitem__(self, name: str) -> Path:
        return self._root / name

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _sort(root: Path, found: Iterable[_Found]) -> FolderScan:
    """Every path found to its list, sorted by its bytes."""
    table = Table(name="BLOB", size="INTEGER", reason="BLOB", kind="TEXT")
    for item in found:
        skip = item.skip
        left = (None, None) if skip is None else (as_blob(skip.reason), skip.kind)
        table.append(os.fsencode(item.relative), item.size, *left)
    skipped, captions = Table(name="BLOB", reason="BLOB", kind="TEXT"), Names()
    pictures = Table(name="BLOB", size="INTEGER")
    for name, size, reason, kind in table.answers("SELECT name, size, reason, kind FROM rows ORDER BY name"):
        if reason is not None:
            skipped.append(name, reason, kind)
            continue
        relative = os.fsdecode(name)
        if caption := is_caption_name(relative):
            captions.append(relative)
        if PurePosixPath(relative).suffix.lower() in EXTENSIONS:
            pictures.append(name, size)
        elif not caption:
            skipped.append(name, as_blob(why_not_a_picture(relative)), "other")
    del table
    maps = find_label_maps(_Paths(root, Names(pictures)))
    images = Names(pictures) if not maps.names else Names(name for name in Names(pictures) if name not in maps.names)
    layout = find_layout(images)
    # Sorted as text, as ImageFolder does, which for any valid name is also the order of the UTF-8 bytes.
    index = {name: i for i, name in enumerate(layout.classes)}
    entries, label_maps = Table(name="BLOB", label="INTEGER", size="INTEGER"), Names()
    for name, size in pictures.rows():
        relative = os.fsdecode(name)
        if relative in maps.names:
            label_maps.append(relative)
        else:
            entries.append(name, index.get(layout.class_of[relative] or ""), size)
    return FolderScan(
        root,
        EntryList(root, entries, layout.classes),
        layout.classes,
        Rows(skipped, "name, reason, kind", _skipped),
        captions,
        label_maps=label_maps,
        parts=layout.parts,
        notes=(*layout.notes, *maps.notes),
    )


def _skipped(name: bytes, reason: bytes, kind: SkipKind) -> SkippedPath:
    return SkippedPath(os.fsdecode(name), os.fsdecode(reason), kind)


def is_own_file(name: str) -> bool:
    """Whether a file of this name at the root of a folder is one that bitterant writes there."""
    return name in OWN_NAMES or name.startswith(OWN_PREFIXES)


def is_caption_name(relative: str) -> bool:
    """Whether a file of this name holds captions."""
    name = relative.rsplit("/", 1)[-1].lower()
    return name in CAPTION_NAMES or name.endswith(CAPTION_SUFFIXES)


#: What to do with files that people take for pictures, by their suffixes.
_REMEDIES: Final = {
    (".arw", ".cr2", ".cr3", ".crw", ".dng", ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".srw"): (
        "; export the picture as TIFF, PNG or JPEG from your raw converter"
    ),
    (".ai", ".eps", ".gif", ".ico", ".jp2", ".jxl", ".pdf", ".psd", ".svg", ".tga", ".xcf"): (
        "; save the picture as PNG to protect it"
    ),
}


def why_not_a_picture(relative: str) -> str:
    """Why a file that is no picture by its name is left aside."""
    suffix = Path(relative).suffix.lower()
    if not suffix:
        return "not an image (no extension)"
    remedy = next((text for suffixes, text in _REMEDIES.items() if suffix in suffixes), "")
    return f"not an image type that is read ({suffix}){remedy}"


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
    """All paths below ``folder``, in the order in which the disk has them. ``above`` holds the folders on the way down,
    to notice a link that leads back."""
    inside: list[str] = []

    def skip(relative: str, reason: str, kind: SkipKind = "other") -> _Found:
        return _Found(relative, 0, SkippedPath(relative, reason, kind))

    try:
        with os.scandir(folder) as listing:
            for item in listing:
                relative = prefix + item.name
                if not prefix and is_own_file(item.name) and not item.is_dir(follow_symlinks=False):
                    continue
                if (why := why_left_aside(item.name)) is not None:
                    yield skip(relative, why)
                    continue
                if not prefix and item.name in OWN_NAMES:
                    yield skip(relative, "a folder with the name of a file that bitterant writes; rename the folder")
                    continue
                if item.is_symlink() and not follow_links:
                    yield skip(relative, LINK, "link")
                    continue
                try:
                    status = item.stat()
                except OSError as error:
                    kind = "link" if item.is_symlink() else "unread"
                    yield skip(relative, f"cannot be opened: {error.strerror or error}", kind)
                    continue
                if stat.S_ISDIR(status.st_mode):
                    if _identity(folder / item.name) in above:
                        yield skip(relative, "a symbolic link that leads back to a folder above it", "link")
                    else:
                        inside.append(item.name)
                elif stat.S_ISREG(status.st_mode) and status.st_size > MAX_FILE_BYTES:
                    yield skip(relative, f"larger than {MAX_FILE_BYTES >> 30} GiB, the most that is read of a file")
                elif stat.S_ISREG(status.st_mode):
                    yield _Found(relative, status.st_size)
                else:
                    # A pipe or a device would block or never end when opened.
                    yield skip(relative, "not a regular file")
    except OSError as error:
        yield skip(prefix.rstrip("/"), f"the folder cannot be read: {error.strerror or error}", "unread")
        return
    for name in inside:
        path = folder / name
        yield from _walk(path, f"{prefix}{name}/", follow_links, above | {_identity(path)})
