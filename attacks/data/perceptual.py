"""Learned perceptual distance: the package ``lpips`` with weights from this machine.

A network that was trained on ImageNet looks at both pictures; the distance is that of its features, layer by layer,
each channel weighted by a linear head that was fitted to the judgement of people (Zhang, Isola, Efros, Shechtman, Wang,
CVPR 2018, arXiv 1801.03924). The heads come with the package. Left to itself it would fetch the backbone; here that is
read from a file or from torch's cache, nothing is fetched, and a network with random weights is never used.
"""

from __future__ import annotations

import os
import re
import threading
import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import WeightsError
from ...imaging import sha256_file
from ...surrogates import load_state

ENVIRONMENT_VARIABLE = "BITTERANT_LPIPS"
"""Names a file of weights, as ``--lpips`` does."""

Network = Literal["alex", "vgg", "squeeze"]

BACKBONES: dict[Network, str] = {"alex": "alexnet", "vgg": "vgg16", "squeeze": "squeezenet1_1"}
"""Networks of torchvision, in the order in which they are looked for: the authors recommend the first."""

_SHORTEST_SIDE = 64
"""Smaller pictures are enlarged to this: the backbones were made for larger ones."""

_BACKBONE_NAME = re.compile(r"^(?:net\.)?slices?\.?\d+\.(.+)$")
_HEAD_NAME = re.compile(r"^lins?\.?(\d+)\.(?:model\.\d+\.)?weight$")
_HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,})\.pth$")

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


@dataclass(frozen=True)
class LpipsFound:
    """The distance, or why there is none."""

    lpips: PictureDistance | None
    reason: str | None


class Lpips:
    """The distance of two pictures.

    Args:
        network: which backbone.
        state: weights of backbone and heads, by their canonical names (see :func:`_canonical`); others are passed over.
        source: whose weights, for people.

    Raises:
        WeightsError: tensors are missing or of another shape.
    """

    def __init__(self, network: Network, state: State, source: str) -> None:
        self.network, self.source = network, source
        with torch.device("meta"), warnings.catch_warnings():  # no random weights, not even for a moment
            warnings.simplefilter("ignore")  # the package calls torchvision as it was before 0.13
            model: Any = import_module("lpips").LPIPS(net=network, pretrained=False, pnet_rand=True, verbose=False)
        needed: State = {name: tensor for name, tensor in model.state_dict().items() if tensor.is_meta}
        names = {name: _canonical(name) for name in needed}
        wrong = [known for own, known in names.items() if known not in state or state[known].shape != needed[own].shape]
        if wrong:
            raise WeightsError(
                f"{source}: no LPIPS with {BACKBONES[network]} can be made of this, {len(wrong)} of {len(needed)} "
                f"tensors are missing or of another shape ({wrong[0]})."
            )
        model.load_state_dict({own: state[known].float() for own, known in names.items()}, strict=False, assign=True)
        self._model = model.eval().requires_grad_(False)
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
            return float(self._model(_batch(before), _batch(after)))


def _batch(pixels: np.ndarray) -> Tensor:
    """float ``[1, 3, H, W]`` in [-1, 1]."""
    images = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
    short = min(images.shape[-2:])
    if short < _SHORTEST_SIDE:
        size = [max(1, round(side * _SHORTEST_SIDE / short)) for side in images.shape[-2:]]
        images = F.interpolate(images, size, mode="bilinear", align_corners=False)
    return images


def find_lpips(file: Path | None = None) -> LpipsFound:
    """Look for the package, and for weights on this machine; nothing is fetched.

    Args:
        file: weights of a backbone, with or without the linear heads; without it the environment variable
            ``BITTERANT_LPIPS`` is asked, then torch's cache.

    Raises:
        WeightsError: the file that was named cannot be used.
    """
    variable = os.environ.get(ENVIRONMENT_VARIABLE)
    named = file or (Path(variable) if variable else None)
    package = find_spec("lpips")
    if package is None or not package.submodule_search_locations:
        if named is not None:
            raise WeightsError(
                f"LPIPS cannot be measured with {named}: the package lpips is not installed. "
                "Run: pip install 'bitterant[lpips]'."
            )
        return LpipsFound(None, "the package lpips is not installed (pip install 'bitterant[lpips]')")
    heads = Path(package.submodule_search_locations[0], "weights", "v0.1")
    if named is not None:
        return LpipsFound(_from_file(named, heads), None)
    cached: dict[Network, Path] = {network: _cache_path(network) for network in BACKBONES}
    for network, path in cached.items():
        if not path.is_file():
            continue
        if not _has_its_hash(path):
            return LpipsFound(None, f"{path.name} in torch's cache is damaged: its hash is not the one in its name")
        try:
            state = _read(heads / f"{network}.pth") | _read(path)
            return LpipsFound(Lpips(network, state, _source(network, "the package lpips", path.name)), None)
        except WeightsError as error:
            return LpipsFound(None, str(error).rstrip("."))
    names = ", ".join(path.name for path in cached.values())
    return LpipsFound(
        None,
        f"no weights on this machine: none of {names} is in torch's cache, and no file was named (--lpips FILE)",
    )


def _from_file(file: Path, heads: Path) -> Lpips:
    if _HASH_IN_NAME.search(file.name) and file.is_file() and not _has_its_hash(file):
        raise WeightsError(f"{file} is damaged: its hash is not the one in its name. Get it again.")
    state = _read(file)
    network = _network_of(state)
    if network is None:
        raise WeightsError(
            f"{file} holds no AlexNet, VGG-16 or SqueezeNet, so it gives no LPIPS. Give the file of torchvision's "
            "weights for one of them, or the state dict of the package lpips."
        )
    whose = "the same file"
    if not any(name.startswith("heads.") for name in state):
        state, whose = state | _read(heads / f"{network}.pth"), "the package lpips"
    return Lpips(network, state, _source(network, whose, f"{file.name} (sha256 {sha256_file(file)[:16]})"))


def _source(network: Network, heads: str, backbone: str) -> str:
    return f"{network}, heads of {heads}, backbone {backbone}"


def _read(file: Path) -> State:
    return {_canonical(name): tensor for name, tensor in load_state(file).items()}


def _canonical(name: str) -> str:
    """``features.0.weight`` for a tensor of the backbone, as torchvision calls it, and ``heads.0`` for a linear head.

    The package calls them ``net.slice1.0.weight`` and ``lin0.model.1.weight``, and each head again ``lins.0...``.
    """
    backbone, head = _BACKBONE_NAME.match(name), _HEAD_NAME.match(name)
    return f"features.{backbone[1]}" if backbone else f"heads.{head[1]}" if head else name


def _network_of(state: State) -> Network | None:
    first = state.get("features.0.weight")
    if first is None:
        return None
    if "features.3.squeeze.weight" in state:
        return "squeeze"
    return {(64, 3, 11, 11): "alex", (64, 3, 3, 3): "vgg"}.get(tuple(first.shape))  # type: ignore[return-value]


def _cache_path(network: Network) -> Path:
    from torchvision import models

    url = models.get_model_weights(BACKBONES[network])["DEFAULT"].url
    return Path(torch.hub.get_dir(), "checkpoints", url.rsplit("/", 1)[-1])


def _has_its_hash(file: Path) -> bool:
    """torchvision's files carry the beginning of their sha256 in their name."""
    found = _HASH_IN_NAME.search(file.name)
    return found is None or sha256_file(file).startswith(found[1])
