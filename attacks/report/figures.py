"""The drawings of the report, as inline SVG. Colours are the variables of the page."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from ..adversaries import Arm
from ..schema import ArmResult, CellRecord, Condition

__all__ = ["accuracy_bars", "learning_curves"]

_COLOURS: dict[Arm, str] = {
    "clean": "clean",
    "part": "clean",
    "protected": "protected",
    "mixed": "protected",
    "noise": "noise",
    "noise-mixed": "noise",
}
"""Arms in the order they are drawn, and the colour of each."""

_FAINT = "part"

_LEFT, _RIGHT, _WIDTH = 210, 62, 860
_BAR, _GAP, _GROUP = 15, 4, 22


def _axis_x(share: float) -> float:
    return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)


def accuracy_bars(conditions: Sequence[Condition]) -> Markup:
    """Accuracy on clean test pictures with 95 % intervals: a group of bars a condition, one bar an arm.

    A broken line across each group is chance: other labels have another one.
    """
    parts: list[str] = []
    top = 34.0
    for condition in conditions:
        arms = _arms(condition)
        if not arms:
            continue
        height = len(arms) * (_BAR + _GAP) - _GAP
        parts.append(_group_label(condition, top + height / 2))
        for row, (arm, result) in enumerate(arms):
            parts.append(_bar(arm, result, top + row * (_BAR + _GAP)))
        if condition.chance is not None:
            parts.append(_chance_line(condition.chance, top - 5, top + height + 5))
        top += height + _GROUP
    bottom = top - _GROUP + 8
    grid = "".join(_tick(share, bottom) for share in (0.0, 0.25, 0.5, 0.75, 1.0))
    return _svg("bar", _WIDTH, bottom + 24, "Test accuracy by condition and arm", grid + "".join(parts))


def _chance_line(chance: float, top: float, bottom: float) -> str:
    x = _axis_x(chance)
    return (
        f'<line class="label" x1="{x:.1f}" y1="{top:.1f}" x2="{x:.1f}" y2="{bottom:.1f}" stroke="currentColor" '
        f'stroke-width="1.2" stroke-dasharray="4 3"/>'
        f'<text class="label" x="{x + 4:.1f}" y="{top - 1:.1f}" font-size="11">chance {100 * chance:.0f} %</text>'
    )


def _arms(condition: Condition) -> list[tuple[Arm, ArmResult]]:
    return [(arm, condition.arms[arm]) for arm in _COLOURS if arm in condition.arms]


def _group_label(condition: Condition, middle: float) -> str:
    faded = "" if condition.status == "ok" else f" ({condition.status})"
    return (
        f'<text x="{_LEFT - 14}" y="{middle - 2:.1f}" font-size="13" text-anchor="end">'
        f"{escape(condition.adversary)}{escape(faded)}</text>"
        f'<text class="label" x="{_LEFT - 14}" y="{middle + 14:.1f}" font-size="11.5" text-anchor="end">'
        f"{escape(condition.victim)}</text>"
    )


def _bar(arm: Arm, result: ArmResult, top: float) -> str:
    accuracy = result.accuracy
    left, right = _axis_x(0.0), _axis_x(accuracy.estimate)
    low, high, middle = _axis_x(accuracy.low), _axis_x(accuracy.high), top + _BAR / 2
    faint = ' opacity="0.5"' if arm == _FAINT else ""
    title = (
        f"{arm}: {100 * accuracy.estimate:.1f} % ({100 * accuracy.low:.1f} to {100 * accuracy.high:.1f}); "
        f"by seed {', '.join(f'{100 * value:.1f}' for value in result.accuracies)}"
    )
    return (
        f'<g><title>{escape(title)}</title><rect class="{_COLOURS[arm]}"{faint} x="{left:.1f}" y="{top:.1f}" '
        f'width="{max(0.0, right - left):.1f}" height="{_BAR}" rx="2"/>'
        f'<path class="interval" d="M{low:.1f} {middle - 4:.1f}V{middle + 4:.1f}M{low:.1f} {middle:.1f}H{high:.1f}'
        f'M{high:.1f} {middle - 4:.1f}V{middle + 4:.1f}" fill="none" stroke-width="1.3"/>'
        f'<text x="{max(right, high) + 7:.1f}" y="{middle + 4.2:.1f}" font-size="12">'
        f"{100 * accuracy.estimate:.0f} %</text></g>"
    )


def _tick(share: float, bottom: float) -> str:
    x = _axis_x(share)
    return (
        f'<line class="axis" x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="{bottom:.1f}" stroke-width="1"/>'
        f'<text class="label" x="{x:.1f}" y="{bottom + 16:.1f}" font-size="11" text-anchor="middle">'
        f"{100 * share:.0f} %</text>"
    )


def learning_curves(cells: Sequence[CellRecord], chance: float) -> Markup:
    """Accuracy on clean test pictures along the training: a thin line a seed, a bold one for their mean."""
    width, height, left, bottom = 430.0, 250.0, 42.0, 226.0
    last = max((point.step for cell in cells for point in cell.curve), default=1)

    def place(step: float, share: float) -> str:
        return f"{left + step / last * (width - left - 12):.1f},{bottom - share * (bottom - 14):.1f}"

    parts = []
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = bottom - share * (bottom - 14)
        parts.append(f'<line class="axis" x1="{left}" y1="{y:.1f}" x2="{width - 12}" y2="{y:.1f}" stroke-width="1"/>')
        parts.append(
            f'<text class="label" x="{left - 6}" y="{y + 4:.1f}" font-size="11" text-anchor="end">'
            f"{100 * share:.0f} %</text>"
        )
    for arm, colour in _COLOURS.items():
        faint = ' stroke-dasharray="5 3"' if arm == _FAINT else ""
        curves = [[(p.step, p.test_accuracy or 0.0) for p in c.curve] for c in cells if c.arm == arm and c.curve]
        for curve in curves if len(curves) > 1 else []:
            points = " ".join(place(step, share) for step, share in curve)
            parts.append(f'<polyline class="line {colour}" points="{points}" style="stroke-width:1" opacity="0.35"/>')
        if curves:
            shortest = min(len(curve) for curve in curves)
            mean = [(curves[0][i][0], sum(c[i][1] for c in curves) / len(curves)) for i in range(shortest)]
            points = " ".join(place(step, share) for step, share in mean)
            mark = f"<title>{arm}, mean</title>"
            parts.append(f'<polyline class="line {colour}"{faint} points="{points}">{mark}</polyline>')
    y = bottom - chance * (bottom - 14)
    parts.append(
        f'<line class="label" x1="{left}" y1="{y:.1f}" x2="{width - 12}" y2="{y:.1f}" stroke="currentColor" '
        f'stroke-width="1.2" stroke-dasharray="4 3"/>'
        f'<text class="label" x="{left}" y="{bottom + 18:.1f}" font-size="11">0</text>'
        f'<text class="label" x="{width - 12}" y="{bottom + 18:.1f}" font-size="11" text-anchor="end">'
        f"{last} steps</text>"
    )
    return _svg("chart", width, height, "Test accuracy along the training", "".join(parts))


def _svg(kind: str, width: float, height: float, label: str, body: str) -> Markup:
    return Markup(  # every piece of text above went through escape()
        f'<svg class="{kind}" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}" '
        f'role="img" aria-label="{label}">{body}</svg>'
    )
