"""What a caption looks like once it is read, and what a class name becomes in a sentence."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Final

from ..errors import CaptionError

__all__ = [
    "CLASS_TEMPLATES",
    "DEFAULT_TEMPLATE",
    "SOME_TOKENS",
    "check_template",
    "class_words",
    "fill_template",
    "normalise_caption",
    "token_estimate",
]

#: The prompts of the T2UE authors' code for sample-wise noise (CLIP's own style), the plain one first.
CLASS_TEMPLATES: Final = tuple(
    f"a {kind}photo of {article} {{}}."
    for article in ("a", "the")
    for kind in ("", "blurry ", "black and white ", "low contrast ", "high contrast ", "bad ", "good ")
) + tuple(f"a photo of {article} {size} {{}}." for article in ("a", "the") for size in ("small", "big"))
DEFAULT_TEMPLATE: Final = CLASS_TEMPLATES[0]

#: CLIP's text towers read 77 tokens, two of which mark beginning and end; the rest of a caption is cut off.
SOME_TOKENS: Final = 75

_PIECES: Final = re.compile(r"\w+|[^\w\s]")
#: WordNet ids such as n01440764, and names that are numbers only: they tell a text encoder nothing.
_OPAQUE_NAME: Final = re.compile(r"(?:[nvars]\d{6,9}|\d+)\Z")


def normalise_caption(text: str) -> str:
    """The caption in Unicode NFC on one line: control characters and runs of white space become one space."""
    text = unicodedata.normalize("NFC", text)
    # Cf as a whole would break emoji and some scripts apart; only what is no text at all goes.
    plain = "".join(" " if unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") else char for char in text)
    return " ".join(plain.replace("\ufeff", " ").split())


def token_estimate(caption: str) -> int:
    """At least so many tokens a caption takes: one for each word and each mark."""
    return len(_PIECES.findall(caption))


def check_template(template: str) -> str:
    """The template, normalised.

    Raises:
        CaptionError: it has not exactly one place ``{}`` for the class name.
    """
    template = normalise_caption(template)
    if template.count("{}") != 1:
        raise CaptionError(
            f'The template {template!r} needs exactly one {{}} where the class name goes, as in "{DEFAULT_TEMPLATE}".'
        )
    return template


def fill_template(template: str, name: str) -> str:
    """The sentence for a class. Braces in the name are text."""
    return normalise_caption(template.replace("{}", name))


def class_words(folder: str, names: Mapping[str, str]) -> str | None:
    """The words for a class folder; ``None`` where its name is a bare number or WordNet id and ``names`` lacks it."""
    if folder in names:
        return normalise_caption(names[folder])
    if _OPAQUE_NAME.match(folder):
        return None
    return normalise_caption(folder.replace("_", " ")) or None
