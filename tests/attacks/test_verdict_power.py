"""How often the verdict is right about victims whose true figures are known.

Made-up answers go through the bootstrap, the gates and the rule as they are in earnest; ``benchmarks/verdict_power.py``
makes them up, and prints the same for many more runs. The bounds leave room for the number of runs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "verdict_power.py"
GRADED = ("strong", "moderate", "weak")


@pytest.fixture(scope="module")
def power() -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdict_power", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def shares(power: ModuleType, runs: int = 150, **case: Any) -> tuple[Counter[str], Counter[str]]:
    """Shares of the runs by outcome, under the rule v3 and under the rule as it is."""
    before, after = power.rates(power.Case("a test", **case), runs)
    return tuple(Counter({name: found[name] / runs for name in found}) for found in (before, after))  # type: ignore[return-value]


@pytest.mark.parametrize(("seeds", "spread"), [(3, 0.01), (5, 0.02)])
def test_what_leaves_nothing_is_strong(power: ModuleType, seeds: int, spread: float) -> None:
    before, after = shares(power, rhos=(0.0, 0.0), seeds=seeds, spread=spread, tests=300)
    assert after["strong"] >= 0.8
    assert before["strong"] < after["strong"] - 0.2


def test_a_fifth_left_is_moderate(power: ModuleType) -> None:
    before, after = shares(power, rhos=(0.2, 0.2), seeds=5)
    assert after["moderate"] >= 0.8
    assert after["strong"] <= 0.02
    assert after["inconclusive"] == 0
    assert before["inconclusive"] > 0.1


def test_one_victim_above_the_bound_among_others_at_nothing_is_not_strong(power: ModuleType) -> None:
    """What nothing is split for: the others pass, and its own test is wrong in one case of twenty."""
    _, after = shares(power, 300, rhos=(0.165, 0.0, 0.0), spread=0.01, tests=500)
    assert after["strong"] <= 0.06
    _, after = shares(power, 300, rhos=(0.0, 0.165), seeds=5)
    assert after["strong"] <= 0.06


def test_a_victim_that_learns_nearly_all_is_not_outvoted(power: ModuleType) -> None:
    """Run 165 of these has an open victim whose noise arm is in doubt; set aside, it left a strong tier."""
    _, after = shares(power, 200, rhos=(0.8, 0.0))
    assert sum(after[grade] for grade in GRADED) <= 0.01
    assert after["strong"] == 0


@pytest.mark.parametrize("runs", [100, pytest.param(2000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("seeds", "tests", "spread"), [(2, 300, 0.02), (3, 50, 0.02), (3, 300, 0.05)])
def test_a_placebo_gets_no_grade(power: ModuleType, runs: int, seeds: int, tests: int, spread: float) -> None:
    _, after = shares(power, runs, rhos=(1.0, 1.0), seeds=seeds, tests=tests, spread=spread)
    assert sum(after[grade] for grade in GRADED) == 0


@pytest.mark.parametrize(("clean", "harm"), [(0.6, 0.2), (0.6, 0.3), (0.4, 0.15)])
def test_a_placebo_that_does_harm_is_invalid_or_gets_no_grade(power: ModuleType, clean: float, harm: float) -> None:
    rho = 1 - harm / (clean - 0.1)
    _, after = shares(power, rhos=(rho, rho), clean=clean, harm=harm)
    assert sum(after[grade] for grade in GRADED) <= 0.02


@pytest.mark.parametrize(("classes", "clean"), [(2, 0.9), (4, 0.75), (10, 0.55), (20, 0.5)])
def test_sound_runs_are_valid_with_the_fewest_test_pictures(power: ModuleType, classes: int, clean: float) -> None:
    before, after = shares(power, 300, rhos=(0.0,), classes=classes, tests=5 * classes, clean=clean)
    assert after["INVALID"] < 0.05
    assert before["INVALID"] > 0.2


def test_harmless_noise_passes_where_seeds_are_far_apart(power: ModuleType) -> None:
    before, after = shares(power, rhos=(0.0,), tests=1000, spread=0.05)
    assert after["INVALID"] < 0.02
    assert before["INVALID"] > 0.08


@pytest.mark.parametrize(("classes", "tests"), [(2, 10), (2, 100), (10, 50)])
def test_victims_that_learned_nothing_prove_nothing(power: ModuleType, classes: int, tests: int) -> None:
    _, after = shares(power, 300, rhos=(1.0,), classes=classes, tests=tests, clean=1 / classes)
    assert sum(after[grade] for grade in GRADED) <= 0.01
    assert after["INVALID"] > 0.85


def test_a_bound_from_seeds_alone_would_forget_the_test_pictures(power: ModuleType) -> None:
    """The reason for the two-level bootstrap: a t bound over seeds that agree is too low."""
    found = power.coverage(power.Case("a test", (0.5,), spread=0.005, tests=100), 300)
    bootstrap, alone = found["two-level bootstrap"][0], found["t over seeds"][0]
    assert bootstrap >= 0.91
    assert alone < bootstrap
