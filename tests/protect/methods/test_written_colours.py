"""The bound on slow colours: what it removes, what it leaves, and that a fit keeps it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bitterant.errors import ConfigError
from bitterant.imaging import ImageSet
from bitterant.protect import ErrorMinimizing
from bitterant.protect.methods.written import TintBound

EPSILON = 8 / 255


def saturated(rows: int, side: int, seed: int = 0) -> torch.Tensor:
    """Patterns of plus and minus epsilon in large coloured stains, as a fit makes them."""
    r = torch.Generator().manual_seed(seed)
    coarse = torch.randn(rows, 3, 4, 4, generator=r) + torch.randn(rows, 3, 1, 1, generator=r)
    return EPSILON * torch.nn.functional.interpolate(coarse, (side, side), mode="bicubic").sign()


def naive_slow(delta: np.ndarray, cosines: int) -> np.ndarray:
    """Projection on the lowest cosines, one inner product at a time."""
    side = delta.shape[-1]
    x = (np.arange(side) + 0.5) / side * np.pi
    colour = delta - delta.mean(axis=0, keepdims=True)
    result = np.zeros_like(colour)
    for p in range(min(cosines, side)):
        for q in range(min(cosines, side)):
            wave = np.outer(np.cos(p * x), np.cos(q * x))
            wave /= np.sqrt((wave * wave).sum())
            for channel in range(3):
                result[channel] += (colour[channel] * wave).sum() * wave
    return result


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 24), st.integers(1, 6), st.integers(0, 100))
def test_the_slow_colour_is_the_projection_on_the_lowest_cosines(side, cosines, seed):
    delta = np.random.default_rng(seed).normal(size=(3, side, side))
    found = TintBound(side, 0, cosines=cosines).slow_colour(torch.from_numpy(delta).float())
    np.testing.assert_allclose(found, naive_slow(delta, cosines), atol=1e-4)
    np.testing.assert_allclose(found.sum(0), 0, atol=1e-4)


@pytest.mark.parametrize("levels", [0.0, 1.0, 3.0])
def test_slow_colours_are_held(levels):
    delta, bound = saturated(6, 32), TintBound(32, levels)
    assert float(bound.slow_colour(delta).abs().max()) * 255 > 4
    held = bound(delta, EPSILON)
    assert float(held.abs().max()) <= EPSILON + 1e-8  # in float32
    assert float(bound.slow_colour(held).abs().max()) * 255 < levels + 1
    cast = (held - held.mean(1, keepdim=True)).mean((2, 3)).abs().max()
    assert float(cast) * 255 < levels + 0.5


def test_brightness_and_fine_colours_are_left_alone():
    bound = TintBound(32, 0)
    brightness = torch.randn(2, 1, 32, 32).expand(2, 3, 32, 32) * 0.01
    torch.testing.assert_close(bound(brightness, 1.0), brightness)
    wave = torch.cos((torch.arange(32) + 0.5) / 32 * torch.pi * 4) * 0.01  # the first that is not slow
    fine = torch.stack([wave, -wave, 0 * wave])[None, :, None].expand(1, 3, 32, 32)
    torch.testing.assert_close(bound(fine, 1.0), fine)


def test_what_is_inside_stays_to_the_bit():
    delta = saturated(3, 16) * 0.1
    assert torch.equal(TintBound(16, 255)(delta, EPSILON), delta)


@pytest.mark.parametrize(("levels", "cosines"), [(-1.0, 4), (float("nan"), 4), (1.0, 0)])
def test_values_out_of_range_are_refused(levels, cosines):
    with pytest.raises(ConfigError, match="tint"):
        TintBound(16, levels, cosines=cosines)


@pytest.mark.parametrize("granularity", ["class", "sample"])
def test_a_fit_keeps_the_bound(granularity, tiny: ImageSet):
    def cast(tint: float) -> float:
        method = ErrorMinimizing(
            granularity=granularity, tint=tint, attempts=0, rounds=4, sample_rounds=1, surrogate_steps=3, device="cpu"
        )
        levels = method.fit(tiny).levels.float()
        return float(TintBound(tiny.resolution, 0).slow_colour(levels).abs().max())

    assert cast(0.0) < 1.5 < cast(255.0)


def test_the_paper_knows_no_bound(tiny: ImageSet):
    recipe = ErrorMinimizing(preset="paper").recipe
    assert recipe.tint is None
    assert recipe.class_stage(tiny).tint is None
    assert recipe.sample_stage(tiny).tint is None
    with pytest.raises(ConfigError, match="tint"):
        ErrorMinimizing(tint=-1.0)
