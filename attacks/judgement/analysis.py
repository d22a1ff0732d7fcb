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
    chance = chance_level(labels)
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
        conditions.append(_evaluate(item, plain, adversary, chance, plan.alpha, in_tier[planned.tier]))
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
    draws = bootstrap_accuracies(np.stack(rows), labels, draws=plan.draws, seed=plan.seed)
    by_id = {planned.id: planned for planned in plan.conditions}
    return {
        identity: _Measured(
            by_id[identity], arms, {name: draws[:, row] for (owner, name), row in index.items() if owner == identity}
        )
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
    item: _Measured, plain: _Measured, adversary: Adversary, chance: float, alpha: float, comparisons: int
) -> Condition:
    arms = {arm: _arm_result(data, item.draws[arm], alpha) for arm, data in item.arms.items()}
    protected = item.arms["protected"]
    better = float(protected.better.mean())
    clean, untouched = float(item.arms["clean"].plain.mean()), float(plain.arms["clean"].plain.mean())
    rho = rho_draws(item.draws["better"], item.draws["clean"], chance)
    rho_abs = rho_draws(item.draws["better"], plain.draws["clean"], chance)
    return Condition.model_validate(
        {
            **_identity(item.planned, adversary),
            "status": "ok",
            "clean": arms["clean"],
            "protected": arms["protected"],
            "noise": arms.get("noise"),
            "rho": _estimate(rho_estimate(better, clean, chance), rho, alpha),
            "rho_upper": max(
                rho_estimate(better, clean, chance), upper_bound(rho, alpha=alpha, comparisons=comparisons)
            ),
            "rho_abs": _estimate(rho_estimate(better, untouched, chance), rho_abs, alpha),
            "noise_loss": _noise_loss(item, alpha),
            "renamed": protected.better is not protected.plain,
            "seconds": round(sum(data.seconds for data in item.arms.values()), 3) if adversary.cost else 0.0,
        }
    )


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
