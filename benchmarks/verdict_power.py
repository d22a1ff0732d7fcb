"""How often the verdict is right: victims of known accuracy are made up, and the rule is let loose on their answers.

A run is a tier of some victims. Every victim has a clean, a protected and a noisy arm of the same seeds; test pictures
differ in how hard they are (probit), the same for all, and seeds in how well they do. Wrong answers are spread over the
other classes, and the best renaming counts as it does in earnest. What a victim gets on protected pictures is set by
its true residual learnability rho. Nothing is trained.

Printed are the grades of the tier in per cent of the runs, by the rule v3 (bounds split over the conditions of a tier,
the best moment by the test answers as two more of them, gates by the lower bound and by the estimate) and by the rule
as it is; how often the upper bound of rho holds; and how often a sound run, one with victims that learned nothing, and
a placebo whose noise does harm are INVALID.

    python benchmarks/verdict_power.py
    python benchmarks/verdict_power.py --runs 2000
    python benchmarks/verdict_power.py --runs 2000 --only placebo
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import t

from bitterant.attacks.evaluation.gates import check_conditions, decisive_failures, set_aside
from bitterant.attacks.evaluation.grading import BOUNDS, RULE, Accuracy, Figure, grade_of, residual
from bitterant.attacks.evaluation.verdict import tier_verdict
from bitterant.attacks.schema import ArmResult, Bounds, Condition, Estimate, Plan, PlannedCondition
from bitterant.attacks.statistics import (
    bootstrap_accuracies,
    interval,
    lower_bound,
    permuted_correct,
    rho_estimate,
    upper_bound,
)

ALPHA, DRAWS, TIERS_CLAIMED = 0.05, 2000, 4
OUTCOMES = ("strong", "moderate", "weak", "inconclusive", "none", "INVALID", "not tested")
_BATCH = 50
_ARMS = ("clean", "protected", "noise", "peak-clean", "peak-protected")


@dataclass(frozen=True)
class Case:
    """What is true, and how it is measured.

    Attributes:
        name: for people.
        rhos: true residual learnability, one a victim.
        seeds: trainings of each arm.
        tests: test pictures, spread evenly over the classes.
        classes: K.
        clean: true accuracy of the clean arm.
        spread: standard deviation of a seed's accuracy.
        harm: what random noise of the same size truly costs.
        hardness: standard deviation of how hard the pictures are, on the probit scale.
    """

    name: str
    rhos: tuple[float, ...]
    seeds: int = 3
    tests: int = 300
    classes: int = 10
    clean: float = 0.6
    spread: float = 0.02
    harm: float = 0.0
    hardness: float = 1.0

    @property
    def chance(self) -> float:
        return 1 / self.classes

    def truth(self, arm: str, rho: float) -> float:
        """True accuracy of an arm; the best moment is taken as no better than the end, which flatters the old rule."""
        if arm.endswith("protected"):
            return self.chance + rho * (self.clean - self.chance)
        return self.clean - self.harm if arm == "noise" else self.clean


@dataclass(frozen=True)
class Run:
    """One made-up run: every arm of every victim, and who was right, ``[S, N]``."""

    arms: tuple[dict[str, Accuracy], ...]
    correct: tuple[dict[str, NDArray[np.bool_]], ...]


def labels_of(case: Case) -> NDArray[np.int64]:
    """Test labels ``[N]``."""
    return np.arange(case.tests) % case.classes


@lru_cache
def _probit(accuracy: float, spread: float, hardness: float) -> tuple[float, float]:
    """Middle and spread over seeds on the probit scale for an accuracy with this spread over seeds."""
    middle = float(ndtri(accuracy))
    scale, seed = math.sqrt(1 + hardness**2), 0.0
    for _ in range(6):  # the spread over seeds widens the scale it is measured on
        seed = spread * scale * math.sqrt(2 * math.pi) * math.exp(middle**2 / 2)
        scale = math.sqrt(1 + hardness**2 + seed**2)
    return middle * scale, seed


def _answers(case: Case, accuracy: float, hard: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Predictions ``[S, N]`` whose expected accuracy over seeds and pictures is as given."""
    middle, seed = _probit(accuracy, case.spread, case.hardness)
    levels = middle + case.hardness * hard + seed * rng.standard_normal((case.seeds, 1))
    labels = labels_of(case)
    right = rng.random((case.seeds, case.tests)) < ndtr(levels)
    other = (labels + rng.integers(1, case.classes, right.shape)) % case.classes
    return np.where(right, labels, other)


