"""Tables of the verdict rule and of the gates: what must be graded how, and what must never pass."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bitterant.attacks.evaluation.gates import check_data, check_gates, set_aside
from bitterant.attacks.evaluation.grading import RULE, grade_of
from bitterant.attacks.evaluation.verdict import (
    _invalid,
    judge,
    note_gates,
    note_unchecked,
    requirement_met,
    tier_verdict,
)
from bitterant.attacks.facts import PairIssue, Spread
from bitterant.attacks.schema import (
    ArmResult,
    Bounds,
    Condition,
    Estimate,
    Gate,
    Plan,
    PlannedCondition,
    Protection,
    Stealth,
)
from bitterant.attacks.training.cells import Cell, CellResult

CHANCE = 0.1


def arm(accuracy: float, train: float = 0.95, low: float | None = None) -> ArmResult:
    estimate = Estimate(estimate=accuracy, low=accuracy - 0.02 if low is None else low, high=accuracy + 0.02)
    return ArmResult(
        accuracies=(accuracy,) * 3,
        accuracy=estimate,
        balanced=estimate,
        permuted_accuracy=accuracy,
        train_accuracies=(train,) * 3,
    )


ARMS: tuple[Any, ...] = ("clean", "protected", "noise", "mixed", "part", "noise-mixed")


def condition(adversary: str = "none", *, tier: Any = "naive", victim: str = "small-cnn", **changes: Any) -> Condition:
    """A condition that was tested; arms can be given by name."""
    arms = {"clean": arm(0.9), "protected": arm(0.14)} | ({"noise": arm(0.9)} if tier == "naive" else {})
    arms |= {name: changes.pop(name) for name in ARMS if name in changes}
    values: dict[str, Any] = {
        "id": f"{victim}/{adversary}",
        "tier": tier,
        "trainer": "W1",
        "crafting": "seen",
        "adversary": adversary,
        "victim": victim,
        "phrase": {"none": "a naive trainer", "jpeg:10": "a trainer who compresses"}.get(adversary, "a trainer"),
        "source": "a test",
        "readout": "final",
        "status": "ok",
        "chance": CHANCE,
        "balanced_chance": CHANCE,
        "arms": arms,
        "rho": Estimate(estimate=0.05, low=0.0, high=0.1),
        "rho_upper": 0.12,
        "rho_abs": Estimate(estimate=0.05, low=0.0, high=0.1),
        "noise_loss": Estimate(estimate=0.0, low=-0.02, high=0.02) if tier == "naive" else None,
    }
    values |= changes
    for name, known in (("clean_bounds", arms["clean"].accuracy), ("noise_bounds", values["noise_loss"])):
        values.setdefault(name, known and Bounds(lower=known.low, upper=known.high))
    return Condition(**values)


def rho(low: float, upper: float) -> dict[str, Any]:
    return {"rho": Estimate(estimate=(low + upper) / 2, low=low, high=upper), "rho_upper": upper}


def plan_for(*conditions: Condition, seeds: int = 3, **changes: Any) -> Plan:
    planned = tuple(
        PlannedCondition(
            id=c.id,
            tier=c.tier,
            trainer=c.trainer,
            crafting=c.crafting,
            adversary=c.adversary,
            victim=c.victim,
            metric=c.metric,
            reads={
                arm: "none" if c.adversary == "early-stop" or (c.metric == "mv" and arm == "clean") else c.adversary
                for arm in c.arms
            },
        )
        for c in conditions
    )
    values: dict[str, Any] = {
        "rule": RULE,
        "preset": "quick",
        "seed": 0,
        "victim_seeds": tuple(range(seeds)),
        "conditions": planned,
        "recipes": {},
        "resolution": 32,
        "train_images": 100,
        "test_images": 100,
        "noise_levels": 8.0,
        "alpha": 0.05,
        "draws": 2000,
        "evals": 10,
        "max_minutes": None,
        "required_tier": None,
        "required_grade": None,
        "data_sha256": "0",
    }
    return Plan(**{**values, **changes})


def verdict_of(*conditions: Condition, gates: list[Gate] | None = None, **changes: Any):
    return judge(plan_for(*conditions, **changes), conditions, gates or [], (), [])


@pytest.mark.parametrize(
    ("upper", "grade"),
    [
        (0.0, "strong"),
        (0.15, "strong"),
        (0.1501, "moderate"),
        (0.4, "moderate"),
        (0.41, "weak"),
        (0.75, "weak"),
        (0.76, "none"),
        (1.0, "none"),
    ],
)
def test_grades(upper: float, grade: str) -> None:
    assert grade_of(upper) == grade


@pytest.mark.parametrize(
    ("low", "upper", "grade"),
    [
        (0.0, 0.12, "strong"),
        (0.0, 0.24, "moderate"),
        (0.0, 0.40, "moderate"),  # that it is at most .40 is shown, whatever else it may be
        (0.30, 0.60, "weak"),
        (0.0, 0.75, "weak"),
        (0.60, 0.80, "none"),  # no grade is shown, and the interval is narrow
        (0.60, 0.90, "inconclusive"),
        (0.60, 0.95, "none"),  # its middle is above 0.75: nothing is claimed, nothing has to be proven
        (0.76, 1.00, "none"),
    ],
)
def test_what_is_shown_is_graded_and_open_is_only_where_nothing_is(low: float, upper: float, grade: str) -> None:
    assert tier_verdict("naive", [condition(**rho(low, upper))], graded=True).grade == grade


def test_an_open_question_does_not_hide_a_proven_failure() -> None:
    """Bounds are cut at 1: both have 1.0, and the first of equals is not the worst."""
    jpeg = condition("jpeg:10", tier="transforms", **rho(0.1, 1.0))
    gray = condition("grayscale", tier="transforms", **rho(0.96, 1.0))
    assert tier_verdict("transforms", [jpeg], graded=True).grade == "inconclusive"
    found = tier_verdict("transforms", [jpeg, gray], graded=True)
    assert (found.grade, found.worst) == ("none", gray.id)
    naive = condition(**rho(0.1, 1.0))
    verdict = verdict_of(naive, gray)
    assert verdict.weakest == "transforms"
    assert "does not stop a trainer" in verdict.headline


def test_doubts_reach_people() -> None:
    gates = list(gates_of(condition(noise_loss=Estimate(estimate=0.09, low=0.06, high=0.1)), seeds=1).values())
    (note,) = note_gates(gates)
    assert note.startswith("In doubt with small-cnn/none: random noise")
    assert "costs 9.0 points" in note


def test_doubts_of_a_kind_are_one_sentence() -> None:
    loss = Estimate(estimate=0.09, low=0.06, high=0.1)
    both = condition(noise_loss=loss), condition("jpeg:10", tier="transforms", noise_loss=loss)
    (note,) = note_gates(list(gates_of(*both, seeds=1).values()))
    assert note.startswith("In doubt with small-cnn/none, small-cnn/jpeg:10: random noise")
    assert "costs 9.0 points (6.0 to 10.0) with the first of them" in note


def test_a_tier_is_as_good_as_its_worst_condition() -> None:
    found = tier_verdict("naive", [condition(), condition(victim="convmixer", **rho(0.5, 0.6))], graded=True)
    assert (found.grade, found.worst, found.upper) == ("weak", "convmixer/none", 0.6)


def test_a_moment_chosen_with_the_test_answers_is_shown_and_not_graded() -> None:
    """What a trainer can do, stop by pictures of its own, is graded where it belongs: clean pictures are prior."""
    oracle = condition("early-stop", readout="peak", **rho(0.9, 1.0))
    chosen = condition("validated-stop", tier="prior", readout="validated", **rho(0.5, 0.6))
    told = verdict_of(condition(), oracle, chosen)
    grades = {tier.tier: tier.grade for tier in told.tiers}
    assert (grades["naive"], grades["prior"], told.weakest) == ("strong", "weak", "prior")
    assert told.tiers[0].tested == ("small-cnn/none",)
    dropped = condition("early-stop", readout="peak", status="dropped", reason="no time")
    assert tier_verdict("naive", [condition(), dropped], graded=True).complete
    assert tier_verdict("naive", [oracle], graded=True).grade == "not tested"


def test_what_holds_for_all_tiers_at_once_is_said_beside() -> None:
    """Each tier's grade is a claim of its own; the wider bounds hold together."""
    first = condition(joint_upper=0.2)
    gray = condition("grayscale", tier="transforms", **rho(0.0, 0.14), joint_upper=0.149)
    told = verdict_of(first, gray)
    assert [(tier.grade, tier.joint_grade) for tier in told.tiers[:3]] == [
        ("strong", "moderate"), ("strong", "strong"), ("not tested", "not tested"),
    ]  # fmt: skip
    assert verdict_of(first, seeds=1).tiers[0].joint_grade == "not graded"


