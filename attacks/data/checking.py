"""Decodes every pair of files at full size and compares them; nothing a manifest says is taken on trust."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ...errors import ImageError
from ...imaging import Entry, Picture, decode
from ...imaging.places import read_regular
from ..facts import PairIssue
from .distances import measure_distances
from .forms import FileForm
from .lpips import PictureDistance
from .pairing import Pair
from .stealth import LPIPS_FILES, SSIM_FILES, StealthFile, chosen_names

__all__ = ["FileCheck", "check_files"]

_READ_AHEAD = 16


@dataclass(frozen=True)
class FileCheck:
    """What decoding the pairs showed.

    Attributes:
        pairs: those that could be compared.
        files: one row for each of them.
        issues: files that could not be read, or have another size, mode or bit depth than their original.
        clean, protected: what kind of files the two sides of the pairs are.
    """

    pairs: tuple[Pair, ...]
    files: tuple[StealthFile, ...]
    issues: tuple[PairIssue, ...]
    clean: tuple[FileForm, ...]
    protected: tuple[FileForm, ...]


@dataclass(frozen=True)
class _Compared:
    pair: Pair
    file: StealthFile
    clean: FileForm
    protected: FileForm


def check_files(
    pairs: Sequence[Pair],
    *,
    workers: int = 1,
    lpips: PictureDistance | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> FileCheck:
    """Compare every pair.

    Args:
        pairs: originals and copies.
        workers: threads that read and decode.
        lpips: the network for the learned distance, where its weights are at hand.
        progress: told the number of pairs done and of all.
    """
    names = [pair.clean.relative for pair in pairs]
    with_ssim, with_lpips = chosen_names(names, SSIM_FILES), chosen_names(names, LPIPS_FILES)
    good: list[_Compared] = []
    issues: list[PairIssue] = []

    def check(pair: Pair) -> _Compared | PairIssue:
        name = pair.clean.relative
        return _check(pair, with_ssim=name in with_ssim, lpips=lpips if name in with_lpips else None)

    for done, result in enumerate(_in_order(check, pairs, workers), start=1):
        if isinstance(result, PairIssue):
            issues.append(result)
        else:
            good.append(result)
        if progress is not None:
            progress(done, len(pairs))
    return FileCheck(
        pairs=tuple(found.pair for found in good),
        files=tuple(found.file for found in good),
        issues=tuple(issues),
        clean=tuple(found.clean for found in good),
        protected=tuple(found.protected for found in good),
    )


def _in_order(
    check: Callable[[Pair], _Compared | PairIssue], pairs: Sequence[Pair], workers: int
) -> Iterator[_Compared | PairIssue]:
    if workers <= 1:
        yield from map(check, pairs)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="bitterant-check") as pool:
        step = workers * _READ_AHEAD
        for start in range(0, len(pairs), step):
            yield from pool.map(check, pairs[start : start + step])


def _check(pair: Pair, *, with_ssim: bool, lpips: PictureDistance | None) -> _Compared | PairIssue:
    sides: list[tuple[Picture, FileForm]] = []
    for side, entry in (("original", pair.clean), ("copy", pair.protected)):
        try:
            sides.append(_read(entry))
        except (ImageError, OSError) as error:
            reason = error.reason if isinstance(error, ImageError) else f"cannot be read: {error.strerror or error}"
            return PairIssue(kind="unreadable", path=entry.relative, detail=f"the {side}: {reason}")
    (before, clean), (after, protected) = sides
    difference = _form(before), _form(after)
    if difference[0] != difference[1]:
        detail = f"the original is {difference[0]}, the copy {difference[1]}"
        return PairIssue(kind="resized", path=pair.protected.relative, detail=detail)
    row = StealthFile(
        source=pair.clean.relative,
        output=pair.protected.relative,
        width=before.width,
        height=before.height,
        distances=measure_distances(before, after, with_ssim=with_ssim, lpips=lpips),
        bytes_clean=clean.bytes,
        bytes_protected=protected.bytes,
    )
    return _Compared(pair, row, clean, protected)


def _read(entry: Entry) -> tuple[Picture, FileForm]:
    """Picture and hash come from the same bytes: no other file can slip in between."""
    data = read_regular(entry.path)
    picture = decode(data, name=entry.relative)
    return picture, FileForm.of(entry.relative, data, picture)


def _form(picture: Picture) -> str:
    """Size, channels and depth in words. A palette picture and its RGB copy have the same form."""
    kind = "gray" if picture.pixels.shape[2] == 1 else "RGB"
    alpha = "" if picture.alpha is None else " with alpha"
    return f"{picture.width} x {picture.height} {kind}{alpha}, {picture.bit_depth} bit"