def _correct(case: Case, arm: str, predictions: NDArray[np.int64]) -> NDArray[np.bool_]:
    labels = labels_of(case)
    plain = predictions == labels
    if not arm.endswith("protected"):
        return plain
    renamed = permuted_correct(predictions, labels, case.classes)
    return renamed if renamed.mean() > plain.mean() else plain


def simulate(case: Case, runs: int, seed: int = 0) -> Iterator[Run]:
    """So many runs. Those of a batch share the draws of the bootstrap, which says nothing about their answers."""
    rng = np.random.default_rng(seed)
    labels, victims = labels_of(case), range(len(case.rhos))
    for start in range(0, runs, _BATCH):
        batch = []
        for _ in range(min(_BATCH, runs - start)):
            shared = rng.standard_normal(case.tests)
            run = []
            for rho in case.rhos:
                found = {}
                for arm in _ARMS:
                    # What is hard to a victim that learned something else is partly hard for other reasons.
                    own = (shared + math.sqrt(3) * rng.standard_normal(case.tests)) / 2
                    hard = own if arm.endswith("protected") else shared
                    found[arm] = _correct(case, arm, _answers(case, case.truth(arm, rho), hard, rng))
                run.append(found)
            batch.append(run)
        rows = np.stack([found[arm] for run in batch for found in run for arm in _ARMS])
        draws = bootstrap_accuracies(rows, labels, draws=DRAWS, seed=int(rng.integers(2**31)))
        column = iter(range(len(rows)))
        for run in batch:
            arms = []
            for victim in victims:
                arms.append({arm: Accuracy(float(run[victim][arm].mean()), draws[:, next(column)]) for arm in _ARMS})
            yield Run(tuple(arms), tuple(run))


def _estimate(accuracy: Accuracy, low: float = 0.0) -> Estimate:
    found = interval(accuracy.value, accuracy.draws, alpha=ALPHA, low=low)
    return Estimate(estimate=found.estimate, low=found.low, high=found.high)


def _bounds(accuracy: Accuracy) -> Bounds:
    return Bounds(lower=lower_bound(accuracy.draws, alpha=ALPHA), upper=upper_bound(accuracy.draws, alpha=ALPHA))


def _less(first: Accuracy, second: Accuracy) -> Accuracy:
    return Accuracy(first.value - second.value, first.draws - second.draws)


def _loss(arms: dict[str, Accuracy]) -> Accuracy:
    return _less(arms["clean"], arms["noise"])


def _condition(case: Case, victim: int, arms: dict[str, Accuracy]) -> Condition:
    figure, loss = residual(arms["protected"], arms["clean"], case.chance, ALPHA, TIERS_CLAIMED), _loss(arms)
    results = {}
    for arm in _ARMS[:3]:
        told = _estimate(arms[arm])
        results[arm] = ArmResult(
            accuracies=(told.estimate,) * case.seeds, accuracy=told, balanced=told, permuted_accuracy=told.estimate,
            train_accuracies=(1.0,) * case.seeds,
        )  # fmt: skip
    return Condition(
        id=f"victim-{victim}/none", tier="naive", trainer="W1", crafting="seen", adversary="none",
        victim=f"victim-{victim}", phrase="a naive trainer", source="made up", readout="final", status="ok",
        chance=case.chance, balanced_chance=case.chance, arms=results, rho=figure.figure, rho_upper=figure.upper,
        joint_upper=figure.joint, clean_bounds=_bounds(arms["clean"]), noise_loss=_estimate(loss, low=-1.0),
        noise_bounds=_bounds(loss), beyond_noise=_bounds(_less(arms["noise"], arms["protected"])),
    )  # fmt: skip


def _plan(case: Case) -> Plan:
    return Plan(
        rule=RULE, preset="made up", seed=0, victim_seeds=tuple(range(case.seeds)), recipes={}, resolution=32,
        conditions=tuple(
            PlannedCondition(
                id=f"victim-{victim}/none", tier="naive", trainer="W1", crafting="seen", adversary="none",
                victim=f"victim-{victim}", reads=dict.fromkeys(_ARMS[:3], "none"),
            )
            for victim in range(len(case.rhos))
        ),
        train_images=case.tests, test_images=case.tests, noise_levels=8, alpha=ALPHA, draws=DRAWS, evals=10,
        max_minutes=None, required_tier=None, required_grade=None, data_sha256="0",
    )  # fmt: skip


