"""Which spatial frequencies the change lives at: coarse patterns survive scaling, fine ones go with the first JPEG."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..facts import Spectrum
from .sample import Sample

__all__ = ["Powers", "describe_power", "describe_powers", "mean_power", "measure_powers", "ring_means"]

_CHUNK = 64
_LOW = 0.25

Power = NDArray[np.float64]


def mean_power(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> Power:
    """Power spectrum of the change, mean over pictures and channels.

    Args:
        before: uint8 ``[N, C, H, W]``.
        after: the same shape.

    Returns:
        float64 ``[H, W]`` in squared levels (1/255), frequency zero at ``[H // 2, W // 2]``. Divided by the number of
        pixels, so that independent noise of variance v has the power v at every frequency.
    """
    height, width = before.shape[-2:]
    total = np.zeros((height, width))
    for start in range(0, len(before), _CHUNK):
        rows = slice(start, start + _CHUNK)
        delta = after[rows].astype(np.float64) - before[rows]
        total += np.square(np.abs(np.fft.fft2(delta))).sum(axis=(0, 1))
    count = max(1, before.shape[0] * before.shape[1])
    return np.fft.fftshift(total) / (count * height * width)


def _frequencies(height: int, width: int) -> tuple[Power, Power]:
    """Vertical and horizontal frequency of every entry, in cycles a pixel, zero in the middle."""
    vertical, horizontal = (np.fft.fftshift(np.fft.fftfreq(side)).astype(np.float64) for side in (height, width))
    rows, columns = np.meshgrid(vertical, horizontal, indexing="ij")
    return rows, columns


def ring_means(power: Power) -> tuple[Power, Power]:
    """Mean power in rings around frequency zero.

    Returns:
        The middle frequency of each ring in cycles a pixel, up to 0.5, and the mean power in it. Corners beyond 0.5
        belong to the last ring.
    """
    rings = max(1, min(power.shape) // 2)
    distance = np.hypot(*_frequencies(*power.shape))
    index = np.minimum((distance * 2 * rings).astype(np.int64), rings - 1).ravel()
    counts = np.bincount(index, minlength=rings)
    sums = np.bincount(index, weights=power.ravel(), minlength=rings)
    return (np.arange(rings) + 0.5) / (2 * rings), sums / np.maximum(counts, 1)


def describe_power(power: Power, noise: Power | None, pictures: int) -> Spectrum | None:
    """The facts for the report; ``None`` where there is no power at all."""
    if not power.any():
        return None
    frequencies, rings = ring_means(power)
    rows, columns = _frequencies(*power.shape)
    without_mean = np.where((rows == 0) & (columns == 0), -1.0, power)
    place = np.unravel_index(int(without_mean.argmax()), power.shape)
    low = np.hypot(rows, columns) < _LOW
    return Spectrum(
        resolution=power.shape[1],
        pictures=pictures,
        frequencies=tuple(frequencies.tolist()),
        protected=_logarithms(rings),
        noise=None if noise is None or not noise.any() else _logarithms(ring_means(noise)[1]),
        peak=(abs(float(columns[place])), abs(float(rows[place]))),
        low_share=float(power[low].sum() / power.sum()),
    )


def _logarithms(power: Power) -> tuple[float, ...]:
    """Rings without any power are told as a millionth of the mean: a report holds no infinity."""
    return tuple(np.log10(np.maximum(power, 1e-6 * power.mean())).round(4).tolist())


@dataclass(frozen=True)
class Powers:
    """Mean power of the change and of the control noise, each ``[R, R]``; see :func:`mean_power`."""

    protected: Power
    noise: Power
    pictures: int


def measure_powers(sample: Sample) -> Powers:
    """Of training pictures at the working resolution."""
    return Powers(
        mean_power(sample.clean, sample.protected), mean_power(sample.clean, sample.noisy), len(sample.labels)
    )


def describe_powers(powers: Powers) -> Spectrum | None:
    """Spectrum of the change that the victims saw; ``None`` where nothing changed."""
    return describe_power(powers.protected, powers.noise, powers.pictures)
