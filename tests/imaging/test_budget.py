"""The bound: what it accepts, and that projection and rounding keep it exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitterant.errors import ConfigError
from bitterant.imaging import Budget


@pytest.mark.parametrize("epsilon", [0, 0.0, -0.1, 1.0001, 8, math.nan, math.inf, -math.inf, "eight", None])
def test_epsilon_outside_its_range_is_refused(epsilon):
    with pytest.raises(ConfigError, match="epsilon"):
        Budget(epsilon)


def test_whole_levels_given_as_epsilon_are_answered_with_the_right_call():
    with pytest.raises(ConfigError, match=r"Budget\.from_levels\(8\)"):
        Budget(8)


def test_unknown_norm_is_refused():
    with pytest.raises(ConfigError, match="l2"):
        Budget(0.1, norm="l2")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("levels", [0, -8, 300, 0.5, 255.5, math.nan, "x"])
def test_levels_outside_their_range_are_refused_in_levels(levels):
    with pytest.raises(ConfigError, match="levels"):
        Budget.from_levels(levels)


def test_the_message_names_number_and_range():
    with pytest.raises(ConfigError, match=r"epsilon 300 is outside 1\.\.255 levels"):
        Budget.from_levels(300)


def test_every_whole_number_of_levels_survives_the_way_through_epsilon():
    made = {levels: (Budget.from_levels(levels), Budget(levels / 255)) for levels in range(1, 256)}
    lost = [levels for levels, budgets in made.items() if any(budget.whole_levels != levels for budget in budgets)]
    assert not lost


@pytest.mark.parametrize(("epsilon", "whole"), [(8.5 / 255, 8), (7.9999 / 255, 7), (0.5 / 255, 0), (1.0, 255)])
def test_whole_levels_round_down(epsilon, whole):
    assert Budget(epsilon).whole_levels == whole


@settings(max_examples=60, deadline=None)
@given(
    st.floats(1, 255),
    hnp.arrays(np.float32, (3, 4, 4), elements=st.floats(-3, 3, width=32)),
    hnp.arrays(np.float32, (3, 4, 4), elements=st.floats(0, 1, width=32)),
)
def test_projection_keeps_budget_and_range_and_moves_nothing_that_fits(levels, delta, images):
    budget = Budget.from_levels(levels)
    d, x = torch.from_numpy(delta), torch.from_numpy(images)
    projected = budget.project(d, x)
    assert projected.abs().max().item() <= np.float32(budget.epsilon)
    assert (x + projected).min().item() >= 0.0
    assert (x + projected).max().item() <= 1.0
    assert torch.equal(budget.project(projected, x), projected)
    fits = (d.abs() <= budget.epsilon) & (d <= 1 - x) & (d >= -x)
    assert torch.equal(projected[fits], d[fits])


@settings(max_examples=60, deadline=None)
@given(st.floats(1, 255), hnp.arrays(np.float32, (2, 3, 5, 5), elements=st.floats(-2, 2, width=32)))
def test_quantised_levels_are_whole_inside_and_nearest(levels, delta):
    budget = Budget.from_levels(levels)
    quantised = budget.quantise(torch.from_numpy(delta))
    assert quantised.dtype == torch.int16
    assert budget.violations(quantised) == 0
    bounded = np.clip(delta * 255.0, -budget.whole_levels, budget.whole_levels)
    assert np.abs(quantised.numpy() - bounded).max() <= 0.5 + 1e-4


def test_violations_counts_in_tensors_and_arrays_of_any_type():
    budget = Budget.from_levels(8)
    assert budget.violations(torch.tensor([8, -8, 9, -9], dtype=torch.int16)) == 2
    assert budget.violations(np.array([8.0, 8.01, np.nan, -np.inf])) == 3
    # The absolute value of these overflows to itself.
    assert budget.violations(torch.tensor([-128], dtype=torch.int8)) == 1
    assert budget.violations(np.array([-32768], dtype=np.int16)) == 1
    assert budget.violations(torch.zeros(0, 3)) == 0


def test_a_float32_budget_is_no_violation_of_itself():
    refused = []
    for levels in range(1, 256):
        budget = Budget.from_levels(levels)
        delta = torch.full((1,), budget.epsilon, dtype=torch.float32) * 255.0
        refused += [levels] if budget.violations(delta) else []
    assert not refused


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16, torch.float32])
def test_violations_are_counted_in_large_tensors_as_in_small_ones(dtype):
    values = torch.randint(-20, 21, (3, 700_001), generator=torch.Generator().manual_seed(0)).to(dtype)
    wanted = sum(int((np.abs(row.astype(np.float64)) > 8).sum()) for row in values.numpy())
    assert Budget(8 / 255).violations(values) == wanted
    assert Budget(8 / 255).violations(values.numpy()) == wanted
    assert Budget(8 / 255).violations(values.T) == wanted
