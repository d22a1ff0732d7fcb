"""The one door to every network: a table of names, and a factory.

``a+b`` is several networks as one surrogate, whose losses are averaged, so that noise has to work on all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import ConfigError, SetupError, UnknownNameError
from ..records.config import NO_WEIGHTS, WeightsPolicy
from .arithmetic import own_randomness
from .base import IMAGENET_MEAN, IMAGENET_STD, Surrogate
from .clip import build_clip, check_clip_name, find_clip_weights
from .image_text import build_conse
from .networks import (
    IMAGENET_TAGS,
    CifarResNet,
    ConvMixer,
    SmallCNN,
    build_imagenet_resnet,
    build_mobilenet_v2,
    build_plain_resnet,
    build_resnet,
    build_small_vit,
    build_vgg11,
    find_imagenet_weights,
)
from .training import Recipe
from .weights import LITE0_MEAN, LITE0_STD, build_efficientnet_lite0, load_weights


class Ensemble(Surrogate):
    """Members side by side. Its output is that of every member, ``[E, N, K]``; see :func:`class_losses`.

    Args:
        members: two or more surrogates with the same number of classes.
    """

    def __init__(self, members: Sequence[Surrogate]) -> None:
        super().__init__(
            nn.ModuleList(members),
            name="+".join(member.name for member in members),
            num_classes=members[0].num_classes,
            source="+".join(member.source for member in members),
            bf16_on_cpu=all(member.bf16_on_cpu for member in members),
        )

    @property
    def members(self) -> tuple[Surrogate, ...]:
        """The networks it consists of."""
        return tuple(self.net)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every member, float ``[E, N, K]``."""
        return torch.stack([member(images).float() for member in self.net])  # type: ignore[union-attr]

    def trunk(self) -> nn.Module:
        """The members' features side by side, ``[N, D1 + D2 + ...]``."""
        return _SideBySide([member.trunk() for member in self.members])

    def train(self, mode: bool = True) -> Surrogate:
        """Each member decides for itself what training mode means."""
        self.training = mode
        for member in self.members:
            member.train(mode)
        return self

    def fingerprint(self, *, head: bool = True) -> str:
        """sha256 over the members' fingerprints."""
        return hashlib.sha256("".join(member.fingerprint(head=head) for member in self.members).encode()).hexdigest()


