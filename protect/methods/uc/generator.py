"""The network whose output is a perturbation: a picture prior, trained for one pattern and then thrown away."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["NoiseGenerator"]


def _norm(channels: int) -> nn.Module:
    # The paper's code runs batch norm in training mode on a batch of one, which is instance norm; this one says so.
    return nn.InstanceNorm2d(channels, affine=True, track_running_stats=False)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=False), _norm(channels), nn.ReLU(),
            nn.ReflectionPad2d(1), nn.Conv2d(channels, channels, 3, bias=False), _norm(channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class NoiseGenerator(nn.Module):
    """The generator of Unlearnable Clusters, a CycleGAN network fed one fixed noise image.

    7.84 M weights at the paper's width of 64; a sixteenth of that at 16.

    Args:
        width: channels of the first layer.
        blocks: residual blocks.
    """

    def __init__(self, width: int = 64, blocks: int = 6) -> None:
        super().__init__()
        w = width
        self.net = nn.Sequential(
            nn.ReflectionPad2d(3), nn.Conv2d(3, w, 7, bias=False), _norm(w), nn.ReLU(),
            nn.Conv2d(w, 2 * w, 3, 2, 1, bias=False), _norm(2 * w), nn.ReLU(),
            nn.Conv2d(2 * w, 4 * w, 3, 2, 1, bias=False), _norm(4 * w), nn.ReLU(),
            *(_Residual(4 * w) for _ in range(blocks)),
            nn.ConvTranspose2d(4 * w, 2 * w, 3, 2, 1, output_padding=1, bias=False), _norm(2 * w), nn.ReLU(),
            nn.ConvTranspose2d(2 * w, w, 3, 2, 1, output_padding=1, bias=False), _norm(w), nn.ReLU(),
            nn.ReflectionPad2d(3), nn.Conv2d(w, 3, 7),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        """A picture ``[N, 3, S, S]`` in (-1, 1) from noise of the same shape; the side is a multiple of 4."""
        return torch.tanh(self.net(z))
