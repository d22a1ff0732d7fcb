"""A bound on the slow colours of a perturbation: casts and large stains, which the eye sees before all else.

The eye resolves colour far more coarsely than brightness, and is most sensitive to it at the lowest frequencies
(Mullen, *The contrast sensitivity of human colour vision to red-green and blue-yellow chromatic gratings*, J. Physiol.
359, 1985). A pattern crafted for networks alone puts much of its strength just there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import ConfigError

__all__ = ["TintBound"]

_PASSES = 4


class TintBound:
    """Holds the colour of a perturbation, as far as it varies slowly over the frame, within some levels.

    A perturbation is its mean over the channels (brightness) and the rest (colour). The slow part of the colour is its
    projection on the lowest cosines of a DCT in each direction: the mean over the frame is the first of them. Where
    that part exceeds the bound anywhere, it is scaled down, which leaves brightness and all finer colour as they were.

    Args:
        resolution: side R of the perturbations.
        levels: largest slow colour shift of any channel of any pixel, in 1/255 of the full range; 0 removes it.
        device: where the perturbations are.
        cosines: how many of the lowest frequencies count as slow, in each direction; 4 go up to one and a half waves
            over the frame. As many as the resolution leave no colour at all.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(self, resolution: int, levels: float, device: torch.device | str = "cpu", *, cosines: int = 4) -> None:
        if not (levels >= 0 and cosines >= 1):
            raise ConfigError(f"tint must be a number of levels from 0, not {levels:g}, of at least one cosine.")
        self._limit = levels / 255
        count = min(cosines, resolution)
        places = (torch.arange(resolution, dtype=torch.float64) + 0.5) * (math.pi / resolution)
        waves = torch.cos(torch.arange(count, dtype=torch.float64)[:, None] * places)
        waves /= waves.norm(dim=1, keepdim=True)
        self._slow = (waves.T @ waves).float().to(device)

    def slow_colour(self, delta: Tensor) -> Tensor:
        """The slow part of the colour of ``delta [..., 3, R, R]``, of the same shape; its channels sum to 0."""
        colour = delta - delta.mean(dim=-3, keepdim=True)
        return self._slow @ colour @ self._slow

    def __call__(self, delta: Tensor, epsilon: float) -> Tensor:
        """The nearest perturbation within both bounds, or nearly: alternating projections, a few times.

        Args:
            delta: float ``[..., 3, R, R]`` in units of the full range.
            epsilon: bound on every value, in the same units; it holds exactly.

        Returns:
            A new tensor.
        """
        for _ in range(_PASSES):
            slow = self.slow_colour(delta)
            most = slow.abs().amax(dim=(-3, -2, -1), keepdim=True)
            excess = 1 - (self._limit / most.clamp(min=1e-12)).clamp(max=1)
            delta = (delta - excess * slow).clamp(-epsilon, epsilon)
        return delta
