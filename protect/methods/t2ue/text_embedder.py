"""Captions to the vectors that a generator was trained on, with the identity of the tower that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor

from ....errors import WeightsError
from ....surrogates.image_text import ConseTexts, MiniLM, TextTower, create_text_tower

__all__ = ["TextEmbedder"]


class TextEmbedder(ModelMixin, ConfigMixin):
    """A frozen text tower whose weights lie elsewhere (a package, a file); saved are its identity and its centre.

    Args:
        tower: ``conse/minilm``, ``minilm`` or ``clip:ARCH/TAG@SOURCE``.
        tower_sha256: digest of its weights; another tower is refused.
        text_dim: length of its vectors.
        text_norm: ``l2`` gives vectors of length sqrt(D), so that inputs of the generator are of order 1; ``none``
            gives them as they come.
    """

    mean: Tensor

    @register_to_config
    def __init__(
        self,
        tower: str = "conse/minilm",
        tower_sha256: str = "",
        text_dim: int = 384,
        text_norm: Literal["l2", "none"] = "l2",
    ) -> None:
        super().__init__()
        # The centre of conse's vectors takes a thousand sentences to find: it is saved.
        self.register_buffer("mean", torch.zeros(text_dim))
        self._tower: tuple[TextTower, ...] = ()  # a tuple hides the tower from the state that is saved
        self._options: dict[str, Any] = {}
        self._read: dict[str, Tensor] = {}

    @classmethod
    def of(cls, tower: TextTower, *, text_norm: Literal["l2", "none"] = "l2") -> TextEmbedder:
        """Around a tower that is loaded."""
        made = cls(tower.name, tower.fingerprint(), tower.width, text_norm)
        inner = tower
        if isinstance(tower, ConseTexts):
            made.mean.copy_(tower.mean)
            inner = tower.encoder
        made._tower = (inner,)
        return made

    def use(self, *, weights: Path | None = None, allow_download: bool = False) -> TextEmbedder:
        """Where the weights of a CLIP tower come from, once it is needed."""
        self._options = {"weights": weights, "allow_download": allow_download}
        return self

    @property
    def tower_id(self) -> str:
        return str(cast(Any, self.config).tower)

    @property
    def tower_sha256(self) -> str:
        return str(cast(Any, self.config).tower_sha256)

    def _load(self) -> TextTower:
        if not self._tower:
            config = cast(Any, self.config)
            if config.tower == "conse/minilm":
                tower: TextTower = MiniLM()
                digest = ConseTexts.fingerprint_with(tower)
            else:
                tower = create_text_tower(config.tower, **self._options)
                digest = tower.fingerprint()
            if config.tower_sha256 and digest != config.tower_sha256:
                raise WeightsError(
                    f"The generator was trained with other weights of the text tower {config.tower} than are here. "
                    "With these its noise would be meaningless."
                )
            self._tower = (tower.to(self.mean.device),)
        return self._tower[0]

    @torch.no_grad()
    def forward(self, texts: Sequence[str], *, batched: bool = False) -> Tensor:
        """Vectors float32 ``[len(texts), text_dim]``.

        Args:
            texts: captions.
            batched: read many at once: faster, but padding changes the last digits, so that a text's vector depends
                on those beside it. Good enough to train with; noise for a picture must not depend on the others.

        Raises:
            SetupError: the tower is not on this machine.
            WeightsError: it is another one than in training.
        """
        config, tower = cast(Any, self.config), self._load().to(self.mean.device)
        if not texts:
            return torch.empty(0, config.text_dim, device=self.mean.device)
        vectors = tower(texts) if batched else torch.cat([self._alone(tower, text) for text in texts])
        vectors = vectors.to(self.mean.device) - self.mean
        return F.normalize(vectors, dim=-1) * config.text_dim**0.5 if config.text_norm == "l2" else vectors

    def _alone(self, tower: TextTower, text: str) -> Tensor:
        """A text's own vector. Captions made of class names come again and again: those read last are kept."""
        if text not in self._read:
            if len(self._read) >= _KEPT:
                del self._read[next(iter(self._read))]
            self._read[text] = tower([text])
        return self._read[text].to(self.mean.device)


_KEPT = 4096
"""Vectors that are kept: 6 MB."""
