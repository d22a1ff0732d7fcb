"""From answers to accuracies and intervals, and from those to the figure that is graded, condition by condition.

What is graded rests on who was right: ``Measured`` holds that for one condition, whatever the victim was asked, and
:func:`describe` makes its part of the report. How predicted classes become such answers is told here too, and what a
reviewer looks at beside accuracy: which classes are learned, and which are taken for which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..adversaries import Adversary
from ..schema import ArmResult, Basis, Bounds, Condition, Estimate, Plan, PlannedCondition, Reading
from ..statistics import (
    balanced_chance,
    balancing_weights,
    bootstrap_accuracies,
    chance_level,
    interval,
    lower_bound,
    permuted_correct,
    upper_bound,
)
from ..terms import Arm, Labelling, Readout
from ..training import CellResult, GridResult, cells_of
from .grading import Accuracy, Figure, marginal_value, residual, worst_of

MOST_CLASSES = 50
"""With more classes no confusion matrices are written: 100 arms of 100 classes would be a million numbers."""

Labels = NDArray[np.int64]
Counts = NDArray[np.int64]


def confusion_counts(predictions: Labels, labels: Labels, classes: int) -> Counts:
    """Pictures by true class (row) and predicted class (column), ``[K, K]``."""
    flat = np.bincount(labels * classes + predictions, minlength=classes * classes)
    return flat.reshape(classes, classes).astype(np.int64)


def class_accuracies(confusion: Counts) -> NDArray[np.float64]:
    """Accuracy within each class, ``[K]``; NaN for a class without pictures."""
    counts = confusion.sum(axis=1)
    return np.divide(np.diag(confusion), counts, out=np.full(len(counts), np.nan), where=counts > 0)


def macro_f1(confusion: Counts) -> float:
    """Mean over the classes that have pictures of 2 TP / (2 TP + FP + FN)."""
    hits, present = np.diag(confusion), confusion.sum(axis=1) > 0
    return float((2 * hits / np.maximum(confusion.sum(axis=0) + confusion.sum(axis=1), 1))[present].mean())


def describe_arm(
    results: Sequence[CellResult], predictions: Sequence[Labels], labels: Labels, classes: int
) -> dict[str, Any]:
    """The fields of ``ArmResult`` that nothing is graded by.

    Args:
        results: trainings of one arm, one a seed.
        predictions: the same as the adversary reads them out, each ``[M]``.
        labels: true classes of the test pictures, ``[M]``.
        classes: number of classes K.
    """
    by_seed = [confusion_counts(predicted, labels, classes) for predicted in predictions]
    confusion = np.sum(by_seed, axis=0)
    each = class_accuracies(confusion)  # every seed is tested on the same pictures, so this is the mean over the seeds
    return {
        "final": tuple(_share(result.predictions, labels) for result in results),
        "peak": tuple(_share(result.peak_predictions, labels) for result in results),
        "validated": tuple(
            None if result.validated_predictions is None else _share(result.validated_predictions, labels)
            for result in results
        ),
        "macro_f1": tuple(macro_f1(counts) for counts in by_seed),
        "per_class": tuple(None if np.isnan(value) else float(value) for value in each),
        "confusion": tuple(tuple(row) for row in confusion.tolist()) if classes <= MOST_CLASSES else None,
        "steps": tuple(result.steps for result in results),
        "seconds": tuple(round(result.seconds, 3) for result in results),
    }


def _share(predicted: Labels, labels: Labels) -> float:
    return float((predicted == labels).mean())


Correct = NDArray[np.bool_]

_PEAK = "peak:"
"""Stands before the name of an arm whose victims are read out at their best moment, beside the end."""


@dataclass(frozen=True)
class MeasuredArm:
    """One arm of a condition, beside its accuracy.

    Attributes:
        accuracies: one a seed.
        permuted_accuracy: mean after the best renaming of the classes; the plain mean where there are none.
        train_accuracies: one a seed, on the training pictures.
        seconds: of the trainings that are its own, not shared with another condition.
        details: further fields of :class:`ArmResult`, by which nothing is graded.
    """

    accuracies: tuple[float, ...]
    permuted_accuracy: float
    train_accuracies: tuple[float, ...]
    seconds: float
    details: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """A condition's arms, and the accuracies that count.

    Attributes:
        arms: what was trained on.
        chances: what guessing gives, by basis. Plain accuracy alone where all classes have equally many test pictures,
            since both are then the same.
        accuracies: by basis and arm; ``better`` is the protected arm, renamed where that helps the trainer. Those at
            the best moment have ``peak:`` in front.
    """

    planned: PlannedCondition
    arms: dict[Arm, MeasuredArm]
    chances: dict[Basis, float]
    accuracies: dict[tuple[Basis, str], Accuracy]


@dataclass(frozen=True)
class _ArmData:
    """Who named the class, ``[S, N]``, plain and after the best renaming of the classes.

    Attributes:
        renamed: by the accuracy that the renaming was chosen for.
        peak: the same two at the best moment, where the adversary itself looks at the end; ``None`` without a curve.
        found: what else is told of the arm.
    """

    plain: Correct
    renamed: dict[Basis, Correct]
    peak: tuple[Correct, dict[Basis, Correct]] | None
    found: MeasuredArm


def analyse(
    plan: Plan, grid: GridResult, adversaries: Mapping[str, Adversary], labellings: Mapping[str, Labelling]
) -> list[Condition]:
    """Evaluate every condition of the plan; those that were dropped come back as such.

    Args:
        plan: what was planned.
        grid: what was trained.
        adversaries: by name.
        labellings: the labels under each adversary that was run, by name.
    """
    measured = _measure(plan, grid, adversaries, labellings)
    conditions = []
    for planned in plan.conditions:
        adversary = adversaries[planned.adversary]
        identity = _identity(planned, adversary)
        if planned.id not in measured:
            reason = grid.dropped.get(planned.id, "it was not run")
            conditions.append(Condition.model_validate({**identity, "status": "dropped", "reason": reason}))
            continue
        found = describe(
            measured[planned.id],
            plan,
            readout=adversary.readout,
            untouched=measured.get(_untouched(planned, labellings)),
        )
        conditions.append(Condition.model_validate({**identity, **found}))
    return conditions


def describe(item: Measured, plan: Plan, *, readout: Readout, untouched: Measured | None = None) -> dict[str, Any]:
    """The fields of a :class:`Condition` that follow from what was measured.

    Args:
        item: what was measured.
        plan: for the level, and the number of claims.
        readout: when the trainer reads the victim out.
        untouched: the same victim without adversary, where it learned the same.
    """
    # Within a tier nothing is corrected for: its grade claims that every condition is at most the bound, and that is
    # one claim. The grades of several tiers are several; the plan says how many, before anything was measured.
    claims = len({planned.tier for planned in plan.conditions})
    figures = _Figures(item, plan, claims)
    graded = figures.rho(untouched) if item.planned.metric == "rho" else figures.mv()
    return {**figures.arms(), **graded, "readings": figures.readings(readout)}


def _untouched(planned: PlannedCondition, labellings: Mapping[str, Labelling]) -> str:
    """The condition of the same victim without adversary, where it has the same labels to learn; else nothing."""
    same = "none" in labellings and np.array_equal(labellings["none"].test, labellings[planned.adversary].test)
    return f"{planned.victim}/none" if planned.fit == "network" and same else ""


def _identity(planned: PlannedCondition, adversary: Adversary) -> dict[str, Any]:
    return {
        "id": planned.id,
        "tier": planned.tier,
        "trainer": planned.trainer,
        "crafting": planned.crafting,
        "adversary": planned.adversary,
        "victim": planned.victim,
        "phrase": adversary.phrase,
        "source": adversary.source,
        "readout": adversary.readout,
        "metric": planned.metric,
        "detail": planned.detail,
        "share": adversary.protected_share,
    }


def _measure(
    plan: Plan, grid: GridResult, adversaries: Mapping[str, Adversary], labellings: Mapping[str, Labelling]
) -> dict[str, Measured]:
    collected: dict[str, tuple[PlannedCondition, Labelling, dict[Arm, _ArmData]]] = {}
    for planned in plan.conditions:
        cells = cells_of(planned, plan.victim_seeds)
        if planned.id in grid.dropped or any(cell not in grid.cells for cell in cells):
            continue
        readout = adversaries[planned.adversary].readout
        labelling = labellings[planned.adversary]
        arms: dict[Arm, _ArmData] = {
            arm: _arm(
                [grid.cells[c] for c in cells if c.arm == arm],
                labelling,
                readout=readout,
                own=name == planned.adversary,
                seed=plan.seed,
            )
            for arm, name in planned.reads.items()
            if arm != "shuffled"  # for G4 alone
        }
        collected[planned.id] = planned, labelling, arms
    # Conditions with the same labels share the draws, so that every difference and ratio of theirs is paired by seed
    # and by test picture.
    by_labels: dict[bytes, list[str]] = {}
    for identity, (_, labelling, _) in collected.items():
        by_labels.setdefault(labelling.test.tobytes(), []).append(identity)
    measured = {}
    for group in by_labels.values():
        measured.update(_draw_together({identity: collected[identity] for identity in group}, plan))
    return {identity: measured[identity] for identity in collected}


def _draw_together(
    group: Mapping[str, tuple[PlannedCondition, Labelling, dict[Arm, _ArmData]]], plan: Plan
) -> dict[str, Measured]:
    labels = next(iter(group.values()))[1].test
    weights: dict[Basis, NDArray[np.float64]] = {"accuracy": np.ones(len(labels))}
    even = balancing_weights(labels)
    if even is not None:
        weights["balanced accuracy"] = even
    rows: dict[tuple[str, Basis, str], NDArray[np.float64]] = {}
    for identity, (_, _, arms) in group.items():
        for basis, weight in weights.items():
            rows.update({(identity, basis, arm): data.plain * weight for arm, data in arms.items()})
            if "protected" in arms:
                treated = arms["protected"]
                rows[identity, basis, "better"] = _better(treated.plain, treated.renamed[basis], weight)
            for arm in ("clean", "protected", "mixed"):
                if arm not in arms or (peak := arms[arm].peak) is None:
                    continue
                name = "better" if arm == "protected" else arm
                rows[identity, basis, f"{_PEAK}{name}"] = (
                    _better(peak[0], peak[1][basis], weight) if arm == "protected" else peak[0] * weight
                )
    draws = bootstrap_accuracies(np.stack(list(rows.values())), labels, draws=plan.draws, seed=plan.seed)
    accuracies: dict[str, dict[tuple[Basis, str], Accuracy]] = {identity: {} for identity in group}
    for column, ((identity, basis, name), values) in enumerate(rows.items()):
        accuracies[identity][basis, name] = Accuracy(float(values.mean()), draws[:, column])
    chances: dict[Basis, float] = {"accuracy": chance_level(labels)}
    if even is not None:
        chances["balanced accuracy"] = balanced_chance(labels)
    return {
        identity: Measured(planned, {arm: data.found for arm, data in arms.items()}, chances, accuracies[identity])
        for identity, (planned, _, arms) in group.items()
    }


def _better(plain: Correct, renamed: Correct, weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Who was right, weighted; after the best renaming of the classes where that helps the trainer."""
    return renamed * weight if (renamed * weight).mean() > (plain * weight).mean() else plain * weight


