"""What kind of files a folder holds: size, mode, format, metadata, and a hash over all of them."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...imaging import Picture
from ..facts import FolderFacts
from .spread import spread_of

__all__ = ["FileForm", "describe_files", "digest_of"]


@dataclass(frozen=True)
class FileForm:
    """One file as it lies on disk. ``mode`` is Pillow's, ``bytes`` its length, the sizes are in upright pixels."""

    relative: str
    sha256: str
    bytes: int
    width: int
    height: int
    mode: str
    format: str
    bit_depth: int
    exif: bool
    icc: bool

    @classmethod
    def of(cls, relative: str, data: bytes, picture: Picture) -> FileForm:
        """Of the bytes of a file and the picture they hold."""
        return cls(
            relative=relative,
            sha256=hashlib.sha256(data).hexdigest(),
            bytes=len(data),
            width=picture.width,
            height=picture.height,
            mode=picture.mode,
            format=picture.format,
            bit_depth=picture.bit_depth,
            exif=picture.metadata.exif is not None,
            icc=picture.metadata.icc is not None,
        )


def digest_of(names: Iterable[str]) -> str:
    """sha256 over texts, whatever their order."""
    digest = hashlib.sha256()
    for name in sorted(text.encode("utf-8", "surrogateescape") for text in names):
        digest.update(name + b"\n")
    return digest.hexdigest()


def describe_files(forms: Sequence[FileForm]) -> FolderFacts | None:
    """All files of one side together; ``None`` where there are none."""
    width, height = spread_of(form.width for form in forms), spread_of(form.height for form in forms)
    if width is None or height is None:
        return None
    return FolderFacts(
        sha256=digest_of(f"{form.relative}\0{form.sha256}" for form in forms),
        files=len(forms),
        bytes=sum(form.bytes for form in forms),
        width=width,
        height=height,
        modes=_counts(form.mode for form in forms),
        formats=_counts(form.format for form in forms),
        bit_depths=_counts(str(form.bit_depth) for form in forms),
        exif=sum(form.exif for form in forms),
        icc=sum(form.icc for form in forms),
    )


def _counts(values: Iterable[str]) -> dict[str, int]:
    """The most frequent first; of equally frequent ones by name, so that reports can be compared."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))
