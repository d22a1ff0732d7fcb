"""How alike pictures look: LPIPS between a picture and its copy, and near-duplicates by a perceptual hash.

For LPIPS (Zhang, Isola, Efros, Shechtman, Wang, CVPR 2018, arXiv 1801.03924; the package ``lpips``) a network that was
trained on ImageNet looks at both pictures; the distance is that of its features, layer by layer, each channel weighted
by a linear head that was fitted to the judgement of people. The heads come with the package. Left to itself it would
fetch the backbone; here that is read from a file or from torch's cache, nothing is fetched, and a network with random
weights is never used.
"""

from __future__ import annotations

import itertools
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
from numpy.typing import NDArray
from torch import Tensor

from ...errors import WeightsError
from ...records.places import sha256_file
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


CONFIRMED = 0.975
"""Least correlation of two thumbnails that are called near-duplicates."""

_BASE = 32
"""Side in pixels that pictures are reduced to first."""

_THUMB = 16
"""Side of the thumbnails that confirm what the hashes suggest."""

_CHUNKS = 4
"""Parts of 16 bits, each a fourth of the picture from top to bottom; one of them must be equal."""

_WEAK = 3
"""So many bits a part, those of the smallest differences in grey, are also tried the other way round."""

_FAR = 14
"""Most bits of 64 that may differ before thumbnails are compared."""

_FLAT = 2.0
"""Standard deviation in levels of grey below which a picture has no structure to recognise."""

_BATCH = 1024
_PAIRS = 1 << 18

# Whole, and crops as random-crop augmentation makes them: top, left and side, as shares of the side.
_BOXES: tuple[tuple[float, float, float], ...] = (
    (0.0, 0.0, 1.0),
    *((top, left, 0.875) for top, left in ((0.0625, 0.0625), (0.0, 0.0), (0.0, 0.125), (0.125, 0.0), (0.125, 0.125))),
    (0.125, 0.125, 0.75),
)

Grey = NDArray[np.float32]
_Box = tuple[float, float, float]


def near_duplicates(
    train: NDArray[np.uint8], test: NDArray[np.uint8], *, least: float = CONFIRMED
) -> dict[int, tuple[int, float]]:
    """For each test picture that nearly equals a training picture, the most similar one.

    Two steps. The 64-bit difference hash (is each of 8 x 8 cells of the grey picture brighter than its left neighbour?)
    of one picture, whole, is looked up among those of the other, whole, cropped and mirrored; buckets of 16 bits keep
    that from being all pairs. What differs in few bits is confirmed by the correlation of colour thumbnails, so
    brightness, contrast, re-encoding and scaling do little harm.

    Measured with ``python benchmarks/near_duplicates.py`` on CIFAR-10 (a JPEG copy of it), 32 pixels:

    - of 2,000 test pictures against 3,000 training pictures one is found (0.05 %), and it is the same photo by eye: no
      false one, so with 95 % confidence fewer than 0.15 %;
    - of 400 training pictures, changed, are found: mirrored, brighter with less contrast, or with noise of 8 levels
      100 %, JPEG 50 98 %, JPEG 10 26 %, half the size 92 %, a random 0.9 of it cut out 12 %, 0.8 of it 2 %.

    So copies that were saved again are found, and most crops are not. Rotations, other photos of the same thing, and
    pictures without structure are not found either. Drawings of few kinds, such as icons or digits, may be alike
    without being copies: of the 240 test pictures that the tests of this project draw, six are found.

    Args:
        train: uint8 ``[N, 3, R, R]``.
        test: uint8 ``[M, 3, R, R]``.
        least: correlation of the thumbnails, in [0, 1], from which on pictures are called near-duplicates.

    Returns:
        By row of ``test``: the row of ``train``, and the correlation.
    """
    if not len(train) or not len(test):
        return {}
    small = _reduce(train), _reduce(test)
    best: dict[int, tuple[float, int]] = {}
    for cut in (1, 0):  # first the test picture may be the cut one, then the training picture
        whole = _hashes(small[1 - cut], _BOXES[0], mirrored=False)
        for box, mirrored in itertools.product(_BOXES[1 - cut :], (False, True)):
            rows, others = _lookup(whole, _hashes(small[cut], box, mirrored=mirrored))
            for start in range(0, len(rows), _BATCH):
                one, other = rows[start : start + _BATCH], others[start : start + _BATCH]
                alike = _correlation(
                    _thumbs(small[1 - cut][one], _BOXES[0], mirrored=False),
                    _thumbs(small[cut][other], box, mirrored=mirrored),
                )
                trained, tested = (one, other) if cut else (other, one)
                for i in np.flatnonzero(alike >= least):
                    entry = float(alike[i]), -int(trained[i])  # of equals the first
                    best[int(tested[i])] = max(best.get(int(tested[i]), entry), entry)
    return {row: (-best[row][1], best[row][0]) for row in sorted(best)}


