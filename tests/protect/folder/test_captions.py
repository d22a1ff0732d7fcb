"""Captions follow the pictures' new names, and nothing else in them changes."""

from __future__ import annotations

import csv
import io
import json
import sys
from typing import Any

import pytest

from bitterant.protect.folder.protecting import protect_folder
from bitterant.protect.folder.writing import follow_names, table_warnings
from bitterant.records.manifest import ManifestRow

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


def test_every_column_that_names_files_is_followed() -> None:
    row = {
        "image_file_name": "a/one.jpg",
        "file_names": ["top.jpg", "b/two.png"],
        "text": "a/one.jpg",
        "x_file_name": 0,
    }
    new = follow_names("metadata.jsonl", json.dumps(row).encode(), NAMES)
    assert json.loads(new.data) == {**row, "image_file_name": "a/one.png", "file_names": ["top.png", "b/two.png"]}
    assert new.changed == 2
    table = b'left_file_name;right_file_names;text\na/one.jpg;"[""top.jpg"", ""b/two.png""]";a/one.jpg\n'
    new = follow_names("metadata.csv", table, NAMES)
    found = list(csv.reader(io.StringIO(new.data.decode()), delimiter=";"))
    assert found[1] == ["a/one.png", '["top.png", "b/two.png"]', "a/one.jpg"]


def test_names_are_found_however_they_are_spelt() -> None:
    windows = follow_names("metadata.jsonl", rb'{"file_name": "a\\one.jpg"}', NAMES)
    assert json.loads(windows.data)["file_name"] == "a/one.png"
    decomposed = {"e\u0301.jpg": "e\u0301.png"}
    new = follow_names("metadata.jsonl", '{"file_name": "\u00e9.jpg"}'.encode(), decomposed)
    assert json.loads(new.data)["file_name"] == "e\u0301.png"
    marked = b"\xef\xbb\xbffile_name\ntop.jpg\n"
    assert follow_names("metadata.csv", marked, NAMES).data == b"\xef\xbb\xbffile_name\ntop.png\n"


def test_parquet_follows_and_keeps_its_types() -> None:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table(
        {
            "file_name": ["top.jpg", "b/two.png"],
            "mask_file_names": arrow.array([["a/one.jpg"], None], arrow.list_(arrow.large_string())),
            "score": arrow.array([1, 2], arrow.int16()),
        },
        metadata={"kept": "yes"},
    )
    out = io.BytesIO()
    parquet.write_table(table, out)
    before = parquet.read_table(io.BytesIO(out.getvalue()))
    new = parquet.read_table(io.BytesIO(follow_names("metadata.parquet", out.getvalue(), NAMES).data))
    assert new.schema.equals(before.schema, check_metadata=True)
    assert new.to_pydict() == {
        "file_name": ["top.png", "b/two.png"],
        "mask_file_names": [["a/one.png"], None],
        "score": [1, 2],
    }


def test_a_parquet_table_without_its_reader_is_said_not_to_be_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    found = follow_names("metadata.parquet", b"PAR1", NAMES)
    assert found.data == b"PAR1"
    assert "bitterant[parquet]" in str(found.reason)


def test_names_that_lead_to_no_file_are_told_with_their_rows(kit: Any) -> None:
    source = kit.root / "src"
    for i in range(3):
        kit.draw(source / f"train/{i}.jpg", i)
    whole = (source / "train/1.jpg").read_bytes()
    (source / "train/1.jpg").write_bytes(whole[: len(whole) // 2])
    kit.draw(source / "train/x.gif", 8)
    names = ["0.jpg", "1.jpg", "x.gif", "https://example.org/y.jpg", "2.jpg"]
    (source / "train/metadata.csv").write_text("file_name,text\n" + "".join(f"{name},c\n" for name in names))
    (source / "train/metadata.parquet").write_bytes(b"damaged")
    summary = protect_folder(source, kit.root / "out", method="noise", device="cpu", resolution=16)
    (lost,) = [text for text in summary.warnings if "train/metadata.csv names" in text]
    assert "names 2 files that the output lacks" in lost
    assert "1.jpg (row 3, train/1.jpg: failed)" in lost
    assert "x.gif (row 4, train/x.gif: skipped)" in lost
    assert any("train/metadata.parquet: copied as it is" in text for text in summary.warnings)
    assert (kit.root / "out/train/metadata.parquet").read_bytes() == b"damaged"
    written = list(csv.DictReader((kit.root / "out/train/metadata.csv").open()))
    assert [row["file_name"] for row in written] == ["0.png", "1.jpg", "x.gif", names[3], "2.png"]
    rows = [ManifestRow.from_line(json.dumps(row).encode()) for row in kit.rows(kit.root / "out")]
    (kit.root / "out/train/metadata.csv").write_text("file_name\n0.png\n2.png\n")
    tables = [row for row in rows if row.source.startswith("train/metadata")]
    assert len(table_warnings(kit.root / "out", tables, rows)) == 1