@pytest.mark.parametrize("status", ["dropped", "set aside"])
def test_skipped_never_counts_as_survived(status: Any) -> None:
    skipped = condition("jpeg:10", tier="transforms", status=status, reason="no time")
    alone = tier_verdict("transforms", [skipped], graded=True)
    assert (alone.grade, alone.complete) == ("not tested", False)
    assert not requirement_met("weak", alone)
    # A strong result for a part of a tier does not fulfil a requirement on the tier.
    partly = tier_verdict("transforms", [skipped, condition("grayscale", tier="transforms")], graded=True)
    assert (partly.grade, partly.complete) == ("strong", False)
    assert not requirement_met("weak", partly)
    told = verdict_of(condition(), skipped)
    assert any("jpeg:10: no time" in text for text in told.not_tested)
    assert "cheap transforms" in told.not_tested


def test_the_headline_names_the_naive_and_the_weakest_tier() -> None:
    broken = condition("jpeg:10", tier="transforms", protected=arm(0.81), **rho(0.9, 1.0))
    told = verdict_of(condition(), broken)
    assert told.headline == (
        "Blocks a naive trainer (small-cnn, 3 seeds: 14 % where clean pictures give 90 %); "
        "does not stop a trainer who compresses (small-cnn, 3 seeds: 81 % where clean pictures give 90 %). "
        "Not tested: strong training, prior knowledge (pretrained models), other labels, mixing with clean pictures."
    )
    assert told.weakest == "transforms"
    assert {tier.tier: tier.grade for tier in told.tiers}["prior"] == "not tested"