class _SideBySide(nn.Module):
    def __init__(self, trunks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([trunk(images).float() for trunk in self.trunks], dim=1)


OPEN_NAMES = ("timm:NAME", "clip:ARCH/TAG", *(f"{name}/TAG" for name in IMAGENET_TAGS), "NAME@FILE", "A+B")
"""Patterns of the names that are not in the table."""

Builder = Callable[[int, int], nn.Module]

IMAGENET_SIDE = 112
"""Weights trained on ImageNet see smaller images enlarged to this many px: below, things are too small for them."""

VGG_SIDE = 32
"""VGG halves the side five times."""


SGD = Recipe()
"""For convolutional networks."""

ADAMW = Recipe(optimiser="adamw", lr=4e-3, weight_decay=1e-2)
"""For networks without a convolutional pyramid, as in their papers."""


@dataclass(frozen=True)
class SurrogateSpec:
    """A row of the registry: all there is to say about a network, as a surrogate and as a victim.

    Attributes:
        build: ``(num_classes, resolution) -> network`` with random weights (or embedded ones).
        family: networks of one family share their building blocks; a verifier wants a victim of another.
        description: one line for people.
        recipe: how it is trained from scratch.
        cost: rough cost of a training step, in those of ``small-cnn``; for estimates until something was measured.
        mean, std: normalisation of the [0, 1] input, one value a channel.
        embedded: whether the builder brings trained weights of its own. Such a network is no victim.
        bf16_on_cpu: whether bfloat16 pays on a CPU (measured: small-cnn 2.2 times faster, convmixer slower).
        head_only: only the last layer learns: the features are those of a pair of towers.
        at_least: images below this many px are enlarged first: trained weights expect things of some size.
    """

    build: Builder
    family: str
    description: str
    recipe: Recipe = SGD
    cost: float = 10.0
    mean: Sequence[float] = (0.5, 0.5, 0.5)
    std: Sequence[float] = (0.25, 0.25, 0.25)
    embedded: bool = False
    bf16_on_cpu: bool = False
    at_least: int | None = None
    head_only: bool = False


_SPECS: dict[str, SurrogateSpec] = {
    "small-cnn": SurrogateSpec(
        lambda k, r: SmallCNN(k, resolution=r),
        "plain-cnn",
        "five 3 x 3 convolutions with batch norm",
        cost=1.0,
        bf16_on_cpu=True,
    ),
    "convmixer": SurrogateSpec(
        lambda k, r: ConvMixer(k, resolution=r),
        "patch-mixer",
        "ConvMixer: patches, depthwise and pointwise convolutions",
        ADAMW,
        cost=1.0,
    ),
    "resnet18": SurrogateSpec(
        lambda k, r: build_resnet(18, k, resolution=r),
        "resnet",
        "ResNet-18 with the stem that the resolution needs",
        cost=45.0,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        bf16_on_cpu=True,
    ),
    "resnet18-plain": SurrogateSpec(
        lambda k, r: build_plain_resnet(18, k, resolution=r),
        "resnet",
        "ResNet-18 with torch's own initial weights and no normalisation, as published for emn",
        cost=45.0,
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
        bf16_on_cpu=True,
    ),
    "resnet50": SurrogateSpec(
        lambda k, r: build_resnet(50, k, resolution=r),
        "resnet",
        "ResNet-50 with the stem that the resolution needs",
        cost=90.0,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        bf16_on_cpu=True,
    ),
    "mobilenetv2": SurrogateSpec(
        lambda k, r: build_mobilenet_v2(k, resolution=r),
        "inverted-residual",
        "MobileNetV2 at half width",
        Recipe(lr=0.05),
        cost=9.0,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "vgg11": SurrogateSpec(
        lambda k, r: build_vgg11(k),
        "vgg",
        "VGG-11 with batch norm",
        Recipe(lr=0.05),
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        bf16_on_cpu=True,
        at_least=VGG_SIDE,
    ),
    "small-vit": SurrogateSpec(
        lambda k, r: build_small_vit(k, resolution=r),
        "vit",
        "a transformer on 8 x 8 patches, four layers",
        replace(ADAMW, lr=1e-3),
    ),
    "cifar-resnet20": SurrogateSpec(
        lambda k, r: CifarResNet(20, k),
        "resnet",
        "the narrow ResNet-20 for CIFAR",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "cifar-resnet56": SurrogateSpec(
        lambda k, r: CifarResNet(56, k),
        "resnet",
        "the narrow ResNet-56 for CIFAR",
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
    ),
    "efficientnet-lite0": SurrogateSpec(
        lambda k, r: build_efficientnet_lite0(k),
        "inverted-residual",
        "EfficientNet-Lite0 with embedded ImageNet weights",
        Recipe(lr=0.05),
        mean=LITE0_MEAN,
        std=LITE0_STD,
        embedded=True,
        at_least=IMAGENET_SIDE,
    ),
    "conse": SurrogateSpec(
        lambda k, r: build_conse(k),
        "inverted-residual",
        "EfficientNet-Lite0 and a sentence encoder, both embedded: images and captions in one space",
        mean=LITE0_MEAN,
        std=LITE0_STD,
        embedded=True,
        at_least=IMAGENET_SIDE,
        head_only=True,
    ),
}


def surrogate_names() -> tuple[str, ...]:
    """Names of the registry. Besides these: ``timm:NAME`` takes any network of timm, ``clip:ARCH/TAG`` any CLIP of
    open_clip, ``resnet18/TAG`` and ``resnet50/TAG`` torchvision's ImageNet weights, ``NAME@FILE`` any of them with the
    weights of a file, ``A+B`` several as an ensemble."""
    return tuple(_SPECS)


def _split_file(name: str) -> tuple[str, Path | None]:
    """``NAME@FILE`` as name and file. Tags of open_clip and names of timm hold no ``@``."""
    base, at, file = name.partition("@")
    return base, Path(file) if at else None


def surrogate_family(name: str) -> str:
    """The architecture family of a name: networks of one family share their building blocks."""
    if "@" in name:
        return surrogate_family(_split_file(name)[0])
    if "+" in name:
        return "+".join(dict.fromkeys(surrogate_family(part) for part in name.split("+")))
    if name.startswith("timm:"):
        return name[5:].split(".")[0].split("_")[0]
    if name.startswith("clip:"):
        return "clip"
    return _spec(name.partition("/")[0]).family


def surrogate_spec(name: str) -> SurrogateSpec | None:
    """The row of one network, whatever weights the name says; ``None`` for names that are not in the table."""
    return _SPECS.get(_split_file(name)[0].partition("/")[0])


def step_cost(name: str) -> float:
    """Rough cost of a training step, in those of ``small-cnn``."""
    spec = surrogate_spec(name)
    return SurrogateSpec.cost if spec is None else spec.cost


def recipe_for(name: str, **changes: object) -> Recipe:
    """How a network is trained from scratch; keyword arguments replace fields.

    Of those that are not in the table, the mixers and transformers of timm are trained with AdamW.
    """
    spec = surrogate_spec(name)
    if spec is not None:
        recipe = spec.recipe
    elif name.startswith("timm:") and any(word in name for word in ("vit", "mixer", "deit", "swin")):
        recipe = ADAMW
    else:
        recipe = SGD
    return replace(recipe, **changes)  # type: ignore[arg-type]


def check_surrogate(name: str) -> str:
    """``name`` itself if there is such a surrogate; builds nothing. Networks of timm are looked up when built.

    Raises:
        UnknownNameError: no such network, architecture or tag.
        ConfigError: a file of weights is named for several networks.
        SetupError: a CLIP is named and open_clip is not installed.
    """
    base, file = _split_file(name)
    if file is not None and "+" in base:
        raise ConfigError(f"{name} names one file of weights for several networks. Name one network.")
    for part in base.split("+"):
        if part.startswith("clip:"):
            check_clip_name(part)
        elif not part.startswith("timm:"):
            base, slash, tag = part.partition("/")
            _spec(base)
            if slash and tag not in IMAGENET_TAGS.get(base, ()):
                raise UnknownNameError(f"tag of {base}", tag, IMAGENET_TAGS.get(base, ()))
    return name


def check_weights(name: str, weights: WeightsPolicy = NO_WEIGHTS) -> None:
    """Make sure that a surrogate's weights can be had, before any work; loads and fetches nothing.

    Raises:
        UnknownNameError: no such network, architecture or tag.
        ConfigError: no weights are named for a CLIP, or one file for several networks.
        SetupError: they are not on this machine and may not be fetched.
    """
    base, file = _split_file(check_surrogate(name))
    weights = weights if weights.file is not None else replace(weights, file=file)
    parts = base.split("+")
    if len(parts) > 1 and weights.file is not None:
        raise ConfigError(f"--weights holds one network, but {name} names several. Name one, or leave the file out.")
    for part in parts:
        base, slash, tag = part.partition("/")
        if part.startswith("clip:"):
            find_clip_weights(part, weights)
        elif slash and not part.startswith("timm:"):
            find_imagenet_weights(base, tag, weights)


def _spec(name: str) -> SurrogateSpec:
    if name not in _SPECS:
        raise UnknownNameError("surrogate", name, [*_SPECS, *OPEN_NAMES])
    return _SPECS[name]


def create_surrogate(
    name: str,
    *,
    num_classes: int,
    resolution: int,
    seed: int,
    weights: Path | WeightsPolicy | None = None,
    allow_download: bool = False,
) -> Surrogate:
    """A network with its preprocessing inside, ready to be trained or frozen.

    Args:
        name: see :func:`surrogate_names`.
        num_classes: logits K, at least 2.
        resolution: side of the images in px; decides the stem.
        seed: of the initial weights. The global generator is left as it was.
        weights: a .safetensors or tensors-only torch file; or a policy, which says whether they may be fetched, too.
            A head of another size starts fresh.
        allow_download: let pretrained weights be fetched; without it nothing touches the network.

    Raises:
        UnknownNameError: no such network.
        ConfigError: fewer than two classes, the network cannot take this resolution, or a file of weights is given
            for an ensemble.
        SetupError: weights are not on this machine and may not be fetched.
        WeightsError: the weights do not fit.
    """
    if num_classes < 2:
        raise ConfigError(f"A classifier needs at least 2 classes, not {num_classes}.")
    check_surrogate(name)
    name, file = _split_file(name)
    policy = WeightsPolicy.of(weights, allow_download)
    policy = policy if policy.file is not None else replace(policy, file=file)
    if "+" in name:
        return _ensemble(name, num_classes, resolution, seed, policy)
    with own_randomness(seed):
        if name.startswith("clip:"):
            return build_clip(name, num_classes=num_classes, weights=policy)
        if name.startswith("timm:"):
            net, mean, std, source = _build_timm(
                name[5:], num_classes, resolution, policy.download and policy.file is None
            )
            spec = SurrogateSpec(lambda k, r: net, "", "", mean=mean, std=std)
        else:
            base, _, tag = name.partition("/")
            spec = _spec(base)
            source = "embedded" if spec.embedded else "random"
            if tag:
                spec = replace(spec, at_least=IMAGENET_SIDE)
                net = build_imagenet_resnet(base, tag, num_classes, policy)
                source = tag
            else:
                net = spec.build(num_classes, resolution)
        if policy.file is not None:
            if "/" not in name:
                load_weights(net, policy.file)
            source = policy.file.name
    return Surrogate(
        net, name=name, num_classes=num_classes, mean=spec.mean, std=spec.std, source=source,
        bf16_on_cpu=spec.bf16_on_cpu, side=spec.at_least, enlarge_only=True,
        head_only=spec.head_only,
    )  # fmt: skip


def _ensemble(name: str, num_classes: int, resolution: int, seed: int, weights: WeightsPolicy) -> Ensemble:
    check_weights(name, weights)
    return Ensemble(
        [
            create_surrogate(
                part, num_classes=num_classes, resolution=resolution, seed=(seed + 104_729 * number) % 2**63,
                weights=weights,
            )
            for number, part in enumerate(name.split("+"))
        ]
    )  # fmt: skip


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