def outcome(case: Case, run: Run, *, joint: bool = False) -> str:
    """The grade of the tier as the rule gives it, or INVALID; ``joint``: what holds for four tiers at once."""
    plan = _plan(case)
    conditions = [_condition(case, victim, arms) for victim, arms in enumerate(run.arms)]
    gates = check_conditions(plan, conditions)
    if decisive_failures(gates):
        return "INVALID"
    found = tier_verdict("naive", set_aside(plan, conditions, gates), graded=True)
    return found.joint_grade if joint else found.grade


def _grade_v3(figure: Estimate, upper: float) -> str:
    grade = grade_of(upper)
    if grade == "none" and grade_of(figure.estimate) == "none":
        return grade
    return "inconclusive" if grade_of(figure.low) != grade and upper - figure.low > RULE.widest else grade


def outcome_v3(case: Case, run: Run) -> str:
    """The same by the rule v3."""
    conditions = 2 * len(run.arms)
    grades = []
    for victim, arms in enumerate(run.arms):
        of_victim = []
        for clean, protected in (("clean", "protected"), ("peak-clean", "peak-protected")):
            figure = residual(arms[protected], arms[clean], case.chance, ALPHA, conditions)
            of_victim.append(_grade_v3(figure.figure, figure.joint))
        learned = _estimate(arms["clean"]).low >= case.chance + RULE.learned_share * (1 - case.chance)
        harmless = _loss(arms).value <= RULE.noise_margin or of_victim[0] == "none"
        if not (learned and harmless):
            if victim == 0:
                return "INVALID"
            continue
        grades += of_victim
    return max(grades, key=OUTCOMES.index)


def rates(case: Case, runs: int, *, seed: int = 0) -> tuple[Counter[str], Counter[str]]:
    """How many of the runs end how, by the rule v3 and by the rule as it is."""
    before, after = Counter[str](), Counter[str]()
    for run in simulate(case, runs, seed):
        before[outcome_v3(case, run)] += 1
        after[outcome(case, run)] += 1
    return before, after


def _figure(case: Case, run: Run) -> Figure:
    return residual(run.arms[0]["protected"], run.arms[0]["clean"], case.chance, ALPHA)


def _t_bound(case: Case, run: Run) -> float:
    """A t bound over seeds alone: residual learnability seed by seed, as if the test pictures were all there are."""
    found = run.correct[0]
    each = [
        rho_estimate(float(protected), float(clean), case.chance)
        for protected, clean in zip(found["protected"].mean(axis=1), found["clean"].mean(axis=1), strict=True)
    ]
    error = float(np.std(each, ddof=1)) / math.sqrt(len(each))
    return float(np.mean(each)) + float(t.ppf(1 - ALPHA, len(each) - 1)) * error


def coverage(case: Case, runs: int, *, seed: int = 0) -> dict[str, tuple[float, float]]:
    """How often an upper bound of the first victim's rho is at least the true one, and its mean, by kind of bound."""
    bounds = np.array([(_figure(case, run).upper, _t_bound(case, run)) for run in simulate(case, runs, seed)])
    held = (bounds >= case.rhos[0]).mean(axis=0)
    return {
        name: (float(share), float(mean))
        for name, share, mean in zip(("two-level bootstrap", "t over seeds"), held, bounds.mean(axis=0), strict=True)
    }


def grade_cases() -> list[Case]:
    """Tiers of two victims, and one of ten, by what is true."""
    truths = {
        "rho 0": (0.0, 0.0), "rho 0, ten conditions": (0.0,) * 10, "one at .165, one at 0": (0.165, 0.0),
        "rho .20": (0.2, 0.2), "rho .50": (0.5, 0.5), "one at .80, one at 0": (0.8, 0.0),
    }  # fmt: skip
    return [
        Case(name, rhos, seeds=seeds, tests=tests, spread=spread)
        for seeds in (3, 5)
        for tests, spread in ((300, 0.01), (300, 0.02), (1000, 0.02))
        for name, rhos in truths.items()
    ]