def test_the_headline_takes_the_renamed_accuracy_where_it_is_higher() -> None:
    undone = arm(0.06).model_copy(update={"permuted_accuracy": 0.7})
    told = verdict_of(condition(protected=undone, renamed=True, **rho(0.7, 0.8)))
    assert "70 % where clean pictures give 90 %" in told.headline


def test_one_seed_gives_no_grade() -> None:
    told = verdict_of(condition(), seeds=1)
    assert (told.graded, told.valid) == (False, True)
    assert {tier.grade for tier in told.tiers} == {"not graded", "not tested"}
    assert told.headline.startswith("Smoke test, one seed, no grade: small-cnn reached 14 %")


@pytest.mark.parametrize(
    ("tier", "grade", "met"),
    [
        ("naive", "strong", True),
        ("naive", "weak", True),
        ("transforms", "weak", False),
        (None, "weak", False),  # without a tier, every planned one has to reach it
    ],
)
def test_requirements(tier: Any, grade: Any, met: bool) -> None:
    broken = condition("jpeg:10", tier="transforms", **rho(0.9, 1.0))
    told = verdict_of(condition(), broken, required_tier=tier, required_grade=grade)
    assert told.required is not None
    assert told.required.met is met


def test_inconclusive_reaches_no_grade() -> None:
    told = verdict_of(condition(**rho(0.1, 0.9)), required_tier="naive", required_grade="weak")
    assert told.required is not None
    assert told.required.met is False


def stealth(**changes: Any) -> Stealth:
    values: dict[str, Any] = {
        "files": 10,
        "budget_levels": 8.0,
        "budget_source": "a test",
        "linf": Spread(min=8.0, p01=8.0, p50=8.0, p99=8.0, max=8.0, mean=8.0),
        "lpips_reason": "a test",
        "ssim_files": 10,
        "unchanged": 0,
        "over_budget": (),
    }
    return Stealth(**{**values, **changes})


def result(arm: Any = "clean", *, steps: int = 100, finite: bool = True) -> CellResult:
    zeros = np.zeros(4, dtype=np.int64)
    return CellResult(
        cell=Cell(arm, "none", "small-cnn", 0, 0),
        steps=steps,
        train_accuracy=0.9,
        final_loss=0.1 if finite else math.nan,
        finite=finite,
        predictions=zeros,
        peak_predictions=zeros,
        peak_step=1,
        curve=(),
        seconds=1.0,
    )