def _read_out(result: CellResult, readout: Readout) -> NDArray[np.int64]:
    """The predictions at the moment that the adversary chooses."""
    if readout == "peak":
        return result.peak_predictions
    if readout == "validated" and result.validated_predictions is not None:
        return result.validated_predictions
    return result.predictions


def _arm(results: Sequence[CellResult], labelling: Labelling, *, readout: Readout, own: bool, seed: int) -> _ArmData:
    labels, classes = labelling.test, labelling.classes
    predictions = [_read_out(result, readout) for result in results]

    def correct(of: list[NDArray[np.int64]]) -> tuple[Correct, dict[Basis, Correct]]:
        return np.stack([predicted == labels for predicted in of]), {
            "accuracy": permuted_correct(of, labels, classes, seed=seed),
            "balanced accuracy": permuted_correct(of, labels, classes, balanced=True, seed=seed),
        }

    plain, renamed = correct(predictions)
    curves = readout == "final" and all(result.curve for result in results)
    return _ArmData(
        plain=plain,
        renamed=renamed,
        peak=correct([result.peak_predictions for result in results]) if curves else None,
        found=MeasuredArm(
            accuracies=tuple(float(value) for value in plain.mean(axis=1)),
            permuted_accuracy=float(renamed["accuracy"].mean()),
            train_accuracies=tuple(result.train_accuracy for result in results),
            seconds=sum(result.seconds for result in results) if own else 0.0,
            details=describe_arm(results, predictions, labels, classes),
        ),
    )


