"""How large OUT will be, told before hours of work: photos grow several times when they are written without loss."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from ...errors import ConfigError, ImageError
from ...imaging.budget import Budget
from ...imaging.codec import decode, encode
from ...imaging.formats import format_of_file
from ...imaging.naming import resolve_output_names
from ...imaging.perturb import add_delta
from ...imaging.scan import Entry, FolderScan
from ..request import WriteOptions
from ..request.places import existing_parent

__all__ = ["foresee_growth"]

#: Below this nobody minds, and the trial would take longer than the run.
WORTH_TELLING: Final = 50_000_000
_MUCH: Final = 1.8
_TRIED: Final = 3
_SIDE: Final = 64  # of the trial noise: about as fine as a fitted one


def foresee_growth(scan: FolderScan, output: Path, budget: Budget, options: WriteOptions) -> list[str]:
    """What people should know of the size of OUT; nothing where it is about that of SRC, or small.

    A few pictures are written into memory, with random noise.

    Args:
        scan: what lies in SRC.
        output: OUT.
        budget: how far pixels move.
        options: how pictures are written.
    """
    if scan.total_bytes < WORTH_TELLING:
        return []
    names = resolve_output_names(scan.entries, options.format)
    changing = [entry for entry in scan.entries if names[entry.relative][1] != format_of_file(entry.path)]
    growth = _measure(_spread(changing), lambda entry: names[entry.relative][1], budget, options)
    if growth is None:
        return []
    grown = sum(entry.size for entry in changing)
    size = scan.total_bytes + (growth - 1) * grown
    told = []
    if size > _MUCH * scan.total_bytes:
        smaller = "" if options.format == "webp" else " --format webp is lossless, too, and smaller."
        told.append(
            f"The protected copies will take about {_size(size)}, the originals take {_size(scan.total_bytes)}: "
            f"{len(changing)} pictures are written without loss.{smaller}"
        )
    with contextlib.suppress(OSError):  # some disks do not say
        free = shutil.disk_usage(existing_parent(output)).free
        if free < size:
            told.append(f"The disk of {output} has {_size(free)} free, and about {_size(size)} are needed.")
    return told


def _measure(
    entries: Sequence[Entry], encoder: Callable[[Entry], str], budget: Budget, options: WriteOptions
) -> float | None:
    """Bytes written for a byte read; ``None`` where none of the pictures can be read."""
    noise = np.random.default_rng(0).uniform(-1, 1, (_SIDE, _SIDE, 3)) * budget.whole_levels
    before = after = 0
    for entry in entries:
        try:
            picture = decode(entry.path, max_pixels=options.max_pixels, name=entry.relative)
            after += len(encode(add_delta(picture, noise, budget), format=encoder(entry)))
            before += entry.size
        except (ImageError, ConfigError):
            continue
    return after / before if before else None


def _spread(entries: Sequence[Entry]) -> list[Entry]:
    count = min(_TRIED, len(entries))
    return [entries[(2 * i + 1) * len(entries) // (2 * count)] for i in range(count)]


def _size(count: float) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
