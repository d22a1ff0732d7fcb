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
        meanings: int64 ``[M]``, sentences of one number say the same in other words; ``None``: those of one picture,
            or where there are no pictures, all differ.
        name: in words, for the generator's record.
    """

    captions: tuple[str, ...]
    images: Tensor
    owners: Tensor | None = None
    name: str = ""
    meanings: Tensor | None = None

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
        if self.meanings is not None and self.meanings.shape != (len(self.captions),):
            raise ConfigError("Each sentence needs the number of a meaning.")

    @property
    def side(self) -> int:
        """Side R of the pictures in px."""
        return int(self.images.shape[-1])

    def wordings(self) -> list[Tensor]:
        """For each meaning the rows of its sentences, int64."""
        numbers = self.owners if self.meanings is None else self.meanings
        if numbers is None:
            return list(torch.arange(len(self.captions)).split(1))
        order = numbers.argsort(stable=True)
        return list(order.split(numbers.unique(return_counts=True)[1].tolist()))

    @classmethod
    def of(cls, images: Tensor, captions: Sequence[Sequence[str]], *, name: str = "") -> CaptionPairs:
        """Pictures with one or more captions each; of captions that repeat, the first keeps its picture."""
        owner: dict[str, int] = {}
        for number, several in enumerate(captions):
            for caption in several:
                owner.setdefault(caption, number)
        return cls(tuple(owner), images, torch.tensor(list(owner.values()), dtype=torch.int64), name)

    @classmethod
    def made_up(cls, *, things: int, images: int, side: int, seed: int) -> CaptionPairs:
        """Sentences about ImageNet's things, and discs instead of photographs."""
        made = made_up_captions(things, seed=seed)
        captions = tuple(sentence for several in made for sentence in several)
        meanings = torch.tensor([number for number, several in enumerate(made) for _ in several])
        return cls(
            captions, dead_leaves(images, side, seed=seed), meanings=meanings,
            name=f"{len(captions)} made-up captions about {things} things with ImageNet's names, on {images} pictures "
            "of discs",
        )  # fmt: skip
