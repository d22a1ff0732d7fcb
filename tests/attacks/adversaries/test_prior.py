"""Trainers who go on from something: pretrained weights, a trained victim, features learned without labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from bitterant.attacks.adversaries import adversary_classes, create_adversary
from bitterant.attacks.adversaries.learning import TrainingJob
from bitterant.attacks.adversaries.prior import (
    Contrastive,
    FineTuning,
    LastLayerRefit,
    Recovery,
    freeze_early,
    nt_xent,
    renew_head,
)
from bitterant.errors import ConfigError, SetupError, UnknownNameError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe, create_surrogate

RECIPE = Recipe(steps=40, batch_size=32)


@pytest.fixture(scope="module")
def job(train_set: ImageSet, test_set: ImageSet) -> TrainingJob:
    assert train_set.labels is not None
    assert test_set.labels is not None
    return TrainingJob(
        arm="clean", victim="small-cnn", classes=4, images=train_set.images, labels=train_set.labels,
        test_images=test_set.images[:40], test_labels=test_set.labels[:40], clean_subset_images=train_set.images[:40],
        clean_subset_labels=train_set.labels[:40], recipe=RECIPE, seed=5, evals=2, device="cpu",
    )  # fmt: skip


def state(network: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in network.state_dict().items()}


def test_the_refit_leaves_the_body_and_the_control_has_none(job: TrainingJob) -> None:
    job = replace(job, recipe=replace(RECIPE, steps=100))
    result, control = LastLayerRefit()(job), LastLayerRefit()(replace(job, arm="untrained"))
    assert (result.steps, control.steps) == (100, 0)
    assert result.train_accuracy > 0.9
    assert result.predictions is not None
    assert control.predictions is not None
    right = [float((r.predictions == job.test_labels).float().mean()) for r in (result, control)]  # type: ignore[union-attr]
    assert right[0] > right[1] > 0


def test_recovery_trains_on_and_its_control_starts_anew(job: TrainingJob) -> None:
    result, control = Recovery()(job), Recovery()(replace(job, arm="untrained"))
    assert (result.steps, control.steps) == (50, 10)
    assert len(result.curve) == 2


def test_simclr_learns_without_labels(job: TrainingJob) -> None:
    job = replace(job, recipe=replace(RECIPE, steps=5))
    shuffled = replace(job, labels=job.labels.flip(0))
    first, second = Contrastive()(job), Contrastive()(shuffled)
    assert first.predictions is not None
    assert second.predictions is not None
    assert torch.equal(first.predictions, second.predictions)
    assert first.steps == 20


def test_early_layers_keep_weights_and_statistics(job: TrainingJob) -> None:
    network = create_surrogate("small-cnn", num_classes=4, resolution=16, seed=0)
    freeze_early(network, 0.5)
    before = state(network)
    network.train()
    network(torch.rand(8, 3, 16, 16)).sum().backward()
    after = state(network)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    assert "net.features.0.weight" in frozen
    assert "net.head.weight" not in frozen
    assert not any(key.startswith(("net.features.1.", "net.features.5.")) for key in changed)
    assert "net.features.15.running_mean" in changed or any("running_mean" in key for key in changed)
    freeze_early(network, 1.0)
    assert network.head.weight.requires_grad


def test_fine_tuning_starts_from_the_weights_with_a_new_head(tmp_path: Path, job: TrainingJob) -> None:
    trained = create_surrogate("cifar-resnet20", num_classes=4, resolution=16, seed=1)
    path = tmp_path / "weights.safetensors"
    save_file(trained.net.state_dict(), path)
    job = replace(job, victim=f"cifar-resnet20@{path}", recipe=Recipe(steps=1, batch_size=8, lr=1e-9))
    network = job.fresh_network()
    assert torch.equal(network.net.conv1.weight, trained.net.conv1.weight)  # type: ignore[union-attr]
    assert torch.equal(network.head.weight, trained.head.weight)
    renew_head(network, 3)
    assert not torch.equal(network.head.weight, trained.head.weight)
    head = network.head.weight.clone()
    renew_head(network, 3)
    assert torch.equal(head, network.head.weight)
    assert FineTuning(frozen=0.5)(job).steps == 1


def test_fine_tuning_names_its_network_and_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    name = f"cifar-resnet20@{path}"
    adversary = create_adversary(f"fine-tune:{name}")
    assert (adversary.name, adversary.network) == (f"fine-tune:{name}", name)
    assert adversary.phrase == "a trainer who fine-tunes the pretrained cifar-resnet20"
    with pytest.raises(SetupError, match="no weights file"):
        adversary.check(32)
    save_file(create_surrogate("cifar-resnet20", num_classes=10, resolution=32, seed=0).net.state_dict(), path)
    assert adversary.check(32) == "fine-tuned from cifar-resnet20, weights: weights.safetensors"
    recipe = adversary.adapt(Recipe(steps=400, lr=0.1))
    assert (recipe.steps, recipe.lr) == (100, pytest.approx(0.01))
    with pytest.raises(ConfigError, match="random weights"):
        create_adversary("fine-tune:resnet18").check(32)
    with pytest.raises(ConfigError, match="linear-probe"):
        create_adversary("fine-tune:small-cnn+resnet18")
    with pytest.raises(UnknownNameError):
        create_adversary("freeze-early:resnet-18")


def test_shares_and_arms_of_those_who_go_on() -> None:
    for name in ("last-layer:0.01", "recover:0.05", "simclr:1"):
        adversary = create_adversary(name)
        assert adversary.name == name
        assert adversary.clean_share == float(name.partition(":")[2])
        assert adversary.arms == ("clean", "protected", "untrained")
    assert {name for name, cls in adversary_classes().items() if cls.continues} == {"last-layer", "recover"}


def test_the_contrastive_loss_is_that_of_the_paper() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(5, 7, generator=generator), torch.randn(5, 7, generator=generator)
    both = [row / np.linalg.norm(row) for row in torch.cat([first, second]).numpy()]
    total = 0.0
    for i in range(10):
        scores = [np.exp(both[i] @ both[j] / 0.5) for j in range(10) if j != i]
        total -= np.log(np.exp(both[i] @ both[(i + 5) % 10] / 0.5) / sum(scores))
    assert float(nt_xent(first, second, 0.5)) == pytest.approx(total / 10, rel=1e-5)
    same = torch.ones(3, 4)
    assert float(nt_xent(same, same, 0.5)) == pytest.approx(np.log(5)), "all alike: one of 2 B - 1"
