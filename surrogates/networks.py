"""The networks that are trained from scratch: small ones for two cores, residual ones with the stem a resolution needs.

``small-cnn`` is the five-convolution toy model of the error-minimizing-noise literature (its ToyModel has three) at a
width that a CPU trains in seconds. ``convmixer`` mixes patches (Trockman & Kolter 2022, "Patches are all you need"): no
pooling, no 3x3 stem, large depthwise kernels. Noise that fools the one need not fool the other, which is what a second
victim is for; a small transformer and a plain stack of convolutions are two more.

The thin ResNets made for CIFAR (He et al. 2016, section 4.2) have 20 and 56 layers, 0.27 M and 0.85 M parameters. Names
of their tensors are those of akamaster/pytorch_resnet_cifar10, whose weights are the usual ones to be had. Where a
stage halves the side and doubles the channels, the shortcut takes every other pixel and pads with zero channels (option
A of the paper), which has no weights. The other residual networks are torchvision's.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import SetupError
from ..records.config import WeightsPolicy
from .weights import load_weights


def _stem_stride(resolution: int) -> int:
    """Stride that brings the working resolution to about 32 px, so that cost does not grow with it."""
    if resolution <= 48:
        return 1
    return 2 if resolution <= 96 else 4


class SmallCNN(nn.Module):
    """Five 3x3 convolutions with batch norm, two poolings, global average, one linear layer.

    About 7.5 MMAC an image at width 16 for any resolution up to 96 px (the stem strides from 49 px on).
    """

    def __init__(self, num_classes: int, *, resolution: int = 32, width: int = 16) -> None:
        super().__init__()
        stride = _stem_stride(resolution)
        kernel = 3 if stride == 1 else 2 * stride - 1

        def block(cin: int, cout: int, *, k: int = 3, s: int = 1, pool: bool = False) -> list[nn.Module]:
            layers: list[nn.Module] = [nn.Conv2d(cin, cout, k, s, k // 2, bias=False), nn.BatchNorm2d(cout), nn.ReLU()]
            return [*layers, nn.MaxPool2d(2)] if pool else layers

        self.features = nn.Sequential(
            *block(3, width, k=kernel, s=stride, pool=True),
            *block(width, 2 * width),
            *block(2 * width, 2 * width, pool=True),
            *block(2 * width, 4 * width),
            *block(4 * width, 4 * width),
        )
        self.head = nn.Linear(4 * width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x).mean(dim=(2, 3)))


class _Residual(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x)


class ConvMixer(nn.Module):
    """Patch embedding, then ``depth`` times (depthwise 5x5 residual, pointwise), global average, linear."""

    def __init__(
        self, num_classes: int, *, resolution: int = 32, width: int = 96, depth: int = 3, patch: int = 4
    ) -> None:
        super().__init__()
        patch = patch * _stem_stride(resolution)

        def mix() -> nn.Sequential:
            return nn.Sequential(
                _Residual(
                    nn.Sequential(nn.Conv2d(width, width, 5, groups=width, padding=2), nn.GELU(), nn.BatchNorm2d(width))
                ),
                nn.Conv2d(width, width, 1),
                nn.GELU(),
                nn.BatchNorm2d(width),
            )

        self.embed = nn.Sequential(nn.Conv2d(3, width, patch, patch), nn.GELU(), nn.BatchNorm2d(width))
        self.mixers = nn.Sequential(*(mix() for _ in range(depth)))
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mixers(self.embed(x)).mean(dim=(2, 3)))


PATCHES = 8
"""Patches a side, whatever the resolution, so that the cost does not grow with it."""


def build_small_vit(num_classes: int, *, resolution: int, width: int = 128, depth: int = 4) -> nn.Module:
    """A pre-norm transformer (Dosovitskiy et al. 2021) on 8 x 8 patches: 4 layers, 128 wide, 4 heads, 0.8 M parameters.

    Patches are 4 px at 32 px and 8 px at 64 px; features are averaged over the patches, as suits little data (Beyer
    et al. 2022, "Better plain ViT baselines"). No dropout: the arms of a comparison train for few steps.
    """
    from timm.models.vision_transformer import VisionTransformer

    patch = max(1, resolution // PATCHES)
    return VisionTransformer(
        img_size=resolution, patch_size=patch, num_classes=num_classes, embed_dim=width, depth=depth, num_heads=4,
        mlp_ratio=2.0, global_pool="avg", class_token=False, dynamic_img_pad=True,
    )  # fmt: skip


def build_vgg11(num_classes: int) -> nn.Module:
    """VGG-11 with batch norm (Simonyan & Zisserman 2015, configuration A) and one linear layer, as usual at 32 px.

    A plain stack without shortcuts: of another family than residual networks.
    """
    from torchvision.models import vgg11_bn

    features = vgg11_bn(weights=None).features
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, num_classes))


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


def build_imagenet_resnet(name: str, tag: str, num_classes: int, weights: WeightsPolicy) -> nn.Module:
    """A ResNet with torchvision's ImageNet weights and the standard stem; a head of another size starts fresh.

    Args:
        name: ``resnet18`` or ``resnet50``.
        tag: one of :data:`IMAGENET_TAGS`.
        num_classes: number of logits.
        weights: a file instead of the tag's, or whether that may be fetched.

    Raises:
        SetupError: the weights are not on this machine and may not be fetched.
        WeightsError: they do not fit.
    """
    from torchvision import models

    net = getattr(models, name)(weights=None, num_classes=num_classes)
    file = find_imagenet_weights(name, tag, weights)
    if not file.is_file() and weights.file is None:
        url = models.get_model_weights(name)[tag].url
        try:
            torch.hub.load_state_dict_from_url(url, check_hash=True, progress=False, weights_only=True)
        except (OSError, RuntimeError) as error:
            raise SetupError(f"{name}/{tag} could not be fetched: {error}. Use --weights FILE.") from error
    load_weights(net, file)
    return net


def find_imagenet_weights(name: str, tag: str, weights: WeightsPolicy) -> Path:
    """The file that a tag's weights come from; it need not be there yet where fetching is allowed. Loads nothing.

    Raises:
        SetupError: it is not on this machine and may not be fetched.
    """
    if weights.file is not None:
        return weights.file
    from torchvision import models

    url = models.get_model_weights(name)[tag].url
    file = Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])
    if not weights.download and not file.is_file():
        raise SetupError(
            f"The weights of {name}/{tag} are not on this machine. Give a file with --weights FILE, or let them be "
            "fetched with --allow-download."
        )
    return file
