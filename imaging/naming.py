"""What a protected file is called and which encoder writes it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Final, Literal

from ..errors import ConfigError
from .formats import EXTENSIONS, format_of_file
from .scan import Entry

__all__ = ["FormatPolicy", "output_name", "resolve_output_names"]

FormatPolicy = Literal["lossless", "same"]
_POLICIES: Final = ("lossless", "same")


def output_name(relative: str, fmt_on_disk: str, policy: FormatPolicy) -> tuple[str, str]:
    """The relative path and the encoder of the protected copy.

    Only a JPEG under ``lossless`` changes: it becomes a PNG, because saving as JPEG would wash the perturbation out.
    Everything else keeps its name and format.

    Args:
        relative: path with ``/`` between the parts.
        fmt_on_disk: what the bytes are, whatever the name says.
        policy: ``lossless``, or ``same`` to keep JPEG (at high quality, without chroma subsampling).

    Raises:
        ConfigError: there is no such policy.
    """
    if policy not in _POLICIES:
        raise ConfigError(f"There is no format policy named {policy!r}. Known: {', '.join(_POLICIES)}.")
    if fmt_on_disk != "JPEG" or policy == "same":
        return relative, fmt_on_disk
    folder, slash, name = relative.rpartition("/")
    suffix = PurePosixPath(name).suffix
    # A JPEG that is called photo.png already has the right name once it is a PNG.
    if EXTENSIONS.get(suffix.lower()) == "PNG":
        return relative, "PNG"
    stem = name[: -len(suffix)] if EXTENSIONS.get(suffix.lower()) == "JPEG" else name
    return f"{folder}{slash}{stem}.png", "PNG"


def resolve_output_names(entries: Iterable[Entry], policy: FormatPolicy) -> dict[str, tuple[str, str]]:
    """Names for a whole folder, no two of them the same, not even on a disk that ignores case.

    ``photo.jpg`` beside ``photo.png`` becomes ``photo.jpg.png``; the result depends on the names alone, not on order.

    Args:
        entries: the images of a scan. The first bytes of each file are read to know its format.
        policy: see :func:`output_name`.

    Returns:
        From each relative path to its new relative path and encoder.
    """
    wanted = {
        entry.relative: output_name(entry.relative, format_of_file(entry.path) or "PNG", policy)
        for entry in sorted(entries, key=lambda entry: entry.relative)
    }
    claims: dict[str, int] = {}
    for name, _ in wanted.values():
        claims[_fold(name)] = claims.get(_fold(name), 0) + 1
    # Files that keep their name go first, so that a renamed one never takes the name of one that stays.
    result: dict[str, tuple[str, str]] = {}
    taken: set[str] = set()
    for relative, (name, encoder) in sorted(wanted.items(), key=lambda item: (item[0] != item[1][0], item[0])):
        if name != relative and claims[_fold(name)] > 1:
            name = f"{relative}.png"
        result[relative] = (_unused(name, taken), encoder)
        taken.add(_fold(result[relative][0]))
    return {relative: result[relative] for relative in wanted}


def _fold(name: str) -> str:
    """What a disk that ignores case, or stores accents another way, takes for the same name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _unused(name: str, taken: set[str]) -> str:
    path = PurePosixPath(name)
    stem = name[: -len(path.suffix)] if path.suffix else name
    number = 2
    candidate = name
    while _fold(candidate) in taken:
        candidate = f"{stem}-{number}{path.suffix}"
        number += 1
    return candidate
