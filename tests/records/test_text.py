"""Text from outside: no character acts on a reader unseen, and JSON and TOML give a value or one ValueError."""

from __future__ import annotations

import json
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitterant.records.text import MOST_LEVELS, parse_json, parse_toml, read_json, some, some_counted, visible

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


def test_of_many_names_the_first_are_told() -> None:
    names = ["a", "b", "c", "d", "e"]
    assert (some(names), some(names[:3]), some([])) == ("a, b, c, ...", "a, b, c", "")
    assert some(iter(names), 4, joint="; ") == "a; b; c; d; ..."
    assert (some(names[:3], total=5), some(names[:2], total=2)) == ("a, b, c, ...", "a, b")
    assert (some_counted(names), some_counted(names, 5)) == ("a, b, c and 2 more", "a, b, c, d, e")
    assert some_counted(names, joint="; ") == "a; b; c; and 2 more"


DAMAGED = {
    "deep lists": "[" * 100_000,
    "deep lists, closed": "[" * 5000 + "]" * 5000,
    "deep objects": '{"a":' * 5000 + "1" + "}" * 5000,
    "deeper than ours": "[" * (MOST_LEVELS + 1) + "]" * (MOST_LEVELS + 1),
    "a long number": "[" + "9" * 5000 + "]",
    "a number longer than a float": "9" * 310,
    "an infinite float": "[1e999]",
    "NaN": '{"a": NaN}',
    "infinity": "[-Infinity]",
    "two fields of one name": '{"a": 1, "a": 2}',
    "no JSON": "{",
    "nothing": "",
    "not UTF-8": b"\xff\xfe[\x001\x00]\x00",
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_what_is_wrong_is_one_error(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^(it|the field) ") as caught:
        parse_json(DAMAGED[kind])
    assert len(str(caught.value)) < 200


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)  # fmt: skip
def test_what_was_written_is_read(value: object) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value).encode()) == value


def test_as_deep_as_allowed_is_read() -> None:
    assert parse_json("[" * MOST_LEVELS + "]" * MOST_LEVELS) is not None


def test_what_others_write_may_be_let_through() -> None:
    assert parse_json('{"a": 1, "a": 2}', repeats=True) == {"a": 2}
    assert parse_json("[Infinity]", finite=False) == [float("inf")]


@pytest.mark.parametrize(
    "text",
    ["[a]\nx=" + "[" * 5000 + "]" * 5000, "x=" + "{a=" * 5000 + "1" + "}" * 5000, "x=", "x=inf", "x=nan",
     "x=1\nx=2", "x=" + "9" * 5000, "x=[" + "9" * 400 + "]", b"x='\xff'", "[" + "a." * 5000 + "a]"],
    ids=range(10),
)  # fmt: skip
def test_what_is_wrong_with_a_toml_is_one_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse_toml(text.encode() if isinstance(text, str) else text)
    assert type(caught.value) is ValueError


def test_a_file_is_read_with_or_without_a_mark(tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "x.json").write_bytes(mark + b'{"a": [1]}')
        assert read_json(tmp_path / "x.json") == {"a": [1]}
        assert parse_toml(mark + b"a = [1]") == {"a": [1]}
