"""Writes the result: report.json for programs, report.html for people, and tables to redo the statistics."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup

from ...errors import ImageError
from ...imaging import decode, difference_tile, png_data_uri, render_page, thumbnail, write_atomic
from ..data.checking import StealthFile, stealth_csv
from ..report.drawing import QUARTERS, drawing, text
from ..report.files import is_own_report_file
from ..schema import Estimate
from .data import RetrievalData
from .records import ARM_WORDS, WAY_TITLES, RetrievalVerification, WayRecord
from .training import RetrievalReport

RESULT_FILES = ("report.json", "report.html", "stealth.csv", "ranks.npz")
"""Names of all files beside each other in the folder of a report."""

_GAIN = 10
_SIDE = 320
_PIXELATED_BELOW = 160
_MOST_ISSUES = 50
_TONES = {"strong": "ok", "moderate": "ok", "weak": "warn", "inconclusive": "warn", "none": "bad"}
_LEFT, _RIGHT, _TOP, _WIDTH, _BAR, _GAP = 110, 62, 28, 760, 15, 5


@dataclass(frozen=True)
class Tile:
    """One picture in three versions, as data URIs.

    Attributes:
        title: which of all it is.
        caption: the first of its captions.
        pixelated: small pictures are enlarged without smoothing.
    """

    title: str
    caption: str
    file: StealthFile
    clean: str
    protected: str
    difference: str
    pixelated: bool


def write_result(
    folder: Path,
    result: RetrievalVerification,
    page: str,
    files: Sequence[StealthFile],
    trial: RetrievalReport | None,
    data: RetrievalData | None,
) -> None:
    """Write ``report.json``, ``report.html`` and ``stealth.csv`` into ``folder``, and ``ranks.npz`` if any was trained.

    Raises:
        OutputError: the folder cannot be written.
    """
    contents = {
        "report.json": result.model_dump_json(indent=2).encode() + b"\n",  # first: it tells that the others are ours
        "stealth.csv": stealth_csv(files, budget_levels=result.stealth.budget_levels),
        "report.html": page.encode(),
    }
    if trial is not None and data is not None:
        contents["ranks.npz"] = _ranks(trial, data)
    for name, content in contents.items():
        write_atomic(folder / name, content, overwrite=is_own_report_file)


def _ranks(trial: RetrievalReport, data: RetrievalData) -> bytes:
    """0-based ranks of every query of every training, and which captions were right for which picture."""
    arrays: dict[str, np.ndarray] = {"answers": data.test.answers()[1].numpy()}
    for row in trial.scores:
        name = f"{row.arm}|{row.seed}"
        arrays[f"{name}|image_to_text"] = np.array(row.image_ranks, dtype=np.uint32)
        arrays[f"{name}|text_to_image"] = np.array(row.text_ranks, dtype=np.uint32)
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def render_result(result: RetrievalVerification, tiles: Sequence[Tile]) -> str:
    """The page: one file that loads nothing from elsewhere."""
    verdict = result.verdict
    return render_page(
        __package__ or "bitterant.attacks.retrieval",
        "retrieval.html.j2",
        report=result,
        stealth=result.stealth,
        verdict=verdict,
        tone=_TONES.get(verdict.grade, "" if verdict.valid else "bad"),
        tones=_TONES,
        titles=WAY_TITLES,
        words=ARM_WORDS,
        drawings={way.way: draw_hits(way) for way in result.ways},
        tiles=tiles,
        gain=_GAIN,
        issues=result.issues[:_MOST_ISSUES],
        minutes=result.wall_seconds / 60,
    )


def choose_tiles(files: Sequence[StealthFile], captions: Mapping[str, str], clean: Path, protected: Path) -> list[Tile]:
    """The pictures on which the change shows least, in the middle and most: by PSNR, never by taste.

    Args:
        files: all copies.
        captions: of the originals, by path.
        clean, protected: the folders.
    """
    ranked = sorted(files, key=lambda file: (-_decibels(file), file.source))
    titles = {0: "least", len(ranked) // 2: "in the middle", len(ranked) - 1: "most"} if ranked else {}
    tiles = []
    for rank, title in sorted(titles.items()):
        file = ranked[rank]
        try:
            before, after = decode(clean / file.source).rgb8(), decode(protected / file.output).rgb8()
        except (ImageError, OSError):  # removed since it was checked; the page can do without
            continue
        pictures = (before, after, difference_tile(before, after, _GAIN))
        uris = [png_data_uri(thumbnail(pixels, _SIDE)) for pixels in pictures]
        small = max(before.shape[:2]) < _PIXELATED_BELOW
        tiles.append(Tile(title, captions.get(file.source, ""), file, *uris, pixelated=small))
    return tiles


def _decibels(file: StealthFile) -> float:
    return float("inf") if file.distances.psnr is None else file.distances.psnr


def draw_hits(way: WayRecord) -> Markup:
    """Hit@k of the three arms with 95 % intervals; a broken line is guessing."""
    bottom = _TOP + len(ARM_WORDS) * (_BAR + _GAP)
    parts = []
    for share in QUARTERS:
        x = _x(share)
        parts.append(f'<line class="axis" x1="{x:.1f}" y1="{_TOP - 6}" x2="{x:.1f}" y2="{bottom}" stroke-width="1"/>')
        parts.append(text(x, bottom + 16, f"{100 * share:.0f} %", anchor="middle", size=11))
    for row, (arm, words) in enumerate(ARM_WORDS.items()):
        parts += _bar(arm, words, way.arms[arm].judged, _TOP + row * (_BAR + _GAP))
    x, chance = _x(way.chance[way.k]), 100 * way.chance[way.k]
    parts.append(
        f'<line class="label" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{bottom}" stroke="currentColor" '
        'stroke-width="1.2" stroke-dasharray="4 3"/>'
    )
    parts.append(text(x + 4, _TOP - 10, f"guessing {chance:.1f} %", size=11))
    return drawing("bar", _WIDTH, bottom + 22, f"{WAY_TITLES[way.way]}: Hit@{way.k} by arm", parts)


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _bar(arm: str, words: str, hit: Estimate, top: float) -> list[str]:
    left, right, low, high = _x(0.0), _x(hit.estimate), _x(hit.low), _x(hit.high)
    middle = top + _BAR / 2
    return [
        text(_LEFT - 10, middle + 4, words, anchor="end", size=13, kind="arm"),
        f'<rect class="{arm}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{_BAR}" rx="2"/>',
        f'<path class="interval" d="M{low:.1f} {middle - 4:.1f}V{middle + 4:.1f}M{low:.1f} {middle:.1f}H{high:.1f}'
        f'M{high:.1f} {middle - 4:.1f}V{middle + 4:.1f}" fill="none"/>',
        text(max(right, high) + 7, middle + 4, f"{100 * hit.estimate:.0f} %", size=12, kind="value"),
    ]
