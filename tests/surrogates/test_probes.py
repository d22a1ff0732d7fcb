"""Probes against slow and obvious versions; features that do not depend on who computes them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from bitterant.attacks.training.executor import ProcessExecutor, SerialExecutor
from bitterant.surrogates import create_surrogate
from bitterant.surrogates.probes import (
    _PIECE,
    bootstrap_rows,
    compute_features,
    feature_tasks,
    linear_probe,
    nearest_neighbours,
    probe,
)


def blobs(count: int, seed: int, spread: float = 0.4) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around three directions."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    return (np.eye(3)[labels] + spread * rng.standard_normal((count, 3))).astype(np.float32), labels.astype(np.int64)


def naive_neighbours(known: np.ndarray, labels: np.ndarray, asked: np.ndarray, k: int) -> list[int]:
    result = []
    for point in asked:
        cosine = [float(point @ row / np.linalg.norm(point) / np.linalg.norm(row)) for row in known]
        nearest = sorted(range(len(known)), key=lambda i: -cosine[i])[:k]
        votes = Counter(int(labels[i]) for i in nearest)
        result.append(max(votes, key=lambda c: (votes[c], sum(cosine[i] for i in nearest if labels[i] == c))))
    return result


@pytest.mark.parametrize("k", [1, 2, 5])
def test_neighbours_are_those_of_the_naive_search(k: int) -> None:
    known, labels = blobs(60, 0, spread=0.8)
    asked, _ = blobs(80, 1, spread=0.8)
    assert nearest_neighbours(known, labels, asked, k=k).tolist() == naive_neighbours(known, labels, asked, k)


def test_neighbours_cope_with_few_pictures() -> None:
    known, labels = blobs(3, 0)
    assert nearest_neighbours(known, labels, known, k=5).shape == (3,)


def test_the_linear_probe_learns_and_does_not_mind_the_scale() -> None:
    known, labels = blobs(150, 0)
    asked, answers = blobs(150, 1)
    predicted = linear_probe(known, labels, asked)
    assert (predicted == answers).mean() > 0.85
    scale = np.array([1.0, 1000.0, 0.001], dtype=np.float32)
    assert (linear_probe(known * scale, labels, asked * scale) == predicted).mean() > 0.98


def test_samples_keep_the_classes_and_are_the_same_in_every_arm() -> None:
    labels = np.array([0] * 10 + [1] * 3 + [2])
    rows = bootstrap_rows(labels, 5)
    assert np.bincount(labels[rows]).tolist() == [10, 3, 1]
    assert (rows == bootstrap_rows(labels, 5)).all()
    assert (rows != bootstrap_rows(labels, 6)).any()
    known, classes = blobs(30, 0)
    asked, _ = blobs(200, 1, spread=0.9)
    first, again, other = (probe("neighbours", known, classes, asked, seed=seed) for seed in (1, 1, 2))
    assert (first[1] == again[1]).all()
    assert (first[1] != other[1]).any()
    assert first[0].shape == (30,)


def test_features_do_not_depend_on_who_computes_them(tmp_path: Path) -> None:
    count = _PIECE + 40
    images = np.random.default_rng(0).integers(0, 256, (count, 3, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "images.npy", images)
    tasks = feature_tasks(tmp_path / "images.npy", count, "small-cnn", "cpu")
    assert [(task.start, task.stop) for task in tasks] == [(0, _PIECE), (_PIECE, count)]
    serial = dict(SerialExecutor().run(compute_features, tasks))
    pool = ProcessExecutor(2)
    try:
        spread = dict(pool.run(compute_features, tasks))
    finally:
        pool.close()
    assert all((serial[i] == spread[i]).all() for i in range(2))
    trunk = create_surrogate("small-cnn", num_classes=2, resolution=16, seed=0).trunk().eval()
    with torch.no_grad():
        expected = trunk(torch.from_numpy(images[:5]).float() / 255)
    np.testing.assert_allclose(serial[0][:5], expected.numpy(), atol=1e-4)
