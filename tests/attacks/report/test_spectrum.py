"""The power spectrum against waves whose frequency and power are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bitterant.attacks.report.drawing import power_picture, ring_chart
from bitterant.attacks.report.measures import describe_power, mean_power, ring_means

SIDE = 32


def wave(across: int, down: int, levels: float = 8.0) -> np.ndarray:
    """A cosine of whole cycles, int ``[SIDE, SIDE]``."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    return np.rint(levels * np.cos(2 * np.pi * (across * x + down * y) / SIDE)).astype(int)


def power_of(delta: np.ndarray, pictures: int = 5) -> np.ndarray:
    before = np.random.default_rng(0).integers(40, 200, (pictures, 3, SIDE, SIDE)).astype(np.uint8)
    return mean_power(before, (before + delta).astype(np.uint8))


@pytest.mark.parametrize(("across", "down"), [(5, 0), (0, 9), (3, 7), (16, 16), (1, 12)])
def test_a_known_wave_peaks_where_it_should(across: int, down: int) -> None:
    power = power_of(wave(across, down))
    row, column = np.unravel_index(int(power.argmax()), power.shape)
    assert {abs(int(row) - SIDE // 2), abs(int(column) - SIDE // 2)} == {down, across}
    assert (abs(int(column) - SIDE // 2), abs(int(row) - SIDE // 2)) == (across, down)
    found = describe_power(power, None, 5)
    assert found is not None
    assert found.peak == (across / SIDE, down / SIDE)
    assert found.low_share == pytest.approx(1.0 if np.hypot(across, down) < SIDE / 4 else 0.0, abs=0.02)
    loudest = found.frequencies[int(np.argmax(found.protected))]
    assert loudest == pytest.approx(min(0.5, np.hypot(across, down) / SIDE), abs=1 / SIDE)


def test_power_is_that_of_parseval_and_flat_for_noise() -> None:
    rng = np.random.default_rng(0)
    before = np.full((400, 3, SIDE, SIDE), 128, dtype=np.uint8)
    delta = 6 * (2 * rng.integers(0, 2, before.shape) - 1)
    power = mean_power(before, (before + delta).astype(np.uint8))
    assert power.mean() == pytest.approx(36.0)
    assert power == pytest.approx(np.full((SIDE, SIDE), 36.0), rel=0.2)
    frequencies, rings = ring_means(power)
    assert rings == pytest.approx(np.full(SIDE // 2, 36.0), rel=0.1)
    assert (frequencies[0], frequencies[-1]) == pytest.approx((0.5 / SIDE, 0.5 - 0.5 / SIDE))


def test_a_mean_shift_is_not_taken_for_a_pattern() -> None:
    found = describe_power(power_of(wave(6, 0, 2.0) + 5), None, 5)
    assert found is not None
    assert found.peak == (6 / SIDE, 0.0)


def test_nothing_changed_has_no_spectrum() -> None:
    assert describe_power(power_of(wave(0, 0, 0.0)), None, 5) is None


def test_the_report_has_it_with_the_noise_beside_it(made: Any) -> None:
    found = made.report.spectrum
    assert found is not None
    assert found.peak == (0.25, 0.0)
    assert found.noise is not None
    assert np.ptp(found.noise) < 0.5
    assert len(found.frequencies) == len(found.protected) == len(found.noise) == found.resolution // 2


def test_the_drawings_hold_a_picture_and_lines(report_maker: Callable[..., Any]) -> None:
    made = report_maker([])
    assert 'href="data:image/png;base64,' in power_picture(made.powers.protected)
    assert ring_chart(made.report.spectrum).count("<polyline") == 2
