"""How far the protected files are from the originals, measured on what is on disk."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from ...errors import ImageError
from ...imaging import Picture, decode, measure_change
from ..schema import PairIssue, Stealth
from .pairing import Pair

__all__ = ["SSIM_FILES", "FileCheck", "StealthFile", "check_files", "stealth_csv", "summarise_stealth"]

SSIM_FILES = 400
"""SSIM is slow; on larger folders it is measured on this many files, chosen by a hash of their names."""

_SSIM_SIDE = 1500
_TOLERANCE = 1e-4
_READ_AHEAD = 16


@dataclass(frozen=True)
class StealthFile:
    """How far one protected file is from its original. ``psnr`` is ``None`` where nothing changed.

    Attributes:
        source: the original: path below CLEAN, or its key.
        output: the copy: path below PROTECTED, or its key.
        linf_levels: largest change of any value, in 1/255.
        psnr: in dB.
        ssim: ``None`` where it was not measured.
    """

    source: str
    output: str
    linf_levels: float
    psnr: float | None
    ssim: float | None


@dataclass(frozen=True)
class FileCheck:
    """What re-decoding the pairs showed.

    Attributes:
        pairs: those that could be compared.
        files: one row for each of them.
        issues: files that could not be read, or have another size, mode or bit depth than their original.
    """

    pairs: tuple[Pair, ...]
    files: tuple[StealthFile, ...]
    issues: tuple[PairIssue, ...]


def check_files(
    pairs: Sequence[Pair], *, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> FileCheck:
    """Decode every pair at full size and compare; nothing the manifest says is taken on trust."""
    chosen = set(sorted((pair.clean.relative for pair in pairs), key=_digest)[:SSIM_FILES])
    good: list[Pair] = []
    files: list[StealthFile] = []
    issues: list[PairIssue] = []

    def check(pair: Pair) -> StealthFile | PairIssue:
        return _check(pair, with_ssim=pair.clean.relative in chosen)

    for done, (pair, result) in enumerate(zip(pairs, _in_order(check, pairs, workers), strict=True), start=1):
        if isinstance(result, PairIssue):
            issues.append(result)
        else:
            good.append(pair)
            files.append(result)
        if progress is not None:
            progress(done, len(pairs))
    return FileCheck(tuple(good), tuple(files), tuple(issues))


def _digest(relative: str) -> bytes:
    return hashlib.sha256(relative.encode("utf-8", "surrogateescape")).digest()


def _in_order(
    check: Callable[[Pair], StealthFile | PairIssue], pairs: Sequence[Pair], workers: int
) -> Iterator[StealthFile | PairIssue]:
    if workers <= 1:
        yield from map(check, pairs)
        return
    with ThreadPoolExecutor(workers, thread_name_prefix="bitterant-check") as pool:
        step = workers * _READ_AHEAD
        for start in range(0, len(pairs), step):
            yield from pool.map(check, pairs[start : start + step])


def _check(pair: Pair, *, with_ssim: bool) -> StealthFile | PairIssue:
    source, output = pair.clean.relative, pair.protected.relative
    pictures: list[Picture] = []
    for entry in (pair.clean, pair.protected):
        try:
            pictures.append(decode(entry.path))
        except ImageError as error:
            return PairIssue(kind="unreadable", path=entry.relative, detail=error.reason)
        except OSError as error:
            detail = f"cannot be read: {error.strerror or error}"
            return PairIssue(kind="unreadable", path=entry.relative, detail=detail)
    before, after = pictures
    difference = _form(before), _form(after)
    if difference[0] != difference[1]:
        return PairIssue(
            kind="resized", path=output, detail=f"the original is {difference[0]}, the copy {difference[1]}"
        )
    levels, psnr = _change(before, after)
    ssim = measure_change(_centre(before), _centre(after)).ssim if with_ssim else None
    return StealthFile(
        source=source, output=output, linf_levels=levels, psnr=None if math.isinf(psnr) else psnr, ssim=ssim
    )


def _form(picture: Picture) -> str:
    """Size, channels and depth in words. A palette picture and its RGB copy have the same form."""
    kind = "gray" if picture.pixels.shape[2] == 1 else "RGB"
    alpha = "" if picture.alpha is None else " with alpha"
    return f"{picture.width} x {picture.height} {kind}{alpha}, {picture.bit_depth} bit"


def _centre(picture: Picture) -> Picture:
    """The middle of a large picture, so that SSIM of a photo takes no longer than of a screenshot."""
    top, left = (max(0, (size - _SSIM_SIDE) // 2) for size in (picture.height, picture.width))
    pixels = picture.pixels[top : top + _SSIM_SIDE, left : left + _SSIM_SIDE]
    return Picture(pixels=pixels, mode=picture.mode, format=picture.format, bit_depth=picture.bit_depth)


def _change(before: Picture, after: Picture) -> tuple[float, float]:
    """Largest change in 1/255 and PSNR in dB, in bands of rows so that memory stays small."""
    largest, squares = 0, 0.0
    rows = max(1, (1 << 20) // max(1, before.width * before.pixels.shape[2]))
    for start in range(0, before.height, rows):
        band = slice(start, start + rows)
        delta = after.pixels[band].astype(np.int64) - before.pixels[band]
        largest = max(largest, int(np.abs(delta).max(initial=0)))
        squares += float(np.square(delta).sum())
    full = before.full_range
    psnr = math.inf if squares == 0 else 10.0 * math.log10(full * full * before.pixels.size / squares)
    return largest * 255.0 / full, psnr


def summarise_stealth(files: Sequence[StealthFile], *, budget_levels: float | None, budget_source: str) -> Stealth:
    """Quantiles over the files, and which of them broke the budget."""
    linf = [file.linf_levels for file in files] or [0.0]
    psnr = [file.psnr for file in files if file.psnr is not None]
    ssim = [file.ssim for file in files if file.ssim is not None]
    over = () if budget_levels is None else tuple(f.output for f in files if f.linf_levels > budget_levels + _TOLERANCE)
    return Stealth(
        files=len(files),
        budget_levels=budget_levels,
        budget_source=budget_source,
        linf_max=max(linf),
        linf_median=float(np.median(linf)),
        psnr_median=float(np.median(psnr)) if psnr else None,
        psnr_min=min(psnr) if psnr else None,
        ssim_median=float(np.median(ssim)) if ssim else None,
        ssim_min=min(ssim) if ssim else None,
        ssim_files=len(ssim),
        unchanged=sum(file.linf_levels == 0 for file in files),
        over_budget=over,
    )


def stealth_csv(files: Sequence[StealthFile]) -> bytes:
    """One line a file, for spreadsheets: source, output, linf_levels, psnr, ssim."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("source", "output", "linf_levels", "psnr", "ssim"))
    for file in files:
        numbers = ("" if value is None else f"{value:.4f}" for value in (file.psnr, file.ssim))
        writer.writerow((file.source, file.output, f"{file.linf_levels:g}", *numbers))
    return stream.getvalue().encode("utf-8", "surrogateescape")
