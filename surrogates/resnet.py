"""Residual networks from torchvision, with the stem that the working resolution needs."""

from __future__ import annotations

from torch import nn

__all__ = ["build_mobilenet_v2", "build_resnet"]

LOW_RESOLUTION = 64
"""Up to this many px the stem is 3x3 stride 1 without pooling (He et al. 2016, section 4.2). With the 7x7 stride-2
stem and its pooling, error-minimizing noise at 32 px failed: about 50 % victim accuracy (emn.md section 0.5)."""


def build_resnet(depth: int, num_classes: int, *, resolution: int) -> nn.Module:
    """ResNet-18 or ResNet-50, randomly initialised."""
    from torchvision.models import resnet18, resnet50

    net = {18: resnet18, 50: resnet50}[depth](weights=None, num_classes=num_classes)
    if resolution <= LOW_RESOLUTION:
        net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = nn.Identity()  # type: ignore[assignment]
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net


def build_mobilenet_v2(num_classes: int, *, resolution: int, width: float = 0.5) -> nn.Module:
    """MobileNetV2 at half width: inverted residuals with depthwise convolutions.

    Up to 64 px the first two of its five strides become 1, as is usual on CIFAR; dropout is off, because the arms of
    a comparison train for few steps.
    """
    from torchvision.models import mobilenet_v2

    net = mobilenet_v2(weights=None, num_classes=num_classes, width_mult=width, dropout=0.0)
    if resolution <= LOW_RESOLUTION:
        strided = [m for m in net.features.modules() if isinstance(m, nn.Conv2d) and m.stride == (2, 2)]
        for conv in strided[: 2 if resolution <= 48 else 1]:
            conv.stride = (1, 1)
    return net