def gates_of(*conditions: Condition, **changes: Any) -> dict[tuple[str, str], Gate]:
    values: dict[str, Any] = {"cells": [result()], "labels": [0, 0, 1, 1], "stealth": stealth(), "issues": []} | changes
    seeds = values.pop("seeds", 3)
    protection = values.pop("protection", None)
    if values.pop("lossy", False):
        protection = Protection(format="same")
    found = check_gates(
        plan_for(*conditions, seeds=seeds),
        conditions,
        values["cells"],
        np.array(values["labels"]),
        values.get("classes", 2),
        check_data(values["stealth"], values["issues"], protection, 100),
        protection,
        values.pop("victims", ["small-cnn", "convmixer"]),
    )
    return {(gate.id, gate.scope): gate for gate in found}


def test_the_reasons_of_an_invalid_run_are_told_once_each_with_where() -> None:
    failed = [
        Gate(id=name, scope=scope, title="", status="fail", decisive=True, value=value, threshold="at least 30.0 %")
        for name, scope, value in (("G1", "a/none", "5.0 %"), ("G1", "b/none", "0.0 %"), ("G3", "b/none", "1.0 %"))
    ]
    told = _invalid(failed)
    assert (
        "(G1: a/none: 5.0 %; needed: at least 30.0 %; b/none: 0.0 %; needed: at least 30.0 %); the victim did" in told
    )
    assert "(G3: 1.0 %; needed" in told
    assert told.endswith(". Give more pictures, or train longer (--epochs).")


def control(right: int, labels: list[int]) -> CellResult:
    """Trained with shuffled labels, and right on the first so many test pictures."""
    predictions = np.array([label if row < right else 1 - label for row, label in enumerate(labels)])
    return replace(result("shuffled"), predictions=predictions)


def test_all_gates_pass_on_a_sound_run() -> None:
    found = gates_of(condition(), cells=[result(), control(50, [0, 1] * 50)], labels=[0, 1] * 50)
    assert [gate.id for gate in found.values()] == ["G1", "G2", "G3", "G4", "G5", "G6", "G7"]
    assert {gate.status for gate in found.values()} == {"pass"}


# c = 0.1, so a clean victim must reach 0.1 + 0.3 * 0.9 = 0.37, and be surely above 0.1.
@pytest.mark.parametrize(
    ("found", "lower", "upper", "status"),
    [
        (0.5, 0.38, 0.6, "pass"),
        (0.5, 0.2, 0.8, "pass"),  # it may have learned too little, which is not shown
        (0.5, 0.1, 0.9, "warn"),  # it may have guessed
        (0.3, 0.2, 0.38, "warn"),
        (0.3, 0.1, 0.5, "fail"),  # too little, and it may have guessed
        (0.3, 0.2, 0.36, "fail"),  # surely too little
    ],
)
def test_g1_fails_where_it_is_shown_that_too_little_was_learned(
    found: float, lower: float, upper: float, status: str
) -> None:
    gate = gates_of(condition(clean=arm(found), clean_bounds=Bounds(lower=lower, upper=upper)))["G1", "small-cnn/none"]
    assert (gate.status, gate.spared) == (status, status == "warn")


def test_no_grade_comes_from_a_victim_that_may_not_have_learned() -> None:
    """What it shows against the protection stands; a smoke test, which has no grades, is told of the doubt alone."""
    unsure = {"clean": arm(0.3), "clean_bounds": Bounds(lower=0.2, upper=0.38)}
    good, bad = condition(**unsure), condition(**unsure, **rho(0.8, 0.95))
    for first, status in ((good, "set aside"), (bad, "ok")):
        plan, gates = plan_for(first), list(gates_of(first).values())
        (after,) = set_aside(plan, [first], gates)
        assert after.status == status
        assert judge(plan, [after], gates, (), []).valid == (status == "ok")
        assert status == "ok" or "not sure that the victim learned" in (after.reason or "")
    alone = list(gates_of(good, seeds=1).values())
    assert [c.status for c in set_aside(plan_for(good, seeds=1), [good], alone)] == ["ok"]


