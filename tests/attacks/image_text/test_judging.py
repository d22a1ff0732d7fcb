"""From ranks to a verdict: figures against values worked out by hand, and the words for each outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bitterant.attacks.data.checking import Distances, StealthFile, summarise_stealth
from bitterant.attacks.facts import PairIssue, Protection
from bitterant.attacks.retrieval import ArmScores, CaptionedSet, RetrievalReport
from bitterant.attacks.retrieval.data import CopyCheck
from bitterant.attacks.retrieval.judging import (
    check_apart,
    check_files_sound,
    check_trainings,
    judge,
    measure_ways,
    worst_way,
)
from bitterant.attacks.retrieval.records import RetrievalVerdict, WayRecord
from bitterant.surrogates.image_text import retrieval_scores

PICTURES = 200


def report_of(
    shares: Mapping[str, Sequence[float]], *, pictures: int = PICTURES, losses: Mapping[str, float] | None = None
) -> RetrievalReport:
    """A CLIP that answers these shares of the queries first, by arm and seed, and the others last; one caption each."""
    right = torch.eye(pictures)
    forth, back = retrieval_scores(right, right, torch.arange(pictures))
    report = RetrievalReport("clip-small", {}, 100, pictures)
    report.chance_image_to_text, report.chance_text_to_image = forth.chance_hits, back.chance_hits
    report.chance_ranks = (forth.chance_median_rank, back.chance_median_rank)
    for arm, by_seed in shares.items():
        for seed, share in enumerate(by_seed):
            ranks = tuple(0 if row < round(share * pictures) else pictures - 1 for row in range(pictures))
            hits = {k: float(np.mean([rank < k for rank in ranks])) for k in (1, 5, 10)}
            loss = (losses or {}).get(arm, 1.0)
            report.scores.append(ArmScores(arm, seed, loss, hits, hits, 1, 1, image_ranks=ranks, text_ranks=ranks))
    return report


def measured(clean: float, noise: float, protected: float, **options: Any) -> tuple[RetrievalReport, list[WayRecord]]:
    spread = (-0.005, 0.0, 0.005)
    shares = {"clean": clean, "noise": noise, "protected": protected}
    report = report_of({arm: [max(0.0, v + s) for s in spread] for arm, v in shares.items()}, **options)
    return report, list(measure_ways(report, np.eye(report.tested, dtype=bool), seed=0))


def copies_of(*levels: float, budget: float | None = 8.0, lossy: bool = False, kinds: Sequence[str] = ()) -> CopyCheck:
    files = tuple(
        StealthFile(f"{i}.jpg", f"{i}.png", 16, 16, Distances(value, 1.0, 40.0, 0.0)) for i, value in enumerate(levels)
    )
    return CopyCheck(
        pairs=(),
        files=files,
        issues=tuple(PairIssue(kind=kind, path=f"{kind}.png", detail="as it is") for kind in kinds),  # type: ignore[arg-type]
        stealth=summarise_stealth(files, budget_levels=budget, budget_source="stated by the run file"),
        protection=Protection(format="same") if lossy else None,
    )


def verdict_of(report: RetrievalReport, ways: Sequence[WayRecord], copies: CopyCheck | None = None) -> RetrievalVerdict:
    copies = copies or copies_of(8.0)
    seeds = len({row.seed for row in report.scores})
    return judge("clip-small", seeds, ways, [check_files_sound(copies), *check_trainings(report, ways)], copies, ())


def test_what_is_left_is_the_share_of_the_gain_over_guessing() -> None:
    _, ways = measured(0.80, 0.78, 0.20)
    for way in ways:
        assert way.k == 10
        assert way.chance[10] == pytest.approx(0.05)
        assert way.left is not None
        assert way.left.estimate == pytest.approx((0.20 - 0.05) / (0.80 - 0.05), abs=0.01)
        assert way.left.low < way.left.estimate < way.left.high
        assert way.needed == pytest.approx(0.15)
        assert way.learned
        assert way.below_noise


@pytest.mark.parametrize(
    ("shares", "grade", "words"),
    [
        ((0.80, 0.79, 0.06), "strong", "Protects well against this trainer. Trained on the copies, clip-small finds"),
        ((0.80, 0.79, 0.20), "moderate", "Hinders this trainer."),
        ((0.80, 0.79, 0.50), "weak", "Barely hinders this trainer."),
        ((0.80, 0.80, 0.80), "none", "Does not protect."),
        ((0.80, 0.82, 0.75), "none", "Does not protect."),
        ((0.80, 0.30, 0.29), "none", "Does not protect more than random noise of the same size."),
        ((0.02, 0.02, 0.00), "not tested", "INVALID, nothing can be said"),
        ((0.12, 0.12, 0.05), "not tested", "INVALID, nothing can be said"),
    ],
)
def test_each_outcome_has_its_words(shares: tuple[float, float, float], grade: str, words: str) -> None:
    report, ways = measured(*shares)
    verdict = verdict_of(report, ways)
    assert verdict.grade == grade
    assert verdict.headline.startswith(words)
    assert verdict.valid == (grade != "not tested")


def test_few_test_pictures_leave_it_open() -> None:
    report, ways = measured(0.8, 0.75, 0.5, pictures=12)
    assert [way.k for way in ways] == [1, 1]
    verdict = verdict_of(report, ways)
    assert verdict.grade == "inconclusive"
    assert verdict.headline.startswith("Leaves open whether the copies protect")


def test_one_seed_gives_figures_and_no_grade() -> None:
    report = report_of({"clean": [0.8], "noise": [0.8], "protected": [0.1]})
    verdict = verdict_of(report, measure_ways(report, np.eye(PICTURES, dtype=bool), seed=0))
    assert verdict.headline.startswith("One seed, no grade. Trained on the copies, clip-small finds")
    assert (verdict.valid, verdict.graded, verdict.grade) == (True, False, "not graded")


def test_the_worse_direction_counts() -> None:
    _, (good, _) = measured(0.8, 0.79, 0.06)
    _, (_, bad) = measured(0.8, 0.79, 0.8)
    assert worst_way([good, bad]) is bad
    _, (unlearned, _) = measured(0.05, 0.05, 0.05)
    assert worst_way([good, unlearned]) is good
    assert worst_way([unlearned]) is None


def test_intervals_know_that_the_captions_of_a_picture_hang_together() -> None:
    """Five captions that are right or wrong together are one piece of evidence, not five."""
    pictures, report = 40, report_of({arm: [0.5] for arm in ("clean", "noise", "protected")}, pictures=40)
    single = measure_ways(report, np.eye(pictures, dtype=bool), seed=0)[1].arms["clean"].judged
    for row in report.scores:
        object.__setattr__(row, "text_ranks", tuple(rank for rank in row.text_ranks for _ in range(5)))
    several = measure_ways(report, np.kron(np.eye(pictures), np.ones(5)).astype(bool), seed=0)[1].arms["clean"].judged
    assert several == single


def test_files_that_are_not_as_they_should_be_come_before_any_figure() -> None:
    report, ways = measured(0.8, 0.79, 0.06)
    for copies, reason in (
        (copies_of(8.0, 9.0, 8.00001), "1 over the budget of 8 levels"),
        (copies_of(8.0, kinds=("resized", "resized", "extra")), "2 of another size or mode, 1 without an original"),
    ):
        verdict = verdict_of(report, ways, copies)
        assert verdict.headline.startswith(
            f"INVALID, nothing was trained: the copies are not as they should be ({reason})"
        )
        assert not verdict.valid
    for copies in (copies_of(9.0, lossy=True), copies_of(200.0, budget=None), copies_of(8.0, kinds=("missing",))):
        assert verdict_of(report, ways, copies).valid
    assert verdict_of(report, ways, copies_of(8.0, kinds=("missing",))).headline.endswith(
        "1 original has no protected copy."
    )


def test_a_training_that_diverged_is_no_protection() -> None:
    report, ways = measured(0.8, 0.79, 0.0, losses={"protected": float("nan")})
    verdict = verdict_of(report, ways)
    assert not verdict.valid
    assert "a training diverged" in verdict.headline


def test_test_pictures_that_were_all_but_trained_on() -> None:
    _, ways = measured(0.8, 0.79, 0.06)
    near = PairIssue(kind="near", path="a.png", detail="as it is")
    assert [check_apart([near] * count, 100).status for count in (0, 5, 6)] == ["pass", "warn", "fail"]
    verdict = judge("clip-small", 3, ways, [check_apart([near] * 6, 100)], copies_of(8.0), ())
    assert not verdict.valid
    assert "nearly equal" in verdict.headline


def test_doubts_are_noted() -> None:
    report, ways = measured(0.8, 0.6, 0.3, losses={"clean": 1.0, "protected": 2.0})
    status = {check.id: check.status for check in check_trainings(report, ways)}
    assert status == {"sound": "pass", "learned": "pass", "noise": "warn", "fitted": "warn"}


def test_pictures_with_one_caption_answer_for_each_other() -> None:
    images = torch.zeros((3, 3, 8, 8), dtype=torch.uint8)
    pictures = CaptionedSet(images, (("a cat", "a pet"), ("a dog", "a pet"), ("a cat",)), ("0", "1", "2"))
    texts, own = pictures.answers()
    assert texts == ["a cat", "a pet", "a dog"]
    assert own.tolist() == [[True, True, False], [False, True, True], [True, False, False]]
