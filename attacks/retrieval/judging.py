"""What a reader should keep in mind with this particular result.

From ranks to figures with intervals, checks, and a verdict in plain words.

The rule is that of ``bitterant verify``: what is judged is the share of the clean arm's gain over guessing that the
protected arm keeps, and a grade rests on its upper bound. Here the figure is Hit@k, both ways; the worse way counts.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ...imaging.captions import CaptionSet
from ..evaluation.grading import RULE, figure_grade
from ..facts import PairIssue
from ..schema import Estimate, Grade
from ..statistics import Interval, bootstrap_accuracies, interval, rho_draws, rho_estimate
from .data import CopyCheck, RetrievalData, name_some
from .records import WAYS, ArmRecord, Check, RetrievalVerdict, WayName, WayRecord
from .training import ARM_NAMES, KS, RetrievalReport

DRAWS = 2000
MOST_CHANCE = 0.1
"""The largest k is judged at which guessing is right at most so often."""

TIMES_GUESSING, SHARE_LEARNED = 3.0, 0.3
"""The clean arm has learned where it is right three times as often as guessing, or has come 30 % of the way from
guessing to being always right, whichever is less."""

NOISE_MARGIN = 0.05
"""Hit@k that random noise of the same size may cost before it is remarked on, and that copies have to cost more than it
before their effect is called open rather than absent, where it is not clear."""

LOSS_MARGIN = 1.1
"""Loss of the protected arm over that of the clean arm up to which the copies count as fitted."""

_FROM_BEST_TO_WORST: tuple[Grade, ...] = ("strong", "moderate", "weak", "inconclusive", "none")
_VERBS: dict[Grade, str] = {
    "strong": "Protects well against this trainer",
    "moderate": "Hinders this trainer",
    "weak": "Barely hinders this trainer",
    "none": "Does not protect",
    "inconclusive": "Leaves open whether the copies protect",
}
_TASKS: dict[WayName, str] = {
    "image_to_text": "finds the right caption for a picture",
    "text_to_image": "finds the right picture for a caption",
}


def measure_ways(report: RetrievalReport, own: NDArray[np.bool_], *, seed: int) -> tuple[WayRecord, ...]:
    """Figures of both directions.

    Args:
        report: the trainings, with the ranks of every query.
        own: bool ``[N, M]``, which of the different captions each test picture has.
        seed: of the bootstrap.
    """
    return tuple(_measure(report, way, own, seed) for way in WAYS)


def _measure(report: RetrievalReport, way: WayName, own: NDArray[np.bool_], seed: int) -> WayRecord:
    chance_by_k: dict[int, float] = getattr(report, f"chance_{way}")
    k = max((k for k in KS if chance_by_k[k] <= MOST_CHANCE + 1e-9), default=KS[0])
    chance = chance_by_k[k]
    correct = _by_unit(report, way, own, k)
    draws = dict(zip(ARM_NAMES, bootstrap_accuracies(
        correct, np.zeros(correct.shape[2], np.int64), draws=DRAWS, seed=seed
    ).T, strict=True))  # fmt: skip
    means = {arm: report.mean(arm, way, k)[0] for arm in ARM_NAMES}
    arms = {arm: _arm(report, arm, way, interval(means[arm], draws[arm])) for arm in ARM_NAMES}
    needed = min(TIMES_GUESSING * chance, chance + SHARE_LEARNED * (1.0 - chance))
    learned = means["clean"] >= needed and arms["clean"].judged.low > chance
    left = None
    if learned:
        ratio = rho_draws(draws["protected"], draws["clean"], chance)
        left = _estimate(interval(rho_estimate(means["protected"], means["clean"], chance), ratio))
    below = float(np.quantile(draws["noise"] - draws["protected"], 0.025)) > 0.0
    return WayRecord(
        way=way,
        queries=own.shape[0 if way == "image_to_text" else 1],
        k=k,
        chance=chance_by_k,
        chance_rank=report.chance_ranks[WAYS.index(way)],
        arms=arms,  # type: ignore[arg-type]
        needed=needed,
        learned=learned,
        left=left,
        below_noise=below,
        grade=_grade(left, means["noise"] - means["protected"], below),
    )


def _grade(left: Estimate | None, gain_over_noise: float, below_noise: bool) -> Grade:
    if left is None:
        return "not tested"
    # Each direction is told with a grade of its own, so there are two claims. Both are bounded at 97.5 %, so that the
    # bounds hold for the two together at 95 %.
    grade = figure_grade(left, left.high)
    if below_noise or grade not in ("strong", "moderate", "weak"):
        return grade
    return "none" if gain_over_noise <= NOISE_MARGIN else "inconclusive"


def _arm(report: RetrievalReport, arm: str, way: WayName, judged: Interval) -> ArmRecord:
    figures = {k: report.mean(arm, way, k) for k in KS}
    return ArmRecord(
        hits={k: mean for k, (mean, _) in figures.items()},
        spread={k: deviation for k, (_, deviation) in figures.items()},
        rank=report.rank(arm, way),
        judged=_estimate(judged),
    )


def _estimate(found: Interval) -> Estimate:
    return Estimate(estimate=found.estimate, low=found.low, high=found.high)


def _by_unit(report: RetrievalReport, way: WayName, own: NDArray[np.bool_], k: int) -> NDArray[np.float64]:
    """Hits ``[arm, seed, unit]``, such that the mean over the units is Hit@k.

    A unit is what is drawn anew as a whole: a picture; for captions all that belong to pictures described in one of the
    same words, mostly those of one picture, which are right or wrong together.
    """
    attribute = "image_ranks" if way == "image_to_text" else "text_ranks"
    ranks = np.array(
        [[getattr(row, attribute) for row in report.scores if row.arm == arm] for arm in ARM_NAMES], dtype=np.int64
    )
    hits = (ranks < k).astype(np.float64)
    if way == "image_to_text":
        return hits
    rows, columns = np.nonzero(own)
    count, total = own.shape
    graph = coo_array((np.ones(len(rows)), (rows, columns + count)), shape=(count + total, count + total))
    units, label = connected_components(graph, directed=False)
    if units < 2:  # one chain through all pictures: nothing to draw from but the captions themselves
        return hits
    sums = np.zeros((*hits.shape[:2], units))
    for unit in range(units):
        sums[..., unit] = hits[..., label[count:] == unit].sum(axis=-1)
    return sums * units / total


def check_files_sound(copies: CopyCheck) -> Check:
    """Whether the copies are those of the originals and keep what was promised."""
    faults, stealth = copies.faults, copies.stealth
    remarks = ["no budget stated"] if stealth.budget_levels is None else []
    if stealth.over_budget and copies.lossy:
        remarks.append(f"{len(stealth.over_budget)} over budget, which the run file announces (--format same)")
    found = ", ".join([*faults, *remarks]) or "all as they should be"
    budget = "a stated budget" if stealth.budget_levels is None else f"at most {stealth.budget_levels:g} levels"
    return Check(
        id="files",
        title="Every copy decodes, has an original of its size and mode, and keeps the budget",
        status="fail" if faults else ("warn" if remarks else "pass"),
        decisive=True,
        value=f"{found}; largest change {stealth.linf_max:g} levels",
        needed=f"{budget}, same size and mode, nothing without an original",
    )


def check_apart(issues: Sequence[PairIssue], tested: int) -> Check:
    """Whether test pictures are others than those trained on; the rule is that of gate G5 of ``bitterant verify``."""
    near = sum(issue.kind == "near" for issue in issues)
    return Check(
        id="apart",
        title="Test pictures are other pictures than those trained on",
        status="pass" if not near else ("warn" if near <= RULE.near_share * tested else "fail"),
        decisive=True,
        value=f"{near} of {tested} nearly equal a training picture",
        needed=f"at most {100 * RULE.near_share:.0f} % of them, better none",
    )


def check_trainings(report: RetrievalReport, ways: Sequence[WayRecord]) -> list[Check]:
    """Whether the trainings can say anything."""
    broken = sum(not math.isfinite(row.loss) for row in report.scores)
    learned = [way for way in ways if way.learned]
    cost: dict[WayName, float] = {
        way.way: way.arms["clean"].judged.estimate - way.arms["noise"].judged.estimate for way in learned
    }
    losses = {
        arm: float(np.mean([row.loss for row in report.scores if row.arm == arm])) for arm in ("clean", "protected")
    }
    fitted = losses["protected"] <= LOSS_MARGIN * losses["clean"]
    return [
        Check(
            id="sound",
            title="No training diverged",
            status="fail" if broken else "pass",
            decisive=True,
            value=f"{broken} diverged" if broken else f"{len(report.scores)} trainings sound",
            needed="none",
        ),
        Check(
            id="learned",
            title="The CLIP trained on the clean pictures learned",
            status="fail" if not learned else ("pass" if len(learned) == len(ways) else "warn"),
            decisive=True,
            value="; ".join(f"{_TASKS[w.way]}: {_percent(w.arms['clean'].judged.estimate)}" for w in ways),
            needed="; ".join(f"{_percent(w.needed)} among the first {w.k}" for w in ways)
            + ", and clearly above guessing",
        ),
        Check(
            id="noise",
            title="Random noise of the same size does no harm",
            status="warn" if any(value > NOISE_MARGIN for value in cost.values()) else "pass",
            decisive=False,
            value="; ".join(f"costs {100 * value:.1f} points where it {_TASKS[way]}" for way, value in cost.items())
            or "not known",
            needed=f"at most {100 * NOISE_MARGIN:.0f} points",
        ),
        Check(
            id="fitted",
            title="The CLIP fitted the protected pictures",
            status="pass" if fitted else "warn",
            decisive=False,
            value=f"loss {_number(losses['protected'])}, on the clean ones {_number(losses['clean'])}",
            needed=f"at most {LOSS_MARGIN:g} times that on the clean ones",
        ),
    ]


def worst_way(ways: Sequence[WayRecord]) -> WayRecord | None:
    """The direction that is worse for the protection, of those in which the clean arm learned."""
    learned = [way for way in ways if way.left is not None]
    return max(learned, key=_badness, default=None)


def _badness(way: WayRecord) -> tuple[int, float, float]:
    left = way.left or Estimate(estimate=1.0, low=1.0, high=1.0)
    return _FROM_BEST_TO_WORST.index(way.grade), left.high, left.estimate


def judge(
    victim: str,
    seeds: int,
    ways: Sequence[WayRecord],
    checks: Sequence[Check],
    copies: CopyCheck,
    caveats: Sequence[str],
) -> RetrievalVerdict:
    """Apply the rule.

    Args:
        victim: what was trained.
        seeds: repetitions; one gives no grade.
        ways: both directions; empty where nothing was trained.
        checks: all of them; a failed decisive one makes the result invalid.
        copies: for what is wrong with them.
        caveats: what the reader should keep in mind.
    """
    failed = {check.id for check in checks if check.decisive and check.status == "fail"}
    worst = worst_way(ways)
    grade: Grade = "not tested"
    if "files" in failed:
        headline = (
            f"INVALID, nothing was trained: the copies are not as they should be ({', '.join(copies.faults)}). Protect "
            "the pictures again, or take the odd files out of PROTECTED."
        )
    elif "apart" in failed:
        headline = (
            "INVALID, nothing can be said about the protection: too many test pictures nearly equal pictures that were "
            "trained on. Give others with --test."
        )
    elif "sound" in failed:
        headline = "INVALID, nothing can be said about the protection: a training diverged. Try other --seed values."
    elif worst is None:
        headline = _too_weak(victim, ways)
    elif seeds == 1:
        grade, headline = "not graded", f"One seed, no grade. {_figures(victim, worst)}"
    else:
        grade, headline = worst.grade, f"{_verb(worst)}. {_figures(victim, worst)}"
    missing = sum(issue.kind == "missing" for issue in copies.issues)
    if missing:
        headline += f" {'1 original has' if missing == 1 else f'{missing} originals have'} no protected copy."
    valid = not failed and worst is not None
    return RetrievalVerdict(
        valid=valid, graded=valid and seeds > 1, grade=grade, headline=headline, caveats=tuple(caveats)
    )


def _verb(way: WayRecord) -> str:
    left = way.left
    by_noise = left is not None and figure_grade(left, left.high) != way.grade
    return _VERBS[way.grade] + (" more than random noise of the same size" if by_noise else "")


def _figures(victim: str, way: WayRecord) -> str:
    shown: Mapping[str, float] = {arm: way.arms[arm].judged.estimate for arm in ARM_NAMES}
    left = way.left
    share = "" if left is None else (
        f" Of what the originals teach, {_percent(left.estimate)} is left ({_percent(left.low)} to "
        f"{_percent(left.high)})."
    )  # fmt: skip
    return (
        f"Trained on the copies, {victim} {_TASKS[way.way]} {_among(way.k)} in {_percent(shown['protected'])} of the "
        f"cases; trained on the originals in {_percent(shown['clean'])}, with random noise in "
        f"{_percent(shown['noise'])}, by guessing in {_percent(way.chance[way.k])}.{share}"
    )


def _too_weak(victim: str, ways: Sequence[WayRecord]) -> str:
    found = "; ".join(
        f"{_TASKS[way.way]} {_among(way.k)} in "
        f"{_percent(way.arms['clean'].judged.estimate)} of the cases, by guessing in {_percent(way.chance[way.k])}"
        for way in ways
    )
    return (
        f"INVALID, nothing can be said about the protection: the clean CLIP is itself too weak. Trained on the "
        f"originals, {victim} {found}. Give more pictures, train longer (--epochs), or start from a pretrained CLIP "
        "(--victim clip:ARCH/TAG)."
    )


def _among(k: int) -> str:
    return "first" if k == 1 else f"among the first {k}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.0995 or share == 0 else f"{100 * share:.1f} %"


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "not finite"


FEW_TEST_PICTURES = 1000
"""Below so many the sampling error alone is several points; the paper tests on 1,000 and more."""

_ISSUES = {
    "missing": "{} originals have no copy and were left out; a trainer who finds them learns from them ({}).",
    "leaked": "{} pictures are tested and were left out of training ({}).",
    "untestable": "{} test pictures could not be read ({}).",
    "unreadable": "{} pictures could not be read ({}).",
}
_WAYS = {"image_to_text": "captions for pictures", "text_to_image": "pictures for captions"}


def list_caveats(
    *,
    victim: str,
    seeds: int,
    data: RetrievalData | None,
    issues: Sequence[PairIssue],
    captions: Sequence[CaptionSet],
    ways: Sequence[WayRecord],
    checks: Sequence[Check],
) -> list[str]:
    """One sentence or two each, the gravest first."""
    notes = [
        f"In doubt: {check.title[0].lower()}{check.title[1:]} ({check.value}; wanted: {check.needed})."
        for check in checks
        if check.status == "warn" and check.id != "learned"  # told below, by direction
    ]
    if data is not None:
        notes += _about_power(seeds, data, ways)
    notes += _about_files(issues)
    notes += [text for found in captions for text in found.warnings]
    faults = [f"{problem.relative}: {problem.reason}" for found in captions for problem in found.problems]
    if faults:
        notes.append(f"{len(faults)} captions could not be used ({name_some(faults)}).")
    if data is not None:
        notes += _about_trainer(victim, data.clean.resolution)
    return notes


def _about_power(seeds: int, data: RetrievalData, ways: Sequence[WayRecord]) -> list[str]:
    notes = []
    tested = len(data.test.keys)
    if seeds == 1:
        notes.append("One seed only: the spread between trainings is unknown, so there is no grade.")
    if tested < FEW_TEST_PICTURES:
        moved = 100 * 1.96 * (0.25 / tested) ** 0.5
        notes.append(
            f"Only {tested} test pictures: at a Hit of 50 % chance alone moves a figure by {moved:.0f} points. "
            f"{FEW_TEST_PICTURES} or more are better."
        )
    low = sorted({way.k for way in ways if way.k < 10})
    if low:
        notes.append(
            f"With so few to choose from, Hit@{' and Hit@'.join(map(str, low))} is judged: a larger one would often be "
            "right by guessing."
        )
    weak = [_WAYS[way.way] for way in ways if not way.learned]
    if weak and len(weak) < len(ways):
        notes.append(f"Not judged, since the CLIP trained on the originals did not learn to find {weak[0]}.")
    counts = Counter(text for several in data.test.captions for text in set(several))
    if max(counts.values()) > 1:
        notes.append(
            f"{len(data.test.keys)} test pictures share {len(counts)} captions: any picture that has a caption counts "
            "as the right one."
        )
    if data.test_source == "split":
        notes.append("The test pictures were held out from CLEAN; neither they nor their copies were trained on.")
    return notes


def _about_files(issues: Sequence[PairIssue]) -> list[str]:
    notes = []
    for kind, text in _ISSUES.items():
        names = [issue.path for issue in issues if issue.kind == kind]
        if names:
            notes.append(text.format(len(names), name_some(names)))
    return notes


def _about_trainer(victim: str, resolution: int) -> list[str]:
    notes = [f"The CLIP saw pictures squashed to {resolution} x {resolution} pixels."]
    if victim.startswith("clip:"):
        notes.append("One trainer was tried, who goes on from trained weights and does not process the pictures.")
    else:
        notes.append(
            "One trainer was tried, who starts from random weights and does not process the pictures. Fine-tuning a "
            "pretrained CLIP is hindered far less (--victim clip:ARCH/TAG), and JPEG may undo the protection."
        )
    return notes