class _Figures:
    """What the report says about one condition."""

    def __init__(self, item: Measured, plan: Plan, claims: int) -> None:
        self.item, self.alpha, self.claims, self.rule = item, plan.alpha, claims, plan.rule

    def arms(self) -> dict[str, Any]:
        """The arms, whatever is graded."""
        item = self.item
        noise = self._noise_loss()
        return {
            "arms": {arm: self._arm(arm, data) for arm, data in item.arms.items()},
            "chance": item.chances["accuracy"],
            "balanced_chance": item.chances.get("balanced accuracy", item.chances["accuracy"]),
            "clean_bounds": None if "clean" not in item.arms else self._bounds(item.accuracies["accuracy", "clean"]),
            "noise_loss": None if noise is None else self._interval(noise, low=-1.0),
            "noise_bounds": None if noise is None else self._bounds(noise),
            "beyond_noise": self._beyond_noise(),
            "seconds": round(sum(data.seconds for data in item.arms.values()), 3),
        }

    def _arm(self, arm: Arm, data: MeasuredArm) -> ArmResult:
        plain = self._interval(self.item.accuracies["accuracy", arm])
        even = self.item.accuracies.get(("balanced accuracy", arm))
        return ArmResult(
            accuracies=data.accuracies,
            accuracy=plain,
            balanced=plain if even is None else self._interval(even),
            permuted_accuracy=data.permuted_accuracy,
            train_accuracies=data.train_accuracies,
            **data.details,
        )

    def _interval(self, accuracy: Accuracy, *, low: float = 0.0) -> Estimate:
        found = interval(accuracy.value, accuracy.draws, alpha=self.alpha, low=low)
        return Estimate(estimate=found.estimate, low=found.low, high=found.high)

    def _bounds(self, accuracy: Accuracy) -> Bounds:
        lower, upper = (bound(accuracy.draws, alpha=self.alpha) for bound in (lower_bound, upper_bound))
        return Bounds(lower=min(lower, accuracy.value), upper=max(upper, accuracy.value))

    def _noise_loss(self) -> Accuracy | None:
        return None if "noise" not in self.item.arms else self._difference(self._noise_basis(), "clean", "noise")

    def _beyond_noise(self) -> Bounds | None:
        if not {"noise", "protected"} <= set(self.item.arms):
            return None
        return self._bounds(self._difference(self._noise_basis(), "noise", "better"))

    def _noise_basis(self) -> Basis:
        """By which accuracy noise costs more. A victim that gives all small classes up loses little plain accuracy, and
        the figure that is graded knows no difference between that and a protection."""
        return max(self.item.chances, key=lambda basis: self._difference(basis, "clean", "noise").value)

    def _difference(self, basis: Basis, more: str, less: str) -> Accuracy:
        first, second = self.item.accuracies[basis, more], self.item.accuracies[basis, less]
        return Accuracy(first.value - second.value, first.draws - second.draws)

    def readings(self, readout: Readout) -> dict[Readout, Reading]:
        """What the trainer gets when the adversary reads its victims out, and at their best moment."""
        treated = "better" if self.item.planned.metric == "rho" else "mixed"
        found: dict[Readout, Reading] = {readout: self._reading("clean", treated)}
        if {f"{_PEAK}clean", f"{_PEAK}{treated}"} <= {name for _, name in self.item.accuracies}:
            found["peak"] = self._reading(f"{_PEAK}clean", f"{_PEAK}{treated}")
        return found

    def _reading(self, clean: str, treated: str) -> Reading:
        item = self.item
        rho = None
        if item.planned.metric == "rho":
            shares: dict[Basis, Figure] = {
                basis: residual(
                    item.accuracies[basis, treated], item.accuracies[basis, clean], item.chances[basis], self.alpha
                )
                for basis in item.chances
            }
            rho = shares[worst_of(shares, "rho")].figure
        basis = "balanced accuracy" if "balanced accuracy" in item.chances else "accuracy"
        return Reading(
            accuracy=self._interval(item.accuracies[basis, treated]),
            clean=self._interval(item.accuracies[basis, clean]),
            rho=rho,
        )

    def rho(self, untouched: Measured | None) -> dict[str, Any]:
        """Residual learnability, on the accuracy that is worse for the protection."""
        item, found = self.item, dict[Basis, Figure]()
        for basis in item.chances:
            protected, clean = item.accuracies[basis, "better"], item.accuracies[basis, "clean"]
            found[basis] = residual(protected, clean, item.chances[basis], self.alpha, self.claims)
        basis = worst_of(found, "rho")
        absolute = None
        if untouched is not None:
            protected, clean = item.accuracies[basis, "better"], untouched.accuracies[basis, "clean"]
            absolute = residual(protected, clean, item.chances[basis], self.alpha).figure
        better = item.accuracies["accuracy", "better"].value
        return {
            "status": "ok",
            "basis": basis,
            "rho": found[basis].figure,
            "rho_upper": found[basis].upper,
            "joint_upper": found[basis].joint,
            "rho_abs": absolute,
            "renamed": better > item.accuracies["accuracy", "protected"].value,
        }

    def mv(self) -> dict[str, Any]:
        """Marginal value of the protected share, on the accuracy that is worse for the protection."""
        item, found, gaps = self.item, dict[Basis, Figure](), dict[Basis, Estimate]()
        for basis in item.chances:
            clean, part = item.accuracies[basis, "clean"], item.accuracies[basis, "part"]
            gaps[basis] = self._interval(Accuracy(clean.value - part.value, clean.draws - part.draws), low=-1.0)
            if gaps[basis].low > 0:
                mixed = item.accuracies[basis, "mixed"]
                found[basis] = marginal_value(mixed, part, clean, self.alpha, self.claims)
        if not found:
            gap = gaps["accuracy"]
            reason = (
                "the marginal value is undefined: clean pictures in the place of the protected ones add "
                f"{100 * gap.estimate:.1f} points ({100 * gap.low:.1f} to {100 * gap.high:.1f}), which may be nothing"
            )
            return {"status": "set aside", "reason": reason, "mv_gap": gap}
        basis = worst_of(found, "mv")
        part, clean = item.accuracies[basis, "part"], item.accuracies[basis, "clean"]
        placebo = marginal_value(item.accuracies[basis, "noise-mixed"], part, clean, self.alpha)
        return {
            "status": "ok",
            "basis": basis,
            "mv": found[basis].figure,
            "mv_upper": found[basis].upper,
            "joint_upper": found[basis].joint,
            "nmv": placebo.figure,
            "mv_gap": gaps[basis],
            "harmful": found[basis].figure.high < 0,
            "worthless": all(figure.within(self.rule.equivalence_margin) for figure in found.values()),
        }
