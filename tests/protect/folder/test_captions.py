"""Captions follow the pictures' new names, and nothing else in them changes."""

from __future__ import annotations

import csv
import io
import json

import pytest

from bitterant.protect.folder.captions import follow_names

NAMES = {"a/one.jpg": "a/one.png", "b/two.png": "b/two.png", "top.jpg": "top.png"}


def test_jsonl_at_the_root_follows_renamed_pictures_only() -> None:
    lines = [
        {"file_name": "a/one.jpg", "text": "a cät"},
        {"file_name": "b/two.png", "text": "kept"},
        {"file_name": "unknown.jpg"},
        {"text": "no name"},
    ]
    data = "\n".join(json.dumps(line, ensure_ascii=False) for line in lines).encode() + b"\n"
    new = follow_names("metadata.jsonl", data, NAMES)
    assert (new.changed, new.problem) == (1, None)
    assert new.reason is not None
    found = [json.loads(line) for line in new.data.decode().splitlines()]
    assert found == [{"file_name": "a/one.png", "text": "a cät"}, *lines[1:]]


def test_jsonl_in_a_class_folder_names_pictures_beside_it() -> None:
    new = follow_names("a/metadata.jsonl", b'{"file_name": "one.jpg"}', NAMES)
    assert (json.loads(new.data), new.changed) == ({"file_name": "one.png"}, 1)
    new = follow_names("a/metadata.jsonl", b'{"file_name": "../top.jpg"}', NAMES)
    assert (json.loads(new.data), new.changed) == ({"file_name": "../top.png"}, 1)


def test_csv_follows_and_keeps_commas_quotes_and_newlines() -> None:
    rows = [["file_name", "text"], ["a/one.jpg", 'a "quoted", text\nwith a line'], ["b/two.png", "x"]]
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    new = follow_names("metadata.csv", text.getvalue().encode(), NAMES)
    rows[1][0] = "a/one.png"
    assert new.changed == 1
    assert list(csv.reader(io.StringIO(new.data.decode(), newline=""))) == rows
    assert b"\r\n" in new.data


@pytest.mark.parametrize(
    ("name", "data", "problem"),
    [
        ("a/one.txt", b"a/one.jpg", None),
        ("metadata.jsonl", b'{"file_name": "a/one.jpg"', "line 1"),
        ("metadata.jsonl", b"\xff\xfe not text", "decode"),
        ("metadata.jsonl", b"[" * 200_000, "too deeply"),
        ("metadata.jsonl", b'{"file_name": "a/one.jpg", "a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", "too deeply"),
        ("metadata.jsonl", b'{"file_name": "b/two.png"}   \r\n', None),
        ("metadata.jsonl", b'{"file_name": "/a/one.jpg"}', None),
        ("metadata.jsonl", b'["a/one.jpg"]', None),
        ("metadata.csv", b"name,text\na/one.jpg,x\n", None),
        ("metadata.csv", b"\xff\xfe", "decode"),
        ("metadata.csv", b"", None),
    ],
    ids=range(11),
)
def test_everything_else_is_copied_byte_for_byte(name: str, data: bytes, problem: str | None) -> None:
    found = follow_names(name, data, NAMES)
    assert (found.data, found.changed) == (data, 0)
    assert (found.reason is None) == (problem is None)
    assert problem is None or problem in str(found.reason)