@pytest.mark.parametrize(
    ("estimate", "low", "seeds", "status"),
    [
        (0.02, 0.0, 3, "pass"),
        (0.05, -0.1, 3, "pass"),
        (0.07, -0.2, 3, "warn"),  # that it does harm is likely, and not shown
        (0.09, 0.05, 3, "warn"),
        (0.09, 0.06, 3, "fail"),
        (0.09, 0.06, 1, "warn"),
    ],
)
def test_g2_wants_noise_to_be_harmless(estimate: float, low: float, seeds: int, status: str) -> None:
    loss = Estimate(estimate=estimate, low=low, high=estimate + 0.04)
    assert gates_of(condition(noise_loss=loss), seeds=seeds)["G2", "small-cnn/none"].status == status


@pytest.mark.parametrize(("beyond", "status"), [(0.0, "fail"), (0.35, "fail"), (0.36, "warn"), (0.7, "warn")])
def test_noise_may_do_a_fifth_of_the_harm(beyond: float, status: str) -> None:
    first = condition(
        noise_loss=Estimate(estimate=0.09, low=0.06, high=0.12), beyond_noise=Bounds(lower=beyond, upper=0.8)
    )
    gate = gates_of(first)["G2", "small-cnn/none"]
    assert (gate.status, gate.spared) == (status, False)
    (after,) = set_aside(plan_for(first), [first], [gate])
    assert status == "fail" or after.status == "ok"


@pytest.mark.parametrize(("beyond", "status"), [(-0.01, "set aside"), (0.01, "ok")])
def test_where_noise_may_do_harm_a_grade_has_to_be_better_than_that_of_a_placebo(beyond: float, status: str) -> None:
    first = condition(
        noise_loss=Estimate(estimate=0.09, low=0.0, high=0.2), beyond_noise=Bounds(lower=beyond, upper=0.3)
    )
    gates = gates_of(first)
    assert gates["G2", "small-cnn/none"].status == "warn"
    (after,) = set_aside(plan_for(first), [first], list(gates.values()))
    assert after.status == status
    assert status == "ok" or "noise of the same size may do as much harm" in (after.reason or "")


def test_a_doubt_takes_grades_away_and_makes_none() -> None:
    """An open case that is in doubt stays: set aside, it would leave the tier to a victim that speaks for it."""
    doubted = condition(
        noise_loss=Estimate(estimate=0.06, low=-0.02, high=0.12), beyond_noise=Bounds(lower=-0.07, upper=0.2),
        **rho(0.5, 0.96),
    )  # fmt: skip
    other = condition(victim="convmixer")
    gates = list(gates_of(doubted, other).values())
    assert next(gate for gate in gates if (gate.id, gate.scope) == ("G2", doubted.id)).spared
    after = set_aside(plan_for(doubted, other), [doubted, other], gates)
    assert [c.status for c in after] == ["ok", "ok"]
    assert judge(plan_for(doubted, other), after, gates, (), []).tiers[0].grade == "inconclusive"


@pytest.mark.parametrize(("upper", "status"), [(0.74, "fail"), (0.8, "warn")])
def test_where_noise_does_harm_a_victim_can_still_speak_against_the_protection(upper: float, status: str) -> None:
    first = condition(noise_loss=Estimate(estimate=0.09, low=0.06, high=0.12), **rho(upper - 0.1, upper))
    assert gates_of(first)["G2", "small-cnn/none"].status == status


@pytest.mark.parametrize(
    ("train", "status"), [((0.95,) * 3, "pass"), ((0.5, 1.0, 1.0), "fail"), ((0.85, 1.0, 1.0), "warn")]
)
def test_g3_wants_the_protected_pictures_fitted(train: tuple[float, ...], status: str) -> None:
    fitted = arm(0.14).model_copy(update={"train_accuracies": train})
    assert gates_of(condition(protected=fitted))["G3", "small-cnn/none"].status == status


# Of 100 test pictures of two classes: chance .5, too much .55, and the standard error of guessing is .05.
@pytest.mark.parametrize(("right", "status"), [(0, "pass"), (50, "pass"), (65, "pass"), (71, "fail"), (100, "fail")])
def test_g4_wants_a_victim_with_shuffled_labels_to_know_nothing(right: int, status: str) -> None:
    labels = [0, 1] * 50
    gate = gates_of(condition(), cells=[result(), control(right, labels)], labels=labels)["G4", "small-cnn/none"]
    assert (gate.status, gate.decisive) == (status, True)
    assert gate.value == f"{right}.0 % by the mean over the classes, in one training"
    told = verdict_of(condition(), gates=[gate])
    assert told.valid == (status == "pass")
    assert ("shuffled labels knows the answers" in told.headline) == (status == "fail")


