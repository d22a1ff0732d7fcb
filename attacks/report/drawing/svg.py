"""The frame of a drawing, and its vertical scale of accuracies."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

__all__ = ["Frame", "drawing", "text"]

_LINE = 15.0
QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)


def drawing(kind: str, width: float, height: float, label: str, parts: Iterable[str]) -> Markup:
    """An ``svg`` element that scales with its place.

    Args:
        kind: its class.
        width, height: of the drawing's own units, which are pixels where there is room.
        label: what it shows, for those who cannot see it.
        parts: its elements; whatever came from outside has been through ``escape``.
    """
    return Markup(
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def text(x: float, y: float, words: object, *, anchor: str = "start", size: float = 11.5, kind: str = "label") -> str:
    """One line of text, escaped."""
    place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" text-anchor="{anchor}"'
    return f'<text class="{kind}" {place}>{escape(words)}</text>'


class Frame:
    """A plot whose vertical axis is accuracy from 0 to 100 %, and whose horizontal one is anything.

    Args:
        width, height: of the whole drawing.
        last: right end of the horizontal axis; it begins at 0.
    """

    LEFT, RIGHT, TOP, BOTTOM = 46.0, 14.0, 12.0, 40.0

    def __init__(self, width: float, height: float, last: float) -> None:
        self.width, self.height, self.last = width, height, last or 1.0

    @property
    def right(self) -> float:
        """Right edge of the plot."""
        return self.width - self.RIGHT

    @property
    def bottom(self) -> float:
        """Lower edge of the plot."""
        return self.height - self.BOTTOM

    def x(self, value: float) -> float:
        """Place of a value on the horizontal axis."""
        return self.LEFT + value / self.last * (self.right - self.LEFT)

    def y(self, share: float) -> float:
        """Place of an accuracy; those that an interval pushes out of range are cut."""
        return self.bottom - min(1.0, max(0.0, share)) * (self.bottom - self.TOP)

    def grid(self) -> list[str]:
        """Lines and numbers of the vertical axis."""
        parts = []
        for share in QUARTERS:
            y = self.y(share)
            parts.append(f'<line class="axis" x1="{self.LEFT}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}"/>')
            parts.append(text(self.LEFT - 8, y + 4, f"{100 * share:.0f} %", anchor="end"))
        return parts

    def chance(self, share: float) -> list[str]:
        """A broken line at the accuracy of those who do not look."""
        y = self.y(share)
        line = f'<line class="chance" x1="{self.LEFT}" y1="{y:.1f}" x2="{self.right}" y2="{y:.1f}"/>'
        # Below the line, where no curve runs, as long as there is room.
        words = y + 12 if self.bottom - y > _LINE else y - 4
        return [line, text(self.right, words, "chance", anchor="end", size=10.5)]

    def below(self, *labels: tuple[float, str, str]) -> list[str]:
        """Numbers of the horizontal axis: value, words, anchor."""
        return [text(self.x(value), self.bottom + 17, words, anchor=anchor) for value, words, anchor in labels]

    def title(self, words: str) -> str:
        """What the horizontal axis is."""
        return text((self.LEFT + self.right) / 2, self.bottom + 34, words, anchor="middle")
