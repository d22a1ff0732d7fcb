"""From predictions that were written down by hand to the figures of a condition."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.evaluation.analysis import analyse
from bitterant.attacks.evaluation.gates import check_conditions
from bitterant.attacks.evaluation.grading import RULE
from bitterant.attacks.evaluation.verdict import note_power
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.schema import Condition, Plan
from bitterant.attacks.terms import Labelling
from bitterant.attacks.training.cells import Cell, CellResult
from bitterant.attacks.training.grid import GridResult, cells_of

SEEDS = (1, 2, 3)


def plan_of(*adversaries: str) -> Plan:
    request = resolve_request(
        VerifyConfig(
            preset="quick",
            victims=("small-cnn",),
            adversaries=tuple(adversaries),
            seeds=len(SEEDS),
            seed=0,
            require_tier=None,
            require_grade=None,
            max_minutes=None,
            recipe=None,
        )
    )
    return Plan(
        rule=RULE,
        preset="quick",
        seed=0,
        victim_seeds=SEEDS,
        conditions=plan_conditions(request),
        recipes={},
        resolution=16,
        train_images=1,
        test_images=1,
        noise_levels=0,
        alpha=0.05,
        draws=1000,
        evals=2,
        max_minutes=None,
        required_tier=None,
        required_grade=None,
        data_sha256="0",
    )


def answers(labels: np.ndarray, right: Any, seed: int) -> np.ndarray:
    """Predictions of which a share (one number, or one a class) is right; the wrong ones are spread over the rest."""
    rng = np.random.default_rng(seed)
    classes = int(labels.max()) + 1
    wrong = (labels + rng.integers(1, classes, len(labels))) % classes
    shares = np.broadcast_to(right, classes)
    result = wrong.copy()
    for label in range(classes):
        members = rng.permutation(np.flatnonzero(labels == label))
        kept = members[: round(float(shares[label]) * len(members))]
        result[kept] = label
    return result


def measure(labels: np.ndarray, right: dict[tuple[str, str], Any], *adversaries: str) -> dict[str, Condition]:
    """Analyse a grid in which ``right[arm, adversary]`` says how much each victim gets right."""
    plan, made = plan_of(*adversaries), create_adversaries(adversaries)
    grid = GridResult()
    for planned in plan.conditions:
        for cell in cells_of(planned, SEEDS):
            predicted = answers(
                labels, right.get((cell.arm, cell.adversary), 0.1), cell.victim_seed * 1000 + len(cell.arm)
            )
            grid.cells[cell] = result(cell, predicted)
    labelling = Labelling(labels, labels, int(labels.max()) + 1)
    found = analyse(plan, grid, {a.name: a for a in made}, {a.name: labelling for a in made})
    return {condition.adversary: condition for condition in found}


def result(cell: Cell, predicted: np.ndarray) -> CellResult:
    return CellResult(cell, 10, 1.0, 0.1, True, predicted, predicted, 10, (), 2.0)


NONE = {("clean", "none"): 0.9, ("protected", "none"): 0.2, ("noise", "none"): 0.88}
NAMES = ("none", "jpeg:10", "grayscale")
EVEN = np.tile(np.arange(10), 100)


@pytest.mark.parametrize(("mixed", "value"), [(0.7, 0.0), (0.8, 0.5), (0.9, 1.0), (0.6, -0.5)])
def test_the_marginal_value_compares_with_the_clean_part_alone(mixed: float, value: float) -> None:
    right = {**NONE, ("mixed", "mix:0.5"): mixed, ("part", "mix:0.5"): 0.7, ("noise-mixed", "mix:0.5"): 0.86}
    found = measure(EVEN, right, "mix:0.5")["mix:0.5"]
    assert found.status == "ok"
    assert found.mv is not None
    assert found.nmv is not None
    assert found.mv.estimate == pytest.approx(value, abs=0.01)
    assert found.mv.low <= found.mv.estimate <= found.mv.high <= (found.mv_upper or 0) + 0.5
    assert found.nmv.estimate == pytest.approx(0.8, abs=0.01)
    assert found.harmful == (value < 0)
    assert found.rho is None
    assert set(found.arms) == {"clean", "mixed", "part", "noise-mixed"}
    assert found.seconds == 3 * 3 * 2.0, "the clean arm is that of the naive tier and costs nothing"


# The clean part alone gives .5 of .9, so the margin of .1 is four points of accuracy; standard errors are .4 of one.
@pytest.mark.parametrize(
    ("mixed", "worthless"), [(0.5, True), (0.52, True), (0.48, True), (0.54, False), (0.46, False)]
)
def test_worth_nothing_has_to_be_shown_either_way(mixed: float, worthless: bool) -> None:
    right = {**NONE, ("mixed", "mix:0.5"): mixed, ("part", "mix:0.5"): 0.5, ("noise-mixed", "mix:0.5"): 0.86}
    found = measure(np.tile(np.arange(10), 1000), right, "mix:0.5")["mix:0.5"]
    assert found.mv is not None
    assert found.worthless is worthless


def test_few_test_pictures_cannot_show_that_something_is_worth_nothing() -> None:
    right = {**NONE, ("mixed", "mix:0.5"): 0.5, ("part", "mix:0.5"): 0.5, ("noise-mixed", "mix:0.5"): 0.86}
    found = measure(np.tile(np.arange(10), 20), right, "mix:0.5")["mix:0.5"]
    assert found.mv is not None
    assert abs(found.mv.estimate) < 0.05
    assert found.worthless is False


def test_too_few_test_pictures_for_a_grade_are_told() -> None:
    def notes(each: int, *, seeds: int = 3) -> list[str]:
        """Two classes; the protected arm learns more than guessing, so its own bound is not the better one."""
        labels = np.tile(np.arange(2), each)
        right = {
            (arm, name): 1.0 if arm == "clean" else 0.8 for arm in ("clean", "protected", "noise") for name in NAMES
        }
        plan = plan_of("jpeg:10", "grayscale").model_copy(
            update={"test_images": len(labels), "victim_seeds": SEEDS[:seeds]}
        )
        return note_power(plan, list(measure(labels, right, "jpeg:10", "grayscale").values()))

    assert notes(100) == []
    assert notes(5, seeds=1) == [], "one seed gets no grade anyhow"
    (note,) = notes(5)
    # Thirty answers: a standard error of .5 / 30 ** .5 = .09, times 1.6, of a gap of .5.
    assert note.startswith("10 test pictures are too few for the best grades")
    assert "would give moderate in naive, transforms" in note


def test_without_a_gap_the_marginal_value_is_undefined_and_not_survived() -> None:
    right = {**NONE, ("mixed", "mix:0.5"): 0.7, ("part", "mix:0.5"): 0.899, ("noise-mixed", "mix:0.5"): 0.9}
    found = measure(EVEN, right, "mix:0.5")["mix:0.5"]
    assert found.status == "set aside"
    assert found.mv is None
    assert "undefined" in (found.reason or "")
    assert found.arms["part"].accuracy.estimate == pytest.approx(0.9, abs=0.01)


def test_a_condition_is_bounded_alone_and_beside_the_other_tiers() -> None:
    """Two tiers are planned, so the wider bound is that of 2.5 %: the upper end of the two-sided interval."""
    right = {**NONE, ("protected", "jpeg:10"): 0.5, ("clean", "jpeg:10"): 0.8}
    right |= {("protected", "grayscale"): 0.5, ("clean", "grayscale"): 0.8}
    both = measure(EVEN, right, "jpeg:10", "grayscale")
    for found in both.values():
        assert found.rho is not None
        assert found.rho_upper is not None
        assert found.rho.estimate < found.rho_upper < found.rho.high
        assert found.joint_upper == pytest.approx(found.rho.high)
    alone = measure(EVEN, right, "jpeg:10")["jpeg:10"]
    assert alone.rho_upper == pytest.approx(both["jpeg:10"].rho_upper, abs=0.005), "other conditions change nothing"
    plain = both["none"]
    assert plain.clean is not None
    assert plain.clean_bounds is not None
    assert plain.clean.accuracy.low < plain.clean_bounds.lower < 0.9 < plain.clean_bounds.upper
    assert plain.noise_loss is not None
    assert plain.noise_bounds is not None
    assert plain.noise_loss.low < plain.noise_bounds.lower < 0.02 < plain.noise_bounds.upper < plain.noise_loss.high


def test_a_majority_class_does_not_hide_what_is_learned() -> None:
    """Protected: all of the three small classes, a third of the large one. Plain accuracy is below always guessing."""
    labels = np.repeat(np.arange(4), [700, 100, 100, 100])
    right = {**NONE, ("protected", "none"): (0.3, 1.0, 1.0, 1.0)}
    found = measure(labels, right)["none"]
    assert found.protected is not None
    assert found.protected.accuracy.estimate == pytest.approx(0.51, abs=0.01)
    assert found.chance == 0.7
    assert found.protected.balanced.estimate == pytest.approx((0.3 + 3) / 4, abs=0.01)
    assert found.balanced_chance == 0.25
    assert found.basis == "balanced accuracy"
    assert found.rho is not None
    assert found.rho.estimate == pytest.approx((0.825 - 0.25) / (0.9 - 0.25), abs=0.02)


def test_noise_that_costs_all_small_classes_is_not_harmless() -> None:
    """A placebo: noise and protection do the same. Plain accuracy hardly falls, since the large class is known."""
    labels = np.repeat(np.arange(2), [1900, 100])
    right = {
        ("clean", "none"): (0.99, 0.97), ("noise", "none"): (1.0, 0.03), ("protected", "none"): (1.0, 0.03),
    }  # fmt: skip
    found = measure(labels, right)["none"]
    assert found.noise is not None
    assert found.clean is not None
    assert found.clean.accuracy.estimate - found.noise.accuracy.estimate < RULE.noise_margin
    assert found.noise_loss is not None
    assert found.noise_loss.estimate == pytest.approx(0.465, abs=0.01), "by the mean over the classes"
    (gate,) = [gate for gate in check_conditions(plan_of(), [found]) if gate.id == "G2"]
    assert gate.status == "fail"
    assert "points" in gate.value
    assert gate.value.endswith("of the mean over the classes")


def test_where_classes_are_equally_many_both_accuracies_are_one() -> None:
    found = measure(EVEN, NONE)["none"]
    assert found.basis == "accuracy"
    assert found.clean is not None
    assert found.clean.balanced == found.clean.accuracy
    assert found.rho is not None
    assert found.rho.estimate == pytest.approx(0.125, abs=0.01)
