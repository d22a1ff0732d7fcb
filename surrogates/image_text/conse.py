"""An image-text surrogate without CLIP weights: convex combination of semantic embeddings (Norouzi et al. 2014).

An ImageNet classifier's probabilities mix the sentence embeddings of the 1,000 class names into an embedding of the
picture; a caption is embedded by the same sentence encoder. Both are centred by the mean of the class embeddings:
without it all vectors point the same way and retrieval collapses. Nothing is trained, everything is differentiable.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..base import Normalise, Resize
from ..embedded import LITE0_MEAN, LITE0_STD, build_efficientnet_lite0
from .base import ImageText, TextTower
from .sentence import MiniLM

__all__ = ["Conse", "ConseTexts", "build_conse", "class_phrases", "imagenet_class_names"]

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
