"""Decodes every pair of files at full size and compares them; nothing a manifest says is taken on trust.

Read in order: the distances of two pictures, how visible the change of all files is, what kind of files a folder holds,
and the check of all pairs.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...errors import ImageError
from ...imaging import Entry, Picture, decode, measure_change
from ...records.places import read_regular
from ...records.text import csv_line
from ..facts import FolderFacts, PairIssue, Spread, Stealth
from .pairing import Pair
from .perceptual import PictureDistance


def spread_of(values: Iterable[float | None]) -> Spread | None:
    """Ends, median, outer percentiles and mean; ``None`` where there is no value."""
    known = np.array([value for value in values if value is not None], dtype=np.float64)
    if not len(known):
        return None
    low, p01, p50, p99, high = np.quantile(known, [0.0, 0.01, 0.5, 0.99, 1.0]).tolist()
    return Spread(min=low, p01=p01, p50=p50, p99=p99, max=high, mean=float(known.mean()))


_SSIM_SIDE = 1500
_LPIPS_SIDE = 512
_BLOCK_VALUES = 1 << 20


@dataclass(frozen=True)
class Distances:
    """How far two pictures are from each other.

    Attributes:
        linf_levels: largest change of any value, in 1/255.
        l2: Euclidean length of the change, values in [0, 1].
        psnr: in dB; ``None`` where nothing changed.
        clipped: share of the values that the change moved to black or white. What it wanted beyond is lost.
        ssim: structural similarity; ``None`` where it was not measured.
        lpips: learned perceptual distance; ``None`` where it was not measured.
    """

    linf_levels: float
    l2: float
    psnr: float | None
    clipped: float
    ssim: float | None = None
    lpips: float | None = None


def measure_distances(before: Picture, after: Picture, *, with_ssim: bool, lpips: PictureDistance | None) -> Distances:
    """Compare two pictures of one size, channels and bit depth.

    Both slow measures look at the middle of large pictures only, at its own size: SSIM at 1500 x 1500 pixels, LPIPS at
    512 x 512, so that a photo takes no longer than a screenshot.

    Args:
        before: the original.
        after: the copy.
        with_ssim: whether SSIM is wanted.
        lpips: the network, where LPIPS is wanted.
    """
    largest, squares, clipped = _sums(before, after)
    full, count = before.full_range, before.pixels.size
    ssim = measure_change(_middle(before, _SSIM_SIDE), _middle(after, _SSIM_SIDE)).ssim if with_ssim else None
    distance = None
    if lpips is not None:
        distance = lpips(_middle(before, _LPIPS_SIDE).rgb8(), _middle(after, _LPIPS_SIDE).rgb8())
    return Distances(
        linf_levels=largest * 255.0 / full,
        l2=math.sqrt(squares) / full,
        psnr=None if squares == 0 else 10.0 * math.log10(full * full * count / squares),
        clipped=clipped / count,
        ssim=ssim,
        lpips=distance,
    )


def _sums(before: Picture, after: Picture) -> tuple[int, float, int]:
    """Largest change, sum of squares, and number of values moved to an end; in bands, so that memory stays small."""
    largest, squares, clipped = 0, 0.0, 0
    rows = max(1, _BLOCK_VALUES // max(1, before.width * before.pixels.shape[2]))
    for start in range(0, before.height, rows):
        band = slice(start, start + rows)
        after_band = after.pixels[band]
        delta = after_band.astype(np.int64) - before.pixels[band]
        largest = max(largest, int(np.abs(delta).max(initial=0)))
        squares += float(np.square(delta).sum())
        at_end = (after_band == 0) | (after_band == after.full_range)
        clipped += int(np.count_nonzero(at_end & (delta != 0)))
    return largest, squares, clipped


def _middle(picture: Picture, side: int) -> Picture:
    top, left = (max(0, (size - side) // 2) for size in (picture.height, picture.width))
    pixels = picture.pixels[top : top + side, left : left + side]
    return picture.of_pixels(pixels)


SSIM_FILES = 400
"""SSIM is slow; on larger folders it is measured on this many files, chosen by a hash of their names."""

LPIPS_FILES = 200
"""The same for LPIPS, which is slower."""

_TOLERANCE = 1e-4
_COLUMNS = (
    "source", "output", "width", "height", "linf_levels", "l2", "psnr", "ssim", "lpips", "clipped_fraction",
    "bytes_clean", "bytes_protected", "size_ratio", "over_budget",
)  # fmt: skip


@dataclass(frozen=True)
class StealthFile:
    """How far one protected file is from its original.

    Attributes:
        source: the original: path below CLEAN, or its key.
        output: the copy: path below PROTECTED, or its key.
        width, height: in pixels.
        distances: what was measured.
        bytes_clean, bytes_protected: lengths on disk; ``None`` for sets in memory.
    """

    source: str
    output: str
    width: int
    height: int
    distances: Distances
    bytes_clean: int | None = None
    bytes_protected: int | None = None

    @property
    def size_ratio(self) -> float | None:
        """Length of the copy over that of the original."""
        if not self.bytes_clean or self.bytes_protected is None:
            return None
        return self.bytes_protected / self.bytes_clean

    def breaks(self, budget_levels: float | None) -> bool:
        """Whether it changed by more than the budget, in 1/255; never where none is known."""
        return budget_levels is not None and self.distances.linf_levels > budget_levels + _TOLERANCE


def chosen_names(names: Iterable[str], count: int) -> set[str]:
    """At most ``count`` names, chosen by their hashes: the choice does not depend on order, nor on what is nice."""
    return set(sorted(names, key=_digest)[:count])


def _digest(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()


def summarise_stealth(
    files: Sequence[StealthFile],
    *,
    budget_levels: float | None,
    budget_source: str,
    lpips_source: str | None = None,
    lpips_reason: str | None = "it was not asked for",
) -> Stealth:
    """Quantiles over the files, and which of them broke the budget.

    Args:
        files: all of them.
        budget_levels: the bound in 1/255, where one is known.
        budget_source: who stated it.
        lpips_source: which network LPIPS was measured with.
        lpips_reason: why it was not measured; only looked at where no file has it.
    """
    found = [file.distances for file in files]
    nothing = Spread(min=0.0, p01=0.0, p50=0.0, p99=0.0, max=0.0, mean=0.0)
    lpips = spread_of(distances.lpips for distances in found)
    return Stealth(
        files=len(files),
        budget_levels=budget_levels,
        budget_source=budget_source,
        linf=spread_of(distances.linf_levels for distances in found) or nothing,
        l2=spread_of(distances.l2 for distances in found),
        psnr=spread_of(distances.psnr for distances in found),
        ssim=spread_of(distances.ssim for distances in found),
        ssim_files=sum(distances.ssim is not None for distances in found),
        lpips=lpips,
        lpips_files=sum(distances.lpips is not None for distances in found),
        lpips_source=None if lpips is None else lpips_source,
        lpips_reason=(lpips_reason or "no file could be measured") if lpips is None else None,
        clipped=spread_of(distances.clipped for distances in found),
        size_ratio=spread_of(file.size_ratio for file in files),
        unchanged=sum(distances.linf_levels == 0 for distances in found),
        over_budget=tuple(file.output for file in files if file.breaks(budget_levels)),
    )


def stealth_csv(files: Sequence[StealthFile], *, budget_levels: float | None = None) -> bytes:
    """One line a file, for spreadsheets. What was not measured stays empty."""
    lines: list[Sequence[object]] = [_COLUMNS]
    for file in files:
        found = file.distances
        lines.append(
            (
                file.source,
                file.output,
                file.width,
                file.height,
                f"{found.linf_levels:g}",
                _number(found.l2),
                _number(found.psnr),
                _number(found.ssim),
                _number(found.lpips),
                f"{found.clipped:.6f}",
                "" if file.bytes_clean is None else file.bytes_clean,
                "" if file.bytes_protected is None else file.bytes_protected,
                _number(file.size_ratio),
                "" if budget_levels is None else ("yes" if file.breaks(budget_levels) else "no"),
            )
        )
    return "".join(f"{csv_line(line)}\n" for line in lines).encode("utf-8", "surrogateescape")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


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
