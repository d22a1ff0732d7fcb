"""Pictures at the working resolution a surrogate sees, and perturbations made smaller."""

from __future__ import annotations

import numpy as np
from PIL import Image

from ..errors import ConfigError
from .perturb import Fit
from .picture import FULLY_TRANSPARENT, Picture

__all__ = ["opacity", "shrink_delta", "squash"]


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


def opacity(picture: Picture, resolution: int) -> np.ndarray | None:
    """How much of each place of a picture is not fully transparent, as a trainer sees it who shrinks the picture.

    Args:
        picture: any size.
        resolution: side length R in px.

    Returns:
        uint8 ``[R, R]`` in 255ths, or ``None`` where no pixel is fully transparent.
    """
    if picture.alpha is None or not (picture.alpha == FULLY_TRANSPARENT).any():
        return None
    seen = np.where(picture.alpha == FULLY_TRANSPARENT, 0, 255).astype(np.uint8)
    return squash(Picture(seen[..., None]), resolution)[..., 0]


def shrink_delta(delta: np.ndarray, height: int, width: int, fit: Fit) -> np.ndarray:
    """A perturbation no larger than the place it goes to: antialiased, and raised to its largest value again.

    Plain bilinear sampling would skip most of a large pattern. Antialiasing averages, which weakens what is left, so
    the result is scaled until its largest value is that of the input.

    Args:
        delta: float ``[R, R, C]``, in 8-bit levels.
        height: of the picture, in px.
        width: of the picture, in px.
        fit: ``center`` where it goes on the centred square of the picture, ``stretch`` on the whole.

    Returns:
        float32 ``[r, s, C]`` with r and s at most those of the place; ``delta`` itself where it is not too large.
    """
    delta = np.asarray(delta, dtype=np.float32)
    if delta.shape[:2] == (height, width):
        return delta
    place = (min(height, width),) * 2 if fit == "center" else (height, width)
    rows, columns = min(delta.shape[0], place[0]), min(delta.shape[1], place[1])
    if (rows, columns) == delta.shape[:2]:
        return delta
    planes = [
        np.asarray(Image.fromarray(np.ascontiguousarray(plane)).resize((columns, rows), Image.Resampling.BILINEAR))
        for plane in np.moveaxis(delta, 2, 0)
    ]
    small = np.stack(planes, axis=2)
    before, after = float(np.abs(delta).max()), float(np.abs(small).max())
    return np.clip(small * (before / after), -before, before) if after > 0 else small
