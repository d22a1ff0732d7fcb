"""Text from outside, made harmless for eyes: names, captions and what other programs wrote, before they are shown.

A terminal obeys control sequences, and pages and terminals alike let an override of the writing direction make one name
look like another. Such characters are shown as escapes, ``\\x1b`` or ``\\u202e``; all others stay as they are.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["visible"]

# Unicode's categories Cc, Cf, Cs, Zl and Zp, but for the two joiners that scripts and emoji are written with.
_HIDDEN: Final = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f"
)
_ANY: Final = re.compile(f"[{_HIDDEN}]")
_ANY_IN_A_LINE: Final = re.compile(f"(?![\t\n])[{_HIDDEN}]")


def visible(text: str, *, lines: bool = False) -> str:
    """The text with every character shown that acts instead of being seen.

    Args:
        text: whatever it may hold, bytes of file names that are no text too.
        lines: leave line breaks and tabs as they are, for texts whose lines are ours.
    """
    return (_ANY_IN_A_LINE if lines else _ANY).sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
