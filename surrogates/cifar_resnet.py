"""The thin ResNets made for CIFAR (He et al. 2016, section 4.2): 20 and 56 layers, 0.27 M and 0.85 M parameters.

Names of tensors are those of akamaster/pytorch_resnet_cifar10, whose weights are the usual ones to be had. Where a
stage halves the side and doubles the channels, the shortcut takes every other pixel and pads with zero channels
(option A of the paper), which has no weights.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CifarResNet"]


class _Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self._stride, self._added = stride, width - inputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self._stride > 1 or self._added:
            half = self._added // 2
            x = F.pad(x[:, :, :: self._stride, :: self._stride], (0, 0, 0, 0, half, self._added - half))
        return F.relu(out + x)


class CifarResNet(nn.Module):
    """Three stages of ``(depth - 2) / 6`` blocks at 16, 32 and 64 channels, global average, one linear layer.

    Args:
        depth: number of layers, 6 n + 2.
        num_classes: number of logits.
    """

    def __init__(self, depth: int, num_classes: int) -> None:
        super().__init__()
        blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)

        def stage(inputs: int, width: int, stride: int) -> nn.Sequential:
            rest = (_Block(width, width, 1) for _ in range(blocks - 1))
            return nn.Sequential(_Block(inputs, width, stride), *rest)

        self.layer1, self.layer2, self.layer3 = stage(16, 16, 1), stage(16, 32, 2), stage(32, 64, 2)
        self.linear = nn.Linear(64, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, _Block):
                # Blocks begin as their shortcuts (Goyal et al. 2017): otherwise 27 of them make logits of hundreds,
                # whose softmax has no gradient.
                nn.init.zeros_(module.bn2.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, K]`` of normalised images ``[B, 3, R, R]``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(out.mean(dim=(2, 3)))