def test_g4_knows_labels_that_are_not_tested() -> None:
    """Two classes of ten are tested: a guess is right in a tenth of cases, and a half would be a leak."""
    labels = [0, 1] * 50
    cells = [result(), control(50, labels)]
    assert gates_of(condition(), cells=cells, labels=labels, classes=10)["G4", "small-cnn/none"].status == "fail"


def test_g4_does_not_take_one_answer_for_a_class_as_certain() -> None:
    labels = [0, 1] * 5
    assert (
        gates_of(condition(), cells=[result(), control(9, labels)], labels=labels)["G4", "small-cnn/none"].status
        == "pass"
    )


def test_g4_counts_classes_alike() -> None:
    """Dealt labels give small classes as many answers as large ones: always the large class is no knowledge."""
    labels = [0] * 90 + [1] * 10
    always = replace(result("shuffled"), predictions=np.zeros(100, dtype=np.int64))
    gate = gates_of(condition(), cells=[result(), always], labels=labels)["G4", "small-cnn/none"]
    assert (gate.status, gate.value[:6]) == ("pass", "50.0 %")


@pytest.mark.parametrize(("upper", "status"), [(0.12, "fail"), (0.74, "fail"), (0.8, "warn")])
def test_a_badly_fitted_victim_can_only_speak_against_the_protection(upper: float, status: str) -> None:
    fitted = arm(0.5).model_copy(update={"train_accuracies": (0.5,) * 3})
    first = condition(protected=fitted, **rho(upper - 0.1, upper))
    gates = gates_of(first)
    assert gates["G3", "small-cnn/none"].status == status
    told = verdict_of(*set_aside(plan_for(first), [first], list(gates.values())), gates=list(gates.values()))
    assert told.valid == (status == "warn")
    assert told.tiers[0].grade == ("none" if status == "warn" else "not tested")


@pytest.mark.parametrize("gate", ["G2", "G3"])
def test_what_rests_on_a_spared_gate_gets_no_grade(gate: str) -> None:
    """Noise does harm, or the victim did not fit: that it learned much stands, that gray stops it does not."""
    changes: dict[str, Any] = {"noise_loss": Estimate(estimate=0.09, low=0.06, high=0.12)}
    if gate == "G3":
        changes = {"protected": arm(0.5).model_copy(update={"train_accuracies": (0.5,) * 3})}
    first = condition(**changes, **rho(0.7, 0.8))
    gray = condition("grayscale", tier="transforms", **rho(0.0, 0.1))
    jpeg = condition("jpeg:10", tier="transforms", **rho(0.8, 0.9))
    plan, gates = plan_for(first, gray, jpeg), list(gates_of(first, gray, jpeg).values())
    assert next(found for found in gates if found.scope == first.id and found.id == gate).spared
    after = set_aside(plan, [first, gray, jpeg], gates)
    assert [c.status for c in after] == ["ok", "set aside", "ok"]
    told = judge(plan, after, gates, (), [])
    assert told.valid
    assert (told.tiers[1].grade, told.tiers[1].complete) == ("none", False)


def test_adds_nothing_is_only_said_where_it_was_shown() -> None:
    mixed = {
        "tier": "mixing",
        "metric": "mv",
        "share": 0.8,
        "mv": Estimate(estimate=-0.6, low=-2.0, high=0.05),
        "mv_upper": 0.08,
    }
    arms = {name: arm(0.4) for name in ("clean", "mixed", "part", "noise-mixed")}
    for worthless, words in ((True, "adds nothing for"), (False, "does not help")):
        last = condition("mix:0.8", **mixed, worthless=worthless).model_copy(update={"arms": arms})
        assert words in verdict_of(condition(**rho(0.0, 0.05)), last).headline.lower()


def test_who_goes_on_from_a_victim_need_not_fit_the_protected_pictures() -> None:
    fitted = arm(0.14).model_copy(update={"train_accuracies": (0.5,) * 3})
    refitted = condition("last-layer:0.1", tier="prior", noise_loss=None, protected=fitted)
    assert ("G3", refitted.id) in gates_of(condition(), refitted)
    refitted.arms["untrained"] = arm(0.2)
    assert ("G3", refitted.id) not in gates_of(condition(), refitted)


