"""Pictures that nobody took: overlapping discs of all sizes, as a stand-in for photographs.

"Dead leaves" (Lee, Mumford & Huang 2001) share the edges, occlusions and scale invariance of photographs. Noise depends
on no picture, so a generator can be trained on these: not one photograph is needed.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["dead_leaves"]


def dead_leaves(count: int, side: int, *, seed: int, discs: int = 60) -> Tensor:
    """uint8 ``[count, 3, side, side]``.

    Args:
        count: pictures.
        side: in px.
        seed: the same seed gives the same pictures.
        discs: laid on a picture one over the other; radii follow a power law of exponent 3 between 1/32 and 1/2 side.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    # Drawn at twice the side and averaged: edges of photographs are soft. So is their contrast, here a picture's own.
    fine = 2 * side
    grid = (torch.arange(fine) + 0.5) / fine
    out = torch.empty(count, 3, side, side, dtype=torch.uint8)
    for start in range(0, count, 256):
        part = min(256, count - start)
        low, high = 1 / 32, 1 / 2
        radius = (low**-2 - draw(part, discs) * (low**-2 - high**-2)) ** -0.5
        x, y = draw(part, discs), draw(part, discs)
        colour = draw(part, discs, 3)
        # Colours of one picture go together: they lie around a mean of its own.
        colour = (draw(part, 1, 3) + (colour - 0.5) * (0.3 + draw(part, 1, 1))).clamp(0, 1)
        slope, angle = 0.5 * draw(part, discs), 2 * math.pi * draw(part, discs)
        canvas = draw(part, 3, 1, 1).expand(part, 3, fine, fine).clone()
        for disc in range(discs):
            dx = grid[None, None, :] - x[:, disc, None, None]
            dy = grid[None, :, None] - y[:, disc, None, None]
            inside = dx.square() + dy.square() < radius[:, disc, None, None] ** 2
            shade = (dx * angle[:, disc, None, None].cos() + dy * angle[:, disc, None, None].sin()) * slope[
                :, disc, None, None
            ]
            value = colour[:, disc, :, None, None] + shade[:, None]
            canvas = torch.where(inside[:, None], value, canvas)
        canvas += 0.02 * torch.randn(canvas.shape, generator=generator)
        canvas = F.avg_pool2d(canvas, 2)
        middle = canvas.mean((1, 2, 3), keepdim=True)
        canvas = middle + (0.3 + 0.7 * draw(part, 1, 1, 1)) * (canvas - middle)
        out[start : start + part] = canvas.clamp(0, 1).mul(255).round().to(torch.uint8)
    return out