def placebo_cases() -> list[Case]:
    """What protects nothing: harmless noise, and noise that does harm and is its own placebo."""
    harmless = [
        Case(f"placebo, seeds {100 * spread:.0f} points apart", (1.0, 1.0), seeds=seeds, tests=tests, spread=spread)
        for seeds, tests, spread in ((2, 300, 0.02), (3, 50, 0.02), (3, 300, 0.02), (3, 300, 0.05), (5, 1000, 0.02))
    ]
    harmful = [
        Case(
            f"placebo that costs {100 * harm:.0f} of {100 * (clean - 0.1):.0f} points", (1 - harm / (clean - 0.1),) * 2,
            harm=harm, clean=clean, seeds=seeds,
        )
        for seeds in (3, 5)
        for clean, harm in ((0.6, 0.1), (0.6, 0.2), (0.6, 0.3), (0.4, 0.1), (0.4, 0.15))
    ]  # fmt: skip
    return harmless + harmful


def gate_cases() -> list[Case]:
    """Sound runs on the fewest test pictures that are taken, five a class, and victims that learned nothing."""
    sizes = ((2, 0.9), (4, 0.75), (10, 0.55), (10, 0.7), (20, 0.5))
    sound = [
        Case(f"sound, {classes} classes, clean {clean:.2f}", (0.0,), classes=classes, tests=5 * classes, clean=clean)
        for classes, clean in sizes
    ]
    apart = Case("sound, seeds 5 points apart", (0.0,), tests=1000, spread=0.05)
    nothing = [
        Case(f"nothing learned, {classes} classes", (1.0,), classes=classes, tests=tests, clean=1 / classes)
        for classes, tests in ((2, 10), (2, 100), (10, 50), (10, 300))
    ]
    return [*sound, apart, replace(apart, name=f"{apart.name}, five seeds", seeds=5), *nothing]


def _told(found: Counter[str]) -> str:
    total = sum(found.values())
    return " | ".join(f"{100 * found[name] / total:.1f}" if found[name] else "" for name in OUTCOMES)


def _print_rates(title: str, cases: Sequence[Case], runs: int) -> None:
    print(f"\n{title}, % of {runs} runs\n")
    print("| truth | seeds | tests | spread | rule | " + " | ".join(OUTCOMES) + " |")
    print("|---|---|---|---|---|" + "---|" * len(OUTCOMES))
    for case in cases:
        before, after = rates(case, runs)
        for rule, found in (("v3", before), (RULE.version, after)):
            print(
                f"| {case.name} | {case.seeds} | {case.tests} | {100 * case.spread:.0f} | {rule} | {_told(found)} |",
                flush=True,
            )


def _print_coverage(runs: int) -> None:
    print(f"\nOne-sided 95 % upper bounds of rho: held in % of {runs} runs, and mean\n")
    print("| rho | seeds | tests | spread | two-level bootstrap | t over seeds |\n|---|---|---|---|---|---|")
    for rho in (0.02, 0.165, 0.5):
        for seeds, tests, spread in ((3, 300, 0.005), (3, 300, 0.02), (5, 300, 0.02), (3, 1000, 0.03)):
            case = Case("", (rho,), seeds=seeds, tests=tests, spread=spread)
            told = " | ".join(f"{100 * held:.1f}, {mean:.2f}" for held, mean in coverage(case, runs).values())
            print(f"| {rho:g} | {seeds} | {tests} | {100 * spread:g} | {told} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--only", choices=["grades", "placebo", "gates", "bounds"], default=None)
    args = parser.parse_args()
    wanted = {args.only} if args.only else {"grades", "placebo", "gates", "bounds"}
    print(f"strong, moderate, weak: rho at most {', '.join(f'{bound:g}' for _, bound in BOUNDS['rho'])}")
    if "grades" in wanted:
        _print_rates("Grades of a tier", grade_cases(), args.runs)
    if "placebo" in wanted:
        _print_rates("What protects nothing", placebo_cases(), args.runs)
    if "gates" in wanted:
        _print_rates("Sound runs, and unsound ones", gate_cases(), args.runs)
    if "bounds" in wanted:
        _print_coverage(args.runs)


if __name__ == "__main__":
    main()