# Of 100 test pictures; five may be nearly equal to training pictures, and are named.
@pytest.mark.parametrize(("near", "status"), [(0, "pass"), (1, "warn"), (5, "warn"), (6, "fail"), (100, "fail")])
def test_g5_wants_test_pictures_that_were_not_trained_on(near: int, status: str) -> None:
    issues = [PairIssue(kind="near", path=f"a/{number}.png", detail="a test") for number in range(near)]
    issues.append(PairIssue(kind="leaked", path="b/1.png", detail="left out of training, so no harm"))
    gates = gates_of(condition(), issues=issues)
    gate = gates["G5", "all"]
    assert (gate.status, gate.decisive) == (status, True)
    assert gate.value.startswith(f"{near} of 100 nearly equal a training picture")
    assert ("a/0.png" in gate.value) == (near > 0)
    assert "a/3.png" not in gate.value
    assert verdict_of(condition(), gates=list(gates.values())).valid == (status != "fail")


def test_g6_knows_lossy_files_and_files_without_original() -> None:
    """Files written as JPEG again leave the budget by design; a picture that nobody protected does not pass."""
    gate = gates_of(condition(), stealth=stealth(over_budget=("a.jpg",)), lossy=True)["G6", "all"]
    assert gate.status == "warn"
    assert "--format same" in gate.value
    extra = [PairIssue(kind="extra", path="a/x.png", detail="")]
    gate = gates_of(condition(), issues=extra, lossy=True)["G6", "all"]
    assert gate.status == "fail"
    assert "1 without original" in gate.value


def test_g6_wants_files_as_they_should_be() -> None:
    assert gates_of(condition(), stealth=stealth(over_budget=("a.png",)))["G6", "all"].status == "fail"
    assert gates_of(condition(), stealth=stealth(budget_levels=None))["G6", "all"].status == "warn"
    for kind, status in [("relabelled", "fail"), ("resized", "fail"), ("unreadable", "fail"), ("missing", "pass")]:
        issue = PairIssue.model_validate({"kind": kind, "path": "a.png", "detail": "a test"})
        assert gates_of(condition(), issues=[issue])["G6", "all"].status == status


def test_g7_wants_sound_and_equally_long_trainings() -> None:
    assert gates_of(condition(), cells=[result(finite=False)])["G7", "all"].status == "fail"
    unequal = [result("clean", steps=100), result("protected", steps=90)]
    assert gates_of(condition(), cells=unequal)["G7", "all"].status == "fail"


def test_a_failed_decisive_gate_is_invalid_never_protected() -> None:
    first = condition(clean=arm(0.2))
    conditions = [first, condition("early-stop", readout="peak")]
    gates = list(gates_of(*conditions).values())
    conditions = set_aside(plan_for(*conditions), conditions, gates)
    assert [c.status for c in conditions] == ["set aside"] * 2
    told = verdict_of(*conditions, gates=gates, required_tier="naive", required_grade="weak")
    assert (told.valid, told.graded, told.weakest) == (False, False, None)
    assert told.headline.startswith("INVALID")
    assert "did not learn the clean pictures" in told.headline
    assert told.required is not None
    assert not told.required.met


def test_another_victim_that_fails_is_set_aside_and_not_survived() -> None:
    other = condition(victim="convmixer", clean=arm(0.2))
    free = condition("early-stop", victim="convmixer", readout="peak")
    conditions = [condition(), other, free]
    gates = list(gates_of(*conditions).values())
    after = set_aside(plan_for(*conditions), conditions, gates)
    assert [c.status for c in after] == ["ok", "set aside", "set aside"]
    told = judge(plan_for(*conditions), after, gates, (), [])
    assert told.valid
    assert told.tiers[0].complete is False
    assert "Only partly tested: naive" in told.headline


def test_an_adversary_under_which_nothing_is_learned_proves_nothing() -> None:
    hard = condition("jpeg:10", tier="transforms", clean=arm(0.2), **rho(0.0, 0.1))
    conditions = [condition(), hard]
    gates = list(gates_of(*conditions).values())
    after = set_aside(plan_for(*conditions), conditions, gates)
    assert [c.status for c in after] == ["ok", "set aside"]


