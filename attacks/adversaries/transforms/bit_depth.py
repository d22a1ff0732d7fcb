"""Fewer levels: what is smaller than a step disappears."""

from __future__ import annotations

import numpy as np

from ..base import Adversary, Pixels
from ..parameters import whole_number

__all__ = ["BitDepth"]


class BitDepth(Adversary):
    """Keeps the highest bits of every value and sets the others to zero, as posterising does.

    Args:
        parameter: number of bits, 1 to 7; 2 where left out.

    Raises:
        ConfigError: it is no whole number in 1..7.
    """

    prefix = "bit-depth"
    tier = "transforms"
    source = "arXiv 2301.13838 (bit depth reduction), 2 bits; arXiv 2308.03258 (APBench)"
    description = "only the highest bits kept (bit-depth:3 sets how many, 2 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.bits = whole_number(self.prefix, parameter, default=2, least=1, most=7)

    @property
    def name(self) -> str:
        return f"bit-depth:{self.bits}"

    @property
    def phrase(self) -> str:
        return f"a trainer who keeps {self.bits} bits a colour"

    def transform(self, images: Pixels) -> Pixels:
        return images & np.uint8(256 - (1 << (8 - self.bits)))