def _area(start: float, stop: float, cells: int, side: int) -> NDArray[np.float32]:
    """Weights ``[cells, side]`` that average pixels over equal parts of an interval, fractions of pixels included."""
    edges = np.linspace(start * side, stop * side, cells + 1)
    pixels = np.arange(side)
    shared = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    weights = np.clip(shared, 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _reduce(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """To ``[N, 3, 32, 32]``, or as they are where they are smaller."""
    side = images.shape[-1]
    if side <= _BASE:
        return images.astype(np.float32)
    weights = _area(0.0, 1.0, _BASE, side)
    result = np.empty((*images.shape[:2], _BASE, _BASE), dtype=np.float32)
    for start in range(0, len(images), _BATCH):
        result[start : start + _BATCH] = weights @ images[start : start + _BATCH].astype(np.float32) @ weights.T
    return result


def _view(images: Grey, box: _Box, rows: int, columns: int, *, mirrored: bool) -> Grey:
    top, left, size = box
    side = images.shape[-1]
    down, across = _area(top, top + size, rows, side), _area(left, left + size, columns, side)
    return np.asarray(down @ images @ (across[::-1] if mirrored else across).T, dtype=np.float32)


def _thumbs(images: Grey, box: _Box, *, mirrored: bool) -> Grey:
    return _view(images, box, _THUMB, _THUMB, mirrored=mirrored).reshape(len(images), -1)


@dataclass(frozen=True)
class _Hashes:
    """Difference hashes of those pictures that have structure.

    Attributes:
        rows: which pictures, ``[P]``.
        parts: uint16 ``[P, 4]``.
        weak: uint16 ``[P, 4, 3]``: in each part one bit set, that of one of the smallest differences.
    """

    rows: NDArray[np.int64]
    parts: NDArray[np.uint16]
    weak: NDArray[np.uint16]


def _hashes(images: Grey, box: _Box, *, mirrored: bool) -> _Hashes:
    cells = _view(images.mean(axis=1), box, 8, 9, mirrored=mirrored)
    rows = np.flatnonzero(cells.std(axis=(1, 2)) >= _FLAT)
    steps = np.diff(cells[rows], axis=2).reshape(len(rows), _CHUNKS, 16)
    weakest = np.argsort(np.abs(steps), axis=2, kind="stable")[:, :, :_WEAK]
    return _Hashes(rows, _packed(steps > 0), _SINGLE[weakest])


def _packed(bits: NDArray[np.bool_]) -> NDArray[np.uint16]:
    """16 bits along the last axis as one number."""
    return np.packbits(bits, axis=-1).view(np.uint16)[..., 0]


_SINGLE = _packed(np.eye(16, dtype=bool))
_COUNTS = np.array([value.bit_count() for value in range(1 << 16)], dtype=np.uint8)


def _lookup(known: _Hashes, asked: _Hashes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of pairs whose hashes differ in at most ``_FAR`` bits and have a part in common, but for its weak bits."""
    found = [np.empty(0, dtype=np.int64)]
    for chunk in range(_CHUNKS):
        order = np.argsort(known.parts[:, chunk], kind="stable")
        ordered = known.parts[order, chunk]
        for turned in itertools.product((0, 1), repeat=_WEAK):
            mask = (asked.weak[:, chunk] * np.array(turned, dtype=np.uint16)).sum(axis=1, dtype=np.uint16)
            wanted = asked.parts[:, chunk] ^ mask
            first = np.searchsorted(ordered, wanted, side="left")
            ends = np.cumsum(np.searchsorted(ordered, wanted, side="right") - first)
            total = int(ends[-1]) if len(ends) else 0
            for start in range(0, total, _PAIRS):  # in blocks, so that large buckets need no more memory
                number = np.arange(start, min(start + _PAIRS, total))
                query = np.searchsorted(ends, number, side="right")
                begins = ends[query - 1] * (query > 0)
                match = order[first[query] + number - begins]
                differing = _COUNTS[known.parts[match] ^ asked.parts[query]].sum(axis=1)
                near = differing <= _FAR
                found.append(match[near] * len(asked.rows) + query[near])
    pairs = np.unique(np.concatenate(found))
    return known.rows[pairs // max(1, len(asked.rows))], asked.rows[pairs % max(1, len(asked.rows))]


def _correlation(a: Grey, b: Grey) -> Grey:
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (a, b))
    scale = np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
    return (a * b).sum(axis=1) / np.maximum(scale, np.float32(1e-6))
