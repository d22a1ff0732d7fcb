"""What each class of trainers gets at most: figures written down by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.evaluation.analysis import analyse
from bitterant.attacks.evaluation.grading import RULE
from bitterant.attacks.evaluation.verdict import trainer_results
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.schema import Condition, Estimate, Plan, Reading, TrainerResult
from bitterant.attacks.terms import TRAINER_CLASSES, Labelling
from bitterant.attacks.training.cells import CellResult
from bitterant.attacks.training.grid import GridResult, cells_of
from bitterant.surrogates import CurvePoint


def estimate(value: float) -> Estimate:
    return Estimate(estimate=value, low=value - 0.02, high=value + 0.02)


def condition(adversary: str, trainer: Any = "W1", *, crafting: Any = "seen", **changes: Any) -> Condition:
    """A condition with accuracies by moment: ``final=0.3``."""
    moments = {name: changes.pop(name) for name in ("final", "peak", "validated") if name in changes}
    values: dict[str, Any] = {
        "id": f"small-cnn/{adversary}", "tier": "naive", "trainer": trainer, "crafting": crafting,
        "adversary": adversary, "victim": "small-cnn", "phrase": "a trainer", "source": "a test", "readout": "final",
        "status": "ok", "balanced_chance": 0.1,
        "readings": {
            name: Reading(accuracy=estimate(value), clean=estimate(0.6), rho=estimate((value - 0.1) / 0.5))
            for name, value in moments.items()
        },
    }  # fmt: skip
    return Condition(**{**values, **changes})


def results(*conditions: Condition, budget_levels: float | None = None) -> dict[str, TrainerResult]:
    found = trainer_results(conditions, budget_levels)
    assert tuple(result.trainer for result in found) == TRAINER_CLASSES
    return {result.trainer: result for result in found}


def test_the_worst_case_is_where_the_trainer_gets_most_at_whatever_moment() -> None:
    found = results(
        condition("none", final=0.2, peak=0.42),
        condition("jpeg:10", final=0.4, peak=0.41),
        condition("webp:30", crafting="held-out", final=0.3, peak=0.35),
        condition("knn", "W4", final=0.55),
    )
    w1 = found["W1"]
    assert w1.worst is not None
    assert (w1.worst.id, w1.worst.moment, w1.worst.accuracy.estimate) == ("small-cnn/none", "peak", 0.42)
    assert (w1.worst.clean.estimate, w1.worst.chance) == (0.6, 0.1)
    assert w1.worst.rho is not None
    assert w1.worst.rho.estimate == pytest.approx(0.64)
    assert w1.at_end is not None
    assert (w1.at_end.id, w1.at_end.moment) == ("small-cnn/jpeg:10", "final")
    assert w1.seen == w1.worst
    assert w1.held_out is not None
    assert (w1.held_out.adversary, w1.held_out.accuracy.estimate) == ("webp:30", 0.35)
    assert found["W4"].worst is not None
    assert found["W4"].worst.id == "small-cnn/knn"
    assert found["W4"].held_out is None


def test_what_was_not_run_or_does_not_count_was_not_survived() -> None:
    found = results(
        condition("none", final=0.2),
        condition("jpeg:10", final=0.5, status="set aside", reason="a gate"),
        condition("dvae", "W1+", crafting="held-out", status="dropped", reason="no time"),
    )
    assert found["W1"].worst is not None
    assert found["W1"].worst.id == "small-cnn/none"
    assert (found["W1"].tested, found["W1"].untested) == (("small-cnn/none",), ("small-cnn/jpeg:10: a gate",))
    for trainer, untested in (("W1+", ("small-cnn/dvae: no time",)), ("W5", ())):
        result = found[trainer]
        assert (result.worst, result.at_end, result.seen, result.held_out) == (None, None, None, None)
        assert (result.tested, result.untested) == ((), untested)


@pytest.mark.parametrize(
    ("names", "budget", "missing"),
    [
        (("adversarial:4", "fast-adversarial:8"), 8.0, []),
        (("fast-adversarial:8",), None, ["4"]),
        (("adversarial:16",), 16.0, ["4", "8"]),
        (("adversarial:4", "fast-adversarial:8"), 12.0, ["12"]),
        (("adversarial:4", "adversarial:8", "adversarial:16"), 12.0, []),
        ((), 12.0, []),  # nothing of the class was asked for, which is told otherwise
    ],
)
def test_radii_that_nobody_tried_are_told(names: tuple[str, ...], budget: float | None, missing: list[str]) -> None:
    conditions = (condition("none", final=0.2), *(condition(name, "W3", final=0.4) for name in names))
    found = results(*conditions, budget_levels=budget)["W3"]
    assert found.untested == tuple(f"adversarial training at {radius} levels: not asked for" for radius in missing)


def test_equal_figures_are_those_of_the_end() -> None:
    worst = results(condition("none", peak=0.2), condition("jpeg:10", final=0.2))["W1"].worst
    assert worst is not None
    assert worst.moment == "final"


def readings(labels: np.ndarray, *adversaries: str, curve: bool = True) -> dict[str, Condition]:
    """Every victim is right about all at the end on clean pictures; on protected ones about 30 %, at the peak 60 %."""
    request = resolve_request(VerifyConfig(
        preset="quick", victims=("small-cnn",), adversaries=tuple(adversaries), seeds=3, seed=0,
        require_tier=None, require_grade=None, max_minutes=None, recipe=None,
    ))  # fmt: skip
    plan = Plan(
        rule=RULE, preset="quick", seed=0, victim_seeds=(1, 2, 3), conditions=plan_conditions(request), recipes={},
        resolution=16, train_images=1, test_images=len(labels), noise_levels=0, alpha=0.05, draws=500, evals=2,
        max_minutes=None, required_tier=None, required_grade=None, data_sha256="0",
    )  # fmt: skip
    grid, points = GridResult(), (CurvePoint(1, 1.0, 1.0, 0.5, 0.5),) if curve else ()
    classes = int(labels.max()) + 1

    def said(share: float) -> np.ndarray:
        order = np.random.default_rng(0).permutation(len(labels))
        wrong = (labels + np.random.default_rng(1).integers(1, classes, len(labels))) % classes
        right = np.zeros(len(labels), dtype=bool)
        right[order[: round(share * len(labels))]] = True
        return np.where(right, labels, wrong)

    for planned in plan.conditions:
        for cell in cells_of(planned, plan.victim_seeds):
            end, peak = (0.3, 0.6) if cell.arm in ("protected", "mixed") else (1.0, 1.0)
            end = 0.5 if cell.arm == "part" else end
            grid.cells[cell] = CellResult(cell, 10, 1.0, 0.1, True, said(end), said(peak), 5, points, 1.0, said(0.45))
    labelling = Labelling(labels, labels, classes)
    made = create_adversaries(adversaries)
    found = analyse(plan, grid, {a.name: a for a in made}, {a.name: labelling for a in made})
    return {c.adversary: c for c in found}


def test_readings_at_the_end_and_at_the_best_moment() -> None:
    found = readings(np.tile(np.arange(10), 100), "early-stop", "validated-stop", "mix:0.5")
    moments = {name: {m: r.accuracy.estimate for m, r in c.readings.items()} for name, c in found.items()}
    assert moments["none"] == {"final": pytest.approx(0.3, abs=0.01), "peak": pytest.approx(0.6, abs=0.01)}
    assert moments["early-stop"] == {"peak": moments["none"]["peak"]}
    assert list(moments["validated-stop"]) == ["validated"]
    assert moments["mix:0.5"] == {"final": pytest.approx(0.3), "peak": pytest.approx(0.6)}
    assert found["mix:0.5"].readings["final"].rho is None
    plain = found["none"].readings
    assert plain["final"].rho == found["none"].rho
    assert plain["peak"] == found["early-stop"].readings["peak"]
    rho = plain["peak"].rho
    assert rho is not None
    assert rho.estimate == pytest.approx((0.6 - 0.1) / 0.9, abs=0.01)
    assert plain["peak"].accuracy.low < 0.6 < plain["peak"].accuracy.high


def test_without_a_curve_there_is_but_the_end() -> None:
    assert list(readings(np.tile(np.arange(10), 20), curve=False)["none"].readings) == ["final"]


def test_readings_of_unequal_classes_are_the_mean_over_the_classes() -> None:
    labels = np.repeat(np.arange(4), [700, 100, 100, 100])
    found = readings(labels)["none"]
    reading = found.readings["final"]
    assert found.protected is not None
    assert found.protected.balanced.estimate <= reading.accuracy.estimate < 0.35
    assert found.protected.accuracy != found.protected.balanced
    assert reading.rho == found.rho
