"""Staged training slows what sorts the pictures by class, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.adversaries.objectives import Block, Brake, StagedTraining, clustering, shallow_blocks
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe, create_surrogate, train_classifier


@pytest.fixture(scope="module")
def job(train_set: ImageSet, test_set: ImageSet) -> TrainingJob:
    assert train_set.labels is not None
    assert test_set.labels is not None
    return TrainingJob(
        arm="protected", victim="small-cnn", classes=4, images=train_set.images, labels=train_set.labels,
        test_images=test_set.images[:40], test_labels=test_set.labels[:40], clean_subset_images=train_set.images[:8],
        clean_subset_labels=train_set.labels[:8], recipe=Recipe(steps=4, batch_size=32), seed=5, evals=1, device="cpu",
    )  # fmt: skip


def test_clustering_is_the_variance_between_classes_less_chance() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 5
    noise = rng.normal(size=(60, 3))
    values = noise + np.outer(labels, [0.0, 1.0, 100.0])
    expected = []
    for feature in values.T:
        groups = [feature[labels == k] for k in range(5)]
        inside = sum(((group - group.mean()) ** 2).sum() for group in groups) / (60 - 5)
        expected.append(1 - inside / feature.var(ddof=1))
    found = clustering(torch.from_numpy(values), torch.from_numpy(labels), 5)
    assert clustering(torch.from_numpy(values), torch.from_numpy(labels), 9) == found, "absent classes say nothing"
    assert float(found) == pytest.approx(np.mean(expected), abs=1e-5)
    by_chance = [clustering(torch.randn(64, 20), torch.randint(10, (64,)), 10) for _ in range(30)]
    assert abs(np.mean(by_chance)) < 0.03
    assert clustering(torch.randn(4, 3), torch.arange(4), 4) == 0
    assert clustering(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64), 4) == 0
    assert clustering(torch.ones(8, 3), torch.arange(8) % 2, 2) == 0


def test_shallow_blocks_are_the_first_layers_in_order() -> None:
    network = create_surrogate("small-cnn", num_classes=4, resolution=16, seed=0).net
    blocks = shallow_blocks(network, 1 / 3, 2)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    found = [[names[id(parameter)] for parameter in block.parameters] for block in blocks]
    assert found == [
        ["features.0.weight", "features.1.weight", "features.1.bias"],
        ["features.4.weight", "features.5.weight", "features.5.bias"],
    ]
    assert len(shallow_blocks(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), 1.0, 3)) == 1, "never the last layer"


def test_blocks_up_to_the_one_that_sorts_are_slowed_and_let_go() -> None:
    blocks = [Block(nn.Identity(), [nn.Parameter(torch.zeros(1))]) for _ in range(3)]
    brake = Brake(blocks, threshold=0.2, slowest=0.25, every=2)

    def decided(*measures: float, steps: int = 2) -> list[float]:
        for block, measure in zip(blocks, measures, strict=True):
            block.measure = torch.tensor(measure)
        for _ in range(steps):
            brake.after_step()
        return [float(block.rate) for block in blocks]

    assert decided(0.1, 0.3, 0.1, steps=1) == [1, 1, 1]
    assert decided(0.1, 0.3, 0.1, steps=1) == [0.5, 0.5, 1]
    assert decided(0.3, 0.1, 0.1) == [0.25, 1, 1]
    assert decided(0.1, 0.1, 0.5) == [0.25, 0.5, 0.5]
    assert decided(0.1, 0.1, 0.1, steps=4) == [1, 1, 1]


def test_a_slowed_block_moves_as_with_a_smaller_learning_rate() -> None:
    first, last = nn.Linear(3, 4), nn.Linear(4, 2)
    network = nn.Sequential(first, nn.ReLU(), last)
    block = Block(first, list(first.parameters()), rate=torch.tensor(0.125))
    brake = Brake([block], threshold=9.0, slowest=0.125, every=10**6)
    batch, target = torch.randn(8, 3), torch.arange(8) % 2
    before = [parameter.detach().clone() for parameter in network.parameters()]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    loss, _ = brake.objective(network, batch, target, torch.Generator())
    loss.backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]  # type: ignore[union-attr]
    optimiser.step()
    brake.after_step()
    for parameter, was, gradient, rate in zip(
        network.parameters(), before, gradients, (0.0625, 0.0625, 0.5, 0.5), strict=True
    ):
        assert torch.allclose(parameter, was - rate * gradient, atol=1e-6)
    assert not first._forward_hooks


@pytest.mark.parametrize("coded", [False, True])
def test_staged_training_slows_under_a_planted_code_and_not_otherwise(job: TrainingJob, coded: bool) -> None:
    images = job.images.clone()
    if coded:  # a brightness for each class: a shallow layer cannot but sort by it
        images = (images.int() + 25 * (job.labels[:, None, None, None] - 1)).clamp(0, 255).to(torch.uint8)
    network = job.fresh_network()
    brake = replace(StagedTraining(), threshold=0.25, every=2).brake(network)
    rates: list[float] = []

    def after_step() -> None:
        brake.after_step()
        rates.append(float(brake.blocks[0].rate))

    train_classifier(
        network, images, job.labels, Recipe(steps=30, batch_size=64), seed=5, evals=1, device="cpu",
        objective=brake.objective, after_step=after_step,
    )  # fmt: skip
    assert rates[-1] == (1 / 64 if coded else 1.0)


def test_staged_is_plain_where_nothing_sorts(job: TrainingJob) -> None:
    """Watching alone changes nothing."""
    plain, staged = PlainTraining()(job), replace(StagedTraining(), threshold=9.0)(job)
    assert plain.predictions is not None
    assert staged.predictions is not None
    assert torch.equal(plain.predictions, staged.predictions)
    assert plain.final_loss == staged.final_loss
    assert create_adversary("staged").learner() == StagedTraining()
