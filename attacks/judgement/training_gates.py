"""Gates that look at what was trained: G1 to G4, and G7."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..schema import Condition, Gate, Plan
from ..training import CellResult, cells_of
from .grading import condition_grade
from .rule import RULE

__all__ = ["check_trainings"]


def check_trainings(
    plan: Plan,
    conditions: Sequence[Condition],
    cells: Sequence[CellResult],
    labels: NDArray[np.int64],
    classes: int,
) -> list[Gate]:
    """G1, G2 and G3 of every condition with trainings of its own, then G4 and G7.

    Args:
        plan: what was planned.
        conditions: what was measured.
        cells: every training.
        labels: those of the test pictures.
        classes: how many there are, tested or not.
    """
    first = plan.conditions[0].victim
    fits = {planned.id: planned.fit for planned in plan.conditions}
    several_seeds = len(plan.victim_seeds) > 1
    gates: list[Gate] = []
    # A condition that reads the trainings of another one at another moment shares its gates.
    for condition in (c for c in conditions if c.arms and c.readout == "final"):
        decisive = condition.victim == first and condition.adversary == "none"
        gates.append(_learned(condition, decisive, several_seeds=several_seeds))
        if condition.noise_loss is not None:
            gates.append(_noise_harmless(condition, decisive, several_seeds=several_seeds))
        # A probe is solved, not trained: where it does not fit the pictures, their features cannot be told apart. And
        # who ends with a fit to clean pictures alone need not fit the protected ones: they have a control of their own.
        if fits[condition.id] == "network" and "untrained" not in condition.arms:
            gates.append(_fitted(condition, decisive))
    gates += [_learned_nothing(result, labels, classes) for result in cells if result.cell.arm == "shuffled"]
    return [*gates, _sound(plan, cells)] if cells else gates


def _speaks_against(condition: Condition) -> bool:
    """Whether the victim learned so much that there is no grade to give. Had the noise done less harm (G2), or the
    training fitted the pictures better (G3), it would have learned no less: a claim for the protection would fall with
    these gates, and that nothing is claimed for it stands."""
    return condition.status == "ok" and condition_grade(condition) == "none"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _learned(condition: Condition, decisive: bool, *, several_seeds: bool) -> Gate:
    assert condition.clean is not None
    assert condition.chance is not None
    chance = condition.chance
    needed = chance + RULE.learned_share * (1 - chance)
    found, bounds = condition.clean.accuracy.estimate, condition.clean_bounds
    assert bounds is not None
    # With few test pictures a sound victim can rarely be shown to have learned enough, so what has to be shown is that
    # it has not. Who is below what is needed and may as well be guessing has shown nothing, and there nothing is left
    # to compare the protected arm with. Between the two a doubt is left, from which no grade may come.
    guessing = bounds.lower <= chance
    failed = bounds.upper < needed or (found < needed and guessing)
    doubt = not failed and (found < needed or guessing)
    return Gate(
        id="G1",
        scope=condition.id,
        title="The victim learned the clean pictures",
        status="fail" if failed else ("warn" if doubt else "pass"),
        decisive=decisive,
        spared=doubt and several_seeds,
        value=f"{_percent(found)}, {_percent(bounds.lower)} to {_percent(bounds.upper)}",
        threshold=f"at least {_percent(needed)}, and surely above guessing, {_percent(chance)}",
    )


def _noise_harmless(condition: Condition, decisive: bool, *, several_seeds: bool) -> Gate:
    assert condition.noise_loss is not None
    loss, bounds = condition.noise_loss, condition.noise_bounds
    assert bounds is not None
    # It fails where harm is shown: by the estimate alone, harmless noise would fail in one run of nine where seeds are
    # 5 points apart. Where harm is only likely that is a doubt, and a grade may come from it only if the protected
    # pictures surely cost more than the noise: else a placebo would get one. One seed knows nothing of the spread
    # between trainings, so there all of it is a doubt.
    harmful = bounds.lower > RULE.noise_margin
    doubt = loss.estimate > RULE.noise_margin
    placebo = condition.beyond_noise is None or condition.beyond_noise.lower <= 0
    spared = several_seeds and (_speaks_against(condition) if harmful else doubt and placebo)
    status = "fail" if harmful and several_seeds and not spared else ("warn" if doubt or harmful else "pass")
    return Gate(
        id="G2",
        scope=condition.id,
        title="Random noise of the same size does no harm",
        status=status,
        decisive=decisive,
        spared=spared,
        value=f"costs {100 * loss.estimate:.1f} points ({100 * bounds.lower:.1f} to {100 * bounds.upper:.1f})",
        threshold=f"at most {100 * RULE.noise_margin:.0f} points",
    )


def _fitted(condition: Condition, decisive: bool) -> Gate:
    assert condition.clean is not None
    assert condition.treated is not None
    clean, protected = condition.clean.train_accuracies, condition.treated.train_accuracies
    mean_clean, mean_protected = sum(clean) / len(clean), sum(protected) / len(protected)
    each = all(p >= RULE.fitted_share * c for p, c in zip(protected, clean, strict=True))
    spared = mean_protected < RULE.fitted_share * mean_clean and _speaks_against(condition)
    passed = mean_protected >= RULE.fitted_share * mean_clean
    return Gate(
        id="G3",
        scope=condition.id,
        title="The victim fitted the protected pictures",
        status="pass" if passed and each else ("warn" if passed or spared else "fail"),
        decisive=decisive,
        spared=spared,
        value=f"{_percent(mean_protected)} of them right after training, {_percent(mean_clean)} of the clean ones",
        threshold=f"at least {RULE.fitted_share:.1f} of the clean ones",
    )


def _learned_nothing(result: CellResult, labels: NDArray[np.int64], classes: int) -> Gate:
    """By the mean over the classes, since dealt labels give small classes as many answers as large ones.

    The standard error is at least that of guessing: a network that answers a whole class alike has no spread within it.
    """
    right, counts = result.predictions == labels, np.bincount(labels)
    tested = np.flatnonzero(counts)
    by_class = np.array([right[labels == label].mean() for label in tested])
    accuracy, chance = float(by_class.mean()), 1 / classes
    spread = np.maximum(by_class * (1 - by_class), chance * (1 - chance)) / counts[tested]
    error = math.sqrt(float(spread.sum())) / len(tested)
    most = chance + RULE.shuffled_margin * (1 - chance)
    return Gate(
        id="G4",
        scope=f"{result.cell.victim}/{result.cell.adversary}",
        title="A victim trained with shuffled labels knows nothing",
        status="fail" if accuracy - RULE.shuffled_errors * error > most else "pass",
        decisive=True,
        value=f"{_percent(accuracy)} by the mean over the classes, in one training",
        threshold=f"{_percent(chance)} is chance; surely above {_percent(most)} is too much",
    )


def _sound(plan: Plan, cells: Sequence[CellResult]) -> Gate:
    broken = sum(not cell.finite for cell in cells)
    steps = {result.cell: result.steps for result in cells}
    paired: dict[tuple[str, int], set[int]] = {}
    for condition in plan.conditions:
        for cell in cells_of(condition, plan.victim_seeds):
            if cell in steps and cell.arm != "untrained":  # the control that is not trained makes no steps
                paired.setdefault((condition.id, cell.seed_index), set()).add(steps[cell])
    unequal = sum(len(counts) > 1 for counts in paired.values())
    parts = [f"{broken} trainings diverged"] if broken else []
    parts += [f"{unequal} groups of paired arms with unequal steps"] if unequal else []
    return Gate(
        id="G7",
        scope="all",
        title="No training diverged, and paired arms made equal steps",
        status="fail" if parts else "pass",
        decisive=True,
        value=", ".join(parts) or f"{len(cells)} trainings sound",
        threshold="none, equal",
    )
