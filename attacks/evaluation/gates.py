"""Validity gates: reasons not to believe the numbers. They come before any verdict.

G5 and G6 look at the files alone and are known before the first training. G1, G2 and G3 are looked at for every victim
and adversary. A failure of the first victim without adversary, of G4, G5, G6 or G7 makes the whole run INVALID;
elsewhere it sets the conditions aside, which then count as not tested. A victim that is asked in two ways has failed
where it failed in both. G8 is a remark. What could not be looked at stands in :data:`NOT_CHECKED`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import BitterantError
from ...surrogates import surrogate_family
from ..facts import PairIssue
from ..schema import GRADES, Condition, Gate, Plan, Protection, Stealth
from ..training import Cell, CellResult, cells_of, victim_family
from .grading import RULE, condition_grade

_NAMED = 3
"""G5: so many pictures are named in the gate; all of them stand among the issues."""

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


def check_data(
    stealth: Stealth, issues: Sequence[PairIssue], protection: Protection | None, test_images: int
) -> list[Gate]:
    """G5 and G6.

    Args:
        stealth: how far the files are from their originals.
        issues: files that could not be paired, or have another form, and near-duplicates.
        protection: what the run file says.
        test_images: how many are tested on.
    """
    return [_apart(issues, test_images), _files(stealth, issues, protection.format if protection else None)]


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
        status="pass" if not near else ("warn" if share <= RULE.near_share else "fail"),
        decisive=True,
        value=f"{len(near)} of {tested} nearly equal a training picture{names}",
        threshold=f"at most {100 * RULE.near_share:.0f} % of them, better none",
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


def check_conditions(plan: Plan, conditions: Sequence[Condition]) -> list[Gate]:
    """G1, G2 and G3 of every condition with trainings of its own.

    Args:
        plan: what was planned.
        conditions: what was measured.
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
    return _either_way(conditions, gates)


def _either_way(conditions: Sequence[Condition], gates: Sequence[Gate]) -> list[Gate]:
    """A victim that is asked in two ways may learn to answer one of them only, which is then the one that counts."""
    asked = {condition.id for condition in conditions if condition.retrieval is not None}
    failed = {gate.scope for gate in gates if gate.scope in asked and gate.status == "fail"}
    if not asked - failed:
        return list(gates)
    return [gate.model_copy(update={"decisive": False}) if gate.scope in failed else gate for gate in gates]


def _speaks_against(condition: Condition) -> bool:
    """Whether the victim learned so much that there is no grade to give. Had the noise done less harm (G2), or the
    training fitted the pictures better (G3), it would have learned no less: a claim for the protection would fall with
    these gates, and that nothing is claimed for it stands."""
    return condition.status == "ok" and condition_grade(condition) == "none"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def needed_to_learn(condition: Condition) -> float:
    """Accuracy of the clean arm that G1 asks for."""
    assert condition.chance is not None
    needed = condition.chance + RULE.learned_share * (1 - condition.chance)
    return needed if condition.retrieval is None else min(needed, RULE.times_guessing * condition.chance)


def _learned(condition: Condition, decisive: bool, *, several_seeds: bool) -> Gate:
    assert condition.clean is not None
    assert condition.chance is not None
    chance = condition.chance
    needed = needed_to_learn(condition)
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
        value=f"{_percent(found)}, {_percent(max(0.0, bounds.lower))} to {_percent(min(1.0, bounds.upper))}",
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
    # Noise of 12 levels spoils drawings of fine lines. Where the protected pictures surely cost many times as much
    # beyond it, the noise is not what does the harm. No placebo can pass so: it costs nothing beyond itself.
    beyond = 0.0 if condition.beyond_noise is None else condition.beyond_noise.lower
    harmful = bounds.lower > RULE.noise_margin and beyond < RULE.times_noise * loss.estimate
    doubt = loss.estimate > RULE.noise_margin
    spared = several_seeds and (_speaks_against(condition) if harmful else doubt and beyond <= 0)
    status = "fail" if harmful and several_seeds and not spared else ("warn" if doubt or harmful else "pass")
    return Gate(
        id="G2",
        scope=condition.id,
        title="Random noise of the same size does no harm",
        status=status,
        decisive=decisive,
        spared=spared,
        value=f"costs {100 * loss.estimate:.1f} points ({100 * bounds.lower:.1f} to {100 * bounds.upper:.1f})"
        + (" of the mean over the classes" if _by_class(condition, loss.estimate) else ""),
        threshold=f"at most {100 * RULE.noise_margin:.0f} points, or {100 / (1 + RULE.times_noise):.0f} % of the harm",
    )


def _by_class(condition: Condition, loss: float) -> bool:
    """Whether what noise costs is told by the mean over the classes, as it is where it costs more of that."""
    if condition.clean is None or condition.noise is None:
        return False
    plain, even = (
        getattr(condition.clean, name).estimate - getattr(condition.noise, name).estimate
        for name in ("accuracy", "balanced")
    )
    return even > plain and math.isclose(loss, even, abs_tol=1e-9)


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


def check_sound(plan: Plan, steps: Mapping[Cell, int], broken: int) -> Gate:
    """G7.

    Args:
        plan: what was planned.
        steps: of every training.
        broken: how many of them diverged.
    """
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
        value=", ".join(parts) or f"{len(steps)} trainings sound",
        threshold="none, equal",
    )


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

REMEDIES = {
    "G1": "Give more pictures, or train longer (--epochs).",
    "G2": "Give more pictures, train longer (--epochs), or protect with a smaller budget.",
    "G3": "Train longer (--epochs).",
    "G4": "Give other test pictures with --test.",
    "G5": "Give other test pictures with --test.",
    "G6": "Protect the pictures again, or take the odd files out of PROTECTED.",
    "G7": "Try another --seed.",
}
"""What to do about it."""

_WARNINGS = {
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
        data_gates: those that were known before the first training; see :func:`check_data`.
        protection: what the run file says, for G8.
        victims: the networks that were trained from scratch, for G8.
    """
    gates = check_conditions(plan, conditions)
    gates += [_learned_nothing(result, labels, classes) for result in cells if result.cell.arm == "shuffled"]
    if cells:
        steps = {result.cell: result.steps for result in cells}
        gates.append(check_sound(plan, steps, sum(not result.finite for result in cells)))
    return in_order([*gates, *data_gates, *_other_family(protection, victims)])


def in_order(gates: Sequence[Gate]) -> list[Gate]:
    """By their names; of one name, those that decide first."""
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
        scopes = [condition.id, *(f"{condition.victim}/{name}" for name in read)]
        gate = next((failed[scope] for scope in scopes if scope in failed), None)
        # What is open stays: without it the others might make a grade that it stands against.
        if gate is None and condition.status == "ok" and condition_grade(condition) in GRADES:
            gate = next((spared[scope] for scope in scopes if scope in spared), None)
        if condition.status == "ok" and gate is not None:
            where = "" if gate.scope == condition.id else f" with {gate.scope}"
            meaning = FAILURES[gate.id] if gate.status == "fail" else _WARNINGS.get(gate.id, FAILURES[gate.id])
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
