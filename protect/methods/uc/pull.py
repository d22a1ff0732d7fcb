"""The pull of every cluster's pictures towards the centre of the next cluster, as a gradient on the patterns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....imaging import ImageSet
from ..round_trip import RoundTrip
from .clusters import Clusters, targets
from .features import FeatureSpace
from .losses import image_gradient
from .zoom import Zoom

__all__ = ["FeaturePull"]


@dataclass(frozen=True)
class FeaturePull:
    """Gradient of the cluster loss on the patterns.

    Attributes:
        dataset: the images, on the device of computation.
        space: the frozen surrogate.
        clusters: where the images lie.
        trip: what files do to a pattern on its way to a trainer.
        windows: craft through random windows of the pictures.
    """

    dataset: ImageSet
    space: FeatureSpace
    clusters: Clusters
    trip: RoundTrip | None
    windows: bool

    def on_patterns(
        self, index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator, *, batch_size: int = 64
    ) -> tuple[Tensor, float]:
        """Gradient of the summed loss with respect to the patterns.

        Args:
            index: positions int64 ``[B]`` of images.
            own: int64 ``[B]``, whose pattern each image carries.
            delta: patterns ``[p, 3, R, R]``.
            generator: of the windows.
            batch_size: images a pass.

        Returns:
            ``[p, 3, R, R]``, and the mean loss.
        """
        total = torch.zeros_like(delta)
        seen = delta if self.trip is None else self.trip(delta)
        centres = self.clusters.centres.to(delta.device)
        goal = targets(len(centres)).to(delta.device)
        loss = 0.0
        for part, cluster in zip(index.split(batch_size), own.split(batch_size), strict=True):
            held = None if self.dataset.writable is None else self.dataset.writable.select(part)
            arrived = seen[cluster] if held is None else held(seen[cluster])
            images = self.dataset.images[part].float().mul_(1 / 255).add_(arrived).clamp_(0.0, 1.0)
            transform = Zoom(generator) if self.windows else None
            gradient, losses = image_gradient(
                self.space.members, images, centres[goal[cluster]], self.space.widths, transform
            )
            total.index_add_(0, cluster, gradient if held is None else held(gradient))
            loss += float(losses.sum())
        if self.trip is not None:
            total = self.trip.adjoint(total)
        return total, loss / max(1, len(index))

    def scaled(self, index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
        """The same with each row scaled to mean magnitude 1, to be added to another gradient of that scale."""
        total, _ = self.on_patterns(index, own, delta, generator)
        return total / total.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-20)
