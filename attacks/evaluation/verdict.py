"""The verdict rule, the sentence it is told in, and what each class of trainers gets at most.

The last is a figure beside the grades: nothing is decided by it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..facts import PairIssue
from ..schema import (
    GRADES,
    Condition,
    Gate,
    Grade,
    Plan,
    Reading,
    Requirement,
    TierVerdict,
    TrainerResult,
    Verdict,
    WorstCase,
)
from ..terms import (
    REPORTED_RADII,
    TIER_TITLES,
    TIERS,
    TRAINER_CLASSES,
    TRAINER_MEANINGS,
    Metric,
    Readout,
    Tier,
    TrainerClass,
)
from .caveats import note_gates, note_power, note_unchecked
from .gates import FAILURES, REMEDIES, decisive_failures, set_aside
from .grading import condition_badness, condition_grade

_VERBS: dict[Metric, dict[Grade, str]] = {
    "rho": {
        "strong": "blocks",
        "moderate": "hinders",
        "weak": "barely hinders",
        "none": "does not stop",
        "inconclusive": "leaves open whether it stops",
    },
    "mv": {
        "strong": "does not help",
        "moderate": "adds little for",
        "weak": "adds something for",
        "none": "adds much for",
        "inconclusive": "leaves open what it adds for",
    },
}
_UNTESTED: dict[Tier, str] = {
    "naive": "the naive trainer",
    "transforms": "cheap transforms",
    "training": "strong training",
    "prior": "prior knowledge (pretrained models)",
    "relabel": "other labels",
    "mixing": "mixing with clean pictures",
}


def tier_verdict(tier: Tier, conditions: Sequence[Condition], *, graded: bool, missing: int = 0) -> TierVerdict:
    """Grade one tier by its worst condition. What was dropped or set aside never counts as survived.

    The grade claims that every condition is at most its bound. Such a claim is wrong at most as often as the test of
    the one condition that lies above, so each is tested at the full level (an intersection-union test, R. L. Berger,
    Technometrics 24, 1982). Moments that were chosen with the test answers are left out: no trainer has them.

    Args:
        tier: which.
        conditions: all of them.
        graded: whether grades are given at all.
        missing: originals without a protected copy. They were tested by nobody, so no tier is complete.
    """
    members = [condition for condition in conditions if condition.tier == tier and not condition.oracle]
    tested = [condition for condition in members if condition.status == "ok"]
    untested = tuple(f"{condition.id}: {condition.reason}" for condition in members if condition.status != "ok")
    if not tested:
        return TierVerdict(
            tier=tier,
            title=TIER_TITLES[tier],
            grade="not tested",
            joint_grade="not tested",
            complete=False,
            untested=untested,
        )
    worst = max(tested, key=condition_badness)
    return TierVerdict(
        tier=tier,
        title=TIER_TITLES[tier],
        grade=condition_grade(worst) if graded else "not graded",
        joint_grade=_joint_grade(tested) if graded else "not graded",
        upper=max(condition.upper or 0.0 for condition in tested),
        worst=worst.id,
        complete=not untested and not missing,
        tested=tuple(condition.id for condition in tested),
        untested=untested,
    )


def _joint_grade(tested: Sequence[Condition]) -> Grade:
    return condition_grade(max(tested, key=lambda c: condition_badness(c, joint=True)), joint=True)


def requirement_met(required: Grade, found: TierVerdict) -> bool:
    """Whether a tier reaches a grade. A tier of which a part was not tested, or that is inconclusive, never does."""
    return found.complete and found.grade in GRADES and GRADES.index(found.grade) >= GRADES.index(required)


def conclude(
    plan: Plan,
    conditions: Sequence[Condition],
    gates: Sequence[Gate],
    issues: Sequence[PairIssue],
    caveats: Sequence[str],
    *,
    first: Sequence[str] = (),
) -> tuple[list[Condition], Verdict]:
    """Set aside what failed a gate, and judge the rest.

    Args:
        plan: what was planned.
        conditions: as measured.
        gates: all of them.
        issues: files that do not fit.
        caveats: what the reader should keep in mind beside what gates and test size say.
        first: what the reader should know before that.
    """
    kept = set_aside(plan, conditions, gates)
    notes = [*first, *note_gates(gates), *note_power(plan, kept), *caveats, *note_unchecked(gates)]
    return kept, judge(plan, kept, gates, issues, notes)


def judge(
    plan: Plan,
    conditions: Sequence[Condition],
    gates: Sequence[Gate],
    issues: Sequence[PairIssue],
    caveats: Sequence[str],
) -> Verdict:
    """Apply the rule.

    Args:
        plan: what was planned; with one seed nothing is graded.
        conditions: after :func:`bitterant.attacks.evaluation.gates.set_aside`.
        gates: all of them; a failed decisive one makes the run INVALID.
        issues: files that do not fit; originals without a copy are counted.
        caveats: what the reader should keep in mind.
    """
    graded = len(plan.victim_seeds) > 1
    failed = decisive_failures(gates)
    missing = sum(issue.kind == "missing" for issue in issues)
    tiers = tuple(tier_verdict(tier, conditions, graded=graded and not failed, missing=missing) for tier in TIERS)
    by_id = {condition.id: condition for condition in conditions}
    tested = [tier for tier in tiers if tier.worst is not None]
    weakest = max(tested, key=lambda tier: condition_badness(by_id[tier.worst or ""]), default=None)
    not_tested = tuple(_UNTESTED[t.tier] for t in tiers if t.upper is None)
    not_tested += tuple(text for tier in tiers for text in tier.untested)
    not_tested += (f"{_copies(missing)}",) if missing else ()
    if failed:
        headline = _invalid(failed)
    elif weakest is None:
        headline = _untested(conditions)
    elif not graded:
        headline = _smoke(conditions)
    else:
        headline = _headline(plan, tiers, weakest, by_id)
    if missing:
        headline += f" {_copies(missing)}."
    valid = not failed and weakest is not None
    return Verdict(
        valid=valid,
        graded=graded and valid,
        headline=headline,
        tiers=tiers,
        weakest=weakest.tier if weakest is not None and valid else None,
        not_tested=not_tested,
        caveats=tuple(caveats),
        required=_required(plan, tiers, weakest, valid=valid),
    )


def _required(
    plan: Plan, tiers: Sequence[TierVerdict], weakest: TierVerdict | None, *, valid: bool
) -> Requirement | None:
    if plan.required_grade is None:
        return None
    if plan.required_tier is None:
        # Without a tier every tested one has to reach the grade, and all that was planned has to be tested. That all
        # do is one claim about all conditions, so nothing is corrected for the number of tiers.
        planned = {condition.tier for condition in plan.conditions}
        judged = [tier for tier in tiers if tier.tier in planned]
        met = weakest is not None and all(requirement_met(plan.required_grade, tier) for tier in judged)
    else:
        met = requirement_met(plan.required_grade, next(t for t in tiers if t.tier == plan.required_tier))
    return Requirement(tier=plan.required_tier, grade=plan.required_grade, met=met and valid)


def _copies(missing: int) -> str:
    return "1 original has no protected copy" if missing == 1 else f"{missing} originals have no protected copy"


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _invalid(failed: Sequence[Gate]) -> str:
    reasons = "; ".join(f"{FAILURES[gate.id]} ({gate.id}: {gate.value}; needed: {gate.threshold})" for gate in failed)
    remedies = " ".join(dict.fromkeys(REMEDIES[gate.id] for gate in failed))
    return f"INVALID, this run shows nothing about the protection: {reasons}. {remedies}"


def _untested(conditions: Sequence[Condition]) -> str:
    reasons = dict.fromkeys(condition.reason for condition in conditions if condition.reason)
    return f"INVALID: no condition could be tested{': ' if reasons else ''}{'; '.join(list(reasons)[:2])}."


def _figures(condition: Condition) -> str:
    clean, treated = condition.clean, condition.treated
    assert clean is not None
    assert treated is not None
    by_class = condition.basis == "balanced accuracy"
    before = "by the mean over the classes " if by_class else ""
    trainer, given = (arm.balanced.estimate if by_class else arm.accuracy.estimate for arm in (treated, clean))
    if condition.metric == "mv":
        part = condition.arms["part"]
        alone = part.balanced.estimate if by_class else part.accuracy.estimate
        harm = ", which is harm" if condition.harmful else ""
        return (
            f"{before}{_percent(trainer)}, with the clean part alone {_percent(alone)}{harm}, "
            f"with all pictures clean {_percent(given)}"
        )
    if condition.renamed and not by_class:
        trainer = max(trainer, treated.permuted_accuracy)
    if condition.retrieval is not None:
        k = condition.retrieval.k
        before = f"right {'first' if k == 1 else f'among the first {k}'} in "
    return f"{before}{_percent(trainer)} where clean pictures give {_percent(given)}"


def _smoke(conditions: Sequence[Condition]) -> str:
    first = next(condition for condition in conditions if condition.status == "ok")
    reached = "was" if first.retrieval is not None else "reached"
    chance = _percent(first.chance or 0.0)
    return f"Smoke test, one seed, no grade: {first.victim} {reached} {_figures(first)} (chance {chance})."


def _headline(plan: Plan, tiers: Sequence[TierVerdict], weakest: TierVerdict, by_id: Mapping[str, Condition]) -> str:
    """Names the naive tier and the weakest tested one, and what was not tested."""
    naive = next(tier for tier in tiers if tier.tier == "naive")
    told = [naive] if naive.upper is not None else []
    told += [weakest] if weakest.tier != "naive" else []
    clauses = []
    for tier in told:
        condition = by_id[tier.worst or ""]
        seeds = f"{len(plan.victim_seeds)} seeds"
        verb = _VERBS[condition.metric][tier.grade]
        if condition.metric == "mv" and tier.grade == "strong" and condition.worthless:
            verb = "adds nothing for"
        clauses.append(f"{verb} {condition.phrase} ({condition.victim}, {seeds}: {_figures(condition)})")
    sentence = "; ".join(clauses)
    missing = ", ".join(_UNTESTED[tier.tier] for tier in tiers if tier.upper is None)
    partly = [tier.tier for tier in tiers if tier.upper is not None and tier.untested]
    tail = f" Only partly tested: {', '.join(partly)}." if partly else ""
    return f"{sentence[0].upper()}{sentence[1:]}.{tail}{f' Not tested: {missing}.' if missing else ''}"


def trainer_results(conditions: Sequence[Condition]) -> tuple[TrainerResult, ...]:
    """The worst case of every class, in their order; what was dropped or set aside never counts as survived.

    Args:
        conditions: all of them, after :func:`bitterant.attacks.evaluation.gates.set_aside`.
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
