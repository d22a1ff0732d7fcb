"""What a generator is trained with: sentences, and pictures to put noise on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ....errors import ConfigError
from .backgrounds import dead_leaves
from .vocabulary import made_up_captions

__all__ = ["CaptionPairs"]


@dataclass(frozen=True)
class CaptionPairs:
    """Sentences and pictures.

    Attributes:
        captions: M different sentences.
        images: uint8 ``[N, 3, R, R]``.
        owners: int64 ``[M]``, the picture that each sentence describes; ``None`` where they describe none of them.
        name: in words, for the generator's record.
    """

    captions: tuple[str, ...]
    images: Tensor
    owners: Tensor | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if len(set(self.captions)) != len(self.captions):
            raise ConfigError("Sentences to train on must differ from each other.")
        if len(self.captions) < 2 or len(self.images) < 1:
            raise ConfigError(
                f"A generator needs two different captions and a picture at least; there are {len(self.captions)} "
                f"and {len(self.images)}."
            )
        if self.images.dtype != torch.uint8 or self.images.ndim != 4 or self.images.shape[1] != 3:
            raise ConfigError(f"Pictures are uint8 [N, 3, R, R], not {tuple(self.images.shape)}.")
        if self.owners is not None and (
            self.owners.shape != (len(self.captions),)
            or int(self.owners.min()) < 0
            or int(self.owners.max()) >= len(self.images)
        ):
            raise ConfigError("Each sentence needs the number of one of the pictures.")

    @property
    def side(self) -> int:
        """Side R of the pictures in px."""
        return int(self.images.shape[-1])

    @classmethod
    def of(cls, images: Tensor, captions: Sequence[Sequence[str]], *, name: str = "") -> CaptionPairs:
        """Pictures with one or more captions each; of captions that repeat, the first keeps its picture."""
        owner: dict[str, int] = {}
        for number, several in enumerate(captions):
            for caption in several:
                owner.setdefault(caption, number)
        return cls(tuple(owner), images, torch.tensor(list(owner.values()), dtype=torch.int64), name)

    @classmethod
    def made_up(cls, *, captions: int, images: int, side: int, seed: int) -> CaptionPairs:
        """Sentences about ImageNet's things, and discs instead of photographs."""
        return cls(
            tuple(made_up_captions(captions, seed=seed)), dead_leaves(images, side, seed=seed),
            name=f"{captions} made-up captions of ImageNet class names on {images} pictures of discs",
        )  # fmt: skip
