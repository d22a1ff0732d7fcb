"""The verdict rule, the sentence it is told in, what each class of trainers gets at most, and what a reader should
keep in mind with this particular run.

What each class gets is a figure beside the grades: nothing is decided by it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np

from ..adversaries import Adversary
from ..data import FEWEST_TESTED, VerificationData
from ..facts import PairIssue
from ..request import Request
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
from ..training import victim_family
from .gates import FAILURES, NOT_CHECKED, REMEDIES, decisive_failures, set_aside
from .grading import condition_badness, condition_grade, grade_of

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
    reasons = []
    for name in dict.fromkeys(gate.id for gate in failed):
        same = [gate for gate in failed if gate.id == name]
        where = [f"{gate.scope}: " if len(same) > 1 else "" for gate in same]
        told = "; ".join(f"{of}{gate.value}; needed: {gate.threshold}" for of, gate in zip(where, same, strict=True))
        reasons.append(f"{FAILURES[name]} ({name}: {told})")
    all_told = list(dict.fromkeys(REMEDIES[gate.id] for gate in failed))
    # "Train longer." adds nothing to "Give more pictures, or train longer."
    remedies = [text for text in all_told if sum(text.rstrip(".").lower() in other.lower() for other in all_told) == 1]
    return f"INVALID, this run shows nothing about the protection: {'; '.join(reasons)}. {' '.join(remedies)}"


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


def trainer_results(conditions: Sequence[Condition], budget_levels: float | None = None) -> tuple[TrainerResult, ...]:
    """The worst case of every class, in their order; what was dropped or set aside never counts as survived.

    Args:
        conditions: all of them, after :func:`bitterant.attacks.evaluation.gates.set_aside`.
        budget_levels: by how many levels of 255 the copies may differ; ``None`` where nobody says.
    """
    return tuple(
        _result(trainer, [condition for condition in conditions if condition.trainer == trainer], budget_levels)
        for trainer in TRAINER_CLASSES
    )


def _result(trainer: TrainerClass, members: Sequence[Condition], budget_levels: float | None) -> TrainerResult:
    tested = [condition for condition in members if condition.status == "ok"]
    untested = [f"{condition.id}: {condition.reason}" for condition in members if condition.status != "ok"]
    if trainer == "W3" and members:
        untested += _other_radii(members, budget_levels)
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


def _other_radii(members: Sequence[Condition], budget_levels: float | None) -> list[str]:
    """The radii that a worst case of adversarial training should rest on and that nobody tried.

    A larger budget is one more, or any radius above it: below it, adversarial training need not undo the protection.
    """
    names = (condition.adversary.partition(":")[2] for condition in members)
    tried = {float(name) for name in names if name.replace(".", "", 1).isdecimal()}
    missing = [radius for radius in REPORTED_RADII if radius not in tried]
    if budget_levels is not None and budget_levels > max((*REPORTED_RADII, *tried)):
        missing.append(budget_levels)
    return [f"adversarial training at {radius:g} levels: not asked for" for radius in missing]


FEW_TEST_IMAGES = 1000
"""Below so many test pictures the sampling error alone is several points."""

_TWO_SIDED = NormalDist().inv_cdf(0.975)
"""Standard errors from the middle of a 95 % interval to its end."""


def list_caveats(request: Request, data: VerificationData, *, trained: bool = True) -> list[str]:
    """One sentence each, the gravest first.

    Args:
        request: what was asked for.
        data: what it was done with.
        trained: whether anything was trained at all.
    """
    return [
        *about_numbers(request.seeds, len(data.test_labels), held_out=data.test_source == "split"),
        *_about_classes(data),
        *about_files(data.issues),
        *(about_size(data.resolution) if trained else []),
        *(_about_trainers(request) if trained else []),
    ]


def note_gates(gates: Sequence[Gate]) -> list[str]:
    """A sentence for each kind of gate that was passed with a doubt."""
    doubts: dict[tuple[str, str], list[Gate]] = {}
    for gate in gates:
        if gate.status == "warn":
            doubts.setdefault((gate.id, gate.threshold), []).append(gate)
    return [_doubt(group) for group in doubts.values()]


def _doubt(group: Sequence[Gate]) -> str:
    first = group[0]
    where = "" if first.scope == "all" else f" with {', '.join(gate.scope for gate in group)}"
    value = first.value if len(group) == 1 else f"{first.value} with the first of them"
    return (
        f"In doubt{where}: {first.title[0].lower()}{first.title[1:]} ({first.id}: {value}; wanted: {first.threshold})."
    )


def note_power(plan: Plan, conditions: Sequence[Condition]) -> list[str]:
    """Which grades so few test pictures make hard to reach.

    A victim that guesses picture by picture is right as often as chance has it, and the bound of its residual
    learnability lies above zero by the sampling error of that alone. One that gives few answers, or wrong ones, can be
    bounded better; tiers in which that happened are left out.
    """
    if len(plan.victim_seeds) < 2:
        return []
    best: dict[Grade, list[str]] = {}
    for tier in TIERS:
        tested = [c for c in conditions if c.tier == tier and c.metric == "rho" and c.status == "ok" and not c.oracle]
        uppers = [_guessing(condition, plan) for condition in tested]
        if not tested or max(condition.rho_upper or 0.0 for condition in tested) <= max(uppers):
            continue
        if (grade := grade_of(max(uppers))) != "strong":
            best.setdefault(grade, []).append(tier)
    words = [f"{grade if grade != 'none' else 'no grade'} in {', '.join(tiers)}" for grade, tiers in best.items()]
    if not words:
        return []
    return [
        f"{plan.test_images} test pictures are too few for the best grades: a victim that guesses picture by picture "
        f"would give {'; '.join(words)}."
    ]


def _guessing(condition: Condition, plan: Plan) -> float:
    assert condition.clean is not None
    assert condition.chance is not None
    gap = condition.clean.accuracy.estimate - condition.chance
    if gap <= 0:
        return 1.0
    answers = plan.test_images * len(plan.victim_seeds)
    error = math.sqrt(condition.chance * (1 - condition.chance) / answers)
    return NormalDist().inv_cdf(1 - plan.alpha) * error / gap


def note_unchecked(gates: Sequence[Gate]) -> list[str]:
    """What no gate looked at, as one sentence; none where all was."""
    checked = {gate.id for gate in gates}
    unchecked = [f"{what} ({name})" for name, what in NOT_CHECKED.items() if name not in checked]
    return [f"Not checked: {'; '.join(unchecked)}."] if unchecked else []


def about_labels(data: VerificationData) -> list[str]:
    """What it means that the labels were made here; nothing where folders gave them."""
    if data.pseudo_labelling is None:
        return []
    return [
        "The folder has no classes, so nobody knows how a trainer would label it. The victims learned to tell apart "
        f"{data.pseudo_labelling.words}, made from the originals by how they look; a trainer with other labels may get "
        "more, or less."
    ]


def about_numbers(seeds: int, tested: int, *, held_out: bool) -> list[str]:
    """What so few trainings and test pictures can say.

    Args:
        seeds: trainings an arm.
        tested: number of test pictures.
        held_out: whether they were taken from the pictures to train on.
    """
    notes = []
    if seeds == 1:
        notes.append("One seed only: the spread between trainings is unknown, so there is no grade.")
    if 0 < tested < FEW_TEST_IMAGES:
        half_width = 100 * _TWO_SIDED * (0.25 / tested) ** 0.5
        notes.append(
            f"Only {tested} test pictures: at 50 % accuracy chance alone moves a figure by {half_width:.1f} points. "
            f"{FEW_TEST_IMAGES} or more are better."
        )
    if held_out:
        notes.append("The test pictures were held out from CLEAN; their protected copies took no part in training.")
    return notes


def _about_classes(data: VerificationData) -> list[str]:
    notes = []
    tested = set(data.test_labels.tolist())
    counts = np.bincount(data.test_labels, minlength=len(data.classes)).tolist()
    small = [f"{name} ({n})" for name, n in zip(data.classes, counts, strict=True) if 0 < n < FEWEST_TESTED]
    if small:
        notes.append(
            f"Fewer than {FEWEST_TESTED} test pictures: {', '.join(small)}. Means over the classes lean on them, and "
            "their spread is hardly known."
        )
    absent = [name for label, name in enumerate(data.classes) if label not in tested]
    if absent:
        notes.append(f"Without test picture, so not judged: {', '.join(absent)}.")
    return notes


def about_files(issues: Sequence[PairIssue]) -> list[str]:
    """What follows from files that were left out."""
    counts = Counter(issue.kind for issue in issues)
    texts = {
        "missing": "{} originals have no protected copy and were left out; a trainer who finds them learns from them.",
        "extra": "{} pictures in PROTECTED have no original: a trainer gets them too, but no victim was given them.",
        "leaked": "{} training pictures are test pictures too and were left out of training.",
        "untestable": "{} test pictures could not be read.",
    }
    return [text.format(counts[kind]) for kind, text in texts.items() if counts[kind]]


def about_size(resolution: int) -> list[str]:
    """At what size pictures were seen."""
    return [f"The victims saw pictures squashed to {resolution} x {resolution} pixels."]


def _about_trainers(request: Request) -> list[str]:
    adversaries = list(request.adversaries.values())
    notes = []
    changed = [a.name for a in adversaries if type(a).transform is not Adversary.transform]
    if changed:
        notes.append(
            f"{', '.join(changed)}: applied at that size, once, to the training pictures of every arm and to the test "
            "pictures alike; each result is compared with clean pictures under the same treatment."
        )
    if any(a.readout == "peak" for a in adversaries):
        counted = any(a.readout == "validated" for a in adversaries)
        notes.append(
            "early-stop chooses its moment with the test answers, which no trainer has: an upper bound, shown and not "
            "graded. "
            + (
                "Graded, as prior knowledge, is validated-stop, which chooses with other clean pictures."
                if counted
                else "validated-stop, which chooses with other clean pictures and would be graded, was not run."
            )
        )
    if any(a.metric == "mv" for a in adversaries):
        notes.append(
            "Mixing: the clean part alone is trained for as many steps as all pictures, so it is seen more often and "
            "may be fitted too closely; a protected rest can then help by keeping it from that."
        )
    if any(a.fit != "network" for a in adversaries):
        notes.append("Probes: their seeds are samples of the training pictures, since they have no random start.")
    families = {victim_family(victim) for victim in request.victims}
    if len(families) == 1:
        notes.append("All victims are of one architecture family.")
    return notes
