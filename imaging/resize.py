"""Pictures at the working resolution a surrogate sees."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .picture import Picture

__all__ = ["squash"]


def squash(picture: Picture, resolution: int) -> np.ndarray:
    """Resize to a square, changing the shape but cutting nothing off (bilinear, antialiased).

    Grey is repeated over the channels, 16 bits are rounded to 8, and transparent pixels show their stored colour.

    Args:
        picture: any size.
        resolution: side length R in pixels.

    Returns:
        uint8 ``[R, R, 3]``: the picture's own pixels where it is R x R already.

    Raises:
        ConfigError: ``resolution`` is below 1.
    """
    if resolution < 1:
        raise ConfigError(f"The working resolution must be at least 1 pixel, not {resolution}.")
    pixels = picture.rgb8()
    if pixels.shape[:2] == (resolution, resolution):
        return pixels
    image = Image.fromarray(np.ascontiguousarray(pixels))
    return np.array(image.resize((resolution, resolution), Image.Resampling.BILINEAR))
