"""Lossy codecs: the cheapest way to wash a perturbation out."""

from __future__ import annotations

import io
from abc import abstractmethod
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..base import Adversary, Pixels
from ..parameters import whole_number

__all__ = ["Jpeg", "Webp"]

RANDOM_RANGE = (10, 95)
_RANDOM_SEED = 0x1BE9
"""The n-th picture has the same random quality in every arm, in every run."""


class _Codec(Adversary):
    """Encodes and decodes every picture at the working resolution."""

    tier = "transforms"
    default: ClassVar[int]
    file_format: ClassVar[str]

    @abstractmethod
    def _qualities(self, count: int) -> NDArray[np.int64]:
        """The quality of each picture."""

    def transform(self, images: Pixels) -> Pixels:
        result = np.empty_like(images)
        for row, (picture, quality) in enumerate(zip(images, self._qualities(len(images)), strict=True)):
            stream = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(
                stream, format=self.file_format, quality=int(quality)
            )
            with Image.open(stream) as decoded:
                result[row] = np.asarray(decoded.convert("RGB")).transpose(2, 0, 1)
        return result


class Jpeg(_Codec):
    """JPEG compression.

    Args:
        parameter: quality 1..100, 10 where left out, the strength of arXiv 2301.13838; or ``random``: 10 to 95, another
            for every picture.

    Raises:
        ConfigError: the quality is neither ``random`` nor a whole number in 1..100.
    """

    prefix = "jpeg"
    source = "arXiv 2301.13838 (image shortcut squeezing), quality 10"
    description = "compressed as JPEG (jpeg:50 sets the quality, 10 if left out; jpeg:random draws 10 to 95)"
    default = 10
    file_format = "JPEG"

    def __init__(self, parameter: str | None = None) -> None:
        self.random = parameter == "random"
        given = None if self.random else parameter
        self.quality = whole_number(self.prefix, given, default=self.default, least=1, most=100)

    @property
    def name(self) -> str:
        return "jpeg:random" if self.random else f"jpeg:{self.quality}"

    @property
    def phrase(self) -> str:
        quality = "a random quality" if self.random else f"quality {self.quality}"
        return f"a trainer who compresses them to JPEG {quality} first"

    def _qualities(self, count: int) -> NDArray[np.int64]:
        if not self.random:
            return np.full(count, self.quality)
        low, high = RANDOM_RANGE
        return np.random.default_rng(_RANDOM_SEED).integers(low, high + 1, count)


class Webp(_Codec):
    """Lossy WebP, which also filters the edges of its blocks.

    Args:
        parameter: quality 1..100; 30 where left out.

    Raises:
        ConfigError: the quality is not a whole number in 1..100.
    """

    prefix = "webp"
    source = "ours, as JPEG in arXiv 2301.13838"
    description = "compressed as WebP (webp:50 sets the quality, 30 if left out)"
    default = 30
    file_format = "WEBP"

    def __init__(self, parameter: str | None = None) -> None:
        self.quality = whole_number(self.prefix, parameter, default=self.default, least=1, most=100)

    @property
    def name(self) -> str:
        return f"webp:{self.quality}"

    @property
    def phrase(self) -> str:
        return f"a trainer who compresses them to WebP quality {self.quality} first"

    def _qualities(self, count: int) -> NDArray[np.int64]:
        return np.full(count, self.quality)
