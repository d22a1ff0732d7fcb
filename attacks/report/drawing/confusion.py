"""A confusion matrix: true classes down, predicted classes across."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from .svg import drawing, text

__all__ = ["confusion_matrix"]

_SIDE, _LARGEST_CELL = 330.0, 55.0
_PALE, _FULL = 0.6, 0.85
_MOST_NUMBERS = 12
_MOST_NAMES = 30
_LONGEST = 13
_LEAST_SHOWN = 0.005


def confusion_matrix(confusion: Sequence[Sequence[int]], classes: Sequence[str], colour: str, label: str) -> Markup:
    """Shares of each true class, darker for more; with up to twelve classes the percentages stand in the cells.

    Args:
        confusion: counts, ``[K][K]``, rows true.
        classes: their names.
        colour: ``clean`` or ``protected``.
        label: what it shows, for those who cannot see it.
    """
    count = len(classes)
    cell = min(_LARGEST_CELL, _SIDE / count)
    side = cell * count
    named = count <= _MOST_NAMES
    size = min(11.5, max(7.5, cell * 0.8))
    longest = max((len(_short(name)) for name in classes), default=0) if named else 0
    left = top = 12.0 + longest * size * 0.56
    parts = [f'<rect class="field" x="{left:.1f}" y="{top:.1f}" width="{side:.1f}" height="{side:.1f}"/>']
    for row, counts in enumerate(confusion):
        total = sum(counts)
        if named:
            parts.append(
                text(left - 6, top + (row + 0.5) * cell + size * 0.35, _short(classes[row]), anchor="end", size=size)
            )
            parts.append(_upright(left + (row + 0.5) * cell + size * 0.35, top - 6, _short(classes[row]), size))
        for column, value in enumerate(counts):
            share = value / total if total else 0.0
            if share < _LEAST_SHOWN:
                continue
            x, y = left + column * cell, top + row * cell
            tip = f"{classes[row]} taken for {classes[column]}: {100 * share:.0f} %"
            parts.append(
                f'<rect class="{colour}" x="{x:.1f}" y="{y:.1f}" width="{cell:.1f}" height="{cell:.1f}" '
                f'fill-opacity="{0.08 + 0.87 * share:.2f}"><title>{escape(tip)}</title></rect>'
            )
            if count <= _MOST_NUMBERS:
                kind = "off" if share < _PALE else ("mid" if share < _FULL else "on")
                parts.append(
                    text(x + cell / 2, y + cell / 2 + 4, f"{100 * share:.0f}", anchor="middle", size=11, kind=kind)
                )
    return drawing("matrix", left + _SIDE + 2, top + side + 2, label, parts)


def _short(name: str) -> str:
    # Names often differ in their ends only.
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 6]}…{name[-5:]}"


def _upright(x: float, y: float, words: str, size: float) -> str:
    return (
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" '
        f'transform="rotate(-90 {x:.1f} {y:.1f})">{escape(words)}</text>'
    )
