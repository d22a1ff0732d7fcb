"""Local filters: Gaussian blur and the median."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from ..base import Adversary, Pixels
from ..parameters import real_number
from .blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["GaussianBlur", "Median"]

_REACH = 2.0
"""The kernel reaches so many sigma to each side, at least one pixel."""


class GaussianBlur(Adversary):
    """A blur that blurs.

    The published benchmark uses a 3 x 3 kernel with sigma 0.1, whose weight beside the centre is exp(-50): its column
    is a repeat of the untreated run. Sigma is therefore at least 0.6 here.

    Args:
        parameter: sigma in px at the working resolution, 0.6 to 8; 1 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "blur"
    tier = "transforms"
    source = "arXiv 2308.03258 (APBench), with a sigma that does something"
    description = "Gaussian blur (blur:0.6 sets sigma in pixels, 1 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.sigma = real_number(self.prefix, parameter, default=1.0, least=0.6, most=8.0)

    @property
    def name(self) -> str:
        return f"blur:{self.sigma:g}"

    @property
    def phrase(self) -> str:
        return f"a trainer who blurs them by {self.sigma:g} {'pixel' if self.sigma == 1 else 'pixels'}"

    def transform(self, images: Pixels) -> Pixels:
        from torchvision.transforms.v2.functional import gaussian_blur

        # Reflection at the border cannot reach further than the picture.
        radius = min(max(1, math.ceil(_REACH * self.sigma)), images.shape[-1] - 1)
        size = 2 * radius + 1
        return in_blocks(images, lambda batch, _: gaussian_blur(batch, [size, size], [self.sigma, self.sigma]))


class Median(Adversary):
    """The median of each 3 x 3 neighbourhood, colour by colour; borders reflected."""

    prefix = "median"
    tier = "transforms"
    source = "arXiv 1704.01155 (feature squeezing), 3 x 3"
    description = "each value replaced by the median of its 3 x 3 neighbourhood"

    @property
    def phrase(self) -> str:
        return "a trainer who applies a median filter"

    def transform(self, images: Pixels) -> Pixels:
        import torch
        import torch.nn.functional as F

        side = images.shape[-1]

        def change(batch: Tensor, _: int) -> Tensor:
            # kornia's median pads with black, which eats the corners of a small picture.
            padded = F.pad(batch, (1, 1, 1, 1), mode="reflect")
            shifts = [padded[:, :, y : y + side, x : x + side] for y in range(3) for x in range(3)]
            return torch.stack(shifts).median(dim=0).values

        return in_blocks(images, change)
