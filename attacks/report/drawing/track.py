"""One line of a table: accuracies with their intervals on a scale from 0 to 100 %, as wide as its cell.

Places are percentages of the cell and sizes are pixels, so that marks stay round on any width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup, escape

from ...schema import Estimate

__all__ = ["Mark", "axis", "track"]

_HEIGHT, _MIDDLE = 30, 15

Kind = Literal["protected", "ceiling", "noise"]


@dataclass(frozen=True)
class Mark:
    """An accuracy on the track.

    Attributes:
        kind: ``protected`` is a dot, ``ceiling`` (what clean pictures give) a bar, ``noise`` an open diamond.
        value: a number, or an estimate with its interval.
        words: what it is.
    """

    kind: Kind
    value: float | Estimate
    words: str

    @property
    def middle(self) -> float:
        """The number itself."""
        return self.value.estimate if isinstance(self.value, Estimate) else self.value


def track(marks: Sequence[Mark], chance: float | None) -> Markup:
    """The drawing. It says nothing that the numbers beside it do not, so it is hidden from screen readers."""
    parts = []
    ceiling = next((mark.middle for mark in marks if mark.kind == "ceiling"), None)
    if ceiling is not None and chance is not None and ceiling > chance:
        parts.append(
            f'<rect class="room" x="{_at(chance)}" y="{_MIDDLE - 6}" width="{_at(ceiling - chance)}" height="12"/>'
        )
    if chance is not None:
        tip = f"<title>chance: {100 * chance:.1f} %</title>"
        parts.append(
            f'<line class="chance" x1="{_at(chance)}" x2="{_at(chance)}" y1="2" y2="{_HEIGHT - 2}">{tip}</line>'
        )
    parts += [_mark(mark) for mark in marks]
    return Markup(f'<svg class="track" height="{_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')


def axis() -> Markup:
    """The scale, for the head of the table."""
    anchors = ("start", "middle", "middle", "middle", "end")
    numbers = (
        f'<text class="label" x="{share}%" y="11" font-size="11" text-anchor="{anchor}">'
        f"{share}{' %' if share == 100 else ''}</text>"
        for share, anchor in zip((0, 25, 50, 75, 100), anchors, strict=True)
    )
    return Markup(f'<svg class="track" height="14" aria-hidden="true">{"".join(numbers)}</svg>')


def _at(share: float) -> str:
    return f"{100 * min(1.0, max(0.0, share)):.2f}%"


def _mark(mark: Mark) -> str:
    x, parts = _at(mark.middle), []
    words = f"{mark.words}: {100 * mark.middle:.1f} %"
    if isinstance(mark.value, Estimate):
        low, high = _at(mark.value.low), _at(mark.value.high)
        words += f" ({100 * mark.value.low:.1f} to {100 * mark.value.high:.1f})"
        parts.append(f'<line class="span {mark.kind}" x1="{low}" x2="{high}" y1="{_MIDDLE}" y2="{_MIDDLE}"/>')
    if mark.kind == "protected":
        parts.append(f'<circle class="dot protected" cx="{x}" cy="{_MIDDLE}" r="5"/>')
    elif mark.kind == "ceiling":
        parts.append(f'<line class="ceiling" x1="{x}" x2="{x}" y1="{_MIDDLE - 10}" y2="{_MIDDLE + 10}"/>')
    else:
        shape = f"M-4.5 {_MIDDLE}L0 {_MIDDLE - 4.5}L4.5 {_MIDDLE}L0 {_MIDDLE + 4.5}Z"
        parts.append(f'<svg x="{x}" overflow="visible"><path class="diamond" d="{shape}"/></svg>')
    return f"<g><title>{escape(words)}</title>{''.join(parts)}</g>"
