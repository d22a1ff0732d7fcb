"""JPEG compression: the cheapest way to wash a perturbation out."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from ...errors import ConfigError
from .base import Adversary, Pixels

__all__ = ["Jpeg"]

DEFAULT_QUALITY = 10


class Jpeg(Adversary):
    """Encodes and decodes every picture at the working resolution.

    Args:
        parameter: quality 1..100; 10 where left out, the strength of arXiv 2301.13838.

    Raises:
        ConfigError: the quality is not a whole number in 1..100.
    """

    prefix = "jpeg"
    tier = "transforms"
    source = "arXiv 2301.13838 (image shortcut squeezing), quality 10"
    description = "training and test pictures compressed as JPEG (jpeg:50 sets the quality, 10 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        text = str(DEFAULT_QUALITY) if parameter is None else parameter
        if not text.isdecimal() or not 1 <= int(text) <= 100:
            raise ConfigError(f"JPEG quality {text!r} is not a whole number in 1..100. Write for example jpeg:50.")
        self.quality = int(text)

    @property
    def name(self) -> str:
        return f"jpeg:{self.quality}"

    @property
    def phrase(self) -> str:
        return f"a trainer who compresses them to JPEG quality {self.quality} first"

    def transform(self, images: Pixels) -> Pixels:
        result = np.empty_like(images)
        for row, picture in enumerate(images):
            stream = io.BytesIO()
            Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0))).save(
                stream, format="JPEG", quality=self.quality
            )
            with Image.open(stream) as decoded:
                result[row] = np.asarray(decoded.convert("RGB")).transpose(2, 0, 1)
        return result
