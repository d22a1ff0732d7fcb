"""Sentences to train on and to ask with: the paper's templates, ImageNet's class names, and scenes made of them."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from ....surrogates.image_text import imagenet_class_names

__all__ = ["FIXED_TEMPLATE", "TEMPLATES", "class_prompt", "made_up_captions", "readable_class"]

_KINDS = ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ", "small ", "big ")
TEMPLATES: tuple[str, ...] = tuple(f"a {kind}photo of {article} {{}}." for article in ("a", "the") for kind in _KINDS)
"""The eighteen of the authors' code; the first is the fixed one of class-wise noise."""

FIXED_TEMPLATE = TEMPLATES[0]

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
    return TEMPLATES[template % len(TEMPLATES)].format(readable_class(name))


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
        worded = [template.format(name) for template in draw.sample(TEMPLATES[1:], 3)]
        placed = f"{draw.choice(_LOOKS)} {name} {draw.choice(_PLACES)}"
        add((FIXED_TEMPLATE.format(name), name, placed, *worded))
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
