"""Features of frozen networks, in pieces that any number of processes can share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...surrogates import create_surrogate
from .threads import one_thread

__all__ = ["FeatureTask", "check_features", "compute_features", "feature_tasks"]

_PIECE = 256
_BATCH = 32


@dataclass(frozen=True)
class FeatureTask:
    """Some pictures of a ``.npy`` file, and the network that looks at them."""

    images: Path
    start: int
    stop: int
    surrogate: str
    device: str


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
    images = np.load(task.images, mmap_mode="r", allow_pickle=False)[task.start : task.stop]
    parts = []
    with one_thread(task.device):
        trunk, _ = _trunk(task.surrogate, int(images.shape[-1]), task.device)
        for start in range(0, len(images), _BATCH):
            batch = torch.from_numpy(np.array(images[start : start + _BATCH])).to(task.device)
            batch = batch.contiguous(memory_format=torch.channels_last).float().mul_(1.0 / 255.0)
            parts.append(trunk(batch).float().cpu().numpy())
    return np.concatenate(parts)
