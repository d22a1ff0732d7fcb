"""The verdict rule "v1" (verification.md 3.7), and the sentence it is told in."""

from __future__ import annotations

from collections.abc import Sequence

from ..adversaries import TIER_TITLES, TIERS, Tier
from ..schema import GRADES, Condition, Dataset, Gate, Grade, Plan, Requirement, TierVerdict, Verdict
from .gates import FAILURES

__all__ = ["BOUNDS", "grade_of", "judge", "requirement_met", "tier_verdict"]

BOUNDS: tuple[tuple[Grade, float], ...] = (("strong", 0.15), ("moderate", 0.40), ("weak", 0.75))
"""A grade is given where the simultaneous 95 % upper bound of rho is at most this."""

WIDEST = 0.25
"""An interval that reaches into another class and is wider than this decides nothing."""

_VERBS: dict[Grade, str] = {
    "strong": "blocks",
    "moderate": "hinders",
    "weak": "barely hinders",
    "none": "does not stop",
    "inconclusive": "leaves open whether it stops",
}
_UNTESTED: dict[Tier, str] = {
    "naive": "the naive trainer",
    "transforms": "cheap transforms",
    "training": "strong training",
    "prior": "prior knowledge (pretrained models)",
    "relabel": "other labels",
    "mixing": "mixing with clean pictures",
}


def grade_of(upper: float) -> Grade:
    """The class an upper bound of rho falls in."""
    for grade, bound in BOUNDS:
        if upper <= bound:
            return grade
    return "none"


_FROM_BEST: tuple[Grade, ...] = ("strong", "moderate", "weak", "inconclusive", "none")


def _badness(grade: Grade, upper: float | None, estimate: float | None) -> tuple[int, float, float]:
    """Orders conditions and tiers from best to worst. The grade comes first: an upper bound is cut at 1, and an
    inconclusive result must not hide one that is known to be bad."""
    rank = _FROM_BEST.index(grade) if grade in _FROM_BEST else -1
    return rank, upper or 0.0, estimate or 0.0


def _condition_grade(condition: Condition) -> Grade:
    assert condition.rho is not None
    assert condition.rho_upper is not None
    grade = grade_of(condition.rho_upper)
    if grade == "none" and grade_of(condition.rho.estimate) == "none":
        return grade  # nothing is claimed for the protection, so nothing has to be proven
    straddles = grade_of(condition.rho.low) != grade
    return "inconclusive" if straddles and condition.rho_upper - condition.rho.low > WIDEST else grade


def tier_verdict(tier: Tier, conditions: Sequence[Condition], *, graded: bool) -> TierVerdict:
    """Grade one tier by its worst condition. What was dropped or set aside never counts as survived."""
    members = [condition for condition in conditions if condition.tier == tier]
    tested = [condition for condition in members if condition.status == "ok"]
    untested = tuple(f"{condition.id}: {condition.reason}" for condition in members if condition.status != "ok")
    if not tested:
        return TierVerdict(tier=tier, title=TIER_TITLES[tier], grade="not tested", complete=False, untested=untested)
    grades: dict[str, Grade] = {c.id: _condition_grade(c) if graded else "not graded" for c in tested}
    worst = max(tested, key=lambda c: _badness(grades[c.id], c.rho_upper, c.rho.estimate if c.rho else None))
    return TierVerdict(
        tier=tier,
        title=TIER_TITLES[tier],
        grade=grades[worst.id],
        upper=worst.rho_upper,
        worst=worst.id,
        complete=not untested,
        tested=tuple(condition.id for condition in tested),
        untested=untested,
    )


def requirement_met(required: Grade, found: TierVerdict) -> bool:
    """Whether a tier reaches a grade. A tier of which a part was not tested, or that is inconclusive, never does."""
    return found.complete and found.grade in GRADES and GRADES.index(found.grade) >= GRADES.index(required)


