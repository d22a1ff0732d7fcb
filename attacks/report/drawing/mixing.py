"""What a mix of clean and protected pictures is worth, against the share that is protected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ...adversaries import Arm
from ...schema import ArmResult, Estimate, MixPoint
from .svg import Frame, drawing

__all__ = ["mix_curve"]

_WIDTH, _HEIGHT = 480.0, 300.0
_BESIDE = {"clean": -5.0, "protected": 0.0, "noise": 5.0}
"""Marks of one share stand beside each other, or their intervals would hide one another."""


def mix_curve(points: Sequence[MixPoint], whole: Mapping[Arm, ArmResult], chance: float | None) -> Markup:
    """Three lines over the protected share: mixed, the clean part alone, and random noise in the place of protection.

    Args:
        points: of one victim, by rising share.
        whole: the arms of the same victim without adversary: share 0 is all clean, share 1 all protected or all noisy.
        chance: accuracy of those who do not look.
    """
    frame = Frame(_WIDTH, _HEIGHT, 1.0)
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
        parts.append(_line(frame, style, places))
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
    return drawing("chart", _WIDTH, _HEIGHT, f"Test accuracy against the protected share. {told}", parts)


def _line(frame: Frame, style: str, places: Sequence[tuple[float, Estimate]]) -> str:
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
