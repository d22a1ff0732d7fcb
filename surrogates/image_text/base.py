"""What a pair of towers offers, whatever is inside."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

__all__ = ["ImageText", "TextTower"]


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
