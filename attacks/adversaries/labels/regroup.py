"""Random regrouping: larger classes that nobody had in mind when the pictures were protected."""

from __future__ import annotations

import numpy as np

from ....errors import LabelError
from ..base import Adversary, Labelling, Material
from ..parameters import whole_number
from .superclass import grouped

__all__ = ["Regroup"]


class Regroup(Adversary):
    """Deals the classes out, at random, to N groups of equally many classes (give or take one).

    Args:
        parameter: N, at least 2; 2 where left out.

    Raises:
        ConfigError: N is no whole number from 2 on.
    """

    prefix = "regroup"
    tier = "relabel"
    source = "arXiv 2301.01217 (other labels than the protector's); dealing them out at random is ours"
    description = "classes dealt out to N groups at random (regroup:3 sets N, 2 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.groups = whole_number(self.prefix, parameter, default=2, least=2)

    @property
    def name(self) -> str:
        return f"regroup:{self.groups}"

    @property
    def phrase(self) -> str:
        return f"a trainer who regroups the classes into {self.groups}"

    def relabel(self, material: Material) -> Labelling:
        count = len(material.classes)
        if count <= self.groups:
            raise LabelError(f"{self.name} needs more than {self.groups} classes to regroup, and there are {count}.")
        order = np.random.default_rng(material.seed).permutation(count)
        table = np.empty(count, dtype=np.int64)
        table[order] = np.arange(count) % self.groups
        return grouped(material, table, [f"group {number}" for number in range(1, self.groups + 1)])
