"""Probes: a trainer who has a pretrained network learns on its frozen features."""

from __future__ import annotations

from typing import ClassVar

from ..base import Adversary

__all__ = ["LinearProbe", "NearestNeighbours"]

DEFAULT_SURROGATE = "efficientnet-lite0"


class _Probe(Adversary):
    """What both have in common: the frozen network, and the noise arm beside the others.

    Args:
        parameter: name of a surrogate; ``efficientnet-lite0`` where left out.

    Raises:
        UnknownNameError: no such network.
        SetupError: it is a CLIP, and open_clip is not installed.
    """

    tier = "prior"
    arms = ("clean", "protected", "noise")
    doing: ClassVar[str]

    def __init__(self, parameter: str | None = None) -> None:
        from ....surrogates import check_surrogate  # loads torch; listing adversaries needs none

        self.network = check_surrogate(DEFAULT_SURROGATE if parameter is None else parameter)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self.network}"

    @property
    def phrase(self) -> str:
        return f"a trainer who {self.doing} features of the pretrained {self.network}"

    @property
    def surrogate(self) -> str | None:
        return self.network


class LinearProbe(_Probe):
    """Logistic regression on frozen features, standardised with the training pictures."""

    prefix = "linear-probe"
    source = "verification.md 3.2, F2"
    description = "logistic regression on frozen features (linear-probe:NAME sets the network, efficientnet-lite0)"
    fit = "linear"
    doing = "fits a linear classifier on"


class NearestNeighbours(_Probe):
    """The majority of the five nearest training pictures by the cosine of their frozen features."""

    prefix = "knn"
    source = "verification.md 3.2, F2"
    description = "five nearest neighbours by frozen features (knn:NAME sets the network, efficientnet-lite0)"
    fit = "neighbours"
    doing = "looks up the nearest neighbours by"
