"""CLIP's two towers through open_clip."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..clip import ClipSurrogate, build_clip
from .base import ImageText, TextTower

__all__ = ["ClipImageText", "ClipTexts"]


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

    def __init__(self, name: str, *, weights: Path | None = None, allow_download: bool = False) -> None:
        super().__init__()
        surrogate = build_clip(name, num_classes=2, weights=weights, allow_download=allow_download)
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
