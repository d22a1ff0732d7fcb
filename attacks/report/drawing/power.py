"""The spectrum of the change: as a picture, and along rings around its middle."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from ....imaging import png_data_uri
from ...facts import Spectrum
from .svg import drawing, text

__all__ = ["power_picture", "ring_chart"]

_SIDE, _LEFT, _TOP, _WIDTH = 296.0, 84.0, 12.0, 440.0
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
        f'<image x="{_LEFT}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}" preserveAspectRatio="none" '
        f'href="{png_data_uri(enlarged)}"/>'
    ]
    for share, words in ((0.0, "−0.5"), (0.5, "0"), (1.0, "0.5")):
        anchor = {0.0: "start", 1.0: "end"}.get(share, "middle")
        parts.append(text(_LEFT + share * _SIDE, _TOP + _SIDE + 16, words, anchor=anchor))
        parts.append(text(_LEFT - 7, _TOP + share * _SIDE + (9, 4, 0)[round(2 * share)], words, anchor="end"))
    middle = _TOP + _SIDE / 2
    parts.append(f'<g transform="rotate(-90 30 {middle})">{text(30, middle, "vertical", anchor="middle")}</g>')
    parts.append(text(_LEFT + _SIDE / 2, _TOP + _SIDE + 33, "horizontal, in cycles a pixel", anchor="middle"))
    label = "Power of the change at every spatial frequency, the mean in the middle, fine detail at the edges"
    return drawing("chart", _WIDTH, _TOP + _SIDE + 42, label, parts)


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
