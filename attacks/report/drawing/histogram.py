"""How many files have which value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from .svg import drawing, text

__all__ = ["histogram"]

_WIDTH, _HEIGHT, _TOP, _BOTTOM = 320.0, 150.0, 20.0, 24.0
_BINS = 28
_SAME = 1e-9


def histogram(title: str, values: Sequence[float], form: str) -> Markup | None:
    """Bars from the least to the greatest value, with a mark at the median; ``None`` where there are no values.

    Args:
        title: what was measured.
        values: finite numbers.
        form: format of a number, such as ``.1f``.
    """
    if not values:
        return None
    low, high, median = min(values), max(values), float(np.median(values))
    spread = high - low > _SAME * max(1.0, abs(high))
    counts, edges = np.histogram(values, bins=_BINS if spread else 1, range=(low, high) if spread else None)
    base, width = _HEIGHT - _BOTTOM, _WIDTH / len(counts)
    bars = []
    for index, count in enumerate(counts.tolist()):
        if not count:
            continue
        # A single file among thousands stays visible.
        height = max(2.0, (base - _TOP) * count / int(counts.max()))
        span = f"{edges[index]:{form}} to {edges[index + 1]:{form}}" if spread else f"{low:{form}}"
        x, wide = (index * width, max(1.0, width - 1)) if spread else (_WIDTH / 2 - 24, 48.0)
        bars.append(
            f'<rect class="protected" x="{x:.1f}" y="{base - height:.1f}" width="{wide:.1f}" height="{height:.1f}">'
            f"<title>{span}: {count} {'file' if count == 1 else 'files'}</title></rect>"
        )
    at = (median - low) / (high - low) * _WIDTH if spread else _WIDTH / 2
    bars.append(f'<line class="axis" x1="0" x2="{_WIDTH}" y1="{base}" y2="{base}"/>')
    bars.append(f'<line class="median" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP - 6}" y2="{base}"/>')
    anchor = "start" if at < 60 else ("end" if at > _WIDTH - 60 else "middle")
    bars.append(text(at, _TOP - 9, f"median {median:{form}}", anchor=anchor, kind="value"))
    if spread:
        bars.append(text(0, _HEIGHT - 7, f"{low:{form}}"))
        bars.append(text(_WIDTH, _HEIGHT - 7, f"{high:{form}}", anchor="end"))
    told = f"{title}: from {low:{form}} to {high:{form}}, median {median:{form}}, {len(values)} files"
    return drawing("chart", _WIDTH, _HEIGHT, told, bars)
