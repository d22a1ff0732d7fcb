"""Residual networks from torchvision, with the stem that the working resolution needs."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..errors import SetupError
from .weights import load_weights

__all__ = [
    "IMAGENET_TAGS",
    "build_imagenet_resnet",
    "build_mobilenet_v2",
    "build_plain_resnet",
    "build_resnet",
    "find_imagenet_weights",
]

IMAGENET_TAGS = {"resnet18": ("IMAGENET1K_V1",), "resnet50": ("IMAGENET1K_V1", "IMAGENET1K_V2")}
"""torchvision's weights by network; V1 of ResNet-50 are those that the code of Unlearnable Clusters uses."""

LOW_RESOLUTION = 64
"""Up to this many px the stem is 3x3 stride 1 without pooling (He et al. 2016, section 4.2). With the 7x7 stride-2
stem and its pooling, error-minimizing noise at 32 px failed: about 50 % victim accuracy."""


def build_resnet(depth: int, num_classes: int, *, resolution: int) -> nn.Module:
    """ResNet-18 or ResNet-50, randomly initialised."""
    from torchvision.models import resnet18, resnet50

    net = {18: resnet18, 50: resnet50}[depth](weights=None, num_classes=num_classes)
    if resolution <= LOW_RESOLUTION:
        net.conv1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False)
        net.maxpool = nn.Identity()  # type: ignore[assignment]
        nn.init.kaiming_normal_(net.conv1.weight, mode="fan_out", nonlinearity="relu")
    return net


def build_plain_resnet(depth: int, num_classes: int, *, resolution: int) -> nn.Module:
    """The same with torch's own initial weights, as the official code of error-minimizing noise has it at 32 px
    (torchvision draws convolutions from a normal distribution). Larger pictures get torchvision's network, as there."""
    net = build_resnet(depth, num_classes, resolution=resolution)
    if resolution <= LOW_RESOLUTION:
        for module in net.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.reset_parameters()
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


def build_imagenet_resnet(name: str, tag: str, num_classes: int, *, fetch: bool, weights: Path | None) -> nn.Module:
    """A ResNet with torchvision's ImageNet weights and the standard stem; a head of another size starts fresh.

    Args:
        name: ``resnet18`` or ``resnet50``.
        tag: one of :data:`IMAGENET_TAGS`.
        num_classes: number of logits.
        fetch: whether the weights may be fetched.
        weights: a file instead of the tag's.

    Raises:
        SetupError: the weights are not on this machine and may not be fetched.
        WeightsError: they do not fit.
    """
    from torchvision import models

    net = getattr(models, name)(weights=None, num_classes=num_classes)
    file = find_imagenet_weights(name, tag, fetch=fetch, weights=weights)
    if not file.is_file() and weights is None:
        url = models.get_model_weights(name)[tag].url
        try:
            torch.hub.load_state_dict_from_url(url, check_hash=True, progress=False, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise SetupError(f"{name}/{tag} could not be fetched: {error}. Use --weights FILE.") from error
    load_weights(net, file)
    return net


def find_imagenet_weights(name: str, tag: str, *, fetch: bool, weights: Path | None) -> Path:
    """The file that a tag's weights come from; it need not be there yet where fetching is allowed. Loads nothing.

    Raises:
        SetupError: it is not on this machine and may not be fetched.
    """
    if weights is not None:
        return Path(weights)
    from torchvision import models

    url = models.get_model_weights(name)[tag].url
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not fetch and not file.is_file():
        raise SetupError(
            f"The weights of {name}/{tag} are not on this machine. Give a file with --weights FILE, or let them be "
            "fetched with --allow-download."
        )
    return file
