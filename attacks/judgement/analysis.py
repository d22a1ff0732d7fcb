"""From predictions to accuracies, intervals and residual learnability, condition by condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..adversaries import Adversary
from ..schema import Arm, ArmResult, Condition, Estimate, Plan, PlannedCondition
from ..statistics import (
    Draws,
    balancing_weights,
    bootstrap_accuracies,
    chance_level,
    interval,
    permuted_correct,
    rho_draws,
    rho_estimate,
    upper_bound,
)
from ..training import CellResult, GridResult, cells_of

__all__ = ["analyse"]

Correct = NDArray[np.bool_]


@dataclass(frozen=True)
class _ArmData:
    """One arm of a condition: who was right, ``[S, N]``, plain and after the best renaming of the classes."""

    plain: Correct
    renamed: Correct
    train_accuracies: tuple[float, ...]
    seconds: float

    @property
    def better(self) -> Correct:
        """What the trainer would take."""
        return self.renamed if self.renamed.mean() > self.plain.mean() else self.plain


@dataclass(frozen=True)
class _Measured:
    """A condition's arms, and the bootstrap draws of the accuracies that count."""

    planned: PlannedCondition
    arms: dict[Arm, _ArmData]
    draws: dict[str, Draws]
    balanced: dict[str, Draws] | None
    """The same draws with every class counting alike; ``None`` where they do anyway."""


def analyse(
    plan: Plan,
    grid: GridResult,
    adversaries: Mapping[str, Adversary],
    labels: NDArray[np.int64],
    classes: int,
) -> list[Condition]:
    """Evaluate every condition of the plan; those that were dropped come back as such.

    Args:
        plan: what was planned.
        grid: what was trained.
        adversaries: by name.
        labels: of the test pictures, ``[N]``.
        classes: number of classes.
    """
    measured = _measure(plan, grid, adversaries, labels, classes)
    in_tier: dict[str, int] = {}
    for planned in plan.conditions:
        if planned.id in measured:
            in_tier[planned.tier] = in_tier.get(planned.tier, 0) + 1
    conditions = []
    for planned in plan.conditions:
        adversary = adversaries[planned.adversary]
        if planned.id not in measured:
            reason = grid.dropped.get(planned.id, "it was not run")
            conditions.append(_blank(planned, adversary, "dropped", reason))
            continue
        item = measured[planned.id]
        plain = next(
            m for m in measured.values() if m.planned.victim == planned.victim and m.planned.adversary == "none"
        )
        conditions.append(_evaluate(item, plain, adversary, labels, plan.alpha, in_tier[planned.tier]))
    return conditions


def _measure(
    plan: Plan, grid: GridResult, adversaries: Mapping[str, Adversary], labels: NDArray[np.int64], classes: int
) -> dict[str, _Measured]:
    collected: dict[str, dict[Arm, _ArmData]] = {}
    for planned in plan.conditions:
        cells = cells_of(planned, plan.victim_seeds)
        if planned.id in grid.dropped or any(cell not in grid.cells for cell in cells):
            continue
        peak = adversaries[planned.adversary].readout == "peak"
        collected[planned.id] = {
            arm: _arm([grid.cells[c] for c in cells if c.arm == arm], labels, classes, peak=peak, seed=plan.seed)
            for arm in planned.arms
        }
    # All conditions share the draws, so that every difference and ratio is paired by seed and by test picture.
    rows: list[Correct] = []
    index: dict[tuple[str, str], int] = {}
    for identity, arms in collected.items():
        for arm, data in arms.items():
            index[identity, arm] = len(rows)
            rows.append(data.plain)
        index[identity, "better"] = len(rows)
        rows.append(arms["protected"].better)
    if not rows:
        return {}
    stacked = np.stack(rows)
    draws = bootstrap_accuracies(stacked, labels, draws=plan.draws, seed=plan.seed)
    weights = balancing_weights(labels)
    even = None
    if weights is not None:
        weighted = (stacked * weights).astype(np.float32)
        even = bootstrap_accuracies(weighted, labels, draws=plan.draws, seed=plan.seed)

    def of(table: Draws, identity: str) -> dict[str, Draws]:
        return {name: table[:, row] for (owner, name), row in index.items() if owner == identity}

    by_id = {planned.id: planned for planned in plan.conditions}
    return {
        identity: _Measured(by_id[identity], arms, of(draws, identity), None if even is None else of(even, identity))
        for identity, arms in collected.items()
    }


def _arm(results: Sequence[CellResult], labels: NDArray[np.int64], classes: int, *, peak: bool, seed: int) -> _ArmData:
    predictions = [result.peak_predictions if peak else result.predictions for result in results]
    return _ArmData(
        plain=np.stack([predicted == labels for predicted in predictions]),
        renamed=permuted_correct(predictions, labels, classes, seed=seed),
        train_accuracies=tuple(result.train_accuracy for result in results),
        seconds=sum(result.seconds for result in results),
    )


