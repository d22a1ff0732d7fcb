"""SRC and OUT never overlap, and what is ours in OUT is told from what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitterant.errors import FolderError, OutputError
from bitterant.protect.request.places import (
    check_writable,
    overlap_problem,
    remove_empty_folders,
    survey_output,
)


@pytest.mark.parametrize(
    ("output", "word"),
    [("src", "itself"), ("src/../src", "itself"), ("src/out", "inside"), ("src/a/b", "inside"), (".", "contains")],
)
def test_overlaps_are_refused(tmp_path: Path, output: str, word: str) -> None:
    source = tmp_path / "src"
    source.mkdir()
    problem = overlap_problem(source, tmp_path / output)
    assert isinstance(problem, FolderError)
    assert word in str(problem)


def test_overlaps_through_links_are_refused(tmp_path: Path) -> None:
    source, link = tmp_path / "src", tmp_path / "link"
    (source / "a").mkdir(parents=True)
    link.symlink_to(source)
    assert overlap_problem(source, link) is not None
    assert overlap_problem(source, link / "out") is not None
    assert overlap_problem(link, source) is not None


@pytest.mark.parametrize("output", ["out", "src2", "srcs/out", "other/src"])
def test_neighbours_are_allowed(tmp_path: Path, output: str) -> None:
    source = tmp_path / "src"
    source.mkdir()
    assert overlap_problem(source, tmp_path / output) is None


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        check_writable(tmp_path / "file" / "out", create=True)
    with pytest.raises(FolderError, match="is a file"):
        check_writable(tmp_path / "file", create=True)


def test_the_probe_leaves_nothing_and_a_dry_probe_makes_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "dry" / "out", create=False)
    assert not (tmp_path / "dry").exists()
    check_writable(tmp_path / "wet" / "out", create=True)
    assert list((tmp_path / "wet" / "out").iterdir()) == []


def test_survey_lists_foreign_files_and_links_but_not_ours_or_litter(tmp_path: Path) -> None:
    for name in (
        "a/x.png",
        "a/.DS_Store",
        "bitterant-run.json",
        ".bitterant-state.json",
        ".bitterant-notes",
        "a/bitterant-run.json",
        "z.txt",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    found = set(survey_output(tmp_path))
    assert found == {"a/x.png", "a/bitterant-run.json", "z.txt", "link", ".bitterant-notes"}


def test_empty_folders_go_up_to_the_root(tmp_path: Path) -> None:
    (tmp_path / "out/a/b").mkdir(parents=True)
    (tmp_path / "out/keep.txt").write_text("")
    remove_empty_folders(tmp_path / "out/a/b", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["keep.txt"]
    (tmp_path / "out/keep.txt").unlink()
    remove_empty_folders(tmp_path / "out", tmp_path / "out")
    assert tmp_path.exists()
    assert not (tmp_path / "out").exists()


def test_a_message_says_which_folder_it_is_about(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="folder of the bank"):
        check_writable(tmp_path / "file" / "below", create=True, what="folder of the bank")
