"""D-VAE and leaked pairs: the protection goes, what the pictures show stays, the same seed gives the same."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from bitterant.attacks import verify_sets
from bitterant.attacks.adversaries import create_adversaries, create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.adversaries.purifiers import (
    DisentangledAutoencoder,
    PairedPurification,
    RateLimitedPurification,
    Remover,
    fit_remover,
    purify_by_pairs,
    purify_by_rate,
)
from bitterant.attacks.data import VerificationData, load_sets
from bitterant.attacks.training.cache import CellKeys
from bitterant.attacks.training.executor import SerialExecutor
from bitterant.attacks.training.store import ArrayStore
from bitterant.errors import ConfigError, LabelError
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


def test_the_same_seed_gives_the_same_limited_pictures(train_set: ImageSet) -> None:
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


def test_the_same_seed_removes_the_same_from_pairs(train_set: ImageSet) -> None:
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


@pytest.mark.parametrize(("total", "advice"), [(15, r"Give more pictures\.$"), (16, r"or fewer pairs: pairs:8\.$")])
def test_fewer_pairs_are_advised_where_they_would_do(total: int, advice: str) -> None:
    labels = np.zeros(total, dtype=np.int64)
    with pytest.raises(LabelError, match=advice):
        create_adversary("pairs").relabel(SimpleNamespace(labels=labels))  # type: ignore[arg-type]


def a_store(place: Path, data: VerificationData, *names: str, seed: int = 0) -> ArrayStore:
    made = {adversary.name: adversary for adversary in create_adversaries(list(names))}
    place.mkdir(exist_ok=True)
    return ArrayStore(place, data, made, seed=seed, executor=SerialExecutor())


@pytest.fixture(scope="module")
def data(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> VerificationData:
    return load_sets(train_set, plant(train_set, 8), test_set, epsilon=8 / 255)


def read(path: Path | None) -> np.ndarray:
    assert path is not None
    return np.load(path)


def test_pairs_leave_the_training_of_every_arm(tmp_path: Path, data: VerificationData) -> None:
    store = a_store(tmp_path, data, "pairs:40")
    chosen = store.covered(40 / 240)
    assert chosen.sum() == 40
    assert np.bincount(data.labels[chosen]).tolist() == [10, 10, 10, 10]
    for arm, pictures in (("clean", data.clean), ("protected", data.protected)):
        found = store.inputs(arm, "pairs:40")  # type: ignore[arg-type]
        assert (read(found.train_images) == pictures[~chosen]).all()
        assert (read(found.train_labels) == data.labels[~chosen]).all()
        assert (read(found.clean_subset_images) == data.clean[chosen]).all()
        assert (read(found.clean_subset_in_arm) == pictures[chosen]).all()
        assert (read(found.clean_subset_labels) == data.labels[chosen]).all()
        assert (read(found.test_images) == data.test_images).all()
    shuffled = store.inputs("shuffled", "pairs:40")
    assert (read(shuffled.clean_subset_in_arm) == read(shuffled.clean_subset_images)).all()
    assert store.inputs("clean", "none").clean_subset_in_arm is None


def test_the_plan_says_where_pairs_come_from_and_so_does_the_key(
    tmp_path: Path, data: VerificationData, monkeypatch: pytest.MonkeyPatch
) -> None:
    leaked = a_store(tmp_path / "leaked", data, "pairs:40")
    detail = leaked.labelling("pairs:40").detail
    assert detail == (
        "40 pairs, leaked from this folder, with its own noise, since no run file says how the pictures were protected"
    )
    calls = []

    def tool(pictures: np.ndarray, *rest: object, **options: object) -> tuple[np.ndarray, str]:
        calls.append(len(pictures))
        return 255 - pictures, "made by a test"

    monkeypatch.setattr("bitterant.attacks.training.store.run_tool", tool)
    made = a_store(tmp_path / "made", data, "pairs:40")
    assert made.labelling("pairs:40").detail == "40 pairs, made by a test"
    chosen = made.covered(40 / 240)
    assert (read(made.inputs("protected", "pairs:40").clean_subset_in_arm) == 255 - data.clean[chosen]).all()
    assert (read(made.inputs("clean", "pairs:40").clean_subset_in_arm) == data.clean[chosen]).all()
    assert calls == [40], "it is run once"

    def key(store: ArrayStore, arm: str) -> str:
        from bitterant.attacks.training.cells import Cell

        keys = CellKeys(
            store, {"small-cnn": Recipe()}, {"pairs:40": create_adversary("pairs:40")}, evals=1, device="cpu"
        )
        identity = keys.cell(Cell(arm, "pairs:40", "small-cnn", 0, 1))  # type: ignore[arg-type]
        assert identity is not None
        return identity.key

    assert key(leaked, "clean") == key(made, "clean")
    assert key(leaked, "protected") != key(made, "protected")


def test_a_planted_pattern_falls_to_pairs(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> None:
    report = verify_sets(
        train_set, plant(train_set, 8), test_set, adversaries=["pairs:64"], victims=["small-cnn"], seeds=1,
        recipe=Recipe(steps=120, batch_size=32), workers=1, epsilon=8 / 255, device="cpu",
    )  # fmt: skip
    naive, paired = report.condition("small-cnn/none"), report.condition("small-cnn/pairs:64")
    assert naive.rho is not None
    assert paired.rho is not None
    assert paired.rho.estimate > naive.rho.estimate + 0.4
    assert paired.detail is not None
    assert paired.detail.startswith("64 pairs, leaked")


def test_names_and_wrong_numbers(data: VerificationData, tmp_path: Path) -> None:
    adversary = create_adversary("pairs")
    assert (adversary.name, adversary.tier, adversary.arms) == ("pairs:500", "prior", ("clean", "protected"))
    for name in ("pairs:", "pairs:7", "pairs:x", "pairs:0.5"):
        with pytest.raises(ConfigError, match=r"pairs:500\."):
            create_adversary(name)
    with pytest.raises(LabelError, match="fewer pairs: pairs:120"):
        a_store(tmp_path, data, "pairs").labelling("pairs:500")
