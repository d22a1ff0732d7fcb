"""From ranks to conditions, gates and a verdict: figures against values worked out by hand, and each outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from bitterant.attacks.evaluation import conclude
from bitterant.attacks.evaluation.gates import needed_to_learn
from bitterant.attacks.retrieval import ArmScores, CaptionedSet, ClipRecipe, RetrievalReport
from bitterant.attacks.retrieval.verify import check_trial, measure, plan_retrieval
from bitterant.attacks.schema import Condition, Gate, Plan, Verdict
from bitterant.surrogates.image_text import retrieval_scores

PICTURES = 200


def trial_of(
    shares: Mapping[Any, Sequence[float]],
    *,
    pictures: int = PICTURES,
    back: Mapping[Any, float] | None = None,
    losses: Mapping[str, float] | None = None,
    fits: Mapping[str, float] | None = None,
) -> RetrievalReport:
    """A CLIP that answers these shares of the questions first, by arm and seed, and the others last; one caption each.

    ``back`` says otherwise for pictures for captions.
    """
    right = torch.eye(pictures)
    forth, other = retrieval_scores(right, right, torch.arange(pictures))
    trial = RetrievalReport("clip-small", {}, 100, pictures)
    trial.chance_image_to_text, trial.chance_text_to_image = forth.chance_hits, other.chance_hits
    trial.chance_ranks = (forth.chance_median_rank, other.chance_median_rank)

    def ranks(share: float) -> tuple[int, ...]:
        return tuple(0 if row < round(share * pictures) else pictures - 1 for row in range(pictures))

    def hits(of: tuple[int, ...]) -> dict[int, float]:
        return {k: float(np.mean([rank < k for rank in of])) for k in (1, 5, 10)}

    for arm, by_seed in shares.items():
        for seed, share in enumerate(by_seed):
            images, texts = ranks(share), ranks((back or {}).get(arm, share))
            trial.scores.append(
                ArmScores(
                    arm,
                    seed,
                    (losses or {}).get(arm, 1.0),
                    hits(images),
                    hits(texts),
                    1,
                    1,
                    image_ranks=images,
                    text_ranks=texts,
                    fit=(fits or {}).get(arm, 0.95),
                    steps=400,
                )
            )
    return trial


def judged(trial: RetrievalReport, answers: np.ndarray | None = None) -> tuple[list[Condition], list[Gate], Verdict]:
    seeds = len({row.seed for row in trial.scores})
    plan = plan_for(seeds).model_copy(update={"train_images": 100, "test_images": trial.tested})
    found = measure(plan, trial, np.eye(trial.tested, dtype=bool) if answers is None else answers)
    gates = check_trial(plan, trial, found)
    conditions, verdict = conclude(plan, found, gates, (), [])
    return conditions, gates, verdict


def plan_for(seeds: int, victim: str = "clip-small") -> Plan:
    return plan_retrieval(None, victim, ClipRecipe(), seeds=seeds, seed=0, side=16, noise_levels=8.0)


def spread(clean: float, noise: float, protected: float) -> dict[Any, list[float]]:
    by_arm = {"clean": clean, "noise": noise, "protected": protected}
    return {arm: [min(1.0, max(0.0, value + step)) for step in (-0.005, 0.0, 0.005)] for arm, value in by_arm.items()}


def test_what_is_left_is_the_share_of_the_gain_over_guessing() -> None:
    conditions, _, _ = judged(trial_of(spread(0.80, 0.78, 0.20)))
    assert [condition.id for condition in conditions] == ["clip-small/image_to_text", "clip-small/text_to_image"]
    for condition in conditions:
        assert condition.retrieval is not None
        assert condition.retrieval.k == 10
        assert condition.chance == condition.retrieval.chance[10] == pytest.approx(0.05)
        assert condition.rho is not None
        assert condition.rho.estimate == pytest.approx((0.20 - 0.05) / (0.80 - 0.05), abs=0.01)
        assert condition.rho.low < condition.rho.estimate < condition.rho.high
        assert needed_to_learn(condition) == pytest.approx(0.15), "three times guessing"


@pytest.mark.parametrize(
    ("shares", "grade", "words"),
    [
        ((0.80, 0.79, 0.06), "strong", "Blocks a naive trainer who trains a CLIP to find"),
        ((0.80, 0.79, 0.20), "moderate", "Hinders a naive trainer"),
        ((0.80, 0.79, 0.50), "weak", "Barely hinders a naive trainer"),
        ((0.80, 0.80, 0.80), "none", "Does not stop a naive trainer"),
        ((0.80, 0.82, 0.75), "none", "Does not stop a naive trainer"),
        ((0.80, 0.30, 0.29), "not tested", "INVALID, this run shows nothing about the protection: random noise"),
        ((0.02, 0.02, 0.00), "not tested", "INVALID, this run shows nothing about the protection: the victim did not"),
    ],
)
def test_each_outcome_has_the_words_of_every_verification(
    shares: tuple[float, float, float], grade: str, words: str
) -> None:
    _, _, verdict = judged(trial_of(spread(*shares)))
    assert verdict.tiers[0].grade == grade
    assert verdict.headline.startswith(words)
    assert verdict.valid == (not words.startswith("INVALID"))


def test_the_sentence_says_what_was_asked_and_what_came_of_it() -> None:
    _, _, verdict = judged(trial_of(spread(0.80, 0.79, 0.20)))
    assert "(clip-small, 3 seeds: right among the first 10 in 20 % where clean pictures give 80 %)" in verdict.headline
    assert "Not tested: cheap transforms" in verdict.headline


def test_few_test_pictures_leave_it_open() -> None:
    conditions, _, verdict = judged(trial_of(spread(0.8, 0.75, 0.5), pictures=12))
    assert [condition.retrieval.k for condition in conditions if condition.retrieval is not None] == [1, 1]
    assert verdict.tiers[0].grade == "inconclusive"
    assert verdict.headline.startswith("Leaves open whether it stops")


def test_one_seed_gives_figures_and_no_grade() -> None:
    _, _, verdict = judged(trial_of({"clean": [0.8], "noise": [0.8], "protected": [0.1]}))
    assert verdict.headline.startswith(
        "Smoke test, one seed, no grade: clip-small was right among the first 10 in 10 %"
    )
    assert (verdict.valid, verdict.graded, verdict.tiers[0].grade) == (True, False, "not graded")


def test_the_worse_way_counts() -> None:
    _, _, verdict = judged(trial_of(spread(0.8, 0.79, 0.06), back={"clean": 0.8, "noise": 0.79, "protected": 0.8}))
    assert verdict.tiers[0].worst == "clip-small/text_to_image"
    assert verdict.tiers[0].grade == "none"


def test_a_way_that_was_not_learned_is_set_aside_and_not_survived() -> None:
    unlearned = {"clean": 0.05, "noise": 0.05, "protected": 0.05}
    conditions, gates, verdict = judged(trial_of(spread(0.8, 0.79, 0.06), back=unlearned))
    assert [condition.status for condition in conditions] == ["ok", "set aside"]
    assert {gate.scope: gate.decisive for gate in gates if gate.id == "G1"} == {
        "clip-small/image_to_text": True, "clip-small/text_to_image": False,
    }  # fmt: skip
    assert verdict.valid
    assert (verdict.tiers[0].grade, verdict.tiers[0].complete) == ("strong", False)


def test_intervals_know_that_the_captions_of_a_picture_hang_together() -> None:
    """Five captions that are right or wrong together are one piece of evidence, not five."""
    pictures, arms = 40, ("clean", "noise", "protected")
    trial = trial_of({arm: [0.5] for arm in arms}, pictures=pictures)
    single = judged(trial)[0][1].arms["clean"].accuracy
    for row in trial.scores:
        object.__setattr__(row, "text_ranks", tuple(rank for rank in row.text_ranks for _ in range(5)))
    several = judged(trial, np.kron(np.eye(pictures), np.ones(5)).astype(bool))[0][1].arms["clean"].accuracy
    assert several == single


def test_a_training_that_diverged_is_no_protection() -> None:
    _, _, verdict = judged(trial_of(spread(0.8, 0.79, 0.0), losses={"protected": float("nan")}))
    assert not verdict.valid
    assert "3 trainings diverged" in verdict.headline


def test_copies_that_were_not_even_fitted_show_nothing() -> None:
    _, gates, verdict = judged(trial_of(spread(0.8, 0.79, 0.06), fits={"protected": 0.5}))
    assert {gate.status for gate in gates if gate.id == "G3"} == {"fail"}
    assert not verdict.valid
    assert "did not even fit the protected pictures" in verdict.headline


def test_who_goes_on_from_trained_weights_has_prior_knowledge() -> None:
    plan = plan_for(3, "clip:ViT-B-32/openai")
    assert {(planned.tier, planned.trainer) for planned in plan.conditions} == {("prior", "W4")}
    assert {(planned.tier, planned.trainer) for planned in plan_for(3).conditions} == {("naive", "W1")}


def test_pictures_with_one_caption_answer_for_each_other() -> None:
    images = torch.zeros((3, 3, 8, 8), dtype=torch.uint8)
    pictures = CaptionedSet(images, (("a cat", "a pet"), ("a dog", "a pet"), ("a cat",)), ("0", "1", "2"))
    texts, own = pictures.answers()
    assert texts == ["a cat", "a pet", "a dog"]
    assert own.tolist() == [[True, True, False], [False, True, True], [True, False, False]]
