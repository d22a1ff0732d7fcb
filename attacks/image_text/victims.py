"""Two towers that learn: a small pair for a CPU, the published ones from scratch, or a pretrained CLIP to fine-tune."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError, SetupError, UnknownNameError
from ...surrogates import create_surrogate, own_randomness
from ...surrogates.base import Normalise, Resize
from ...surrogates.clip import build_clip

__all__ = ["CLIP_VICTIMS", "ClipVictim", "create_clip_victim"]

CLIP_VICTIMS = ("clip-small", "scratch:ARCH", "clip:ARCH/TAG")
"""Names that :func:`create_clip_victim` takes; the paper's are ``scratch:RN50`` and ``scratch:ViT-B-32``."""

_WIDTH, _CONTEXT = 128, 40
_MEAN = (0.48145466, 0.4578275, 0.40821073)
_STD = (0.26862954, 0.26130258, 0.27577711)


class ClipVictim(nn.Module):
    """Pictures and texts into one space, everything learnable.

    Args:
        image_tower: float ``[N, 3, R, R]`` in [0, 1] to ``[N, D]``.
        text_tower: tokens int64 ``[N, L]`` to ``[N, D]``.
        tokenize: texts to tokens.
        name: registry name.
        pretrained: whether weights are trained ones.
        log_scale: log of what cosines are multiplied by, at the start.
    """

    def __init__(
        self, image_tower: nn.Module, text_tower: nn.Module, tokenize: Callable[[list[str]], Tensor], *, name: str,
        pretrained: bool, log_scale: float = math.log(1 / 0.07),
    ) -> None:  # fmt: skip
        super().__init__()
        self.image_tower, self.text_tower, self.tokenize = image_tower, text_tower, tokenize
        self.name, self.pretrained = name, pretrained
        self.log_scale = nn.Parameter(torch.tensor(float(log_scale)))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit vectors of both, and the scale, at most 100 (Radford et al. 2021, section 2.5)."""
        return self.see(images), self.read(tokens), self.log_scale.exp().clamp(max=100.0)

    def see(self, images: Tensor) -> Tensor:
        """Unit vectors ``[N, D]`` of pictures float ``[N, 3, R, R]`` in [0, 1]."""
        return F.normalize(self.image_tower(images).float(), dim=-1)

    def read(self, tokens: Tensor) -> Tensor:
        """Unit vectors ``[N, D]`` of tokens ``[N, L]``."""
        return F.normalize(self.text_tower(tokens).float(), dim=-1)


class _Texts(nn.Module):
    """The text tower of an open_clip model, whose parts lie loose in it."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor) -> Tensor:
        return self.model.encode_text(tokens)


def create_clip_victim(
    name: str, *, resolution: int, seed: int, weights: Path | None = None, allow_download: bool = False
) -> ClipVictim:
    """A victim, the same for the same seed.

    Args:
        name: ``clip-small``: small-cnn and two layers of transformer, 128 wide. ``scratch:ARCH``: an architecture of
            open_clip with random weights. ``clip:ARCH/TAG`` (or ``clip:ARCH`` with ``weights``): a pretrained one.
        resolution: side of the pictures in px.
        seed: of random weights.
        weights, allow_download: as for CLIP surrogates.

    Raises:
        UnknownNameError: no such victim or architecture.
        SetupError: open_clip is missing, or weights are not on this machine.
    """
    open_clip = _open_clip()
    if name == "clip-small" or name.startswith("scratch:"):
        if weights is not None:
            raise ConfigError(f"{name} starts from random weights: leave --weights out.")
        # Towers draw their weights from the global generator: it is put back as it was.
        with own_randomness(seed):
            return _small(open_clip, resolution, seed) if name == "clip-small" else _scratch(open_clip, name)
    if not name.startswith("clip:"):
        raise UnknownNameError("CLIP victim", name, list(CLIP_VICTIMS))
    with own_randomness(seed):
        surrogate = build_clip(name, num_classes=2, weights=weights, allow_download=allow_download)
    model, tokenizer = surrogate.whole()
    return ClipVictim(
        surrogate.trunk(), _Texts(model), tokenizer, name=name, pretrained=True,
        log_scale=float(model.logit_scale.detach()),
    ).requires_grad_(True)  # fmt: skip


def _small(open_clip: Any, resolution: int, seed: int) -> ClipVictim:
    from open_clip.transformer import TextTransformer

    images = create_surrogate("small-cnn", num_classes=_WIDTH, resolution=resolution, seed=seed)
    texts = TextTransformer(context_length=_CONTEXT, width=_WIDTH, heads=4, layers=2, output_dim=_WIDTH)
    tokenizer = open_clip.SimpleTokenizer(context_length=_CONTEXT)
    return ClipVictim(images, texts, tokenizer, name="clip-small", pretrained=False)


def _scratch(open_clip: Any, name: str) -> ClipVictim:
    arch = name.removeprefix("scratch:")
    if arch not in open_clip.list_models():
        raise UnknownNameError("architecture of open_clip", arch, open_clip.list_models())
    model = open_clip.create_model(arch, pretrained=None, load_weights=False, pretrained_text=False)
    side = model.visual.image_size
    view = nn.Sequential(Resize(side if isinstance(side, int) else side[0]), Normalise(_MEAN, _STD), model.visual)
    return ClipVictim(view, _Texts(model), open_clip.get_tokenizer(arch), name=name, pretrained=False)


def _open_clip() -> Any:
    try:
        import open_clip
    except ImportError as error:
        raise SetupError("CLIP victims need open_clip. Run: pip install 'bitterant[clip]'") from error
    return open_clip
