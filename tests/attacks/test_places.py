"""Where a verification may write, asked before anything is read or trained."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from bitterant.attacks.report.files import check_place, check_places
from bitterant.errors import FolderError, OutputError


def test_a_place_that_is_there_or_not_yet_is_good_and_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "report.json").write_text('{\n  "schema_version": 6\n}')
    check_places(tmp_path / "there", tmp_path / "not" / "yet", ["report.json"], [tmp_path / "clean", None])
    check_places(None, None, ["report.json"], [tmp_path])
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["report.json", "there"]


@pytest.mark.parametrize("below", ["", "sub", "sub/deep"])
def test_a_file_is_no_folder(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(FolderError, match="--cells") as caught:
        check_place("cells", tmp_path / "file" / below)
    assert f"{tmp_path / 'file'} is a file" in str(caught.value)
    assert (tmp_path / "file").read_text() == ""


def test_a_folder_in_the_way_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "report.html").mkdir()
    with pytest.raises(FolderError, match=r"report\.html is a folder"):
        check_place("report", tmp_path, ["report.json", "report.html"])


def test_among_the_pictures(tmp_path: Path) -> None:
    """Also where only the trainings would lie there, by default beside the report."""
    for place in (tmp_path / "clean", tmp_path / "clean" / "deep" / "report"):
        with pytest.raises(FolderError, match="take it for a class"):
            check_places(place, None, (), [tmp_path / "clean"])
    with pytest.raises(FolderError, match="The cells folder"):
        check_places(tmp_path, tmp_path / "cells", (), [tmp_path / "cells"])


@pytest.mark.skipif(not hasattr(os, "symlink") or os.name == "nt", reason="links of POSIX")
def test_a_link_to_nowhere(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "none")
    with pytest.raises(OutputError, match="--report"):
        check_place("report", tmp_path / "link")
    (tmp_path / "none").mkdir()
    check_place("report", tmp_path / "link")


@pytest.mark.parametrize(
    ("number", "call"),
    [
        (errno.ENOSPC, "fsync"),
        (errno.EACCES, "TemporaryFile"),
        (errno.EROFS, "TemporaryFile"),
        (errno.EACCES, "scandir"),
    ],
)
def test_what_the_system_refuses_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, call: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile if call == "TemporaryFile" else os, call, refuse)
    with pytest.raises(OutputError, match=os.strerror(number)) as caught:
        check_place("report", tmp_path)
    assert caught.value.exit_code == 3
    assert "--report" in str(caught.value)


def test_a_path_that_may_not_be_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(OutputError, match="permissions"):
        check_place("report", tmp_path / "closed" / "report")


def test_what_a_killed_run_left_half_written_is_swept_away(tmp_path: Path) -> None:
    from bitterant.records.files import _temporary_stem

    mine = tmp_path / f"{_temporary_stem(tmp_path / 'report.json')}0123456789abcdef"
    others = tmp_path / f"{_temporary_stem(tmp_path / 'bank.safetensors')}0123456789abcdef"
    mine.write_bytes(b"{")
    others.write_bytes(b"x")
    check_place("report", tmp_path, ["plan.json", "report.json"])
    assert (mine.exists(), others.exists()) == (False, True)
