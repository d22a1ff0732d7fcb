"""Which folders are classes, in folders as people have them: train and test parts, an images folder, loose pictures."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["LOOSE", "Layout", "find_layout"]

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
_SHOWN: Final = 8


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
                f"{len(loose)} of {len(relatives)} pictures lie beside the class folders, {where}: they are protected "
                "as a class of their own. If they belong to a class, move them into its folder.",
            ),
        )
    return Layout(
        dict.fromkeys(relatives),
        parts,
        (
            f"{len(loose)} of {len(relatives)} pictures lie in no class folder, {where}, so all are taken as one "
            f"folder without classes, those in {_some(sorted(classes))} too. If the sub-folders are classes, sort the "
            "other pictures into such folders.",
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
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
