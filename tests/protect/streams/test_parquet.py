"""Parquet files of pictures in and out, as Hugging Face writes and reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitterant.errors import BankError, ConfigError
from bitterant.protect import TextureBank
from bitterant.protect.streams import apply_stream

from .conftest import CLASSES, picture, pixels, records

pyarrow = pytest.importorskip("pyarrow", reason="needs the extra parquet")
parquet = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    found = pytest.importorskip("datasets")
    monkeypatch.setattr(found.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return found


@pytest.fixture
def tables(datasets: Any, tmp_path: Path) -> Path:
    """Two files of three rows that ``datasets`` wrote, in row groups of two."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(CLASSES)),
            "caption": datasets.Value("string"),
            "tags": datasets.Sequence(datasets.Value("string")),
        }
    )
    (tmp_path / "tables").mkdir()
    for number in range(2):
        rows = range(3 * number, 3 * number + 3)
        data = datasets.Dataset.from_dict(
            {
                "image": [{"bytes": picture(row), "path": f"{row:04d}.jpg"} for row in rows],
                "label": [row % 2 for row in rows],
                "caption": [f"a picture, number {row}" for row in rows],
                "tags": [["a", str(row)] for row in rows],
            },
            features=features,
        )
        data.to_parquet(str(tmp_path / "tables" / f"train-{number}.parquet"), batch_size=2)
    return tmp_path / "tables"


def test_datasets_reads_the_copies_and_all_else_stays(
    tables: Path, datasets: Any, book: TextureBank, expected: dict[str, bytes], tmp_path: Path
) -> None:
    summary = apply_stream(tables, tmp_path / "out", bank=book)
    assert summary.exit_code == 0
    assert summary.counts == {"protected": 6, "copied": 0, "skipped": 0, "failed": 0}
    found = datasets.load_dataset("parquet", data_files=f"{tmp_path}/out/*.parquet", split="train")
    before = datasets.load_dataset("parquet", data_files=f"{tables}/*.parquet", split="train")
    assert found.features == before.features
    assert isinstance(found.features["image"], datasets.Image)
    assert found.remove_columns("image").to_dict() == before.remove_columns("image").to_dict()
    files = found.cast_column("image", datasets.Image(decode=False))["image"]
    assert [file["bytes"] for file in files] == [expected[f"{row:04d}"] for row in range(6)]
    assert [file["path"] for file in files] == [f"{row:04d}.png" for row in range(6)]
    assert found[0]["image"].size == (40, 36)
    for path in tables.iterdir():
        old, new = parquet.ParquetFile(path), parquet.ParquetFile(tmp_path / "out" / path.name)
        assert new.schema_arrow.equals(old.schema_arrow, check_metadata=True)
        sizes = [[one.metadata.row_group(i).num_rows for i in range(one.num_row_groups)] for one in (old, new)]
        assert sizes == [[2, 1], [2, 1]]
    assert records(tmp_path / "out")[1]["source"] == "train-0.parquet/1/image"


def write(path: Path, columns: dict[str, Any], schema: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns, schema=schema), path)
    return path


FILE = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])


def test_rows_that_fail_are_left_out_and_empty_ones_stay(book: TextureBank, tmp_path: Path) -> None:
    images = [
        {"bytes": picture(0), "path": None},
        {"bytes": picture(1)[:-300], "path": "cut.jpg"},
        None,
        {"bytes": None, "path": "elsewhere.jpg"},
        {"bytes": None, "path": None},
        {"bytes": picture(5), "path": "folder/5.jpg"},
        {"bytes": b"", "path": "empty.jpg"},
        {"bytes": picture(7), "path": "7.jpg"},
    ]
    labels = ["cat", "cat", "cat", "cat", "dog", "dog", "dog", "bird"]
    schema = pyarrow.schema([("image", FILE), ("label", pyarrow.string()), ("row", pyarrow.int32())])
    path = write(tmp_path / "in/a.parquet", {"image": images, "label": labels, "row": range(8)}, schema)
    summary = apply_stream(path, tmp_path / "out", bank=book)
    found = parquet.read_table(tmp_path / "out/a.parquet").to_pydict()
    assert found["row"] == [0, 2, 4, 5]
    assert found["image"][1] is None
    assert found["image"][0]["path"] is None
    assert found["image"][3]["path"] == "folder/5.png"
    assert 0 < np.abs(pixels(found["image"][0]["bytes"]) - pixels(picture(0))).max() <= book.budget.whole_levels
    assert summary.counts == {"protected": 2, "copied": 0, "skipped": 1, "failed": 3}
    assert summary.left_out == 4
    reasons = {row["source"]: row["reason"] for row in records(tmp_path / "out")}
    assert reasons["a.parquet/3/image"] == "its bytes are not in the table, only a path: elsewhere.jpg"
    assert reasons["a.parquet/6/image"] == "the file is empty (0 bytes)"


