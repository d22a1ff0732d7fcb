"""The pull of every cluster's pictures towards the centre of the next cluster, as a gradient on the patterns."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ....imaging import ImageSet
from ....surrogates import add_rows
from ...clusters import Clusters, FeatureSpace
from ..round_trip import RoundTrip
from .losses import image_gradient
from .zoom import Zoom, enlarged_crops

__all__ = ["FeaturePull", "targets"]


def targets(count: int) -> Tensor:
    """Where each cluster is to be pushed: onto the next one, the last onto the first."""
    return (torch.arange(count) + 1) % count


@dataclass(frozen=True)
class FeaturePull:
    """Gradient of the cluster loss on the patterns.

    Attributes:
        dataset: the images, on the device of computation.
        space: the frozen surrogate.
        clusters: where the images lie.
        trip: what files do to a pattern on its way to a trainer.
        windows: craft through random windows of the pictures.
        paper: as the official code: each picture is enlarged, cropped and mirrored on its own, then gets the pattern
            as it is; and the loss is the mean of a batch, not its sum, which Adam's weight decay is weighed against.
    """

    dataset: ImageSet
    space: FeatureSpace
    clusters: Clusters
    trip: RoundTrip | None
    windows: bool
    paper: bool = False

    def on_patterns(
        self, index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator, *, batch_size: int = 64
    ) -> tuple[Tensor, Tensor]:
        """Gradient of the summed loss (the paper's: of its mean over the images) with respect to the patterns.

        Args:
            index: positions int64 ``[B]`` of images.
            own: int64 ``[B]``, whose pattern each image carries.
            delta: patterns ``[p, 3, R, R]``.
            generator: of the windows.
            batch_size: images a pass.

        Returns:
            ``[p, 3, R, R]``, and the mean loss ``[]``.
        """
        total = torch.zeros_like(delta)
        seen = delta if self.trip is None else self.trip(delta)
        centres = self.clusters.centres.to(delta.device)
        goal = targets(len(centres)).to(delta.device)
        loss = torch.zeros((), device=delta.device)
        for part, cluster in zip(index.split(batch_size), own.split(batch_size), strict=True):
            images = self.dataset.images[part].float().mul_(1 / 255)
            if self.paper:
                images = enlarged_crops(images, generator)
            held = None if self.dataset.writable is None else self.dataset.writable.select(part)
            images = images.add_(seen[cluster] if held is None else held(seen[cluster])).clamp_(0.0, 1.0)
            transform = Zoom(generator) if self.windows and not self.paper else None
            gradient, losses = image_gradient(
                self.space.members, images, centres[goal[cluster]], self.space.widths, transform
            )
            add_rows(total, cluster, gradient if held is None else held(gradient))
            loss += losses.sum()
        if self.trip is not None:
            total = self.trip.adjoint(total)
        if self.paper:
            total /= len(index)
        return total, loss / max(1, len(index))

    def scaled(self, index: Tensor, own: Tensor, delta: Tensor, generator: torch.Generator) -> Tensor:
        """The same with each row scaled to mean magnitude 1, to be added to another gradient of that scale."""
        total, _ = self.on_patterns(index, own, delta, generator)
        return total / total.abs().mean(dim=(1, 2, 3), keepdim=True).clamp(min=1e-20)
