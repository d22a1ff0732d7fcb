"""Probes: a trainer who has a pretrained network learns on its frozen features."""

from __future__ import annotations

from typing import ClassVar

from ..base import Adversary
from .pretrained import DEFAULT_NETWORK, Pretrained

__all__ = ["LinearProbe", "NearestNeighbours"]


class _Probe(Adversary):
    """What both have in common: the frozen network, and the noise arm beside the others.

    Args:
        parameter: name of a surrogate; ``efficientnet-lite0`` where left out.

    Raises:
        UnknownNameError: no such network.
    """

    tier = "prior"
    cost = 0.2
    arms = ("clean", "protected", "noise")
    doing: ClassVar[str]

    def __init__(self, parameter: str | None = None) -> None:
        self._pretrained = Pretrained(DEFAULT_NETWORK if parameter is None else parameter)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self._pretrained.name}"

    @property
    def phrase(self) -> str:
        return f"a trainer who {self.doing} features of the pretrained {self._pretrained.title}"

    @property
    def surrogate(self) -> str | None:
        return self._pretrained.name

    def check(self, resolution: int) -> str:
        return f"frozen features of {self._pretrained.title}, weights: {self._pretrained.source(resolution)}"


class LinearProbe(_Probe):
    """Logistic regression on frozen features, standardised with the training pictures."""

    prefix = "linear-probe"
    source = "ours: a linear probe, as for CLIP in arXiv 2103.00020, section 3.2"
    description = "logistic regression on frozen features (linear-probe:NAME sets the network, efficientnet-lite0)"
    fit = "linear"
    doing = "fits a linear classifier on"


class NearestNeighbours(_Probe):
    """The majority of the five nearest training pictures by the cosine of their frozen features."""

    prefix = "knn"
    source = "ours: five nearest neighbours on frozen features"
    description = "five nearest neighbours by frozen features (knn:NAME sets the network, efficientnet-lite0)"
    fit = "neighbours"
    doing = "looks up the nearest neighbours by"