def test_columns_of_bytes_and_of_masks(book: TextureBank, tmp_path: Path) -> None:
    import io

    from PIL import Image

    mask = io.BytesIO()
    Image.fromarray(np.repeat(np.arange(4, dtype=np.uint8), 400).reshape(40, 40)).save(mask, "PNG")
    columns = {
        "picture": [picture(0), picture(1)],
        "annotation": [mask.getvalue()] * 2,
        "other": [b"no picture", b"\x00\x01"],
        "class": ["cat", "dog"],
    }
    path = write(tmp_path / "in/a.parquet", columns)
    summary = apply_stream(path, tmp_path / "out", bank=book)
    found = parquet.read_table(tmp_path / "out/a.parquet").to_pydict()
    assert {name: found[name] for name in ("annotation", "other", "class")} == {
        name: columns[name] for name in ("annotation", "other", "class")
    }
    assert found["picture"][0].startswith(b"\x89PNG")
    assert summary.counts == {"protected": 2, "copied": 2, "skipped": 0, "failed": 0}
    with_none = apply_stream(path, tmp_path / "wrong", bank=book, columns="nothing")
    assert with_none.counts["failed"] == 1
    assert "no column of pictures named nothing" in with_none.problems[0].reason


def test_numbers_need_to_be_told_what_they_stand_for(book: TextureBank, tmp_path: Path) -> None:
    path = write(tmp_path / "in/a.parquet", {"image": [picture(0)], "label": [1]})
    with pytest.raises(BankError, match="--classes FILE says what the numbers stand for"):
        apply_stream(path, tmp_path / "out", bank=book)
    (tmp_path / "names").write_text("cat\ndog\n")
    assert apply_stream(path, tmp_path / "out", bank=book, classes=tmp_path / "names").exit_code == 0
    assert records(tmp_path / "out")[0]["key"].startswith("dog/")


def test_several_columns_of_classes_are_asked_about(datasets: Any, book: TextureBank, tmp_path: Path) -> None:
    kinds = datasets.ClassLabel(names=list(CLASSES))
    features = datasets.Features({"image": datasets.Image(), "fine": kinds, "coarse": kinds})
    rows = {"image": [{"bytes": picture(0), "path": None}], "fine": [0], "coarse": [1]}
    (tmp_path / "in").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "in/a.parquet"))
    with pytest.raises(ConfigError, match=r"fine, coarse. Say which with --class-from"):
        apply_stream(tmp_path / "in", tmp_path / "out", bank=book)
    apply_stream(tmp_path / "in", tmp_path / "out", bank=book, class_from="coarse")
    assert records(tmp_path / "out")[0]["key"].startswith("dog/")


def test_pictures_in_lists_are_not_passed_on_unprotected(book: TextureBank, tmp_path: Path) -> None:
    columns = {"images": pyarrow.array([[{"bytes": picture(0), "path": None}]], pyarrow.list_(FILE)), "label": ["cat"]}
    summary = apply_stream(write(tmp_path / "in/a.parquet", columns), tmp_path / "out", bank=book)
    assert summary.exit_code == 1
    assert "column images holds lists of pictures" in summary.problems[0].reason
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("damage", ["garbage", "cut", "flipped"])
def test_damaged_tables_fail_alone(damage: str, tables: Path, book: TextureBank, tmp_path: Path) -> None:
    path = tables / "train-1.parquet"
    data = path.read_bytes()
    flipped = data[:4] + bytes(byte ^ 0x5A for byte in data[4:404]) + data[404:]  # the head of the first page
    path.write_bytes({"garbage": b"PAR1" + bytes(200), "cut": data[: len(data) // 2], "flipped": flipped}[damage])
    summary = apply_stream(tables, tmp_path / "out", bank=book)
    assert summary.exit_code == 1
    assert (tmp_path / "out/train-0.parquet").is_file()
    assert not (tmp_path / "out/train-1.parquet").exists()


def test_a_large_row_group_is_divided(book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitterant.imaging import shards

    monkeypatch.setattr(shards, "_GROUP_BYTES", 10_000)
    monkeypatch.setattr(shards, "_ROWS", 2)
    path = write(tmp_path / "in/a.parquet", {"image": [picture(n) for n in range(9)], "label": ["cat"] * 9})
    apply_stream(path, tmp_path / "out", bank=book)
    made = parquet.ParquetFile(tmp_path / "out/a.parquet")
    assert made.num_row_groups > 1
    assert made.metadata.num_rows == 9


def test_without_pyarrow_its_extra_is_named(book: TextureBank, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from bitterant.errors import SetupError

    path = write(tmp_path / "in/a.parquet", {"image": [picture(0)], "label": ["cat"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SetupError, match=r"bitterant\[parquet\]"):
        apply_stream(path, tmp_path / "out", bank=book)
