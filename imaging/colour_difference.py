"""CIELAB and CIEDE2000: how far apart two colours look, side by side on large patches; 1 is about the least one sees.

After Sharma, Wu, Dalal, *The CIEDE2000 Color-Difference Formula: Implementation Notes, Supplementary Test Data, and
Mathematical Observations* (Color Research and Application 30(1), 2005), against whose 34 pairs it is tested. Written
out here because it is measured for every file of a folder: no small library does whole pictures at once.
"""

from __future__ import annotations

import numpy as np

__all__ = ["ciede2000", "linear_light", "xyz_to_lab"]

#: sRGB (IEC 61966-2-1) primaries to XYZ, divided by its white (D65): white is 1, 1, 1.
_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_TO_XYZ /= _TO_XYZ.sum(axis=1, keepdims=True)

_CODES = np.arange(256) / 255
_LINEAR = np.where(_CODES <= 0.04045, _CODES / 12.92, ((_CODES + 0.055) / 1.055) ** 2.4)
#: What each value of each channel adds to X, Y and Z: ``[channel of sRGB, channel of XYZ, 256]``.
_SHARES = (_TO_XYZ.T[:, :, None] * _LINEAR).astype(np.float32)

_FAR = 25.0**7


def linear_light(rgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB values.

    Args:
        rgb: uint8 ``[..., 3]``.

    Returns:
        float32 ``[3, ...]``: X, Y and Z, white 1, 1, 1.
    """
    result = np.empty((3, *rgb.shape[:-1]), dtype=np.float32)
    for target in range(3):
        for source in range(3):
            share = _SHARES[source, target][rgb[..., source]]
            result[target] = share if source == 0 else result[target] + share
    return result


def xyz_to_lab(xyz: np.ndarray) -> np.ndarray:
    """CIELAB of X, Y and Z over those of white: ``[3, ...]`` to ``[3, ...]`` (L 0..100, a, b)."""
    # numpy's cube root takes several times as long.
    root = np.exp(np.log(np.maximum(xyz, 1e-6)) * (1 / 3))
    dark = xyz <= (6 / 29) ** 3
    if dark.any():
        root[dark] = xyz[dark] * ((29 / 6) ** 2 / 3) + 4 / 29
    return np.stack([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


def ciede2000(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """CIEDE2000 colour difference, all weights 1.

    Args:
        first: float CIELAB ``[3, ...]``.
        second: the same shape.

    Returns:
        The differences ``[...]``, of the inputs' precision.
    """
    (l1, a1, b1), (l2, a2, b2) = first, second
    chroma = (np.sqrt(a1 * a1 + b1 * b1) + np.sqrt(a2 * a2 + b2 * b2)) * 0.5
    stretch = 1.5 - 0.5 * np.sqrt(_seventh(chroma))  # 1 + G
    a1, a2 = a1 * stretch, a2 * stretch
    c1, c2 = np.sqrt(a1 * a1 + b1 * b1), np.sqrt(a2 * a2 + b2 * b2)
    h1, h2 = _hue(a1, b1), _hue(a2, b2)
    # The shorter way round from the one hue to the other, and the hue half-way along it.
    turn = h2 - h1
    turn -= 2 * np.pi * np.round(turn * (0.5 / np.pi))
    product = c1 * c2
    grey = product == 0  # no hue: the formula adds the angles, of which one is zero
    hue = np.where(grey, h1 + h2, h1 + 0.5 * turn)
    d_hue = 2 * np.sqrt(product) * np.sin(0.5 * turn)
    d_light, d_chroma = l2 - l1, c2 - c1
    light, chroma = 0.5 * (l1 + l2) - 50, 0.5 * (c1 + c2)
    light *= light
    one, two = np.cos(hue), np.sin(hue)
    # cos(2h), sin(2h) and so on from cos(h) and sin(h): trigonometry is the slow part.
    cos2, sin2 = one * one - two * two, 2 * one * two
    cos3, sin3 = cos2 * one - sin2 * two, sin2 * one + cos2 * two
    cos4, sin4 = cos2 * cos2 - sin2 * sin2, 2 * sin2 * cos2
    weight = 1 - _turned(one, two, -30, 0.17) + 0.24 * cos2 + _turned(cos3, sin3, 6, 0.32)
    weight -= _turned(cos4, sin4, -63, 0.20)
    s_light = 1 + 0.015 * light / np.sqrt(20 + light)
    s_chroma = 1 + 0.045 * chroma
    s_hue = 1 + 0.015 * chroma * weight
    # Between -180 and 540 degrees; from 275, the blue at which it all happens, the bell sees no further than 180.
    away = hue * (180 / np.pi) - 275
    away -= 360 * np.round(away * (1 / 360))
    blue = np.exp(-((away * (1 / 25)) ** 2)) * (np.pi / 3)  # twice the angle of 30 degrees
    rotation = -2 * np.sqrt(_seventh(chroma)) * np.sin(blue)
    d_light /= s_light
    d_chroma /= s_chroma
    d_hue /= s_hue
    squares = d_light * d_light + d_chroma * d_chroma + d_hue * d_hue + rotation * d_chroma * d_hue
    return np.sqrt(np.maximum(squares, 0))


def _hue(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angle in 0..2 pi."""
    angle = np.arctan2(b, a)
    return angle + (angle < 0) * angle.dtype.type(2 * np.pi)


def _seventh(chroma: np.ndarray) -> np.ndarray:
    """``c^7 / (c^7 + 25^7)``."""
    square = chroma * chroma
    power = square * square * square * chroma
    return power / (power + _FAR)


def _turned(cosine: np.ndarray, sine: np.ndarray, degrees: float, gain: float) -> np.ndarray:
    """``gain * cos(angle + degrees)`` of the angle with this cosine and sine."""
    angle = float(np.deg2rad(degrees))
    return cosine * (gain * float(np.cos(angle))) - sine * (gain * float(np.sin(angle)))
