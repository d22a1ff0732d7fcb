"""Grayscale: colour is where error-minimizing noise hides first."""

from __future__ import annotations

import numpy as np

from ..base import Adversary, Pixels
from .blocks import BLOCK

__all__ = ["Grayscale"]


class Grayscale(Adversary):
    """Replaces each picture by its luma (ITU-R 601-2), in three equal channels."""

    prefix = "grayscale"
    tier = "transforms"
    source = "arXiv 2301.13838 (image shortcut squeezing)"
    description = "training and test pictures turned gray"

    @property
    def phrase(self) -> str:
        return "a trainer who turns them gray first"

    def transform(self, images: Pixels) -> Pixels:
        result = np.empty_like(images)
        for start in range(0, len(images), BLOCK):
            # The fixed-point weights that Pillow uses for RGB -> L, so that users can repeat it with any tool.
            red, green, blue = (images[start : start + BLOCK, channel].astype(np.uint32) for channel in range(3))
            luma = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16
            result[start : start + BLOCK] = luma.astype(np.uint8)[:, None]
        return result
