"""Leaked pairs: a network learns from them to take away what the protection put in, on pictures it has not seen."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.adversaries.purifiers import PairedPurification, Remover, fit_remover, purify_by_pairs
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

Plant = Callable[..., ImageSet]
PAIRS = 64


def fixed_pattern(side: int) -> Tensor:
    """One random pattern of +-8 levels for all pictures, ``[3, side, side]``: it has no structure but its places."""
    return (torch.randint(0, 2, (3, side, side), generator=torch.Generator().manual_seed(4)) * 2 - 1) * 8


def put_on(images: Tensor, delta: Tensor) -> Tensor:
    return (images.to(torch.int16) + delta).clamp(0, 255).to(torch.uint8)


def error(first: Tensor, second: Tensor) -> float:
    """Root mean square difference in levels."""
    return float((first.float() - second.float()).square().mean().sqrt())


def test_a_fixed_pattern_is_taken_from_pictures_that_were_not_among_the_pairs(train_set: ImageSet) -> None:
    clean, changed = train_set.images, put_on(train_set.images, fixed_pattern(16))
    model = fit_remover(clean[:PAIRS], changed[:PAIRS], steps=150, seed=0)
    held_out, original = purify_by_pairs(model, changed[PAIRS:]), clean[PAIRS:]
    assert error(changed[PAIRS:], original) == pytest.approx(8, abs=0.3)
    assert error(held_out, original) < 8 / 4
    assert (held_out.shape, held_out.dtype) == (original.shape, torch.uint8)


def test_the_pattern_of_each_class_is_found_without_labels(train_set: ImageSet, plant: Plant) -> None:
    clean, changed = train_set.images, plant(train_set, 8).images
    model = fit_remover(clean[:PAIRS], changed[:PAIRS], steps=150, seed=0)
    assert error(purify_by_pairs(model, changed[PAIRS:]), clean[PAIRS:]) < 8 / 4


def test_pairs_that_are_equal_leave_everything_as_it_is(train_set: ImageSet) -> None:
    images = train_set.images[:40, :, :14, :14]  # 14 is no multiple of the stride
    model = fit_remover(images, images, steps=5, seed=0)
    assert torch.equal(purify_by_pairs(model, images), images)


def test_the_same_seed_gives_the_same_whatever_happened_before(train_set: ImageSet) -> None:
    clean, changed = train_set.images[:32], put_on(train_set.images[:32], fixed_pattern(16))
    made = []
    for seed, mood in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(mood)
        made.append(purify_by_pairs(fit_remover(clean, changed, steps=30, seed=seed), changed))
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_at_the_beginning_nothing_is_taken_away() -> None:
    assert not Remover(16)(torch.rand(2, 3, 16, 16)).any()


def test_the_victim_learns_from_what_is_left(train_set: ImageSet, test_set: ImageSet) -> None:
    assert train_set.labels is not None
    assert test_set.labels is not None
    changed = put_on(train_set.images, fixed_pattern(16))
    job = TrainingJob(
        arm="protected", victim="small-cnn", classes=4, images=changed[20:], labels=train_set.labels[20:],
        test_images=test_set.images[:20], test_labels=test_set.labels[:20], clean_subset_images=train_set.images[:20],
        clean_subset_labels=train_set.labels[:20], recipe=Recipe(steps=4, batch_size=16), seed=3, evals=1, device="cpu",
        clean_subset_in_arm=changed[:20],
    )  # fmt: skip
    learner = create_adversary("pairs:20").learner()
    assert learner == PairedPurification()
    result = pickle.loads(pickle.dumps(learner))(job)
    model = fit_remover(train_set.images[:20], changed[:20], steps=6, seed=3)
    plain = PlainTraining()(replace(job, images=purify_by_pairs(model, job.images)))
    assert (result.steps, result.final_loss) == (4, plain.final_loss)
    assert torch.equal(result.predictions, plain.predictions)  # type: ignore[arg-type]
