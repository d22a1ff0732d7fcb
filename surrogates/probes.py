"""What learns on the features of frozen networks: a linear classifier, and nearest neighbours.

Features are computed in pieces that any number of processes can share.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from .arithmetic import one_thread
from .freezing import normalised
from .registry import create_surrogate
from .tasks import FileTask

NEIGHBOURS = 5
_MOST_STEPS = 2000
_ROWS = 1024

Features = NDArray[np.float32]
Labels = NDArray[np.int64]


def bootstrap_rows(labels: Labels, seed: int) -> NDArray[np.int64]:
    """Training pictures drawn with replacement within each class, ``[N]``.

    A probe has no random start, so its seeds differ in which pictures the trainer happened to have. The rows depend on
    the labels and the seed alone: all arms of a seed draw the same pictures.
    """
    rng = np.random.default_rng(seed)
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    return np.concatenate([rows[rng.integers(0, len(rows), len(rows))] for rows in members])


def probe(
    kind: Literal["linear", "neighbours"],
    features: Features,
    labels: Labels,
    tested: Features,
    *,
    seed: int,
) -> tuple[Labels, Labels]:
    """Learn from a bootstrap sample of the training pictures.

    Args:
        kind: ``linear`` or ``neighbours``.
        features: of the training pictures, ``[N, D]``.
        labels: of the training pictures, ``[N]``.
        tested: features of the test pictures, ``[M, D]``.
        seed: of the sample.

    Returns:
        Predicted classes of the training pictures, ``[N]``, and of the test pictures, ``[M]``.
    """
    from threadpoolctl import threadpool_limits

    rows = bootstrap_rows(labels, seed)
    learn = linear_probe if kind == "linear" else nearest_neighbours
    with threadpool_limits(1):  # sums in one order, so that the result is the same on any number of cores
        predicted = learn(features[rows], labels[rows], np.concatenate([features, tested]))
    return predicted[: len(features)], predicted[len(features) :]


def linear_probe(features: Features, labels: Labels, tested: Features) -> Labels:
    """Logistic regression (scikit-learn, L2 with C = 1) on standardised features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_MOST_STEPS))
    return model.fit(features, labels).predict(tested).astype(np.int64)


def nearest_neighbours(features: Features, labels: Labels, tested: Features, *, k: int = NEIGHBOURS) -> Labels:
    """Majority of the ``k`` nearest by cosine; of equally many, the class whose votes are nearer in sum."""
    known, asked = normalised(features), normalised(tested)
    result = np.empty(len(asked), dtype=np.int64)
    k = min(k, len(known))
    for start in range(0, len(asked), _ROWS):
        cosine = asked[start : start + _ROWS] @ known.T
        nearest = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        votes = np.zeros((len(cosine), int(labels.max()) + 1))
        # A cosine is at most 1, so k votes of 2 + cosine / k never outweigh one vote more.
        weights = 2.0 + np.take_along_axis(cosine, nearest, axis=1) / k
        np.add.at(votes, (np.arange(len(cosine))[:, None], labels[nearest]), weights)
        result[start : start + _ROWS] = votes.argmax(axis=1)
    return result


_PIECE = 256
_BATCH = 32


@dataclass(frozen=True)
class FeatureTask(FileTask):
    """Some pictures of a ``.npy`` file, and the network that looks at them."""

    images: Path
    start: int
    stop: int
    surrogate: str
    device: str

    def reads(self) -> tuple[Path, ...]:
        """See :class:`FileTask`."""
        return (self.images,)


def feature_tasks(images: Path, count: int, surrogate: str, device: str) -> list[FeatureTask]:
    """Pieces of a fixed size: which pictures share a batch must not depend on how many processes there are."""
    return [
        FeatureTask(images, start, min(start + _PIECE, count), surrogate, device) for start in range(0, count, _PIECE)
    ]


@lru_cache(maxsize=1)
def _trunk(surrogate: str, resolution: int, device: str) -> tuple[torch.nn.Module, str]:
    network = create_surrogate(surrogate, num_classes=2, resolution=resolution, seed=0)
    return network.trunk().eval().to(device), network.source


def check_features(surrogate: str, resolution: int) -> str:
    """Build the network once, to learn early whether that works.

    Returns:
        Where its weights come from; ``random`` where it has none of its own.

    Raises:
        SetupError: its weights are not on this machine.
        ConfigError: it cannot take this resolution.
    """
    return _trunk(surrogate, resolution, "cpu")[1]


@torch.no_grad()
def compute_features(task: FeatureTask) -> NDArray[np.float32]:
    """Features float32 ``[n, D]`` of the task's pictures; the same in any process."""
    images = task.load(task.images, slice(task.start, task.stop))
    parts = []
    with one_thread(task.device):
        trunk, _ = _trunk(task.surrogate, int(images.shape[-1]), task.device)
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(images[start : start + _BATCH]).to(task.device)
            batch = batch.contiguous(memory_format=torch.channels_last).float().mul_(1.0 / 255.0)
            parts.append(trunk(batch).float().cpu().numpy())
    return np.concatenate(parts)
