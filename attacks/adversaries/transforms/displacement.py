"""Every pixel taken from a random place nearby: made against noise that is a convolution."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..base import Adversary, Pixels
from ..parameters import real_number
from .blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Coin", "offsets"]

_SEED = 0xC01


def offsets(number: int, side: int, reach: float) -> NDArray[np.float32]:
    """Where the pixels of the ``number``-th picture come from, float32 ``[2, side, side]``: (down, right) in px.

    Uniform in ``[-reach, reach]``, each pixel for itself. They depend on the number alone: the same in every arm.
    """
    drawn = np.random.default_rng([_SEED, number]).uniform(-reach, reach, (2, side, side))
    return drawn.astype(np.float32)


class Coin(Adversary):
    """Random displacement of every pixel with bilinear interpolation (COIN).

    As in the paper every pixel has a displacement of its own and the three colours move together. The authors' code
    draws anew whenever a picture is trained on, leaves the test pictures as they are, and lets what leaves a picture
    come in on the other side. Here it is done once, with training and test pictures, as all transforms are, and what
    lies outside is taken from the border.

    Args:
        parameter: the largest displacement along each axis in px at the working resolution, 0.25 to 8; 2 where left
            out, as in the paper.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "coin"
    tier = "transforms"
    source = "arXiv 2311.18403 (COIN), alpha = 2"
    description = "each pixel interpolated at a random place nearby (coin:1 sets how far in pixels, 2 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.reach = real_number(self.prefix, parameter, default=2.0, least=0.25, most=8.0)

    @property
    def name(self) -> str:
        return f"coin:{self.reach:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who displaces every pixel by up to {self.reach:g} px"

    def transform(self, images: Pixels) -> Pixels:
        import torch
        import torch.nn.functional as F

        side = images.shape[-1]
        span = torch.arange(side, dtype=torch.float32)

        def change(batch: Tensor, start: int) -> Tensor:
            moved = np.stack([offsets(start + row, side, self.reach) for row in range(len(batch))])
            down, right = torch.from_numpy(moved).unbind(1)
            places = torch.stack([span + right, span[:, None] + down], dim=-1)  # x before y
            grid = places * (2 / max(1, side - 1)) - 1
            return F.grid_sample(batch, grid, mode="bilinear", padding_mode="border", align_corners=True)

        return in_blocks(images, change)
