"""Writes the result: report.json for programs, report.html for people, ranks.npz to redo the statistics."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from markupsafe import Markup, escape

from ...errors import ImageError
from ...imaging import decode, difference_tile, png_data_uri, render_page, thumbnail, write_atomic
from .copies import CopyChange
from .loading import RetrievalData
from .records import RetrievalVerification, WayRecord
from .trial import ARM_NAMES, RetrievalReport

__all__ = ["Tile", "choose_tiles", "draw_hits", "render_result", "write_result"]

_GAIN = 10
_SIDE = 320
_PIXELATED_BELOW = 160
_MOST_ISSUES = 50
_TONES = {"strong": "ok", "moderate": "ok", "weak": "warn", "inconclusive": "warn", "none": "bad"}
_TITLES = {"image_to_text": "Captions for pictures", "text_to_image": "Pictures for captions"}
_LEFT, _RIGHT, _WIDTH, _BAR, _GAP = 110, 62, 760, 15, 5


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
    change: CopyChange
    clean: str
    protected: str
    difference: str
    pixelated: bool


def write_result(
    folder: Path, result: RetrievalVerification, trial: RetrievalReport | None, data: RetrievalData | None, page: str
) -> None:
    """Write ``report.json`` and ``report.html`` into ``folder``, and ``ranks.npz`` where something was trained.

    Raises:
        OutputError: the folder cannot be written.
    """
    if trial is not None and data is not None:
        write_atomic(folder / "ranks.npz", _ranks(trial, data), overwrite=True)
    write_atomic(folder / "report.json", result.model_dump_json(indent=2).encode() + b"\n", overwrite=True)
    write_atomic(folder / "report.html", page.encode(), overwrite=True)


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
        __package__ or "bitterant.attacks.image_text",
        "retrieval.html.j2",
        report=result,
        verdict=verdict,
        tone=_TONES.get(verdict.grade, "" if verdict.valid else "bad"),
        tones=_TONES,
        titles=_TITLES,
        arms=ARM_NAMES,
        drawings={way.way: draw_hits(way) for way in result.ways},
        tiles=tiles,
        gain=_GAIN,
        issues=result.issues[:_MOST_ISSUES],
        over=result.copies.over_budget[:_MOST_ISSUES],
        minutes=result.wall_seconds / 60,
    )


def choose_tiles(
    changes: Sequence[CopyChange], captions: dict[str, str], clean: Path, protected: Path
) -> list[Tile]:  # fmt: skip
    """The pictures on which the change shows least, in the middle and most: by PSNR, never by taste.

    Args:
        changes: of all copies.
        captions: of the originals, by path.
        clean, protected: the folders.
    """
    ranked = sorted(changes, key=lambda c: (-(float("inf") if c.psnr is None else c.psnr), c.source))
    titles = {0: "least", len(ranked) // 2: "in the middle", len(ranked) - 1: "most"} if ranked else {}
    tiles = []
    for rank, title in sorted(titles.items()):
        change = ranked[rank]
        try:
            before, after = decode(clean / change.source).rgb8(), decode(protected / change.output).rgb8()
        except (ImageError, OSError):  # removed since it was checked; the page can do without
            continue
        pictures = (before, after, difference_tile(before, after, _GAIN))
        uris = [png_data_uri(thumbnail(pixels, _SIDE)) for pixels in pictures]
        caption = captions.get(change.source, "")
        tiles.append(Tile(title, caption, change, *uris, pixelated=max(before.shape[:2]) < _PIXELATED_BELOW))
    return tiles


def draw_hits(way: WayRecord) -> Markup:
    """Hit@k of the three arms with 95 % intervals; a broken line is guessing."""
    bottom = 26 + len(ARM_NAMES) * (_BAR + _GAP)
    parts = [_tick(share, bottom) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts += [_bar(way, arm, 26 + row * (_BAR + _GAP)) for row, arm in enumerate(ARM_NAMES)]
    x = _x(way.chance[way.k])
    parts.append(
        f'<line class="label" x1="{x:.1f}" y1="18" x2="{x:.1f}" y2="{bottom}" stroke="currentColor" '
        f'stroke-width="1.2" stroke-dasharray="4 3"/><text class="label" x="{x + 4:.1f}" y="16" font-size="11">'
        f"guessing {100 * way.chance[way.k]:.1f} %</text>"
    )
    label = escape(f"{_TITLES[way.way]}: Hit@{way.k} by arm")
    return Markup(  # every piece of text above went through escape() or is ours
        f'<svg class="bar" viewBox="0 0 {_WIDTH} {bottom + 22}" width="{_WIDTH}" height="{bottom + 22}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg>'
    )


def _x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def _bar(way: WayRecord, arm: str, top: float) -> str:
    hit = way.arms[arm].judged  # type: ignore[index]
    left, right, low, high = _x(0.0), _x(hit.estimate), _x(hit.low), _x(hit.high)
    middle = top + _BAR / 2
    return (
        f'<text x="{_LEFT - 10}" y="{middle + 4:.1f}" font-size="13" text-anchor="end">{escape(arm)}</text>'
        f'<rect class="{escape(arm)}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{_BAR}" rx="2"/>'
        f'<path class="interval" d="M{low:.1f} {middle - 4:.1f}V{middle + 4:.1f}M{low:.1f} {middle:.1f}H{high:.1f}'
        f'M{high:.1f} {middle - 4:.1f}V{middle + 4:.1f}" fill="none"/>'
        f'<text x="{max(right, high) + 7:.1f}" y="{middle + 4:.1f}" font-size="12">{100 * hit.estimate:.0f} %</text>'
    )


def _tick(share: float, bottom: float) -> str:
    x = _x(share)
    return (
        f'<line class="axis" x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{bottom:.1f}" stroke-width="1"/>'
        f'<text class="label" x="{x:.1f}" y="{bottom + 16:.1f}" font-size="11" text-anchor="middle">'
        f"{100 * share:.0f} %</text>"
    )
