"""What lies beside a folder of pictures and not in it, so that the folder can be published: where, and under what name.

Where the folder is a part of a data set, such as ``public/train``, what tells of it lies beside the data set, which is
published as a whole: ``public-train-records``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

#: Parts of a data set, by the word in their name: ``train``, ``Validation``, ``test_set``, ``val2017``.
_PART: Final = re.compile(
    r"(?:(?P<train>train(?:ing)?)|(?P<held>val(?:id(?:ation)?)?|dev|test(?:ing)?|eval(?:uation)?|hold[-_ ]?out))"
    r"(?:[-_ ]?(?:set|split|data|images|imgs|\d{4}))?"
)


def part_of(name: str) -> Literal["train", "held"] | None:
    """``train`` or ``held`` (out) for a name of parts of data sets, such as ``train2017`` or ``val``; else ``None``."""
    found = _PART.fullmatch(name.casefold())
    return None if found is None else ("train" if found["train"] else "held")


def data_set_of(folder: Path) -> Path:
    """The data set that a folder is a part of, or the folder itself, as an absolute path.

    Links are not followed: what lies beside lies beside what was named. A part that is held out, such as ``test``, is
    taken for one only where a training part lies beside it.
    """
    wholes = list(_above(folder))
    for part in wholes:
        kind = part_of(part.name)
        if kind is None or (kind == "held" and not any(part_of(name) == "train" for name in _names(part.parent))):
            return part
    return wholes[-1]


def beside(folder: Path, what: str, whole: Path | None = None) -> Path:
    """``FOLDER-what`` beside a folder, relative where the folder is and holds no ``..``.

    Args:
        folder: it need not exist.
        what: what it is called.
        whole: the data set beside which it lies; by default :func:`data_set_of`.
    """
    place = _absolute(folder)
    whole = data_set_of(folder) if whole is None else whole
    found = whole.parent / f"{'-'.join(place.relative_to(whole.parent).parts)}-{what}"
    return found if folder.is_absolute() or ".." in folder.parts else Path(os.path.relpath(found))


def places_beside(folder: Path, what: str) -> Iterator[Path]:
    """All places that :func:`beside` may have given, as other parts came and went; that of now comes first."""
    now = data_set_of(folder)
    yield beside(folder, what, now)
    yield from (beside(folder, what, whole) for whole in _above(folder) if whole != now)


def _above(folder: Path) -> Iterator[Path]:
    """A folder, and those above it that its name may be a part of."""
    whole = _absolute(folder)
    yield whole
    while part_of(whole.name) is not None and whole.parent.name:
        whole = whole.parent
        yield whole


def _absolute(folder: Path) -> Path:
    """A name, also where the folder is ``..``; links stay."""
    return Path(os.path.abspath(folder))  # noqa: PTH100


def _names(folder: Path) -> list[str]:
    try:
        return [found.name for found in folder.iterdir()]
    except OSError:
        return []
