"""No character that acts reaches an eye unseen."""

from __future__ import annotations

import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bitterant.records.text import visible

JOINERS = "\u200c\u200d"


def test_exactly_what_is_not_seen_is_escaped() -> None:
    """Against Unicode's own table, code point by code point."""
    acting = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        acts = unicodedata.category(char) in acting and char not in JOINERS
        if acts or visible(char) != char:
            assert visible(char).isascii(), hex(code)
            assert visible(char).startswith("\\"), hex(code)
            assert acts or unicodedata.category(char) == "Cn", hex(code)


def test_escapes_say_what_was_there() -> None:
    assert visible("a\x1b[2J\n\t\u202eb\udcff") == "a\\x1b[2J\\n\\t\\u202eb\\udcff"
    assert visible("a\n\t\x1b", lines=True) == "a\n\t\\x1b"


@given(st.text())
def test_what_is_shown_stays_so_and_can_be_written(text: str) -> None:
    assert visible(visible(text)) == visible(text)
    assert len(visible(text).encode()) >= len(text)
