"""Validity gates: reasons not to believe the numbers. They come before any verdict.

G1, G2 and G3 are looked at for every victim and adversary. A failure of the first victim without adversary, of G4, G5,
G6 or G7 makes the whole run INVALID; elsewhere it sets the conditions aside, which then count as not tested. G8 is a
remark. What could not be looked at stands in :data:`NOT_CHECKED`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import BitterantError
from ...surrogates import surrogate_family
from ..schema import GRADES, Condition, Gate, Plan, Protection
from ..training import CellResult, victim_family
from .grading import condition_grade
from .training_gates import check_trainings

__all__ = ["FAILURES", "NOT_CHECKED", "check_gates", "decisive_failures", "set_aside"]

FAILURES = {
    "G1": "the victim did not learn the clean pictures",
    "G2": "random noise of the same size already does the harm",
    "G3": "the victim did not even fit the protected pictures",
    "G4": "a victim trained with shuffled labels knows the answers all the same",
    "G5": "too many test pictures nearly equal training pictures",
    "G6": "protected files are not as they should be",
    "G7": "trainings diverged or were not equally long",
}
"""What a failed gate means, in words."""

_DOUBTS = {
    "G1": "it is not sure that the victim learned the clean pictures",
    "G2": "random noise of the same size may do as much harm",
}
"""The same of a gate that was spared, where that is less than a failure."""

NOT_CHECKED = {
    "G1": "that the victims learn the clean pictures",
    "G2": "that random noise does no harm",
    "G3": "that the victims fit the protected pictures",
    "G4": "that a victim trained with shuffled labels stays at chance",
    "G7": "that no training diverged",
    "G8": "that a victim is of another family than the protector's model, which is not stated",
}
"""Gates that may be absent, and what is then not known: G4 in a smoke test, G8 without a run file, and all but
G5, G6 and G8 where nothing was trained."""


def check_gates(
    plan: Plan,
    conditions: Sequence[Condition],
    cells: Sequence[CellResult],
    labels: NDArray[np.int64],
    classes: int,
    data_gates: Sequence[Gate],
    protection: Protection | None,
    victims: Sequence[str],
) -> list[Gate]:
    """All gates in order, passed or not.

    Args:
        plan: what was planned.
        conditions: what was measured.
        cells: every training.
        labels: those of the test pictures.
        classes: how many there are, tested or not.
        data_gates: those that were known before the first training; see ``file_gates``.
        protection: what the run file says, for G8.
        victims: the networks that were trained from scratch, for G8.
    """
    gates = [
        *check_trainings(plan, conditions, cells, labels, classes),
        *data_gates,
        *_other_family(protection, victims),
    ]
    return sorted(gates, key=lambda gate: (gate.id, not gate.decisive))


def decisive_failures(gates: Sequence[Gate]) -> list[Gate]:
    """Those that make a run INVALID."""
    return [gate for gate in gates if gate.decisive and gate.status == "fail"]


def set_aside(plan: Plan, conditions: Sequence[Condition], gates: Sequence[Gate]) -> list[Condition]:
    """Mark the conditions whose trainings failed a gate. A victim that fails without adversary fails altogether.

    Where a gate was spared, that holds for those conditions which would get a grade.
    """
    failed, spared = (
        {gate.scope: gate for gate in reversed(gates) if gate.scope != "all" and chosen(gate)}
        for chosen in (lambda gate: gate.status == "fail", lambda gate: gate.spared)
    )
    planned = {condition.id: condition for condition in plan.conditions}
    result = []
    for condition in conditions:
        read = [condition.adversary, *planned[condition.id].reads.values(), "none"]
        scopes = [f"{condition.victim}/{name}" for name in read]
        gate = next((failed[scope] for scope in scopes if scope in failed), None)
        # What is open stays: without it the others might make a grade that it stands against.
        if gate is None and condition.status == "ok" and condition_grade(condition) in GRADES:
            gate = next((spared[scope] for scope in scopes if scope in spared), None)
        if condition.status == "ok" and gate is not None:
            where = "" if gate.scope == condition.id else f" with {gate.scope}"
            meaning = FAILURES[gate.id] if gate.status == "fail" else _DOUBTS.get(gate.id, FAILURES[gate.id])
            reason = f"{meaning}{where} ({gate.id}: {gate.value}; needed: {gate.threshold})"
            condition = condition.model_copy(update={"status": "set aside", "reason": reason})
        result.append(condition)
    return result


def _other_family(protection: Protection | None, victims: Sequence[str]) -> list[Gate]:
    """Nothing where the protector's model is not known."""
    surrogate = protection.surrogate if protection else None
    try:
        family = surrogate_family(surrogate) if surrogate else None
    except BitterantError:  # made by a version, or a tool, that knows other networks
        family = None
    if family is None:
        return []
    families = {victim: victim_family(victim) for victim in victims}
    other = any(found not in family.split("+") for found in families.values())
    return [
        Gate(
            id="G8",
            scope="all",
            title="A victim is of another family than the protector's own model",
            status="pass" if other else "warn",
            decisive=False,
            value=", ".join(f"{victim} ({found})" for victim, found in families.items()),
            threshold=f"one that is not {family}, as {surrogate} is",
        )
    ]
