"""What a reader should keep in mind with this particular run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from ..adversaries import Adversary
from ..data import FEWEST_TESTED, VerificationData
from ..facts import PairIssue
from ..request import Request
from ..schema import Condition, Gate, Grade, Plan
from ..terms import TIERS
from ..training import victim_family
from .gates import NOT_CHECKED
from .grading import grade_of

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
