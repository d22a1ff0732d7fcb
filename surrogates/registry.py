"""The one door to every network: a table of names, and a factory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..errors import ConfigError, SetupError, UnknownNameError
from .base import IMAGENET_MEAN, IMAGENET_STD, Surrogate
from .embedded import LITE0_MEAN, LITE0_STD, build_efficientnet_lite0
from .resnet import build_mobilenet_v2, build_resnet
from .small_cnn import ConvMixer, SmallCNN
from .weights import load_weights

__all__ = ["SurrogateSpec", "create_surrogate", "surrogate_family", "surrogate_names"]

Builder = Callable[[int, int], nn.Module]


@dataclass(frozen=True)
class SurrogateSpec:
    """A row of the registry.

    Attributes:
        build: ``(num_classes, resolution) -> network`` with random weights (or embedded ones).
        family: networks of one family share their building blocks; a verifier wants a victim of another.
        mean, std: normalisation of the [0, 1] input, one value a channel.
        embedded: whether the builder brings trained weights of its own.
        bf16_on_cpu: whether bfloat16 pays on a CPU (measured: small-cnn 2.2 times faster, convmixer slower).
    """

    build: Builder
    family: str
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.25, 0.25, 0.25)
    embedded: bool = False
    bf16_on_cpu: bool = False


_SPECS: dict[str, SurrogateSpec] = {
    "small-cnn": SurrogateSpec(lambda k, r: SmallCNN(k, resolution=r), "plain-cnn", bf16_on_cpu=True),
    "convmixer": SurrogateSpec(lambda k, r: ConvMixer(k, resolution=r), "patch-mixer"),
    "resnet18": SurrogateSpec(
        lambda k, r: build_resnet(18, k, resolution=r), "resnet", IMAGENET_MEAN, IMAGENET_STD, bf16_on_cpu=True
    ),
    "resnet50": SurrogateSpec(
        lambda k, r: build_resnet(50, k, resolution=r), "resnet", IMAGENET_MEAN, IMAGENET_STD, bf16_on_cpu=True
    ),
    "mobilenetv2": SurrogateSpec(
        lambda k, r: build_mobilenet_v2(k, resolution=r), "inverted-residual", IMAGENET_MEAN, IMAGENET_STD
    ),
    "efficientnet-lite0": SurrogateSpec(
        lambda k, r: build_efficientnet_lite0(k), "inverted-residual", LITE0_MEAN, LITE0_STD, embedded=True
    ),
}


def surrogate_names() -> tuple[str, ...]:
    """Names of the registry; besides these, ``timm:NAME`` takes any network of timm."""
    return tuple(_SPECS)


def surrogate_family(name: str) -> str:
    """The architecture family of a registry name or ``timm:NAME``."""
    if name.startswith("timm:"):
        return name[5:].split(".")[0].split("_")[0]
    return _spec(name).family


def _spec(name: str) -> SurrogateSpec:
    if name not in _SPECS:
        raise UnknownNameError("surrogate", name, [*_SPECS, "timm:NAME"])
    return _SPECS[name]


def create_surrogate(
    name: str,
    *,
    num_classes: int,
    resolution: int,
    seed: int,
    weights: Path | None = None,
    allow_download: bool = False,
) -> Surrogate:
    """A network with its preprocessing inside, ready to be trained or frozen.

    Args:
        name: a name of :func:`surrogate_names`, or ``timm:NAME``.
        num_classes: logits K, at least 2.
        resolution: side of the images in px; decides the stem.
        seed: of the initial weights. The global generator is left as it was.
        weights: a .safetensors or tensors-only torch file. A head of another size starts fresh.
        allow_download: let timm fetch pretrained weights; without it nothing touches the network.

    Raises:
        UnknownNameError: no such network.
        ConfigError: fewer than two classes, or the network cannot take this resolution.
        WeightsError: the weights do not fit.
    """
    if num_classes < 2:
        raise ConfigError(f"A classifier needs at least 2 classes, not {num_classes}.")
    mean: Sequence[float]
    std: Sequence[float]
    dense = False
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if name.startswith("timm:"):
            net, mean, std, source = _build_timm(name[5:], num_classes, resolution, allow_download and weights is None)
        else:
            spec = _spec(name)
            net, mean, std, dense = spec.build(num_classes, resolution), spec.mean, spec.std, spec.bf16_on_cpu
            source = "embedded" if spec.embedded else "random"
        if weights is not None:
            load_weights(net, Path(weights))
            source = Path(weights).name
    return Surrogate(net, name=name, num_classes=num_classes, mean=mean, std=std, source=source, bf16_on_cpu=dense)


def _build_timm(
    name: str, num_classes: int, resolution: int, pretrained: bool
) -> tuple[nn.Module, Sequence[float], Sequence[float], str]:
    import timm

    if name not in timm.list_models() and name not in timm.list_pretrained():
        raise UnknownNameError("timm network", name, timm.list_models())
    try:
        try:
            net = timm.create_model(name, pretrained=pretrained, num_classes=num_classes, img_size=resolution)
        except TypeError:  # convolutional networks take any size and know no img_size
            net = timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    except OSError as error:
        raise SetupError(f"timm could not fetch the weights of {name}: {error}. Use --weights FILE.") from error
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"timm:{name} cannot be built for {resolution} px images: {error}") from error
    config = getattr(net, "pretrained_cfg", {}) or {}
    return net, config.get("mean", IMAGENET_MEAN), config.get("std", IMAGENET_STD), "timm" if pretrained else "random"
