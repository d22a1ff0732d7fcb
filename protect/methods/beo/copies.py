"""The images of a fit with the perturbations they carry at the moment, as a trainer would see them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ....imaging import ImageSet
from ....imaging.writable import Writable
from ..round_trip import RoundTrip

__all__ = ["Copies", "join"]


@dataclass(frozen=True)
class Copies:
    """Our images first, then known clean ones of other sources, which nothing is done to.

    Attributes:
        points: all of them, with labels, on the device of computation.
        own: how many are ours.
        delta: half or single precision ``[own, 3, R, R]`` in units of the full range; changed in place.
        trip: what the files do to a perturbation on its way to a trainer.
    """

    points: ImageSet
    own: int
    delta: Tensor
    trip: RoundTrip | None

    @classmethod
    def start(cls, points: ImageSet, own: int, trip: RoundTrip | None, *, kind: torch.dtype = torch.float16) -> Copies:
        """Copies without any perturbation yet."""
        shape = (own, *points.images.shape[1:])
        return cls(points, own, torch.zeros(shape, dtype=kind, device=points.images.device), trip)

    @property
    def labels(self) -> Tensor:
        """int64 ``[N]`` of all points."""
        assert self.points.labels is not None
        return self.points.labels

    def plain(self, index: Tensor) -> Tensor:
        """Float images ``[B, 3, R, R]`` in [0, 1] at these positions, without perturbation."""
        return self.points.images[index].float().mul_(1 / 255)

    def delta_of(self, index: Tensor) -> Tensor:
        """Perturbations float ``[B, 3, R, R]`` at these positions as a trainer sees them; zero for those not ours."""
        if len(self.points) == self.own:
            delta = self.delta[index].float()
        else:
            mine = (index < self.own).view(-1, 1, 1, 1)
            delta = self.delta[index.clamp(max=self.own - 1)].float() * mine
        return self.written(index, delta if self.trip is None else self.trip(delta))

    def written(self, index: Tensor, delta: Tensor) -> Tensor:
        """What the files at these positions hold of perturbations, or of a gradient with respect to them."""
        return delta if self.points.writable is None else self.points.writable.select(index)(delta)

    def seen(self, index: Tensor) -> Tensor:
        """Perturbed float images ``[B, 3, R, R]`` in [0, 1]."""
        return self.plain(index).add_(self.delta_of(index)).clamp_(0.0, 1.0)


def join(ours: ImageSet, clean: ImageSet | None) -> ImageSet:
    """Our images, then those of ``clean`` that are not among them, sorted by key. Class names must be known."""
    if clean is None or clean.labels is None:
        return ours
    first: dict[str, int] = {}
    known = set(ours.keys)
    for position, key in enumerate(clean.keys):
        if key not in known:  # the same image in both forms would be its own neighbour
            first.setdefault(key, position)
    keys = sorted(first)
    rest = clean.select([first[key] for key in keys]).to(ours.images.device)
    place = torch.tensor([ours.classes.index(name) for name in clean.classes], device=ours.images.device)
    assert ours.labels is not None
    assert rest.labels is not None
    return replace(
        ours,
        images=torch.cat([ours.images, rest.images]),
        labels=torch.cat([ours.labels, place[rest.labels]]),
        keys=(*ours.keys, *keys),
        writable=_writable(ours, rest),
        origins=None,
    )


def _writable(*sets: ImageSet) -> Writable | None:
    """Of sets one after the other."""
    if all(found.writable is None for found in sets):
        return None
    device = sets[0].images.device
    masked = any(found.writable is not None and found.writable.opaque is not None for found in sets)
    greys, masks = [], []
    for found in sets:
        count, own = len(found), found.writable
        greys.append(torch.zeros(count, dtype=torch.bool, device=device) if own is None else own.grey)
        opaque = None if own is None else own.opaque
        whole = (count, *found.images.shape[2:])
        masks.append(torch.full(whole, 255, dtype=torch.uint8, device=device) if opaque is None else opaque)
    return Writable(torch.cat(greys), torch.cat(masks) if masked else None)
