"""Long lists on the disk are the lists that they stand for."""

from __future__ import annotations

import os
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitterant.errors import OutputError
from bitterant.records.on_disk import LinesOnDisk, Names, Table
from bitterant.records.run_state import InputList, InputRecord

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.just("caf\udce9.png"), unique=True)


@given(names)
def test_names_are_the_list_of_them(texts: list[str]) -> None:
    found = Names(texts)
    assert list(found) == [found[i] for i in range(len(texts))] == found[:] == texts
    assert found == texts
    assert found == Names(texts)
    assert found != [*texts, "more"]
    assert [found.find(text) for text in texts] == list(range(len(texts)))
    assert found.find("not among them") is None
    assert all(text in found for text in texts)
    found.append("not among them")
    assert found.find("not among them") == len(texts)
    ordered = [os.fsdecode(name) for (name,) in found.table.answers("SELECT name FROM rows ORDER BY name")]
    assert ordered == sorted([*texts, "not among them"], key=os.fsencode)


def test_a_table_is_gone_through_while_it_grows_and_by_several_threads() -> None:
    table = Table(value="INTEGER")
    for number in range(1000):
        table.append(number)
    found: list[list[int]] = [[], []]

    def read(into: list[int]) -> None:
        into += [value for (value,) in table.rows()]

    threads = [threading.Thread(target=read, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(1000))] * 2
    rows = table.rows()
    next(rows)
    table.append(1000)
    assert sum(1 for _ in rows) == 1000


def test_no_room_for_temporary_files_is_said_plainly() -> None:
    table = Table(value="BLOB")
    table.ask("PRAGMA max_page_count = 10")
    for _ in range(100):
        table.append(b"x" * 1000)
    with pytest.raises(OutputError, match=r"full.*SQLITE_TMPDIR"):
        list(table.rows())


def test_inputs_come_back_as_they_were() -> None:
    records = [
        InputRecord("a/1.png", "image", "ab" * 32, "a"),
        InputRecord("a/1.txt", "caption", "00" * 32),
        InputRecord("a/2.png", "failed", None, "a", "cannot be read"),
        InputRecord("b.png", "image", "cd" * 32, None),
        InputRecord("caf\udce9", "skipped", reason="hidden \udce9"),
    ]
    found = InputList(records)
    assert list(found) == records == [found[i] for i in range(len(records))]
    assert found[1:3] == records[1:3]
    assert found[-1] == records[-1]
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


def test_a_long_list_takes_no_memory() -> None:
    records = (InputRecord(f"class/{number:06}.png", "image", f"{number:064x}", "class") for number in range(20_000))
    tracemalloc.start()
    try:
        found = InputList(records)
        assert sum(record.kind == "image" for record in found) == 20_000
        assert found.names.find("class/012345.png") == 12345
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 500_000  # 25 bytes a record, less than its sha256 alone