def judge(
    plan: Plan,
    conditions: Sequence[Condition],
    gates: Sequence[Gate],
    dataset: Dataset,
    caveats: Sequence[str],
) -> Verdict:
    """Apply the rule.

    Args:
        plan: what was planned; with one seed nothing is graded.
        conditions: after :func:`bitterant.attacks.judgement.gates.set_aside`.
        gates: all of them; a failed decisive one makes the run INVALID.
        dataset: for the chance level.
        caveats: what the reader should keep in mind.
    """
    graded = len(plan.victim_seeds) > 1
    failed = [gate for gate in gates if gate.decisive and gate.status == "fail"]
    tiers = tuple(tier_verdict(tier, conditions, graded=graded and not failed) for tier in TIERS)
    tested = [tier for tier in tiers if tier.upper is not None]
    weakest = max(tested, key=lambda tier: _badness(tier.grade, tier.upper, None), default=None)
    not_tested = tuple(_UNTESTED[t.tier] for t in tiers if t.upper is None)
    not_tested += tuple(text for tier in tiers for text in tier.untested)
    if failed:
        headline = _invalid(failed)
    elif weakest is None:
        headline = "INVALID: no condition could be tested."
    elif not graded:
        headline = _smoke(conditions, dataset)
    else:
        headline = _headline(plan, tiers, weakest, conditions)
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
        # Without a tier every tested one has to reach the grade, and all that was planned has to be tested.
        planned = {condition.tier for condition in plan.conditions}
        judged = [tier for tier in tiers if tier.tier in planned]
        met = weakest is not None and all(requirement_met(plan.required_grade, tier) for tier in judged)
    else:
        met = requirement_met(plan.required_grade, next(t for t in tiers if t.tier == plan.required_tier))
    return Requirement(tier=plan.required_tier, grade=plan.required_grade, met=met and valid)


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %"


def _invalid(failed: Sequence[Gate]) -> str:
    reasons = "; ".join(f"{FAILURES[gate.id]} ({gate.id}: {gate.value}; needed: {gate.threshold})" for gate in failed)
    return f"INVALID, this run shows nothing about the protection: {reasons}."


def _figures(condition: Condition) -> str:
    assert condition.clean is not None
    assert condition.protected is not None
    trainer = max(condition.protected.accuracy.estimate, condition.protected.permuted_accuracy)
    return f"{_percent(trainer)} where clean pictures give {_percent(condition.clean.accuracy.estimate)}"


def _smoke(conditions: Sequence[Condition], dataset: Dataset) -> str:
    first = next(condition for condition in conditions if condition.status == "ok")
    return (
        f"Smoke test, one seed, no grade: {first.victim} reached {_figures(first)} (chance {_percent(dataset.chance)})."
    )


def _headline(plan: Plan, tiers: Sequence[TierVerdict], weakest: TierVerdict, conditions: Sequence[Condition]) -> str:
    """Names the naive tier and the weakest tested one, and what was not tested."""
    by_id = {condition.id: condition for condition in conditions}
    naive = next(tier for tier in tiers if tier.tier == "naive")
    told = [naive] if naive.upper is not None else []
    told += [weakest] if weakest.tier != "naive" else []
    clauses = []
    for tier in told:
        condition = by_id[tier.worst or ""]
        seeds = f"{len(plan.victim_seeds)} seeds"
        clauses.append(f"{_VERBS[tier.grade]} {condition.phrase} ({condition.victim}, {seeds}: {_figures(condition)})")
    sentence = "; ".join(clauses)
    missing = ", ".join(_UNTESTED[tier.tier] for tier in tiers if tier.upper is None)
    partly = [tier.tier for tier in tiers if tier.upper is not None and not tier.complete]
    tail = f" Only partly tested: {', '.join(partly)}." if partly else ""
    return f"{sentence[0].upper()}{sentence[1:]}.{tail} Not tested: {missing}."
