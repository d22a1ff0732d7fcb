"""What each class of trainers gets at most. A figure beside the grades: nothing is decided by it."""

from __future__ import annotations

from collections.abc import Sequence

from ..adversaries import REPORTED_RADII, TRAINER_CLASSES, TRAINER_MEANINGS, Readout, TrainerClass
from ..schema import Condition, Reading, TrainerResult, WorstCase

__all__ = ["trainer_results"]


def trainer_results(conditions: Sequence[Condition]) -> tuple[TrainerResult, ...]:
    """The worst case of every class, in their order; what was dropped or set aside never counts as survived.

    Args:
        conditions: all of them, after :func:`bitterant.attacks.judgement.gates.set_aside`.
    """
    return tuple(
        _result(trainer, [condition for condition in conditions if condition.trainer == trainer])
        for trainer in TRAINER_CLASSES
    )


def _result(trainer: TrainerClass, members: Sequence[Condition]) -> TrainerResult:
    tested = [condition for condition in members if condition.status == "ok"]
    untested = [f"{condition.id}: {condition.reason}" for condition in members if condition.status != "ok"]
    if trainer == "W3" and members:
        untested += _other_radii(members)
    cases = [_case(condition, *found) for condition in tested for found in condition.readings.items()]
    return TrainerResult(
        trainer=trainer,
        meaning=TRAINER_MEANINGS[trainer],
        worst=_most(cases),
        at_end=_most([case for case in cases if case.moment != "peak"]),
        seen=_most([case for case in cases if case.crafting == "seen"]),
        held_out=_most([case for case in cases if case.crafting == "held-out"]),
        tested=tuple(condition.id for condition in tested),
        untested=tuple(untested),
    )


def _case(condition: Condition, moment: Readout, reading: Reading) -> WorstCase:
    return WorstCase(
        id=condition.id,
        adversary=condition.adversary,
        victim=condition.victim,
        crafting=condition.crafting,
        moment=moment,
        accuracy=reading.accuracy,
        clean=reading.clean,
        rho=reading.rho,
        mv=condition.mv,
        chance=condition.balanced_chance or 0.0,
    )


def _most(cases: Sequence[WorstCase]) -> WorstCase | None:
    """Where the trainer gets most; of equals the end rather than a moment that was chosen, then the first."""
    return max(cases, key=lambda case: (case.accuracy.estimate, case.moment == "final"), default=None)


def _other_radii(members: Sequence[Condition]) -> list[str]:
    """The radii that a worst case of adversarial training should rest on and that nobody tried."""
    tried = {condition.adversary.partition(":")[2] for condition in members}
    return [
        f"adversarial training at {radius:g} levels: not asked for"
        for radius in REPORTED_RADII
        if f"{radius:g}" not in tried
    ]
