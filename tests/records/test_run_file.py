"""Where the records of a folder are found: by what they tell of, wherever somebody moved them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from bitterant.records.manifest import ManifestRow
from bitterant.records.run_file import RECORD_NAMES, RunRecords, find_records, records_of, where_looked
from bitterant.records.run_state import StateFiles

PICTURE = b"a picture"
DIGEST = hashlib.sha256(PICTURE).hexdigest()


def leave(folder: Path, *outputs: str | None) -> Path:
    """A manifest whose rows speak of these outputs, and a run file."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        ManifestRow(f"{number}.jpg", output, "0" * 64, output and DIGEST, "protected" if output else "failed")
        for number, output in enumerate(outputs)
    ]
    (folder / "bitterant-manifest.jsonl").write_bytes(b"".join(row.to_line() for row in rows))
    (folder / "bitterant-run.json").write_text(json.dumps({}))
    return folder


def copies(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(PICTURE)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.mark.parametrize(
    ("out", "beside"),
    [
        ("out", "out-records"),
        ("public/train", "public-train-records"),
        ("public/train2017", "public-train2017-records"),
        ("public/test", "public/test-records"),  # nothing says that public is a data set
        ("a.b c", "a.b c-records"),
    ],
)
def test_they_lie_beside_what_is_published_as_a_whole(tmp_path: Path, out: str, beside: str) -> None:
    assert RunRecords.at(tmp_path / out, "beside").folder == tmp_path / beside
    assert RunRecords.at(tmp_path / out, "inside").folder == tmp_path / out


def test_those_in_the_folder_come_first_and_nothing_is_found_where_nothing_is(tmp_path: Path) -> None:
    out = copies(tmp_path / "out", "a.png")
    assert find_records(out) is None
    assert records_of(out).folder == out
    leave(tmp_path / "out-records", "a.png")
    assert records_of(out).folder == tmp_path / "out-records"
    leave(out, "a.png")
    assert records_of(out).folder == out
    assert where_looked(out) == f"{out} and {tmp_path / 'out-records'}"


def test_a_part_is_found_by_either_place_as_other_parts_come_and_go(tmp_path: Path) -> None:
    out = copies(tmp_path / "public/test", "a.png")
    early = leave(tmp_path / "public/test-records", "a.png")
    assert records_of(out).folder == early
    (tmp_path / "public/train").mkdir()
    assert RunRecords.at(out, "beside").folder == tmp_path / "public-test-records"
    assert records_of(out).folder == early


@pytest.mark.parametrize(
    ("named", "theirs"),
    [
        (["gone.png", "a/1.png"], True),
        (["gone.png"], False),
        ([None, "gone.png"], False),
        ([None, None], True),  # nothing could be written, and so nothing tells against it
        ([], False),  # a run that has just begun has its plan in OUT
        (["../out/a/1.png"], False),  # damaged
    ],
)
def test_whose_they_are_is_told_by_a_file_that_they_name(tmp_path: Path, named: list[str | None], theirs: bool) -> None:
    out = copies(tmp_path / "out", "a/1.png")
    leave(tmp_path / "out-records", *named)
    assert (find_records(out) is not None) == theirs
    assert find_records(tmp_path / "no such folder") is None


def test_an_empty_manifest_is_that_of_a_run_under_way(tmp_path: Path) -> None:
    out = copies(tmp_path / "out")
    leave(tmp_path / "out-records")
    assert find_records(out) is None
    StateFiles(out).plan.touch()
    assert records_of(out).folder == tmp_path / "out-records"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    out = copies(tmp_path / "out", "a.png")
    (tmp_path / "out-records").symlink_to(leave(tmp_path / "elsewhere", "a.png"))
    assert find_records(out) is None


def test_names_that_are_relative_stay_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies(tmp_path / "public/train", "a.png")
    leave(tmp_path / "public-train-records", "a.png")
    monkeypatch.chdir(tmp_path)
    assert records_of(Path("public/train")).manifest == Path("public-train-records/bitterant-manifest.jsonl")
    monkeypatch.chdir(tmp_path / "public/train")
    assert records_of(Path()).folder == Path(f"..{os.sep}..{os.sep}public-train-records")


def test_names_of_records_are_what_the_format_says() -> None:
    assert RECORD_NAMES == ("bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html")


def test_originals_of_the_same_names_do_not_make_them_theirs(tmp_path: Path) -> None:
    """``data/train`` was protected to ``data-train``: both would have their records in ``data-train-records``."""
    originals = copies(tmp_path / "data/train", "a/1.png", "a/2.png")
    for path in originals.rglob("*.png"):
        path.write_bytes(b"an original")
    made = copies(tmp_path / "data-train", "a/1.png", "a/2.png")
    leave(tmp_path / "data-train-records", "a/1.png", "a/2.png")
    assert find_records(made) is not None
    assert find_records(originals) is None
    (made / "a/1.png").write_bytes(b"changed since")  # one of several: it is still the same folder
    assert find_records(made) is not None


def test_names_that_leave_no_room_for_another_have_none_beside_them(tmp_path: Path) -> None:
    assert find_records(copies(tmp_path / ("n" * 252), "a.png")) is None
