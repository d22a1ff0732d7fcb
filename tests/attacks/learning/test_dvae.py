"""D-VAE: a planted pattern goes, what the pictures show stays, and the same seed gives the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.adversaries.purifiers import (
    DisentangledAutoencoder,
    RateLimitedPurification,
    purify_by_rate,
)
from bitterant.errors import ConfigError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

Plant = Callable[..., ImageSet]


@pytest.fixture(scope="module")
def planted_set(train_set: ImageSet, plant: Plant) -> ImageSet:
    return plant(train_set, 8)


@pytest.fixture(scope="module")
def purified(planted_set: ImageSet) -> Tensor:
    assert planted_set.labels is not None
    return purify_by_rate(planted_set.images, planted_set.labels, 4, rate=1.0, steps=150, seed=0)


def share_left(changed: Tensor, clean: Tensor, delta: Tensor) -> float:
    """How much of ``delta`` is in the pictures; 1 where all of it is."""
    moved = changed.float() - clean.float()
    return float((moved * delta).sum() / delta.square().sum())


def test_a_planted_pattern_goes_and_the_pictures_stay(
    purified: Tensor, planted_set: ImageSet, train_set: ImageSet
) -> None:
    delta = planted_set.images.float() - train_set.images.float()
    assert share_left(planted_set.images, train_set.images, delta) == pytest.approx(1)
    assert abs(share_left(purified, train_set.images, delta)) < 0.3
    assert (purified.shape, purified.dtype) == (planted_set.images.shape, torch.uint8)
    for after, before in zip(purified[:40], train_set.images[:40], strict=True):
        assert np.corrcoef(after.flatten(), before.flatten())[0, 1] > 0.8
    error = (purified.float() - train_set.images.float()).square().mean().sqrt()
    spread = train_set.images.float().std(dim=0).mean()
    assert error < 0.4 * spread


def test_the_first_pass_finds_the_noise_of_a_class(planted_set: ImageSet, train_set: ImageSet) -> None:
    """With a rate that lets everything through what is left is what was subtracted."""
    assert planted_set.labels is not None
    delta = planted_set.images.float() - train_set.images.float()
    loose = purify_by_rate(planted_set.images, planted_set.labels, 4, rate=8.0, steps=100, seed=0)
    blind = purify_by_rate(planted_set.images, torch.arange(240) % 7 % 4, 4, rate=8.0, steps=100, seed=0)
    assert share_left(loose, train_set.images, delta) < share_left(blind, train_set.images, delta)


def test_the_linear_part_begins_at_the_rate_and_follows_the_pictures(train_set: ImageSet) -> None:
    pictures = train_set.images.float() / 255
    torch.manual_seed(0)
    model = DisentangledAutoencoder(4, 16)
    errors = []
    for rate in (0.1, 0.4, 1.6):
        model.begin_with(pictures, rate)
        drawn = torch.randn(len(pictures), 24, 4, 4, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            found, noise, bits = model(pictures, torch.zeros(len(pictures), dtype=torch.int64), drawn)
        assert float(bits.mean()) == pytest.approx(rate, rel=0.05)
        assert not noise.any()
        errors.append(float((found - pictures).square().mean()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2]


def test_the_same_seed_gives_the_same_whatever_happened_before(train_set: ImageSet) -> None:
    assert train_set.labels is not None
    images, labels = train_set.images[:20, :, :14, :14], train_set.labels[:20]  # 14 is no multiple of a cell
    made = []
    for seed, mood in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(mood)
        made.append(purify_by_rate(images, labels, 4, rate=1.0, steps=3, seed=seed))
    assert made[0].shape == images.shape
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_victim_learns_from_what_came_through(train_set: ImageSet, test_set: ImageSet) -> None:
    assert train_set.labels is not None
    assert test_set.labels is not None
    job = TrainingJob(
        arm="protected", victim="small-cnn", classes=4, images=train_set.images, labels=train_set.labels,
        test_images=test_set.images[:20], test_labels=test_set.labels[:20],
        clean_subset_images=None, clean_subset_labels=None,
        recipe=Recipe(steps=4, batch_size=16), seed=3, evals=1, device="cpu",
    )  # fmt: skip
    learner = create_adversary("dvae:0.5").learner()
    assert learner == RateLimitedPurification(0.5)
    result = pickle.loads(pickle.dumps(learner))(job)
    images = purify_by_rate(job.images, job.labels, 4, rate=0.5, steps=6, seed=3)
    plain = PlainTraining()(replace(job, images=images))
    assert (result.steps, result.final_loss) == (4, plain.final_loss)
    assert torch.equal(result.predictions, plain.predictions)  # type: ignore[arg-type]


def test_names_and_wrong_rates() -> None:
    adversary = create_adversary("dvae")
    assert (adversary.name, adversary.tier, adversary.arms) == ("dvae:1", "training", ("clean", "protected"))
    assert create_adversary("dvae:0.50").name == "dvae:0.5"
    for name in ("dvae:", "dvae:0", "dvae:9", "dvae:x", "dvae:nan"):
        with pytest.raises(ConfigError, match=r"dvae:1\."):
            create_adversary(name)