def _blank(planned: PlannedCondition, adversary: Adversary, status: str, reason: str) -> Condition:
    return Condition.model_validate({**_identity(planned, adversary), "status": status, "reason": reason})


def _identity(planned: PlannedCondition, adversary: Adversary) -> dict[str, object]:
    return {
        "id": planned.id,
        "tier": planned.tier,
        "adversary": planned.adversary,
        "victim": planned.victim,
        "phrase": adversary.phrase,
        "source": adversary.source,
        "readout": adversary.readout,
    }


def _evaluate(
    item: _Measured,
    plain: _Measured,
    adversary: Adversary,
    labels: NDArray[np.int64],
    alpha: float,
    comparisons: int,
) -> Condition:
    arms = {arm: _arm_result(data, item.draws[arm], alpha) for arm, data in item.arms.items()}
    protected = item.arms["protected"]
    clean, untouched = item.arms["clean"].plain, plain.arms["clean"].plain
    rho = _residual(item, protected.better, clean, item, labels, alpha, comparisons)
    rho_abs = _residual(item, protected.better, untouched, plain, labels, alpha, comparisons)
    return Condition.model_validate(
        {
            **_identity(item.planned, adversary),
            "status": "ok",
            "clean": arms["clean"],
            "protected": arms["protected"],
            "noise": arms.get("noise"),
            "rho": rho.estimate,
            "rho_upper": rho.upper,
            "rho_abs": rho_abs.estimate,
            "rho_of": rho.of,
            "noise_loss": _noise_loss(item, alpha),
            "renamed": protected.better is not protected.plain,
            "seconds": round(sum(data.seconds for data in item.arms.values()), 3) if adversary.cost else 0.0,
        }
    )


@dataclass(frozen=True)
class _Residual:
    """Residual learnability: estimate with interval, simultaneous upper bound, and which accuracy it is of."""

    estimate: Estimate
    upper: float
    of: str


def _residual(
    item: _Measured,
    protected: Correct,
    reference: Correct,
    owner: _Measured,
    labels: NDArray[np.int64],
    alpha: float,
    comparisons: int,
) -> _Residual:
    """Of plain accuracy and of accuracy with every class counting alike, the one that leaves the trainer more.

    Args:
        item: the condition; its draws of the protected arm are used.
        protected: who was right on protected pictures, ``[S, N]``.
        reference: who was right in the clean arm.
        owner: the condition whose clean arm that is.
        labels: of the test pictures, ``[N]``.
        alpha: level of the interval.
        comparisons: conditions of the tier.
    """

    def one(a: float, b: float, chance: float, draws: Draws, base: Draws, of: str) -> _Residual:
        found = rho_draws(draws, base, chance)
        value = rho_estimate(a, b, chance)
        upper = max(value, upper_bound(found, alpha=alpha, comparisons=comparisons))
        return _Residual(_estimate(value, found, alpha), upper, of)

    raw = one(
        float(protected.mean()), float(reference.mean()), chance_level(labels), item.draws["better"],
        owner.draws["clean"], "accuracy",
    )  # fmt: skip
    weights = balancing_weights(labels)
    if weights is None or item.balanced is None or owner.balanced is None:
        return raw
    even = one(
        float((protected * weights).mean()), float((reference * weights).mean()), 1 / len(np.unique(labels)),
        item.balanced["better"], owner.balanced["clean"], "balanced accuracy",
    )  # fmt: skip
    return max(raw, even, key=lambda found: (found.estimate.estimate, found.upper))


def _arm_result(data: _ArmData, draws: Draws, alpha: float) -> ArmResult:
    by_seed = data.plain.mean(axis=1)
    return ArmResult(
        accuracies=tuple(float(value) for value in by_seed),
        accuracy=_estimate(float(by_seed.mean()), draws, alpha),
        permuted_accuracy=float(data.renamed.mean()),
        train_accuracies=data.train_accuracies,
    )


def _noise_loss(item: _Measured, alpha: float) -> Estimate | None:
    if "noise" not in item.arms:
        return None
    loss = float(item.arms["clean"].plain.mean() - item.arms["noise"].plain.mean())
    return _estimate(loss, item.draws["clean"] - item.draws["noise"], alpha, low=-1.0)


def _estimate(value: float, draws: Draws, alpha: float, *, low: float = 0.0) -> Estimate:
    result = interval(value, draws, alpha=alpha, low=low)
    return Estimate(estimate=result.estimate, low=result.low, high=result.high)
