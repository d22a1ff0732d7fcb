"""Orthogonal projection: nothing of the weights is left, and a linear shortcut falls to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from bitterant.attacks import verify_sets
from bitterant.attacks.adversaries import create_adversaries
from bitterant.attacks.adversaries.transforms import LINEAR_STEPS, linear_weights, project_out
from bitterant.attacks.data.sets import load_sets
from bitterant.attacks.training.executor import SerialExecutor
from bitterant.attacks.training.store import ArrayStore
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

Plant = Callable[..., ImageSet]


def some(count: int = 40, side: int = 8) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 3, side, side), dtype=np.uint8), np.arange(count) % 4


def test_nothing_is_left_along_the_weights() -> None:
    images, _ = some()
    weights = np.random.default_rng(1).normal(size=(4, 192)).astype(np.float32)
    weights[3] = -weights[:3].sum(axis=0)  # as those of a softmax, which sum to zero
    left = project_out(images, weights)
    assert (left.shape, left.dtype) == (images.shape, np.int16)
    basis, _ = np.linalg.qr(weights[:3].T)
    before, after = (pictures.reshape(40, -1) @ basis for pictures in (images.astype(float), left.astype(float)))
    assert np.abs(after).max() < 2, "no more than rounding to whole levels leaves"
    assert np.abs(before).max() > 100
    across = np.random.default_rng(2).normal(size=192)
    across -= basis @ (basis.T @ across)
    across /= np.linalg.norm(across)
    moved = (left.reshape(40, -1) - images.reshape(40, -1).astype(float)) @ across
    assert np.abs(moved).max() < 2, "and all else stays"


def test_the_weights_are_those_of_a_logistic_regression_without_bias() -> None:
    images, labels = some(12, 4)
    weights = torch.zeros(4, 48, requires_grad=True)
    pixels = torch.from_numpy(images.reshape(12, -1).astype(np.float32) / 255)
    for step in range(LINEAR_STEPS):
        rate = 0.1 if step < LINEAR_STEPS / 2 else 0.01 if step < 3 * LINEAR_STEPS / 4 else 0.001
        loss = torch.nn.functional.cross_entropy(pixels @ weights.T, torch.from_numpy(labels))
        (gradient,) = torch.autograd.grad(loss, weights)
        weights = (weights - rate * gradient).detach().requires_grad_()
    assert np.allclose(linear_weights(images, labels, 4), weights.detach().numpy(), atol=1e-4)


def test_each_arm_loses_its_own_patterns_and_so_does_its_test(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, plant: Plant
) -> None:
    data = load_sets(train_set, plant(train_set, 6), test_set, epsilon=8 / 255)
    made = {adversary.name: adversary for adversary in create_adversaries(["projection"])}
    store = ArrayStore(tmp_path, data, made, seed=0, executor=SerialExecutor())
    for arm, pictures in (("clean", data.clean), ("protected", data.protected)):
        read = store.inputs(arm, "projection")  # type: ignore[arg-type]
        weights = linear_weights(pictures, data.labels, 4)
        assert (np.load(read.train_images) == project_out(pictures, weights)).all()
        assert (np.load(read.test_images) == project_out(data.test_images, weights)).all()
    assert np.load(store.inputs("clean", "none").test_images).dtype == np.uint8


@pytest.mark.slow  # a grade that falls by it is a test of the calibration
def test_a_planted_linear_shortcut_is_broken_by_projection(
    train_set: ImageSet, test_set: ImageSet, plant: Plant
) -> None:
    report = verify_sets(
        train_set, plant(train_set, 6), test_set, adversaries=["projection"], victims=["small-cnn"], seeds=1,
        recipe=Recipe(steps=120), workers=1, epsilon=8 / 255, device="cpu",
    )  # fmt: skip
    naive, projected = report.condition("small-cnn/none"), report.condition("small-cnn/projection")
    assert naive.rho is not None
    assert naive.rho.estimate < 0.3
    assert projected.rho is not None
    assert projected.rho.estimate > 0.9
    assert projected.clean is not None
    assert projected.clean.accuracy.estimate > 0.8, "clean pictures lose little"
