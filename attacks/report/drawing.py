"""The drawings of the report, as inline SVG. Colours are variables of the page: they follow light and dark.

The frame of a drawing, and its vertical scale of accuracies.

One line of a table: accuracies with their intervals on a scale from 0 to 100 %, as wide as its cell.

Places are percentages of the cell and sizes are pixels, so that marks stay round on any width.

A confusion matrix: true classes down, predicted classes across.

Accuracy along the training, arm by arm.

How many files have which value.

What a mix of clean and protected pictures is worth, against the share that is protected.

The spectrum of the change: as a picture, and along rings around its middle.
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
    frame = Frame(_CURVES_WIDTH, _CURVES_HEIGHT, last)
    parts = [*frame.grid(), *frame.chance(chance)]
    for arm, style in CURVE_STYLES.items():
        rows = [cell.curve for cell in cells if cell.arm == arm and cell.curve]
        tested = [[(float(p.step), p.test_accuracy or 0.0) for p in row] for row in rows]
        if style == "protected" and rows:
            parts.append(
                _curves_line(frame, _mean(_trained(rows)), "protected dotted fitted", "on its own training pictures")
            )
        parts += [_curves_line(frame, points, f"{style} seed", "") for points in (tested if len(tested) > 1 else [])]
        if tested:
            parts.append(_curves_line(frame, _mean(tested), style, f"{arm}, mean over the seeds"))
    parts += frame.below((0.0, "0", "start"), (last, f"{last:,}", "end"))
    parts.append(frame.title("steps of training"))
    return drawing("chart", _CURVES_WIDTH, _CURVES_HEIGHT, label, parts)


def _trained(rows: Sequence[Sequence[CurveRow]]) -> list[Points]:
    return [[(point.step, point.train_accuracy) for point in row] for row in rows]


def _mean(curves: Sequence[Points]) -> Points:
    shortest = min(len(curve) for curve in curves)
    return [(curves[0][i][0], sum(curve[i][1] for curve in curves) / len(curves)) for i in range(shortest)]


def _curves_line(frame: Frame, points: Points, style: str, words: str) -> str:
    places = " ".join(f"{frame.x(step):.1f},{frame.y(share):.1f}" for step, share in points)
    title = f"<title>{words}</title>" if words else ""
    return f'<polyline class="line {style}" points="{places}">{title}</polyline>'


_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT, _HISTOGRAM_TOP, _HISTOGRAM_BOTTOM = 320.0, 150.0, 20.0, 24.0
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
    base, width = _HISTOGRAM_HEIGHT - _HISTOGRAM_BOTTOM, _HISTOGRAM_WIDTH / len(counts)
    bars = []
    for index, count in enumerate(counts.tolist()):
        if not count:
            continue
        # A single file among thousands stays visible.
        height = max(2.0, (base - _HISTOGRAM_TOP) * count / int(counts.max()))
        span = f"{edges[index]:{form}} to {edges[index + 1]:{form}}" if spread else f"{low:{form}}"
        x, wide = (index * width, max(1.0, width - 1)) if spread else (_HISTOGRAM_WIDTH / 2 - 24, 48.0)
        bars.append(
            f'<rect class="protected" x="{x:.1f}" y="{base - height:.1f}" width="{wide:.1f}" height="{height:.1f}">'
            f"<title>{span}: {count} {'file' if count == 1 else 'files'}</title></rect>"
        )
    at = (median - low) / (high - low) * _HISTOGRAM_WIDTH if spread else _HISTOGRAM_WIDTH / 2
    bars.append(f'<line class="axis" x1="0" x2="{_HISTOGRAM_WIDTH}" y1="{base}" y2="{base}"/>')
    bars.append(f'<line class="median" x1="{at:.1f}" x2="{at:.1f}" y1="{_HISTOGRAM_TOP - 6}" y2="{base}"/>')
    anchor = "start" if at < 60 else ("end" if at > _HISTOGRAM_WIDTH - 60 else "middle")
    bars.append(text(at, _HISTOGRAM_TOP - 9, f"median {median:{form}}", anchor=anchor, kind="value"))
    if spread:
        bars.append(text(0, _HISTOGRAM_HEIGHT - 7, f"{low:{form}}"))
        bars.append(text(_HISTOGRAM_WIDTH, _HISTOGRAM_HEIGHT - 7, f"{high:{form}}", anchor="end"))
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
    frame = Frame(_MIXING_WIDTH, _MIXING_HEIGHT, 1.0)
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
    parts += frame.below(*((share, f"{100 * share:.0f} %", "end" if share == 1.0 else "middle") for share in shares))
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


_POWER_SIDE, _POWER_LEFT, _POWER_TOP, _POWER_WIDTH = 296.0, 84.0, 12.0, 440.0
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
    parts = [
        f'<image x="{_POWER_LEFT}" y="{_POWER_TOP}" width="{_POWER_SIDE}" height="{_POWER_SIDE}" '
        f'preserveAspectRatio="none" href="{png_data_uri(enlarged)}"/>'
    ]
    for share, words in ((0.0, "−0.5"), (0.5, "0"), (1.0, "0.5")):
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        parts.append(text(_POWER_LEFT + share * _POWER_SIDE, _POWER_TOP + _POWER_SIDE + 16, words, anchor=anchor))
        parts.append(
            text(_POWER_LEFT - 7, _POWER_TOP + share * _POWER_SIDE + (9, 4, 0)[round(2 * share)], words, anchor="end")
        )
    middle = _POWER_TOP + _POWER_SIDE / 2
    parts.append(f'<g transform="rotate(-90 30 {middle})">{text(30, middle, "vertical", anchor="middle")}</g>')
    parts.append(
        text(
            _POWER_LEFT + _POWER_SIDE / 2,
            _POWER_TOP + _POWER_SIDE + 33,
            "horizontal, in cycles a pixel",
            anchor="middle",
        )
    )
    label = "Power of the change at every spatial frequency, the mean in the middle, fine detail at the edges"
    return drawing("chart", _POWER_WIDTH, _POWER_TOP + _POWER_SIDE + 42, label, parts)


def ring_chart(spectrum: Spectrum) -> Markup:
    """Log power against frequency, from coarse to fine: the change, and the noise of the control."""
    width, height, left, top, bottom = 440.0, 350.0, 56.0, 12.0, 308.0
    curves = {"protected": spectrum.protected} | ({"noise dashed": spectrum.noise} if spectrum.noise else {})
    values = [value for curve in curves.values() for value in curve]
    low, high = np.floor(min(values)), np.ceil(max(values))
    high = high if high > low else low + 1

    def place(frequency: float, value: float) -> str:
        y = bottom - (value - low) / (high - low) * (bottom - top)
        return f"{left + frequency / 0.5 * (width - left - 14):.1f},{y:.1f}"

    parts = []
    step = max(1, round((high - low) / 5))
    for tick in np.arange(low, high + 1, step):
        y = bottom - (tick - low) / (high - low) * (bottom - top)
        parts.append(f'<line class="axis" x1="{left}" x2="{width - 14}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(left - 8, y + 4, _power_of_ten(int(tick)), anchor="end"))
    for style, curve in curves.items():
        points = " ".join(place(f, v) for f, v in zip(spectrum.frequencies, curve, strict=True))
        parts.append(f'<polyline class="line {style}" points="{points}"/>')
    for frequency, words in ((0.0, "0 coarse"), (0.25, "0.25"), (0.5, "fine 0.5")):
        anchor = {0.0: "start", 0.5: "end"}.get(frequency, "middle")
        x = left + frequency / 0.5 * (width - left - 14)
        parts.append(text(x, bottom + 17, words, anchor=anchor))
    parts.append(text((left + width - 14) / 2, bottom + 34, "cycles a pixel", anchor="middle"))
    low_share = f"{100 * spectrum.low_share:.0f} % lies below 0.25 cycles a pixel"
    label = f"Power of the change against spatial frequency; {low_share}"
    return drawing("chart", width, height, label, parts)


def _power_of_ten(exponent: int) -> str:
    plain = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100", 3: "1,000", 4: "10,000"}
    digits = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return plain.get(exponent, f"10{str(exponent).translate(digits)}")
