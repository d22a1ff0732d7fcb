"""Learned perceptual distance (LPIPS: Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018, arXiv 1801.03924).

A network that was trained on ImageNet looks at both pictures; the distance is that of its features, layer by layer,
each channel weighted by a linear head that was fitted to the judgement of people. Both parts must already be on this
machine: nothing is fetched, and a network with random weights is never used. The linear heads lie in the packages
``lpips`` and ``torchmetrics``, the backbone in torch's cache where torchvision put it; or one file holds both.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import WeightsError
from ...imaging import sha256_file
from ...surrogates import load_state

ENVIRONMENT_VARIABLE = "BITTERANT_LPIPS"
"""Names a file of weights, as ``--lpips`` does."""

Network = Literal["alex", "vgg", "squeeze"]

_SHORTEST_SIDE = 64
"""Smaller pictures are enlarged to this: the backbones were made for larger ones."""


@dataclass(frozen=True)
class _Backbone:
    """A network of torchvision.

    Attributes:
        builder: its name there.
        stages: features are taken after so many of its layers.
        widths: channels of those features.
    """

    builder: str
    stages: tuple[int, ...]
    widths: tuple[int, ...]


_BACKBONES: dict[Network, _Backbone] = {
    "alex": _Backbone("alexnet", (2, 5, 8, 10, 12), (64, 192, 384, 256, 256)),
    "vgg": _Backbone("vgg16", (4, 9, 16, 23, 30), (64, 128, 256, 512, 512)),
    "squeeze": _Backbone("squeezenet1_1", (2, 5, 8, 10, 11, 12, 13), (64, 128, 256, 384, 384, 512, 512)),
}
"""In the order in which they are looked for: the first is the one that the authors recommend for measuring."""

_HEAD_PLACES = (("lpips", "weights/v0.1"), ("torchmetrics", "functional/image/lpips_models"))
_HEAD = re.compile(r"^lins?\.?(\d+)\.(?:model\.\d+\.)?weight$")
_STAGE = re.compile(r"^(?:net\.)?slices?\.?\d+\.(.+)$")
_HASHED_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")

State = dict[str, Tensor]


class PictureDistance(Protocol):
    """How far two pictures are from each other to the eye."""

    @property
    def source(self) -> str:
        """What measures it, for people."""
        ...

    def __call__(self, before: np.ndarray, after: np.ndarray) -> float:
        """0 for equal pictures, uint8 ``[H, W, 3]`` both."""
        ...


class Lpips:
    """The distance of two pictures.

    Args:
        network: which backbone.
        backbone: its tensors, named ``features.0.weight`` and so on as in torchvision; others are passed over.
        heads: weights of the linear heads, one a stage, each ``[1, C, 1, 1]`` or of that many values.
        source: whose weights, for people.

    Raises:
        WeightsError: tensors are missing or of another shape.
    """

    def __init__(self, network: Network, backbone: State, heads: dict[int, Tensor], source: str) -> None:
        from torchvision import models

        spec = _BACKBONES[network]
        self.network, self.source = network, source
        with torch.device("meta"):  # no random weights, not even for a moment
            features = cast(nn.Sequential, models.get_model(spec.builder, weights=None).features)
        state = {name[9:]: tensor for name, tensor in backbone.items() if name.startswith("features.")}
        needed = features.state_dict()
        wrong = [n for n, tensor in needed.items() if n not in state or state[n].shape != tensor.shape]
        if wrong:
            raise WeightsError(
                f"{source}: no {spec.builder} can be made of this, {len(wrong)} of {len(needed)} tensors are missing "
                f"or of another shape (features.{wrong[0]})."
            )
        features.load_state_dict({name: state[name].float() for name in needed}, assign=True)
        self._features: nn.Module = features.eval().requires_grad_(False)
        self._stages = frozenset(spec.stages)
        self._heads = [_head(heads, stage, width, source) for stage, width in enumerate(spec.widths)]
        self._shift = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
        self._scale = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
        self._lock = threading.Lock()  # files are checked by several threads, and torch already uses all processors

    @torch.inference_mode()
    def __call__(self, before: np.ndarray, after: np.ndarray) -> float:
        """0 for equal pictures.

        Args:
            before: uint8 ``[H, W, 3]``.
            after: the same size.
        """
        if np.array_equal(before, after):
            return 0.0
        with self._lock:
            first, second = (self._look(_batch(pixels)) for pixels in (before, after))
        distances = [
            ((_unit(a) - _unit(b)).square() * head).sum(dim=1).mean()
            for a, b, head in zip(first, second, self._heads, strict=True)
        ]
        return float(sum(distances, torch.zeros(())))

    def _look(self, images: Tensor) -> list[Tensor]:
        values, found = (images - self._shift) / self._scale, []
        for done, layer in enumerate(self._features.children(), start=1):
            values = layer(values)
            if done in self._stages:
                found.append(values.clone())  # later layers work in place
            if len(found) == len(self._stages):
                break
        return found


def _batch(pixels: np.ndarray) -> Tensor:
    """float ``[1, 3, H, W]`` in [-1, 1]."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    short = min(images.shape[-2:])
    if short < _SHORTEST_SIDE:
        size = [max(1, round(side * _SHORTEST_SIDE / short)) for side in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return images


def _unit(features: Tensor) -> Tensor:
    return features / torch.sqrt(1e-8 + features.square().sum(dim=1, keepdim=True))


def _head(heads: dict[int, Tensor], stage: int, width: int, source: str) -> Tensor:
    if stage not in heads or heads[stage].numel() != width:
        raise WeightsError(f"{source}: the linear head of stage {stage + 1} is missing or has not {width} weights.")
    return heads[stage].float().reshape(1, width, 1, 1)


@dataclass(frozen=True)
class LpipsFound:
    """The distance, or why there is none."""

    lpips: PictureDistance | None
    reason: str | None


def find_lpips(file: Path | None = None) -> LpipsFound:
    """Look for weights on this machine; nothing is fetched.

    Args:
        file: weights of a backbone with or without the linear heads; without it the environment variable
            ``BITTERANT_LPIPS`` is asked, then torch's cache.

    Raises:
        WeightsError: the file that was named cannot be used.
    """
    named = file if file is not None else _path(os.environ.get(ENVIRONMENT_VARIABLE))
    if named is not None:
        return LpipsFound(_from_file(named), None)
    for network in _BACKBONES:
        cached, heads = _cached_backbone(network), _installed_heads(network)
        if cached is None or heads is None:
            continue
        if not _has_its_hash(cached):
            return LpipsFound(None, f"{cached.name} in torch's cache is damaged: its hash is not the one in its name")
        try:
            source = f"{network}, heads of the package {heads[0]}, backbone {cached.name}"
            return LpipsFound(Lpips(network, load_state(cached), _heads_of(load_state(heads[1])), source), None)
        except WeightsError as error:
            return LpipsFound(None, str(error).rstrip("."))
    names = ", ".join(path.name for path in (_cache_path(network) for network in _BACKBONES) if path is not None)
    if not any(_installed_heads(network) for network in _BACKBONES):
        return LpipsFound(
            None, "no weights on this machine: neither a file (--lpips FILE) nor the package lpips or torchmetrics"
        )
    return LpipsFound(
        None,
        f"no weights on this machine: none of {names} is in torch's cache, and no file was named (--lpips FILE)",
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _from_file(file: Path) -> Lpips:
    if _HASHED_NAME.search(file.name) and file.is_file() and not _has_its_hash(file):
        raise WeightsError(f"{file} is damaged: its hash is not the one in its name. Get it again.")
    state = load_state(file)
    backbone = {_torchvision_name(name): tensor for name, tensor in state.items()}
    network = _network_of(backbone)
    if network is None:
        raise WeightsError(
            f"{file} holds no AlexNet, VGG-16 or SqueezeNet, so it gives no LPIPS. Give the file of torchvision's "
            "weights for one of them, or the state dict of the package lpips."
        )
    heads, whose = _heads_of(state), "the same file"
    if not heads:
        installed = _installed_heads(network)
        if installed is None:
            raise WeightsError(
                f"{file} holds a backbone without the linear heads of LPIPS. Install the package lpips, which has "
                "them, or give the state dict of that package."
            )
        whose, heads = f"the package {installed[0]}", _heads_of(load_state(installed[1]))
    source = f"{network}, heads of {whose}, backbone {file.name} (sha256 {sha256_file(file)[:16]})"
    return Lpips(network, backbone, heads, source)


def _torchvision_name(name: str) -> str:
    """``net.slice1.0.weight``, as the package lpips calls it, is ``features.0.weight``."""
    found = _STAGE.match(name)
    return f"features.{found[1]}" if found else name


def _network_of(backbone: State) -> Network | None:
    first = backbone.get("features.0.weight")
    if first is None:
        return None
    if "features.3.squeeze.weight" in backbone:
        return "squeeze"
    return {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}.get(tuple(first.shape))  # type: ignore[return-value]


def _heads_of(state: State) -> dict[int, Tensor]:
    return {int(found[1]): tensor for name, tensor in state.items() if (found := _HEAD.match(name))}


def _installed_heads(network: Network) -> tuple[str, Path] | None:
    """Which package has the linear heads, and where; the package itself is not imported."""
    for package, folder in _HEAD_PLACES:
        spec = importlib.util.find_spec(package)
        for place in (spec.submodule_search_locations or ()) if spec is not None else ():
            path = Path(place, folder, f"{network}.pth")
            if path.is_file():
                return package, path
    return None


def _cache_path(network: Network) -> Path:
    from torchvision import models

    url = models.get_model_weights(_BACKBONES[network].builder)["DEFAULT"].url
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])


def _cached_backbone(network: Network) -> Path | None:
    path = _cache_path(network)
    return path if path.is_file() else None


def _has_its_hash(file: Path) -> bool:
    """torchvision's files carry the beginning of their sha256 in their name."""
    found = _HASHED_NAME.search(file.name)
    return found is None or sha256_file(file).startswith(found[1])
