"""Validity gates: reasons not to believe the numbers (verification.md 3.6). They come before any verdict.

G1, G2 and G3 are looked at for every victim and adversary. A failure of the first victim without adversary, of G5, G6
or G7 makes the whole run INVALID; elsewhere it sets the conditions aside, which then count as not tested. G8 is a
remark. What verification.md asks for and is not looked at stands in :data:`NOT_CHECKED`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...errors import BitterantError
from ...surrogates import surrogate_family
from ..schema import Condition, Gate, PairIssue, Plan, Protection, Stealth
from ..training import CellResult, cells_of, victim_family

__all__ = ["FAILURES", "NOT_CHECKED", "check_gates", "set_aside"]

LEARNED_SHARE = 0.3
"""G1: how much of the way from chance to perfect the clean victim must have come, as a lower bound."""

NOISE_MARGIN = 0.05
"""G2: accuracy that random noise of the same size may cost."""

FITTED_SHARE = 0.9
"""G3: training accuracy of the protected arm over that of the clean arm."""

NEAR_SHARE = 0.05
"""G5: share of the test pictures that may nearly equal a training picture. Were all of them known by heart, no accuracy
could be off by more, and that is what G2 allows noise. CIFAR-10 itself has 3.3 % (arXiv 1902.00423)."""

_NAMED = 3
"""G5: so many pictures are named in the gate; all of them stand among the issues."""

FAILURES = {
    "G1": "the victim did not learn the clean pictures",
    "G2": "random noise of the same size already does the harm",
    "G3": "the victim did not even fit the protected pictures",
    "G5": "too many test pictures nearly equal training pictures",
    "G6": "protected files are not as they should be",
    "G7": "trainings diverged or were not equally long",
}
"""What a failed gate means, in words."""

NOT_CHECKED = {
    "G4": "that a victim trained with shuffled labels stays at chance",
    "G8": "that a victim is of another family than the protector's model, which is not stated",
}
"""Gates that may be absent, and what is then not known. G4 is never looked at."""

_BROKEN = {
    "relabelled": "relabelled",
    "resized": "of another size or mode",
    "unreadable": "unreadable",
    "extra": "without original",
}
"""Kinds of issues that fail G6.

``extra``: a picture in a class folder of PROTECTED that has no original is published with the others, so a trainer
learns from it, but no arm holds it. It may be a clean picture under another name, which alone would undo the
protection of its class. The victims were then not trained on what a trainer gets, and no figure of theirs counts.
"""


def check_gates(
    plan: Plan,
    conditions: Sequence[Condition],
    cells: Iterable[CellResult],
    stealth: Stealth,
    issues: Sequence[PairIssue],
    protection: Protection | None,
    victims: Sequence[str],
) -> list[Gate]:
    """All gates in order, passed or not.

    Args:
        plan: what was planned.
        conditions: what was measured.
        cells: every training.
        stealth: how far the files are from their originals.
        issues: files that could not be paired, or have another form.
        protection: what the run file says, for G6 and G8.
        victims: the networks that were trained from scratch, for G8.
    """
    first = plan.conditions[0].victim
    fits = {planned.id: planned.fit for planned in plan.conditions}
    gates: list[Gate] = []
    # A condition that reads the trainings of another one at another moment shares its gates.
    trained = [c for c in conditions if c.arms and c.readout == "final"]
    for condition in trained:
        decisive = condition.victim == first and condition.adversary == "none"
        gates.append(_learned(condition, decisive))
        if condition.noise_loss is not None:
            gates.append(_noise_harmless(condition, decisive, several_seeds=len(plan.victim_seeds) > 1))
        # A probe is solved, not trained: where it does not fit the pictures, their features cannot be told apart.
        if fits[condition.id] == "network":
            gates.append(_fitted(condition, decisive))
    gates.append(_apart(issues, plan.test_images))
    gates.append(_files(stealth, issues, protection.format if protection else None))
    gates.append(_sound(plan, list(cells)))
    gates += _other_family(protection, victims)
    return sorted(gates, key=lambda gate: (gate.id, not gate.decisive))


def set_aside(plan: Plan, conditions: Sequence[Condition], gates: Sequence[Gate]) -> list[Condition]:
    """Mark the conditions whose trainings failed a gate. A victim that fails without adversary fails altogether."""
    failed = {gate.scope: gate for gate in reversed(gates) if gate.status == "fail" and gate.scope != "all"}
    planned = {condition.id: condition for condition in plan.conditions}
    result = []
    for condition in conditions:
        read = [condition.adversary, *planned[condition.id].reads.values(), "none"]
        gate = next((failed[s] for name in read if (s := f"{condition.victim}/{name}") in failed), None)
        if condition.status == "ok" and gate is not None:
            where = "" if gate.scope == condition.id else f" with {gate.scope}"
            reason = f"{FAILURES[gate.id]}{where} ({gate.id}: {gate.value}; needed: {gate.threshold})"
            condition = condition.model_copy(update={"status": "set aside", "reason": reason})
        result.append(condition)
    return result


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _learned(condition: Condition, decisive: bool) -> Gate:
    assert condition.clean is not None
    assert condition.chance is not None
    chance = condition.chance
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
    # The estimate counts, not its interval: three seeds make intervals so wide that hardly any harm could be proven.
    # One seed knows nothing of the spread between trainings, so there it is a remark.
    status = "pass" if loss.estimate <= NOISE_MARGIN else ("fail" if several_seeds else "warn")
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
    assert condition.treated is not None
    clean, protected = condition.clean.train_accuracies, condition.treated.train_accuracies
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


def _count(issues: Sequence[PairIssue], kind: str) -> int:
    return sum(issue.kind == kind for issue in issues)


def _apart(issues: Sequence[PairIssue], tested: int) -> Gate:
    near = [issue.path for issue in issues if issue.kind == "near"]
    share = len(near) / max(1, tested)
    names = f": {', '.join(near[:_NAMED])}{', ...' if len(near) > _NAMED else ''}" if near else ""
    return Gate(
        id="G5",
        scope="all",
        title="Test pictures are other pictures than those trained on",
        status="pass" if not near else ("warn" if share <= NEAR_SHARE else "fail"),
        decisive=True,
        value=f"{len(near)} of {tested} nearly equal a training picture{names}",
        threshold=f"at most {100 * NEAR_SHARE:.0f} % of them, better none",
    )


def _files(stealth: Stealth, issues: Sequence[PairIssue], file_format: str | None) -> Gate:
    broken = [f"{count} {words}" for kind, words in _BROKEN.items() if (count := _count(issues, kind))]
    remarks = ["no budget stated"] if stealth.budget_levels is None else []
    if stealth.over_budget:
        over = f"{len(stealth.over_budget)} over budget"
        # Copies that keep a lossy format cannot keep a budget, and whoever chose it was told.
        if file_format == "same":
            remarks.append(f"{over}, which the run file announces (--format same)")
        else:
            broken.insert(0, over)
    found = ", ".join([*broken, *remarks]) or "all as they should be"
    budget = "a stated budget" if stealth.budget_levels is None else f"at most {stealth.budget_levels:g} levels"
    return Gate(
        id="G6",
        scope="all",
        title="Every protected file decodes, has an original with its form and label, and keeps the budget",
        status="fail" if broken else ("warn" if remarks else "pass"),
        decisive=True,
        value=f"{found}; largest change {stealth.linf_max:g} levels",
        threshold=f"{budget}, same size and mode, labels intact, nothing without an original",
    )


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
