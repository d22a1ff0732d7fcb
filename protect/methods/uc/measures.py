"""What a fit of clusters achieved, measured without labels, each figure beside random noise and beside JPEG.

The share of pictures that left their cluster misleads alone: JPEG 10 moved a third of clean pictures and random noise a
fifth. So the share that arrived where it was sent counts, and the drop of a linear probe.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ....imaging import Budget, ImageSet
from ...clusters import Clusters, FeatureSpace, nearest
from ..written import WrittenCopies
from .pull import targets

__all__ = ["MOST", "VERSIONS", "measure"]

VERSIONS = ("clean", "protected", "noise", "jpeg10")
MOST = 1000
"""Images that are measured at most: the cost does not grow with the folder."""


def measure(
    dataset: ImageSet,
    clusters: Clusters,
    space: FeatureSpace,
    delta_of: Callable[[Tensor], Tensor],
    epsilon: float,
    *,
    seed: int,
    tell: Callable[[float], None] | None = None,
) -> dict[str, Any]:
    """Measure on an evenly drawn part of the images.

    Args:
        dataset: all images.
        clusters: of all images.
        space: the surrogate's features.
        delta_of: positions ``[B]`` -> their perturbations ``[B, 3, R, R]`` as the bank will hold them.
        epsilon: the budget, of the random noise beside them, too.
        seed: of the draw, the noise and the probe's split.
        tell: called with the share that is done.

    Returns:
        JSON-safe: ``images``, ``clusters``, ``sizes``, for each of ``clean``, ``protected``, ``noise`` and ``jpeg10``
        the shares ``moved`` (nearest to another centre than the clean picture) and ``on_target`` (nearest to the centre
        its cluster is sent to) and the accuracy ``probe``, and ``nmi`` where there are labels.
    """
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(len(dataset), generator=generator)[:MOST].sort().values
    images, own = dataset.images[index].cpu(), clusters.assignment[index]
    written = WrittenCopies(dataset.to("cpu"), Budget(epsilon))
    versions: dict[str, Callable[[], Tensor]] = {
        "clean": lambda: images,
        "protected": lambda: written(index, delta_of),
        "noise": lambda: _noisy(images, epsilon, generator),
        "jpeg10": lambda: _compressed(images),
    }
    features: dict[str, Tensor] = {}
    for number, (name, make) in enumerate(versions.items()):
        features[name] = space.of(make())
        if tell is not None:
            tell((number + 1) / len(versions))
    goal, at_first = targets(len(clusters.centres))[own], nearest(features["clean"], clusters.centres)
    train = torch.rand(len(index), generator=generator) < 0.6
    labels = own if dataset.labels is None else dataset.labels[index.to(dataset.labels.device)].cpu()
    rows: dict[str, Any] = {}
    for name, found in features.items():
        at = nearest(found, clusters.centres)
        rows[name] = {
            "moved": round(float((at != at_first).float().mean()), 4),
            "on_target": round(float((at == goal).float().mean()), 4),
            "probe": _probe(found[train], labels[train], features["clean"][~train], labels[~train]),
        }
    result = {"images": len(index), "clusters": len(clusters.centres), "sizes": clusters.sizes, **rows}
    result["probe_of"] = "clusters" if dataset.labels is None else "labels"
    if dataset.labels is not None:
        from sklearn.metrics import normalized_mutual_info_score

        result["nmi"] = round(
            float(normalized_mutual_info_score(dataset.labels.cpu().numpy(), clusters.assignment.numpy())), 4
        )
    return result


def _noisy(images: Tensor, epsilon: float, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, images.shape, generator=generator, dtype=torch.int16) * 2 - 1
    return (images.to(torch.int16) + round(epsilon * 255) * signs).clamp_(0, 255).to(torch.uint8)


def _compressed(images: Tensor, quality: int = 10) -> Tensor:
    rows = []
    for row in images.permute(0, 2, 3, 1).numpy():
        buffer = io.BytesIO()
        Image.fromarray(row).save(buffer, "JPEG", quality=quality)
        rows.append(np.asarray(Image.open(buffer).convert("RGB")))
    return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous()


def _probe(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> float | None:
    """Accuracy on clean features of a logistic regression fitted to the features of one version."""
    if len(train_labels.unique()) < 2 or len(test) == 0:
        return None
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    centre, scale = train.mean(0), train.std(0).clamp(min=1e-6)
    with threadpool_limits(1):
        model = LogisticRegression(max_iter=200, C=0.1)
        model.fit(((train - centre) / scale).numpy(), train_labels.numpy())
        return round(float(model.score(((test - centre) / scale).numpy(), test_labels.numpy())), 4)
