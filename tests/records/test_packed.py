"""Long lists in little memory are the lists that they stand for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitterant.records.packed import LinesOnDisk, NameMarks, PackedNames
from bitterant.records.run_state import InputList, InputRecord

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.just("caf\udce9.png"), unique=True)


@given(names)
def test_packed_names_are_the_list_of_them(texts: list[str]) -> None:
    texts.sort(key=os.fsencode)
    packed = PackedNames(texts)
    assert list(packed) == [packed[i] for i in range(len(texts))] == packed[:] == texts
    assert packed == texts
    assert packed == PackedNames(texts)
    assert packed != [*texts, "more"]
    assert [packed.find(text) for text in texts] == list(range(len(texts)))
    assert packed.find("not among them") is None
    marks = NameMarks(texts)
    assert all(text in marks for text in texts)
    assert "not among them" not in marks


def test_names_of_more_than_four_gigabytes_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitterant.records.packed._FOUR_BYTES", 5)
    packed = PackedNames(["one", "two", "three"])
    assert packed._ends.typecode == "Q"
    assert packed == ["one", "two", "three"]


def test_inputs_come_back_as_they_were() -> None:
    records = [
        InputRecord("a/1.png", "image", "ab" * 32, "a"),
        InputRecord("a/1.txt", "caption", "00" * 32),
        InputRecord("a/2.png", "failed", None, "a", "cannot be read"),
        InputRecord("b.png", "image", "cd" * 32, None),
        InputRecord("caf\udce9", "skipped", reason="hidden"),
    ]
    packed = InputList(records)
    assert list(packed) == records == [packed[i] for i in range(len(records))]
    assert packed[1:3] == records[1:3]
    assert packed[-1] == records[-1]
    with pytest.raises(ValueError, match="length"):
        InputList([InputRecord("a", "image", "ab")])


def test_lines_stay_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"head\n1\n2\n3\n4\n")
    numbers = LinesOnDisk(path, int, 3, skip=1)
    assert list(numbers) == [1, 2, 3]
    assert (numbers[0], numbers[-1], numbers[1:], len(numbers)) == (1, 3, [2, 3], 3)
    with pytest.raises(IndexError):
        numbers[3]
    path.write_bytes(b"head\n5\n6\n7\n")
    assert list(numbers) == [5, 6, 7]
