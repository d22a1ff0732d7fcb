"""A checkpoint holds the network that would be trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob, trained_network
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

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


def test_a_kept_network_is_the_one_that_would_be_trained(tmp_path: Path, job: TrainingJob) -> None:
    keeping = replace(job, checkpoint=tmp_path / "network.safetensors")
    PlainTraining()(keeping)
    assert [path.name for path in tmp_path.iterdir()] == ["network.safetensors"]
    read, trained = trained_network(keeping), trained_network(job)
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in read.state_dict().items())
    again = trained_network(replace(job, checkpoint=tmp_path / "other.safetensors"))
    assert (tmp_path / "other.safetensors").is_file()
    assert read.fingerprint() == again.fingerprint()
