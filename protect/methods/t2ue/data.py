"""What a generator is trained with: sentences made of templates and names, and pictures to put noise on.

Sentences are the paper's templates with ImageNet's class names, and scenes made of them. Noise depends on no picture,
so drawn ones do: "dead leaves", overlapping discs of all sizes (Lee, Mumford & Huang 2001), share the edges, occlusions
and scale invariance of photographs, and not one photograph is needed.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ....errors import ConfigError
from ....imaging.captions import GENERATOR_TEMPLATES
from ....surrogates.image_text import imagenet_class_names


def dead_leaves(count: int, side: int, *, seed: int, discs: int = 60) -> Tensor:
    """uint8 ``[count, 3, side, side]``.

    Args:
        count: pictures.
        side: in px.
        seed: the same seed gives the same pictures.
        discs: laid on a picture one over the other; radii follow a power law of exponent 3 between 1/32 and 1/2 side.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    # Drawn at twice the side and averaged: edges of photographs are soft. So is their contrast, here a picture's own.
    fine = 2 * side
    grid = (torch.arange(fine) + 0.5) / fine
    out = torch.empty(count, 3, side, side, dtype=torch.uint8)
    for start in range(0, count, 256):
        part = min(256, count - start)
        low, high = 1 / 32, 1 / 2
        radius = (low**-2 - draw(part, discs) * (low**-2 - high**-2)) ** -0.5
        x, y = draw(part, discs), draw(part, discs)
        colour = draw(part, discs, 3)
        # Colours of one picture go together: they lie around a mean of its own.
        colour = (draw(part, 1, 3) + (colour - 0.5) * (0.3 + draw(part, 1, 1))).clamp(0, 1)
        slope, angle = 0.5 * draw(part, discs), 2 * math.pi * draw(part, discs)
        canvas = draw(part, 3, 1, 1).expand(part, 3, fine, fine).clone()
        for disc in range(discs):
            dx = grid[None, None, :] - x[:, disc, None, None]
            dy = grid[None, :, None] - y[:, disc, None, None]
            inside = dx.square() + dy.square() < radius[:, disc, None, None] ** 2
            shade = (dx * angle[:, disc, None, None].cos() + dy * angle[:, disc, None, None].sin()) * slope[
                :, disc, None, None
            ]
            value = colour[:, disc, :, None, None] + shade[:, None]
            canvas = torch.where(inside[:, None], value, canvas)
        canvas += 0.02 * torch.randn(canvas.shape, generator=generator)
        canvas = F.avg_pool2d(canvas, 2)
        middle = canvas.mean((1, 2, 3), keepdim=True)
        canvas = middle + (0.3 + 0.7 * draw(part, 1, 1, 1)) * (canvas - middle)
        out[start : start + part] = canvas.clamp(0, 1).mul(255).round().to(torch.uint8)
    return out


_PLACES = (
    "on a beach", "in a kitchen", "on a street", "in the snow", "in a garden", "on a table", "in front of a house",
    "at night", "in a field", "near the water", "in a shop", "on a white background", "in a living room", "under trees",
    "on a shelf", "in the rain", "in an office", "by a window", "on grass", "in the city",
)  # fmt: skip
_LOOKS = (
    "red", "blue", "green", "yellow", "black", "white", "brown", "old", "new", "large", "small", "wooden", "two",
    "several", "a pair of", "shiny", "dirty", "colourful", "broken", "beautiful",
)  # fmt: skip
_VERBS = ("next to", "behind", "in front of", "with", "and", "near", "on top of", "under")


def readable_class(name: str) -> str:
    """A folder's name as words: ``hot_dog`` and ``HotDog`` become ``hot dog``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " ").replace("-", " "))
    return " ".join(words.split()).lower() or name


def class_prompt(name: str, template: int = 0) -> str:
    """The sentence of a class, with the template of that number (counted round)."""
    return GENERATOR_TEMPLATES[template % len(GENERATOR_TEMPLATES)].format(readable_class(name))


def made_up_captions(count: int, *, seed: int) -> list[tuple[str, ...]]:
    """Things to train on, each in several wordings: ImageNet's names alone, and scenes with two of them.

    Args:
        count: of things; the first thousand are the class names.
        seed: the same seed gives the same sentences.

    Returns:
        For each thing three or more sentences; no sentence stands twice.
    """
    draw = random.Random(seed)
    names: Sequence[str] = imagenet_class_names()
    taken: set[str] = set()
    made: list[tuple[str, ...]] = []

    def add(sentences: Sequence[str]) -> None:
        new = tuple(sentence for sentence in dict.fromkeys(sentences) if sentence not in taken)
        if len(new) >= 3:
            taken.update(new)
            made.append(new)

    for name in dict.fromkeys(names):
        worded = [template.format(name) for template in draw.sample(GENERATOR_TEMPLATES[1:], 3)]
        placed = f"{draw.choice(_LOOKS)} {name} {draw.choice(_PLACES)}"
        add((GENERATOR_TEMPLATES[0].format(name), name, placed, *worded))
    while len(made) < count:
        name, other, third = draw.choice(names), draw.choice(names), draw.choice(_LOOKS)
        verb, place = draw.choice(_VERBS), draw.choice(_PLACES)
        add(
            (
                f"{third} {name} {verb} {other} {place}.",
                f"A {name} {verb} a {other}, {place}.",
                f"there is a {third} {name} and a {other} {place}",
                f"a photo of {other} and {third} {name}",
            )
        )
    return made[:count]


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
