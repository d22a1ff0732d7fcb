"""Validity gates: reasons not to believe the numbers (verification.md 3.6). They come before any verdict.

G1, G2 and G3 are looked at for every victim and adversary. A failure of the first victim without adversary, of G6 or of
G7 makes the whole run INVALID; elsewhere it sets the conditions aside, which then count as not tested.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..schema import Condition, Gate, PairIssue, Plan, Stealth
from ..training import CellResult

__all__ = ["FAILURES", "check_gates", "set_aside"]

LEARNED_SHARE = 0.3
"""G1: how much of the way from chance to perfect the clean victim must have come, as a lower bound."""

NOISE_MARGIN = 0.05
"""G2: accuracy that random noise of the same size may cost."""

FITTED_SHARE = 0.9
"""G3: training accuracy of the protected arm over that of the clean arm."""

FAILURES = {
    "G1": "the victim did not learn the clean pictures",
    "G2": "random noise of the same size already does the harm",
    "G3": "the victim did not even fit the protected pictures",
    "G6": "protected files are not as they should be",
    "G7": "trainings diverged or were not equally long",
}
"""What a failed gate means, in words."""

_BROKEN = ("relabelled", "resized", "unreadable", "extra")
"""Kinds of files that a trainer would get and this run could not speak for. ``extra`` ones have no original: whoever
takes the folder trains on them too, and clean pictures among them undo the protection."""

_KINDS = {"extra": "without original"}


def check_gates(
    plan: Plan,
    conditions: Sequence[Condition],
    cells: Iterable[CellResult],
    stealth: Stealth,
    issues: Sequence[PairIssue],
    chance: float,
    *,
    lossy: bool = False,
) -> list[Gate]:
    """All gates in order, passed or not.

    Args:
        plan: what was planned.
        conditions: as measured.
        cells: all trainings.
        stealth: the files.
        issues: files that are not as they should be.
        chance: rate of the majority class.
        lossy: the files were knowingly written lossy (``--format same``): leaving the budget is announced there.
    """
    first = plan.conditions[0].victim
    gates: list[Gate] = []
    # Free adversaries read the trainings of another one, so its gates are theirs.
    trained = [c for c in conditions if c.status == "ok" and c.readout == "final"]
    for condition in trained:
        decisive = condition.victim == first and condition.adversary == "none"
        gates.append(_learned(condition, chance, decisive))
        if condition.noise_loss is not None:
            gates.append(_noise_harmless(condition, decisive, several_seeds=len(plan.victim_seeds) > 1))
        gates.append(_fitted(condition, decisive))
    gates.append(_files(stealth, issues, lossy=lossy))
    gates.append(_sound(plan, list(cells)))
    return sorted(gates, key=lambda gate: (gate.id, not gate.decisive))


def set_aside(plan: Plan, conditions: Sequence[Condition], gates: Sequence[Gate]) -> list[Condition]:
    """Mark the conditions whose trainings failed a gate. A victim that fails without adversary fails altogether."""
    failed = {gate.scope: gate for gate in gates if gate.status == "fail" and gate.scope != "all"}
    runs_as = {planned.id: f"{planned.victim}/{planned.runs_as}" for planned in plan.conditions}
    result = []
    for condition in conditions:
        gate = failed.get(runs_as[condition.id]) or failed.get(f"{condition.victim}/none")
        if condition.status == "ok" and gate is not None:
            where = "" if gate.scope == condition.id else f" with {gate.scope}"
            reason = f"{FAILURES[gate.id]}{where} ({gate.id}: {gate.value}; needed: {gate.threshold})"
            condition = condition.model_copy(update={"status": "set aside", "reason": reason})
        result.append(condition)
    return result


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _learned(condition: Condition, chance: float, decisive: bool) -> Gate:
    assert condition.clean is not None
    needed = chance + LEARNED_SHARE * (1 - chance)
    low = condition.clean.accuracy.low
    return Gate(
        id="G1",
        scope=condition.id,
        title="The victim learned the clean pictures",
        status="pass" if low >= needed else "fail",
        decisive=decisive,
        value=f"{_percent(condition.clean.accuracy.estimate)}, at least {_percent(low)}",
        threshold=f"at least {_percent(needed)}",
    )


def _noise_harmless(condition: Condition, decisive: bool, *, several_seeds: bool) -> Gate:
    assert condition.noise_loss is not None
    loss = condition.noise_loss
    # As in verification.md 3.6. With one seed the spread between trainings is unknown; such a run gives no grade.
    harmful = loss.estimate > NOISE_MARGIN
    status = ("fail" if several_seeds else "warn") if harmful else "pass"
    return Gate(
        id="G2",
        scope=condition.id,
        title="Random noise of the same size does no harm",
        status=status,
        decisive=decisive,
        value=f"costs {100 * loss.estimate:.1f} points ({100 * loss.low:.1f} to {100 * loss.high:.1f})",
        threshold=f"at most {100 * NOISE_MARGIN:.0f} points",
    )


def _fitted(condition: Condition, decisive: bool) -> Gate:
    assert condition.clean is not None
    assert condition.protected is not None
    clean, protected = condition.clean.train_accuracies, condition.protected.train_accuracies
    mean_clean, mean_protected = sum(clean) / len(clean), sum(protected) / len(protected)
    each = all(p >= FITTED_SHARE * c for p, c in zip(protected, clean, strict=True))
    passed = mean_protected >= FITTED_SHARE * mean_clean
    return Gate(
        id="G3",
        scope=condition.id,
        title="The victim fitted the protected pictures",
        status="fail" if not passed else ("pass" if each else "warn"),
        decisive=decisive,
        value=f"{_percent(mean_protected)} of them right after training, {_percent(mean_clean)} of the clean ones",
        threshold=f"at least {FITTED_SHARE:.1f} of the clean ones",
    )


def _files(stealth: Stealth, issues: Sequence[PairIssue], *, lossy: bool) -> Gate:
    broken = {kind: sum(issue.kind == kind for issue in issues) for kind in _BROKEN}
    over = [f"{len(stealth.over_budget)} over budget"] if stealth.over_budget else []
    parts = [f"{count} {_KINDS.get(kind, kind)}" for kind, count in broken.items() if count]
    if lossy:
        over = [f"{text}, as lossy files are (--format same)" for text in over]
    failed = bool(parts or (over and not lossy))
    parts = [*over, *parts]
    unknown = stealth.budget_levels is None
    budget = "no budget stated" if unknown else f"at most {stealth.budget_levels:g} levels"
    return Gate(
        id="G6",
        scope="all",
        title="Every protected file decodes, has the form and label of its original, and keeps the budget",
        status="fail" if failed else ("warn" if unknown or over else "pass"),
        decisive=True,
        value=f"{', '.join(parts) or 'all as they should be'}; largest change {stealth.linf_max:g} levels",
        threshold=f"{budget}, same size and mode, labels intact",
    )


def _sound(plan: Plan, cells: Sequence[CellResult]) -> Gate:
    broken = sum(not cell.finite for cell in cells)
    steps: dict[tuple[str, str, int], set[int]] = {}
    for result in cells:
        cell = result.cell
        steps.setdefault((cell.victim, cell.adversary, cell.seed_index), set()).add(result.steps)
    unequal = sum(len(counts) > 1 for counts in steps.values())
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
