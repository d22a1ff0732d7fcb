"""Taking names and numbers out of captions before they leave the machine.

The rules are simple and miss some names: the preview of the request shows what is left.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

__all__ = ["GIVEN_NAMES", "plain_words"]

#: Frequent given names: at the start of a sentence a capital tells nothing. Names that are words as well (Rose, Mark)
#: are left out.
GIVEN_NAMES: Final = frozenset(
    """
    aaron adam ahmed aisha alan albert alex alexander ali alice amanda amy ana andrea andrew angela anita anna anne
    anthony antonio arthur barbara benjamin betty brian carlos carol caroline catherine charles charlotte chen chris
    christina christopher daniel david deborah diana donald dorothy edward elena elizabeth emily emma eric ethan eva
    fatima fiona francesca frank gary george giulia hannah hans harry hassan helen henry hiroshi ibrahim isabella ivan
    jacob james jan jane jason jean jennifer jessica joan john jonathan jose joseph joshua juan julia julie karen kate
    kevin kim kimberly larry laura lauren leo liam lina linda lisa louis lucas lucy luis luke margaret maria marie mario
    martin mary matthew megan mei michael michelle mohamed mohammed muhammad nancy natalie nicholas nicole nina noah
    nora oliver olivia omar oscar pamela patricia paul pedro peter philip pierre priya rachel raj ralph raymond rebecca
    richard robert ronald ruth ryan samantha samuel sandra sara sarah scott sean sharon simon sofia sophia sophie
    stephanie stephen steven susan thomas timothy tom victoria wei william yuki yusuf zoe
    """.split()  # noqa: SIM905 - a hundred quoted names read worse
)

_ADDRESS: Final = re.compile(r"(?:https?://|www\.)\S+|(?<!\S)\S+@\S+|[@#]\w+", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\b\w*\d[\w.,:/-]*\b")
_WORD: Final = re.compile(r"[^\W\d_][\w'’-]*")


def plain_words(caption: str, *, deny: Collection[str] = (), keep_capitals: bool = False) -> str:
    """The caption without proper names, numbers, addresses and handles.

    A word with a capital is taken for a name unless it begins a sentence; there it is one if it is a frequent given
    name, or if the next word has a capital too. Nouns of languages that write all nouns with a capital go with them.

    Args:
        caption: one line.
        deny: further words to take out, whatever their case.
        keep_capitals: leave words with a capital alone, for names of classes.

    Returns:
        What is left, possibly empty.
    """
    names = GIVEN_NAMES | {word.casefold() for word in deny}
    text = _NUMBER.sub(" ", _ADDRESS.sub(" ", caption))
    words = list(_WORD.finditer(text))
    kept: list[str] = []
    end = 0
    for index, match in enumerate(words):
        between = text[end : match.start()]
        kept.append(between)
        starts = not match.start() or _ends_sentence(between)
        end = match.end()
        word = match.group()
        stem = re.split(r"['’]", word)[0].casefold()
        after = words[index + 1].group() if index + 1 < len(words) else ""
        single = len(word) == 1  # "A", "I"
        name_by_case = (
            not keep_capitals and word[0].isupper() and not single and (not starts or after[:1].isupper())
        )  # fmt: skip
        if not (stem in names or word.casefold() in names or name_by_case):
            kept.append(word)
    kept.append(text[end:])
    left = re.sub(r"\s+([.,;:!?])", r"\1", " ".join("".join(kept).split()))
    left = re.sub(r"[,;:]+(?=[.,;:!?])", "", left)  # of a list whose members went
    return left.strip(" ,;:-") if re.search(r"\w", left) else ""


def _ends_sentence(between: str) -> bool:
    """Whether what stands between two words ends a sentence, or opens one in quotes or brackets."""
    last = between.rstrip()
    if last.endswith(('"', "“", "(")):
        last = last[:-1].rstrip()
    return last.endswith((".", "!", "?", ":", ";"))
