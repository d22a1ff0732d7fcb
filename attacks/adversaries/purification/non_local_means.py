"""Non-local means: each pixel averaged with pixels whose surroundings look alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..base import Adversary, Pixels
from ..parameters import real_number
from ..transforms.blocks import in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NonLocalMeans", "denoise_nlm"]

PATCH_RADIUS = 1
SEARCH_RADIUS = 4


def denoise_nlm(batch: Tensor, strength: float, *, patch: int = PATCH_RADIUS, search: int = SEARCH_RADIUS) -> Tensor:
    """Weighted mean of the pixels around each, by the likeness of their patches (Buades, Coll, Morel 2005).

    Args:
        batch: float ``[B, 3, R, R]`` in [0, 1]; borders are reflected.
        strength: the weight falls to 1/e where patches differ by this much, root mean square over colours and pixels.
        patch: a patch is ``2 patch + 1`` px wide.
        search: and is looked for up to this many px away along each axis.
    """
    import torch
    import torch.nn.functional as F

    side = batch.shape[-1]
    search = min(search, side - 1)
    padded = F.pad(batch, (search,) * 4, mode="reflect")
    total, weights = torch.zeros_like(batch), batch.new_zeros(len(batch), 1, side, side)
    for y in range(2 * search + 1):
        for x in range(2 * search + 1):
            shifted = padded[:, :, y : y + side, x : x + side]
            apart = (shifted - batch).square().mean(dim=1, keepdim=True)
            # Patches at the border are averaged over what of them lies inside.
            apart = F.avg_pool2d(apart, 2 * patch + 1, stride=1, padding=patch, count_include_pad=False)
            weight = torch.exp(apart * (-1.0 / strength**2))
            total += weight * shifted
            weights += weight
    return total / weights


class NonLocalMeans(Adversary):
    """Non-local means on all three colours together.

    Args:
        parameter: strength in levels of 255, 1 to 100; 12 where left out, one and a half times the usual budget.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "nlm"
    tier = "training"
    source = "Buades, Coll, Morel 2005, A non-local algorithm for image denoising (CVPR)"
    description = "non-local means denoising (nlm:8 sets the strength in levels, 12 if left out)"

    def __init__(self, parameter: str | None = None) -> None:
        self.levels = real_number(self.prefix, parameter, default=12.0, least=1.0, most=100.0)

    @property
    def name(self) -> str:
        return f"nlm:{self.levels:g}"

    @property
    def phrase(self) -> str:
        return "a trainer who denoises them by non-local means"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: denoise_nlm(batch, self.levels / 255.0), size=64)
