"""The drawings of the report, as inline SVG. Colours are variables of the page: they follow light and dark.

Charts stand in one :class:`Frame`. A track is one line of a table: its places are percentages of the cell and its sizes
are pixels, so that marks stay round on any width.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from ...imaging import png_data_uri
from ..facts import Spectrum
from ..schema import ArmResult, CellRecord, CurveRow, Estimate, MixPoint
from ..terms import Arm

_LINE = 15.0
QUARTERS = tuple((share, f"{100 * share:.0f} %") for share in (0.0, 0.25, 0.5, 0.75, 1.0))


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


Range = tuple[float, float]
Tick = tuple[float, str]


@dataclass(frozen=True)
class Frame:
    """The frame of a chart: where values stand, the axes, their numbers and titles. Sizes are in the drawing's units.

    Attributes:
        width, height: of the whole drawing.
        across, up: least and greatest value of the two axes; the vertical one is accuracy where left out.
        left, right, top, bottom: room around the plot.
    """

    width: float
    height: float
    across: Range = (0.0, 1.0)
    up: Range = (0.0, 1.0)
    left: float = 46.0
    right: float = 14.0
    top: float = 12.0
    bottom: float = 40.0

    @property
    def end(self) -> float:
        """Right edge of the plot."""
        return self.width - self.right

    @property
    def base(self) -> float:
        """Lower edge of the plot."""
        return self.height - self.bottom

    def x(self, value: float) -> float:
        """Place of a value on the horizontal axis."""
        return self.left + _share(value, self.across) * (self.end - self.left)

    def y(self, value: float) -> float:
        """Place of a value on the vertical axis; those that an interval pushes out of range are cut."""
        return self.base - min(1.0, max(0.0, _share(value, self.up))) * (self.base - self.top)

    def line(self, value: float, kind: str = "axis") -> str:
        """A line across the plot."""
        y = self.y(value)
        return f'<line class="{kind}" x1="{self.left}" y1="{y:.1f}" x2="{self.end}" y2="{y:.1f}"/>'

    def grid(self, ticks: Iterable[Tick] = QUARTERS) -> list[str]:
        """Lines and numbers of the vertical axis."""
        parts = []
        for value, words in ticks:
            parts += [self.line(value), text(self.left - 8, self.y(value) + 4, words, anchor="end")]
        return parts

    def curve(self, points: Iterable[tuple[float, float]], style: str, words: str = "") -> str:
        """A line through points in the units of the axes."""
        places = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in points)
        title = f"<title>{escape(words)}</title>" if words else ""
        return f'<polyline class="line {style}" points="{places}">{title}</polyline>'

    def chance(self, share: float) -> list[str]:
        """A broken line at the accuracy of those who do not look."""
        y, line = self.y(share), self.line(share, "chance")
        # Below the line, where no curve runs, as long as there is room.
        words = y + 12 if self.base - y > _LINE else y - 4
        return [line, text(self.end, words, "chance", anchor="end", size=10.5)]

    def below(self, *ticks: Tick) -> list[str]:
        """Numbers of the horizontal axis; those at its ends stay within the drawing."""
        return [text(self.x(value), self.base + 17, words, anchor=self._anchor(value)) for value, words in ticks]

    def _anchor(self, value: float) -> str:
        return {self.across[0]: "start", self.across[1]: "end"}.get(value, "middle")

    def title(self, words: str) -> str:
        """What the horizontal axis is."""
        return text((self.left + self.end) / 2, self.base + 34, words, anchor="middle")


def _share(value: float, span: Range) -> float:
    """How much of the way from one end to the other."""
    return (value - span[0]) / ((span[1] - span[0]) or 1.0)


_TRACK_HEIGHT, _MIDDLE = 30, 15

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
            f'<line class="chance" x1="{_at(chance)}" x2="{_at(chance)}" y1="2" y2="{_TRACK_HEIGHT - 2}">{tip}</line>'
        )
    parts += [_mark(mark) for mark in marks]
    return Markup(f'<svg class="track" height="{_TRACK_HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>')


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


_CONFUSION_SIDE, _LARGEST_CELL = 330.0, 55.0
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
    cell = min(_LARGEST_CELL, _CONFUSION_SIDE / count)
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
    return drawing("matrix", left + _CONFUSION_SIDE + 2, top + side + 2, label, parts)


def _short(name: str) -> str:
    # Names often differ in their ends only.
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 6]}…{name[-5:]}"


def _upright(x: float, y: float, words: str, size: float) -> str:
    return (
        f'<text class="label" x="{x:.1f}" y="{y:.1f}" font-size="{size:g}" '
        f'transform="rotate(-90 {x:.1f} {y:.1f})">{escape(words)}</text>'
    )


_CURVES_WIDTH, _CURVES_HEIGHT = 440.0, 270.0

CURVE_STYLES: dict[Arm, str] = {
    "noise": "noise dashed",
    "noise-mixed": "noise dashed",
    "part": "clean dashed",
    "untrained": "noise dotted",
    "clean": "clean",
    "protected": "protected",
    "mixed": "protected",
}
"""Arms in the order in which they are drawn, the most important on top, with the classes of their lines."""

Points = list[tuple[float, float]]


def learning_curves(cells: Sequence[CellRecord], chance: float, label: str) -> Markup:
    """Accuracy on the test pictures: a thin line a seed, a bold one for their mean; a dotted one is the accuracy of the
    protected arm on its own training pictures, as it is being trained."""
    last = max((point.step for cell in cells for point in cell.curve), default=1)
    frame = Frame(_CURVES_WIDTH, _CURVES_HEIGHT, (0.0, last))
    parts = [*frame.grid(), *frame.chance(chance)]
    for arm, style in CURVE_STYLES.items():
        rows = [cell.curve for cell in cells if cell.arm == arm and cell.curve]
        tested = [[(float(p.step), p.test_accuracy or 0.0) for p in row] for row in rows]
        if style == "protected" and rows:
            parts.append(frame.curve(_mean(_trained(rows)), "protected dotted fitted", "on its own training pictures"))
        parts += [frame.curve(points, f"{style} seed") for points in (tested if len(tested) > 1 else [])]
        if tested:
            parts.append(frame.curve(_mean(tested), style, f"{arm}, mean over the seeds"))
    parts += frame.below((0.0, "0"), (last, f"{last:,}"))
    parts.append(frame.title("steps of training"))
    return drawing("chart", _CURVES_WIDTH, _CURVES_HEIGHT, label, parts)


def _trained(rows: Sequence[Sequence[CurveRow]]) -> list[Points]:
    return [[(point.step, point.train_accuracy) for point in row] for row in rows]


def _mean(curves: Sequence[Points]) -> Points:
    shortest = min(len(curve) for curve in curves)
    return [(curves[0][i][0], sum(curve[i][1] for curve in curves) / len(curves)) for i in range(shortest)]


_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT = 320.0, 150.0
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
    span = (low, high) if spread else (low - 1.0, low + 1.0)
    frame = Frame(_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT, span, (0.0, float(counts.max())), 0.0, 0.0, 20.0, 24.0)
    bars = []
    for count, left, right in zip(counts.tolist(), edges[:-1], edges[1:], strict=True):
        if not count:
            continue
        # A single file among thousands stays visible, and one value alone is a bar and not a wall.
        height = max(2.0, frame.base - frame.y(count))
        x, wide = (frame.x(left), max(1.0, frame.x(right) - frame.x(left) - 1)) if spread else (frame.x(low) - 24, 48.0)
        told = f"{left:{form}} to {right:{form}}" if spread else f"{low:{form}}"
        bars.append(
            f'<rect class="protected" x="{x:.1f}" y="{frame.base - height:.1f}" width="{wide:.1f}" '
            f'height="{height:.1f}"><title>{told}: {count} {"file" if count == 1 else "files"}</title></rect>'
        )
    at = frame.x(median)
    bars.append(frame.line(0.0))
    bars.append(f'<line class="median" x1="{at:.1f}" x2="{at:.1f}" y1="{frame.top - 6}" y2="{frame.base}"/>')
    anchor = "start" if at < 60 else ("end" if at > frame.end - 60 else "middle")
    bars.append(text(at, frame.top - 9, f"median {median:{form}}", anchor=anchor, kind="value"))
    if spread:
        bars += frame.below((low, f"{low:{form}}"), (high, f"{high:{form}}"))
    told = f"{title}: from {low:{form}} to {high:{form}}, median {median:{form}}, {len(values)} files"
    return drawing("chart", _HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT, told, bars)


_MIXING_WIDTH, _MIXING_HEIGHT = 480.0, 300.0
_BESIDE = {"clean": -5.0, "protected": 0.0, "noise": 5.0}
"""Marks of one share stand beside each other, or their intervals would hide one another."""


def mix_curve(points: Sequence[MixPoint], whole: Mapping[Arm, ArmResult], chance: float | None) -> Markup:
    """Three lines over the protected share: mixed, the clean part alone, and random noise in the place of protection.

    Args:
        points: of one victim, by rising share.
        whole: the arms of the same victim without adversary: share 0 is all clean, share 1 all protected or all noisy.
        chance: accuracy of those who do not look.
    """
    frame = Frame(_MIXING_WIDTH, _MIXING_HEIGHT)
    start = (0.0, points[0].clean)
    ends: dict[str, list[tuple[float, Estimate]]] = {
        "protected": [(1.0, whole["protected"].accuracy)] if "protected" in whole else [],
        "noise": [(1.0, whole["noise"].accuracy)] if "noise" in whole else [],
    }
    lines = {
        "noise dashed": [start, *((p.share, p.noise_mixed) for p in points), *ends["noise"]],
        "clean dashed": [start, *((p.share, p.part) for p in points)],
        "protected": [start, *((p.share, p.mixed) for p in points), *ends["protected"]],
    }
    parts = frame.grid() + (frame.chance(chance) if chance is not None else [])
    for style, places in lines.items():
        parts.append(_mixing_line(frame, style, places))
        parts += [_point(frame, style, share, value) for share, value in places[1:]]
    parts.append(_point(frame, "clean", *start))
    shares = sorted({0.0, 1.0, *(point.share for point in points)})
    parts += frame.below(*((share, f"{100 * share:.0f} %") for share in shares))
    parts.append(frame.title("share of the pictures that is protected"))
    told = "; ".join(
        f"{100 * p.share:.0f} % protected: mixed {100 * p.mixed.estimate:.0f} %, clean part alone "
        f"{100 * p.part.estimate:.0f} %, noise instead {100 * p.noise_mixed.estimate:.0f} %"
        for p in points
    )
    return drawing("chart", _MIXING_WIDTH, _MIXING_HEIGHT, f"Test accuracy against the protected share. {told}", parts)


def _mixing_line(frame: Frame, style: str, places: Sequence[tuple[float, Estimate]]) -> str:
    points = " ".join(f"{_x(frame, style, share):.1f},{frame.y(value.estimate):.1f}" for share, value in places)
    return f'<polyline class="line {style}" points="{points}"/>'


def _x(frame: Frame, style: str, share: float) -> float:
    return frame.x(share) + (_BESIDE[style.split()[0]] if 0 < share < 1 else 0.0)


def _point(frame: Frame, style: str, share: float, value: Estimate) -> str:
    x, y = _x(frame, style, share), frame.y(value.estimate)
    words = f"{100 * value.estimate:.1f} % ({100 * value.low:.1f} to {100 * value.high:.1f})"
    low, high = frame.y(value.low), frame.y(value.high)
    colour, open_mark = style.split()[0], " open" if "dashed" in style else ""
    return (
        f"<g><title>{words}</title>"
        f'<line class="span {colour}" x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
        f'<circle class="dot {colour}{open_mark}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"/></g>'
    )


_POWER_WIDTH, _POWER_HEIGHT = 440.0, 350.0
_NYQUIST = 0.5
"""The finest detail that pixels hold, in cycles a pixel."""
_SMALLEST = 256
_STOPS = np.array(
    [[12, 10, 28], [58, 20, 92], [126, 38, 108], [190, 62, 84], [232, 108, 56], [248, 172, 74], [252, 244, 196]]
)
"""From dark to bright through one row of hues, evenly in lightness, so that it also reads in grey."""


def power_picture(power: NDArray[np.float64]) -> Markup:
    """Log power of every frequency, frequency zero in the middle.

    Args:
        power: float ``[H, W]``, not all zero.
    """
    logs = np.log10(np.maximum(power, 1e-6 * power.mean()))
    low, high = np.quantile(logs, [0.01, 0.999])
    level = np.clip((logs - low) / max(high - low, 1e-9), 0.0, 1.0) * (len(_STOPS) - 1)
    places = np.arange(len(_STOPS))
    pixels = np.stack([np.interp(level, places, _STOPS[:, channel]) for channel in range(3)], axis=-1)
    gain = -(-_SMALLEST // min(power.shape))  # enlarged whole pixels, for viewers that would smooth them
    enlarged = np.rint(pixels).astype(np.uint8).repeat(gain, axis=0).repeat(gain, axis=1)
    side = (-_NYQUIST, _NYQUIST)
    frame = Frame(_POWER_WIDTH, _POWER_HEIGHT, side, side, left=84.0, right=60.0, bottom=42.0)
    parts = [
        f'<image x="{frame.left}" y="{frame.top}" width="{frame.end - frame.left}" height="{frame.base - frame.top}" '
        f'preserveAspectRatio="none" href="{png_data_uri(enlarged)}"/>'
    ]
    ticks = tuple((value, f"{value:g}".replace("-", "−")) for value in (-_NYQUIST, 0.0, _NYQUIST))
    parts += frame.below(*ticks)
    for (value, _), (_, words), fit in zip(reversed(ticks), ticks, (9, 4, 0), strict=True):  # rows count downwards
        parts.append(text(frame.left - 7, frame.y(value) + fit, words, anchor="end"))
    middle = (frame.top + frame.base) / 2
    parts.append(f'<g transform="rotate(-90 30 {middle})">{text(30, middle, "vertical", anchor="middle")}</g>')
    parts.append(frame.title("horizontal, in cycles a pixel"))
    label = "Power of the change at every spatial frequency, the mean in the middle, fine detail at the edges"
    return drawing("chart", _POWER_WIDTH, _POWER_HEIGHT, label, parts)


def ring_chart(spectrum: Spectrum) -> Markup:
    """Log power against frequency, from coarse to fine: the change, and the noise of the control."""
    curves = {"protected": spectrum.protected} | ({"noise dashed": spectrum.noise} if spectrum.noise else {})
    values = [value for curve in curves.values() for value in curve]
    low, high = float(np.floor(min(values))), float(np.ceil(max(values)))
    high = high if high > low else low + 1
    frame = Frame(_POWER_WIDTH, _POWER_HEIGHT, (0.0, _NYQUIST), (low, high), left=56.0, bottom=42.0)
    step = max(1, round((high - low) / 5))
    parts = frame.grid((float(tick), _power_of_ten(int(tick))) for tick in np.arange(low, high + 1, step))
    for style, curve in curves.items():
        parts.append(frame.curve(zip(spectrum.frequencies, curve, strict=True), style))
    parts += frame.below((0.0, "0 coarse"), (_NYQUIST / 2, f"{_NYQUIST / 2:g}"), (_NYQUIST, f"fine {_NYQUIST:g}"))
    parts.append(frame.title("cycles a pixel"))
    low_share = f"{100 * spectrum.low_share:.0f} % lies below 0.25 cycles a pixel"
    label = f"Power of the change against spatial frequency; {low_share}"
    return drawing("chart", _POWER_WIDTH, _POWER_HEIGHT, label, parts)


def _power_of_ten(exponent: int) -> str:
    plain = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100", 3: "1,000", 4: "10,000"}
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return plain.get(exponent, f"10{str(exponent).translate(digits)}")
