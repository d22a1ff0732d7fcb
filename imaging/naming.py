"""What a protected file is called and which encoder writes it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final, Literal, get_args

from ..errors import ConfigError
from .formats import EXTENSIONS, format_of_file
from .scan import Entry

__all__ = ["FormatPolicy", "output_name", "resolve_output_names"]

FormatPolicy = Literal["lossless", "webp", "same"]
_POLICIES: Final = get_args(FormatPolicy)

#: Formats that are read and written as another one, lossless: to write them again would wash the perturbation out.
_REPLACED: Final = frozenset({"JPEG", "AVIF", "HEIF", "JPEG2000"})

#: Bytes a file name may have on the disks of Linux, macOS and Windows alike.
_LONGEST_NAME: Final = 255


def output_name(relative: str, fmt_on_disk: str, policy: FormatPolicy) -> tuple[str, str]:
    """The relative path and the encoder of the protected copy.

    A JPEG becomes a PNG, or a lossless WebP under ``webp``, because saving as JPEG would wash the perturbation out; so
    do the other formats that are read only (AVIF, HEIF, JPEG 2000). Everything else keeps its name and format.

    Args:
        relative: path with ``/`` between the parts.
        fmt_on_disk: what the bytes are, whatever the name says.
        policy: ``lossless``, ``webp`` for the smaller files, or ``same`` to keep JPEG (at high quality, without chroma
            subsampling).

    Raises:
        ConfigError: there is no such policy.
    """
    if policy not in _POLICIES:
        raise ConfigError(f"There is no format policy named {policy!r}. Known: {', '.join(_POLICIES)}.")
    if fmt_on_disk not in _REPLACED or (fmt_on_disk == "JPEG" and policy == "same"):
        return relative, fmt_on_disk
    encoder = "WEBP" if policy == "webp" else "PNG"
    folder, slash, name = relative.rpartition("/")
    suffix = PurePosixPath(name).suffix
    # A JPEG that is called photo.png already has the right name once it is a PNG.
    if EXTENSIONS.get(suffix.lower()) == encoder:
        return relative, encoder
    stem = name[: -len(suffix)] if EXTENSIONS.get(suffix.lower()) in _REPLACED else name
    return f"{folder}{slash}{stem}.{encoder.lower()}", encoder


def resolve_output_names(
    entries: Iterable[Entry], policy: FormatPolicy, *, beside: Iterable[str] = ()
) -> dict[str, tuple[str, str]]:
    """Names for a whole folder, no two of them the same, not even on a disk that ignores case.

    ``photo.jpg`` beside ``photo.png``, be that a picture or a folder, becomes ``photo.jpg.png``. A new name that would
    be longer than disks allow is cut, and a few digits of a hash of the old one keep it apart from others. The result
    depends on the names alone, not on order.

    Args:
        entries: the images of a scan. The first bytes of each file are read to know its format.
        policy: see :func:`output_name`.
        beside: relative paths of other files that go to the same place under their own names, such as captions.

    Returns:
        From each relative path to its new relative path and encoder.
    """
    entries, others = list(entries), list(beside)
    wanted = {
        entry.relative: output_name(entry.relative, format_of_file(entry.path) or "PNG", policy)
        for entry in sorted(entries, key=lambda entry: entry.relative)
    }
    claims: dict[str, int] = {}
    for name, _ in wanted.values():
        claims[_fold(name)] = claims.get(_fold(name), 0) + 1
    # Files that keep their name go first, so that a renamed one never takes the name of one that stays.
    result: dict[str, tuple[str, str]] = {}
    folders = {str(parent) for path in [*wanted, *others] for parent in PurePosixPath(path).parents}
    taken = {_fold(name) for name in (*folders, *others)}
    for relative, (name, encoder) in sorted(wanted.items(), key=lambda item: (item[0] != item[1][0], item[0])):
        if name != relative and (claims[_fold(name)] > 1 or _fold(name) in taken):
            name = f"{relative}.{encoder.lower()}"
        result[relative] = (_unused(name if name == relative else _shortened(name, relative), taken), encoder)
        taken.add(_fold(result[relative][0]))
    return {relative: result[relative] for relative in wanted}


def _fold(name: str) -> str:
    """What a disk that ignores case, or stores accents another way, takes for the same name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _shortened(name: str, relative: str) -> str:
    """The name, cut where the disk would refuse it; the hash of the old one, ``relative``, tells cut names apart."""
    if len(os.fsencode(name.rpartition("/")[2])) <= _LONGEST_NAME:
        return name
    return _with_end(name, f"-{hashlib.sha256(os.fsencode(relative)).hexdigest()[:8]}")


def _unused(name: str, taken: set[str]) -> str:
    number = 2
    candidate = name
    while _fold(candidate) in taken:
        candidate = _with_end(name, f"-{number}")
        number += 1
    return candidate


def _with_end(name: str, end: str) -> str:
    """``end`` put between stem and suffix; the stem loses characters where the name would be too long."""
    folder, slash, last = name.rpartition("/")
    suffix = PurePosixPath(last).suffix
    stem = last[: -len(suffix)] if suffix else last
    room = _LONGEST_NAME - len(os.fsencode(end + suffix))
    while stem and len(os.fsencode(stem)) > room:
        stem = stem[:-1]
    return f"{folder}{slash}{stem}{end}{suffix}"
