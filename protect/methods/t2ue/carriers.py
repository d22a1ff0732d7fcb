"""Waves of fixed periods, as material for noise that a network learns quickly.

The paper's network enlarges a map of random numbers; nothing in it tells one pixel of a cell from the next, so that
textures have to be learnt through the borders. Small generators trained for minutes never got there (measured: the
contrastive loss stayed at that of guessing), while plain gratings, one a class, take a small network trained on
CIFAR-10 from .54 to .10. So the small generators are handed gratings, and the text decides how they are mixed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ....errors import ConfigError

__all__ = ["Carriers"]

_DIRECTIONS = ((1, 0), (0, 1), (1, 1), (1, -1))


class Carriers(nn.Module):
    """Sines and cosines in four directions, where wanted shifted as a whole by the first two numbers of z.

    Noises of one text with two z have a low cosine where the waves are shifted, and nearly the same noise where they
    are not, as with the paper's network. Trainers learn a texture all the same, wherever it
    lies; it takes the generator longer to make one that they do (docs/methods/t2ue.md). Two numbers are no secret
    from somebody who has text and generator and tries all shifts.

    Args:
        side: of the maps in px.
        periods: in px; each divides the side, so that the waves fit in.
        shift: how far they go, as a share of the side; 0 leaves them in place.
    """

    frequencies: Tensor
    arguments: Tensor

    def __init__(self, side: int, periods: Sequence[int], shift: float = 0.0) -> None:
        super().__init__()
        if any(period < 2 or side % period for period in periods):
            raise ConfigError(f"Periods of carriers divide the side of {side} px and are 2 at least, not {periods}.")
        cycles = [(x * (side // period), y * (side // period)) for period in periods for x, y in _DIRECTIONS]
        frequencies = 2 * math.pi * torch.tensor(cycles, dtype=torch.float32)
        place = (torch.arange(side) + 0.5) / side
        across, down = frequencies[:, 0, None, None], frequencies[:, 1, None, None]
        arguments = across * place[None, None, :] + down * place[None, :, None]
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.register_buffer("arguments", arguments, persistent=False)
        self.channels = 2 * len(cycles)
        self.shift = shift

    def forward(self, z: Tensor) -> Tensor:
        """``[B, channels, side, side]`` in [-1, 1] for ``z`` [B, latent_dim of 2 at least], standard normal."""
        # The normal distribution's own function makes the shift uniform.
        shift = self.shift * torch.special.ndtr(z[:, :2].float())
        phase = self.arguments[None] + (shift @ self.frequencies.T)[:, :, None, None]
        return torch.cat([phase.sin(), phase.cos()], dim=1)
