"""Pictures with their captions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import ConfigError

__all__ = ["CaptionedSet"]


@dataclass(frozen=True)
class CaptionedSet:
    """Pictures, each with one caption or more.

    Attributes:
        images: uint8 ``[N, 3, R, R]``.
        captions: N lists of texts.
        keys: identity of each picture.
    """

    images: Tensor
    captions: tuple[tuple[str, ...], ...]
    keys: tuple[str, ...]

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ConfigError(f"Pictures are uint8 [N, 3, R, R], not {self.images.dtype} {tuple(self.images.shape)}.")
        if len(self.captions) != count or len(self.keys) != count:
            raise ConfigError(f"{count} pictures, {len(self.captions)} lists of captions and {len(self.keys)} keys.")
        if not all(self.captions):
            raise ConfigError("Every picture needs a caption.")

    @property
    def resolution(self) -> int:
        """Side R in px."""
        return int(self.images.shape[-1])

    def answers(self) -> tuple[list[str], Tensor]:
        """The different captions, and which of them each picture has, bool ``[N, M]``.

        Pictures that are described in the same words are right answers to each other's caption: nobody could tell them
        apart by it.
        """
        texts = list(dict.fromkeys(text for several in self.captions for text in several))
        place = {text: column for column, text in enumerate(texts)}
        own = torch.zeros((len(self.captions), len(texts)), dtype=torch.bool)
        for row, several in enumerate(self.captions):
            own[row, [place[text] for text in several]] = True
        return texts, own

    def with_images(self, images: Tensor) -> CaptionedSet:
        """The same captions with other pictures, such as protected copies."""
        return CaptionedSet(images, self.captions, self.keys)

    def take(self, rows: Sequence[int]) -> CaptionedSet:
        """Some of the pictures."""
        return CaptionedSet(
            self.images[list(rows)], tuple(self.captions[row] for row in rows), tuple(self.keys[row] for row in rows)
        )