@pytest.mark.parametrize(
    ("upper", "grade"), [(0.10, "strong"), (0.11, "moderate"), (0.40, "moderate"), (0.80, "weak"), (0.81, "none")]
)
def test_marginal_values_have_bounds_of_their_own(upper: float, grade: str) -> None:
    assert grade_of(upper, "mv") == grade


def mixed(low: float, upper: float, **changes: Any) -> Condition:
    figure = Estimate(estimate=(low + upper) / 2, low=low, high=upper)
    return condition(
        "mix:0.5",
        tier="mixing",
        metric="mv",
        phrase="a trainer who has 50 % of the pictures clean",
        mixed=arm(0.71),
        part=arm(0.7),
        rho=None,
        rho_upper=None,
        mv=figure,
        mv_upper=upper,
        **changes,
    )


def test_mixing_is_told_in_its_own_words() -> None:
    told = verdict_of(condition(), mixed(0.85, 1.2))
    assert told.weakest == "mixing"
    assert (
        "adds much for a trainer who has 50 % of the pictures clean (small-cnn, 3 seeds: 71 %, with the clean part "
        "alone 70 %, with all pictures clean 90 %)" in told.headline
    )
    assert "mixing" not in told.headline.split("Not tested:")[1]
    harm = verdict_of(mixed(-0.4, -0.2, harmful=True))
    assert harm.headline.startswith("Does not help")
    assert "which is harm" in harm.headline


def test_what_a_condition_reads_from_another_one_must_be_valid_too() -> None:
    conditions = [condition(), condition("jpeg:10", tier="transforms", clean=arm(0.2)), mixed(0.0, 0.1)]
    gates = list(gates_of(*conditions).values())
    assert [c.status for c in set_aside(plan_for(*conditions), conditions, gates)] == ["ok", "set aside", "ok"]
    unfitted = [
        condition(),
        mixed(0.0, 0.1).model_copy(update={"arms": {**mixed(0, 0.1).arms, "mixed": arm(0.7, 0.4)}}),
    ]
    gates = list(gates_of(*unfitted).values())
    assert [c.status for c in set_aside(plan_for(*unfitted), unfitted, gates)] == ["ok", "set aside"]


def test_each_condition_has_the_chance_of_its_own_labels() -> None:
    two_groups = condition("regroup:2", tier="relabel", clean=arm(0.6), chance=0.5)
    assert gates_of(condition(), two_groups)["G1", "small-cnn/regroup:2"].status == "fail"


@pytest.mark.parametrize(
    ("victims", "status"), [(["small-cnn"], "warn"), (["small-cnn", "convmixer"], "pass"), (["resnet18"], "pass")]
)
def test_g8_wants_a_victim_of_another_family(victims: list[str], status: str) -> None:
    found = gates_of(condition(), protection=Protection(surrogate="small-cnn"), victims=victims)
    assert found["G8", "all"].status == status


@pytest.mark.parametrize("surrogate", [None, "a-network-of-tomorrow"])
def test_without_a_known_surrogate_g8_is_not_checked_and_that_is_told(surrogate: str | None) -> None:
    gates = list(gates_of(condition(), protection=Protection(surrogate=surrogate)).values())
    assert "G8" not in {gate.id for gate in gates}
    (note,) = note_unchecked(gates)
    assert all(name in note for name in ("G4", "G8"))
    assert "G5" not in note, "it is always looked at"


def test_where_all_was_checked_nothing_is_said() -> None:
    cells = [result(), control(50, [0, 1] * 50)]
    gates = gates_of(condition(), cells=cells, labels=[0, 1] * 50, protection=Protection(surrogate="small-cnn"))
    assert note_unchecked(list(gates.values())) == []
    (note,) = note_unchecked(check_data(stealth(), [], None, 100))
    assert all(f"(G{number})" in note for number in (1, 2, 3, 4, 7, 8)), "nothing was trained"


def test_originals_without_a_copy_make_every_tier_incomplete() -> None:
    issue = PairIssue(kind="missing", path="a/1.png", detail="a test")
    plan = plan_for(condition(), required_tier="naive", required_grade="weak")
    told = judge(plan, [condition()], [], (issue, issue), [])
    assert told.headline.endswith("2 originals have no protected copy.")
    assert told.tiers[0].complete is False
    assert told.required is not None
    assert not told.required.met
