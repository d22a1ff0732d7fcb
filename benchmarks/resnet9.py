"""The nine-layer residual network of David Page's "How to train your ResNet" (DAWNBench, 2018), quick on CIFAR-10."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ResNet9"]

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)


def _layer(inputs: int, width: int, *, pool: bool = False) -> nn.Sequential:
    parts = [nn.Conv2d(inputs, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, *([nn.MaxPool2d(2)] if pool else []))


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(_layer(width, width), _layer(width, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class ResNet9(nn.Module):
    """6.6 million parameters; logits ``[B, K]`` of images ``[B, 3, 32, 32]`` in [0, 1].

    Args:
        classes: number of logits K.
        seed: of the initial weights. The global generator is left as it was.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.body = nn.Sequential(
                _layer(3, 64),
                _layer(64, 128, pool=True), _Residual(128),
                _layer(128, 256, pool=True),
                _layer(256, 512, pool=True), _Residual(512),
                nn.MaxPool2d(4), nn.Flatten(), nn.Linear(512, classes, bias=False),
            )  # fmt: skip

    def forward(self, images: Tensor) -> Tensor:
        # The factor is the author's: logits of the untrained network are too large without it.
        return 0.125 * self.body((images - self.mean) / self.std)
