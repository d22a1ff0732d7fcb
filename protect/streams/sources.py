"""What SRC is: pictures one by one, or shards that hold many; which objects; and which tasks they make.

A task is what is done whole or not at all, and what a stopped run need not do again: a shard, or some pictures.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from ...errors import ConfigError, FolderError
from ...imaging.encoding import resolve_names
from ...imaging.formats import EXTENSIONS
from ...imaging.label_maps import may_be_label_map, partner_stem
from ...imaging.loading import FileProblem
from ...imaging.scan import LINK, Layout, find_layout, is_caption_name, is_own_file, why_left_aside, why_not_a_picture
from ...imaging.shards import format_named, is_packed_name, is_parquet_name, is_tar_name
from ...records.config import FormatPolicy
from ...records.manifest import HIDDEN
from ...records.places import lies_in
from ...records.stores import Item, LocalStore, RemoteStore, Store, is_url, masked, open_store, why_unsafe
from ...records.text import counted, some
from ..request.places import overlap_problem

Kind = Literal["pictures", "tar", "parquet"]

#: Pictures of one task: as many as are looked at again, at most, after a kill.
PICTURES_AT_ONCE: Final = 256
#: Names that ``{000..999}`` may stand for.
_MOST_NAMES: Final = 1_000_000
_SPECIAL: Final = re.compile(r"[{*\[]|\?(?![^=/]*=)")
_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_KINDS: Final[Mapping[Kind, tuple[str, str]]] = {
    "pictures": ("picture", "pictures"),
    "tar": ("tar shard", "tar shards"),
    "parquet": ("Parquet file", "Parquet files"),
}


@dataclass(frozen=True)
class Task:
    """Objects that are done together.

    Attributes:
        name: of its files in the records.
        items: of SRC.
    """

    name: str
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Source:
    """SRC as it was found.

    Attributes:
        kind: what its objects are.
        store: where they lie.
        items: the shards, or the pictures, by name.
        chosen: whether they were named or matched one by one, so that others may lie beside them.
        captions: caption files between pictures.
        skipped: what is left aside, and why.
        unread: folders that could not be looked into, and why: nobody knows what they hold.
        settled: single pictures that are done, and what their copies are called: other names may not change that.
        known: classes of the bank; a folder of such a name holds pictures, whatever its name says besides.
    """

    kind: Kind
    store: Store
    items: tuple[Item, ...]
    chosen: bool = False
    captions: tuple[Item, ...] = ()
    skipped: tuple[FileProblem, ...] = field(default=(), repr=False)
    unread: tuple[FileProblem, ...] = ()
    settled: Mapping[str, str] = field(default_factory=dict, repr=False)
    known: frozenset[str] = frozenset()

    @cached_property
    def layout(self) -> Layout:
        """The classes of single pictures, by their folders. Label maps beside them make no classes, nor change them."""
        names = [item.name for item in self.items]
        return find_layout([name for name in names if not self._is_partner(name)])

    @cached_property
    def stems(self) -> frozenset[str]:
        """What pictures are called that are no label maps by their name: those may belong to them."""
        return frozenset(partner_stem(item.name) for item in self.items if not self.may_be_map(item.name))

    def may_be_map(self, name: str) -> bool:
        """Whether a single picture may be a label map by its name, or by that of its folder."""
        folders = name.split("/")[:-1]
        return may_be_label_map(name) and not any(
            folder in self.known and may_be_label_map(f"{folder}/x") for folder in folders
        )

    def _is_partner(self, name: str) -> bool:
        return self.may_be_map(name) and partner_stem(name) in self.stems

    def names(self, policy: FormatPolicy) -> Mapping[str, tuple[str, str]]:
        """Name below OUT and file format of the copy of each single picture that is not done."""
        left = (item.name for item in self.items if item.name not in self.settled)
        formats = {name: format_named(name) or "PNG" for name in left}
        return resolve_names(formats, policy, beside=[*(item.name for item in self.captions), *self.settled.values()])

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return sum(item.size for item in self.items)

    def describe(self) -> str:
        """What was found, in one line for people."""
        text = f"{counted(len(self.items), *_KINDS[self.kind])} in {self.store.shown}"
        if self.kind == "pictures":
            classes = {name for name in self.layout.class_of.values() if name is not None}
            text += f", {counted(len(classes), 'class folder')}" if classes else ", without class folders"
        return text

    def tasks(self) -> list[Task]:
        """What is to be done, in order."""
        if self.kind != "pictures":
            return [Task(item.name, (item,)) for item in self.items]
        return list(group((*self.items, *self.captions)))


def group(items: Iterable[Item]) -> Iterator[Task]:
    """Single objects as tasks, named by what they hold."""
    found = sorted(items, key=lambda item: os.fsencode(item.name))
    for start in range(0, len(found), PICTURES_AT_ONCE):
        part = tuple(found[start : start + PICTURES_AT_ONCE])
        digest = hashlib.sha256("\n".join(item.name for item in part).encode("utf-8", "surrogateescape"))
        yield Task(f"pictures-{digest.hexdigest()[:16]}", part)


def is_stream(source: str | Path, output: str | Path) -> bool:
    """Whether SRC and OUT are anything but a folder of pictures, or a picture, and a folder on this machine."""
    if is_url(source) or is_url(output):
        return True
    path = Path(source)
    if not path.exists():
        return _SPECIAL.search(os.fspath(source)) is not None
    if path.is_file():
        return is_tar_name(path.name) or is_parquet_name(path.name) or is_packed_name(path.name)
    shards = False
    for _, folders, files in os.walk(path):
        folders[:] = [name for name in folders if why_left_aside(name) is None]
        for name in files:
            if os.path.splitext(name)[1].lower() in EXTENSIONS and why_left_aside(name) is None:  # noqa: PTH122
                return False
            shards = shards or is_tar_name(name) or is_parquet_name(name) or is_packed_name(name)
    return shards


def find_source(place: str | Path, *, follow_links: bool = False, only: Kind | None = None) -> Source:
    """Look what SRC is.

    Args:
        place: a path or URL of a folder, of a shard, or with patterns: ``*``, ``?``, ``[ab]``, ``**``, and
            ``{000..009}`` or ``{train,val}`` as WebDataset has them.
        follow_links: take what symbolic links to files lead to.
        only: leave other kinds aside, as a run over a folder of pictures does; all are looked for if left out.

    Raises:
        ConfigError: nothing is there, shards are missing, or different kinds lie together.
        SetupError: it cannot be listed.
    """
    text = os.fspath(place)
    literal = not is_url(text) and Path(text).exists()
    if os.sep != "/" and not is_url(text):
        text = text.replace(os.sep, "/")
    special = None if literal else _SPECIAL.search(text)
    if special is not None:
        start = text.rfind("/", 0, special.start()) + 1
        return _chosen(open_store(text[:start] or ".", follow_links=follow_links), text[start:], masked(text), only)
    ending = text.partition("?")[0]
    if is_tar_name(ending) or is_parquet_name(ending) or is_packed_name(ending) or format_named(ending):
        store = open_store(text, of_object=True, follow_links=follow_links)
        name = store.name if isinstance(store, RemoteStore) and store.name else Path(text).name
        if isinstance(store, LocalStore) and not (store.root / name).is_file():
            if not (store.root / name).is_dir():
                raise FolderError(f"There is no file {masked(text)}. Check the path.")
        elif (found := _stat(store, name)) is not None:
            return _sorted(store, [found], chosen=True, shown=masked(text), only=only)
    store = open_store(text, follow_links=follow_links)
    if isinstance(store, LocalStore) and not store.root.is_dir():
        raise FolderError(f"There is no folder {store.shown}. Check the path.")
    return _sorted(store, store.listing(), chosen=False, shown=store.shown, only=only)


def _chosen(store: Store, pattern: str, shown: str, only: Kind | None) -> Source:
    found: dict[str, Item] = {}
    missing: list[str] = []
    listing: list[Item] | None = None
    names = list(expand_braces(pattern))
    for name in names:
        if re.search(r"[*?\[]", name):
            if listing is None:
                listing = list(store.listing())
            matches = _glob(name)
            found.update((item.name, item) for item in listing if matches.fullmatch(item.name))
        elif (item := _stat(store, name)) is not None:
            found[name] = item
        else:
            missing.append(name)
    if missing:
        raise ConfigError(
            f"{shown} stands for {counted(len(names), 'object')}, of which {len(missing)} are not there: "
            f"{some(missing)}."
        )
    return _sorted(store, found.values(), chosen="**" not in pattern, shown=shown, only=only)


def _stat(store: Store, name: str) -> Item | None:
    try:
        return store.stat(name)
    except OSError as error:
        raise ConfigError(f"{store.where(name)} cannot be opened: {error.strerror or error}.") from None


def _sorted(store: Store, found: Iterable[Item], *, chosen: bool, shown: str, only: Kind | None) -> Source:
    by_kind: dict[str, list[Item]] = {kind: [] for kind in (*_KINDS, "captions")}
    skipped: list[FileProblem] = []
    for item in sorted(found, key=lambda item: os.fsencode(item.name)):
        kind, why = _kind_of(item.name)
        if only is not None and kind in _KINDS and kind != only:
            kind, why = None, why_not_a_picture(item.name)
        if kind is None:
            if why:
                skipped.append(FileProblem(item.name, why))
        else:
            by_kind[kind].append(item)
    unread: tuple[FileProblem, ...] = ()
    if isinstance(store, LocalStore) and not chosen:
        skipped += [FileProblem(name, LINK) for name in store.links if not _is_hidden(name)]
        closed = sorted((name, why) for name, why in store.unread.items() if not _is_hidden(name))
        unread = tuple(FileProblem(name, f"the folder cannot be read: {why}") for name, why in closed)
    there: list[Kind] = [kind for kind in _KINDS if by_kind[kind]]
    if not there:
        packed = [problem.relative for problem in skipped if is_packed_name(problem.relative)]
        more = f" {packed[0]} is packed: unpack it to a plain .tar first." if packed else ""
        links = [problem.relative for problem in skipped if problem.reason == LINK]
        more = more or (f" {links[0]} is {LINK}." if links else "")
        more = more or (f" {unread[0].relative}: {unread[0].reason}." if unread else "")
        raise FolderError(
            f"There is nothing to protect in {shown}: no picture, no .tar and no .parquet.{more} Check the address."
        )
    if len(there) > 1:
        told = " and ".join(counted(len(by_kind[kind]), *_KINDS[kind]) for kind in there)
        raise ConfigError(
            f"{shown} holds {told}. Say which of them with a pattern, such as '{shown.rstrip('/')}/*.tar', and do the "
            "others into another place."
        )
    kind = there[0]
    captions = tuple(by_kind["captions"]) if kind == "pictures" else ()
    if kind != "pictures":
        skipped += [FileProblem(item.name, "no shard; it was not copied") for item in by_kind["captions"]]
    return Source(kind, store, tuple(by_kind[kind]), chosen, captions, tuple(skipped), unread)


def _kind_of(name: str) -> tuple[Kind | Literal["captions"] | None, str]:
    """What an object is by its name; ``None`` and why not, where it is nothing to us; no reason for hidden ones."""
    if (why := why_unsafe(name)) is not None:
        return None, why
    if any("\ud800" <= letter <= "\udfff" for letter in name):
        return None, "its name is no text in UTF-8; rename it"
    for part in name.split("/"):
        if (why := why_left_aside(part)) is not None:
            return None, "" if why == HIDDEN else why
    if "/" not in name and is_own_file(name):
        return None, ""
    if is_tar_name(name):
        return "tar", ""
    if is_parquet_name(name):
        return "parquet", ""
    if format_named(name) is not None:
        return "pictures", ""
    if is_caption_name(name):
        return "captions", ""
    if is_packed_name(name):
        return None, "packed; unpack it to a plain .tar first"
    return None, why_not_a_picture(name)


def _is_hidden(name: str) -> bool:
    return any(why_left_aside(part) == HIDDEN for part in name.split("/"))


def expand_braces(pattern: str) -> Iterator[str]:
    """The names that a pattern stands for: ``a-{00..02}`` for three, ``{x,y}`` for two.

    Raises:
        ConfigError: it stands for more than anybody means.
    """
    done, left = [pattern], True
    while left:
        made, left = [], False
        for text in done:
            found = _BRACES.search(text)
            left = left or found is not None
            words = [""] if found is None else _words(found[1])
            start, end = (0, 0) if found is None else found.span()
            made += [f"{text[:start]}{word}{text[end:]}" for word in words]
            if len(made) > _MOST_NAMES:
                raise ConfigError(f"{masked(pattern)} stands for more than {_MOST_NAMES} names. Give a part of them.")
        done = [*dict.fromkeys(made)]  # braces within braces give some twice
    yield from done


def _words(inside: str) -> Sequence[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if numbers is None:
        return inside.split(",")
    first, last = int(numbers[1]), int(numbers[2])
    if last - first > _MOST_NAMES:
        raise ConfigError(f"{{{inside}}} stands for more than {_MOST_NAMES} names. Give a part of them.")
    return [f"{number:0{len(numbers[1])}d}" for number in range(first, last + 1)]


def _glob(pattern: str) -> re.Pattern[str]:
    """As of a shell: ``*`` and ``?`` stop at a slash, ``**/`` is any number of folders."""
    parts = re.split(r"(\*\*/?|\*|\?|\[!?[^\]/]+\])", pattern)
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    made = ""
    for part in parts:
        if part.startswith("[") and part.endswith("]") and len(part) > 2:
            made += part.replace("[!", "[^", 1).replace("\\", "\\\\")
        else:
            made += known.get(part, re.escape(part))
    return re.compile(made)


def check_apart(source: Source, output: Store) -> ConfigError | None:
    """Why OUT may not be used with SRC, or ``None``: originals are never touched, nor taken for copies later."""
    one, two = source.store, output
    if isinstance(one, LocalStore) and isinstance(two, LocalStore):
        if not source.chosen:
            return overlap_problem(one.root, two.root)
        for folder, name in {(one.root / item.name).parent: item.name for item in source.items}.items():
            if lies_in(folder, two.root):
                return FolderError(
                    f"The output folder {two.shown} holds the originals, such as {name}. Choose another folder."
                )
        return None
    if not isinstance(one, RemoteStore) or not isinstance(two, RemoteStore) or type(one.fs) is not type(two.fs):
        return None
    out = f"{two.root}/"
    folders = {f"{one.root}/{item.name}".rpartition("/")[0] + "/" for item in source.items}
    inside = not source.chosen and out.startswith(f"{one.root}/")
    if inside or any(folder.startswith(out) for folder in folders):
        return FolderError(
            f"{two.shown} overlaps the place of the originals, {one.shown}. Originals are never touched. Choose an "
            "output place beside it."
        )
    return None
