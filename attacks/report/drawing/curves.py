"""Accuracy along the training, arm by arm."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from ...adversaries import Arm
from ...schema import CellRecord, CurveRow
from .svg import Frame, drawing

__all__ = ["CURVE_STYLES", "learning_curves"]

_WIDTH, _HEIGHT = 440.0, 270.0

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
    frame = Frame(_WIDTH, _HEIGHT, last)
    parts = [*frame.grid(), *frame.chance(chance)]
    for arm, style in CURVE_STYLES.items():
        rows = [cell.curve for cell in cells if cell.arm == arm and cell.curve]
        tested = [[(float(p.step), p.test_accuracy or 0.0) for p in row] for row in rows]
        if style == "protected" and rows:
            parts.append(_line(frame, _mean(_trained(rows)), "protected dotted fitted", "on its own training pictures"))
        parts += [_line(frame, points, f"{style} seed", "") for points in (tested if len(tested) > 1 else [])]
        if tested:
            parts.append(_line(frame, _mean(tested), style, f"{arm}, mean over the seeds"))
    parts += frame.below((0.0, "0", "start"), (last, f"{last:,}", "end"))
    parts.append(frame.title("steps of training"))
    return drawing("chart", _WIDTH, _HEIGHT, label, parts)


def _trained(rows: Sequence[Sequence[CurveRow]]) -> list[Points]:
    return [[(point.step, point.train_accuracy) for point in row] for row in rows]


def _mean(curves: Sequence[Points]) -> Points:
    shortest = min(len(curve) for curve in curves)
    return [(curves[0][i][0], sum(curve[i][1] for curve in curves) / len(curves)) for i in range(shortest)]


def _line(frame: Frame, points: Points, style: str, words: str) -> str:
    places = " ".join(f"{frame.x(step):.1f},{frame.y(share):.1f}" for step, share in points)
    title = f"<title>{words}</title>" if words else ""
    return f'<polyline class="line {style}" points="{places}">{title}</polyline>'
