"""What the page says of a folder, where it offers to put the copies, and what people type."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bitterant import protect_folder
from bitterant.app.folders import complete, earlier_copies, free_output, places, subfolders, survey, typed_folder
from bitterant.errors import FolderError
from bitterant.imaging import scan_folder
from bitterant.records.run_file import RecordsPlace

MakePictures = Callable[..., Path]


def test_a_survey_says_what_the_scan_says(make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 3, "dogs": 2})
    (root / "cats" / "clip.mov").write_bytes(b"x")
    (root / "cats" / "a.mov").write_bytes(b"x")
    (root / "notes").write_bytes(b"x")
    (root / ".hidden").write_bytes(b"x")
    (root / "cats" / "000.txt").write_text("a cat", encoding="utf-8")
    (root / "dogs" / "000.png").rename(root / "dogs" / "000.jpg")  # a PNG by its bytes
    found, scan = survey(root), scan_folder(root)
    assert found.headline == scan.describe()
    assert (found.pictures, found.classes, found.formats, found.copied) == (5, {"cats": 3, "dogs": 2}, {"PNG": 5}, 1)
    assert {item.reason for item in found.left_out} == {item.reason for item in scan.skipped}
    assert [item.count for item in found.left_out] == [2, 1, 1]
    assert found.left_out[0].names == ("cats/a.mov", "cats/clip.mov")
    assert found.left_out[-1].names == (".hidden",)
    assert not found.enough


@pytest.mark.parametrize(
    ("classes", "enough"),
    [({"a": 25, "b": 25}, True), ({"a": 25, "b": 12}, False), ({"": 60}, True), ({"": 20}, False)],
)
def test_whether_there_are_enough_to_verify(make_pictures: MakePictures, classes: dict[str, int], enough: bool) -> None:
    assert survey(make_pictures(classes, side=4)).enough is enough


def test_a_folder_without_pictures_says_what_it_holds_instead(tmp_path: Path) -> None:
    (tmp_path / "film.mov").write_bytes(b"x")
    with pytest.raises(FolderError, match=r"no picture in .*1 left out: not an image type that is read \(\.mov\)"):
        survey(tmp_path)
    with pytest.raises(FolderError, match="Check the path"):
        survey(tmp_path / "none")
    with pytest.raises(FolderError, match="is a file"):
        survey(tmp_path / "film.mov")


@pytest.mark.parametrize("typed", ["{path}", "  {path}  ", '"{path}"', "'{path}'", "file://{url}"])
def test_a_path_may_be_pasted_as_programs_give_it(tmp_path: Path, typed: str) -> None:
    folder = tmp_path / "two words"
    assert typed_folder(typed.format(path=folder, url=folder.as_uri()[7:])) == folder


def test_the_address_of_a_folder_with_a_percent_sign_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "a%20b"
    assert typed_folder(folder.as_uri()) == folder


def test_a_path_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert typed_folder("~/photos") == tmp_path / "photos"


@pytest.mark.parametrize("typed", ["", "   ", "''", "a\0b", "file://[x/y", "~nobody-of-this-name/x"])
def test_what_is_no_path(typed: str) -> None:
    with pytest.raises(FolderError):
        typed_folder(typed)


def test_folders_that_begin_like_this_are_offered_as_they_were_typed(tmp_path: Path) -> None:
    for name in ("Weddings", "weekend", "Birds", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "week.txt").write_bytes(b"")
    begun = f"{tmp_path}{os.sep}"
    assert complete(f"{begun}we") == [f"{begun}Weddings", f"{begun}weekend"]
    assert complete(begun) == [f"{begun}{name}" for name in ("Birds", "Weddings", "weekend")]
    assert complete(f"{begun}none{os.sep}x") == complete("we") == complete("") == []


def test_names_that_cannot_be_typed_are_not_offered(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"odd-\xff")).mkdir()
    except OSError:
        pytest.skip("this file system takes no such names")
    assert complete(f"{tmp_path}{os.sep}odd") == []
    assert subfolders(tmp_path) == [os.fsdecode(b"odd-\xff")]


def test_a_folder_that_cannot_be_listed_is_told(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="cannot be read"):
        subfolders(tmp_path / "none")


def test_there_is_somewhere_to_begin_looking() -> None:
    found = places()
    assert all(path.is_dir() for _, path in found)
    assert len({path for _, path in found}) == len(found) >= 1


def test_copies_go_beside_the_folder_and_never_among_what_is_there(make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 2, "dogs": 2})
    first = root.with_name("photos-protected")
    assert free_output(root, "balanced") == first
    first.mkdir()
    assert free_output(root, "balanced") == first
    (first / "mine.txt").write_bytes(b"x")
    assert free_output(root, "balanced") == root.with_name("photos-protected-2")
    root.with_name("photos-protected-2").write_bytes(b"a file")
    assert free_output(root, "balanced") == root.with_name("photos-protected-3")
    if hasattr(os, "symlink"):
        root.with_name("photos-protected-3").symlink_to(root.with_name("nowhere"))
        assert free_output(root, "balanced") == root.with_name("photos-protected-4")


@pytest.mark.parametrize("records", ["inside", "beside"])
def test_finished_copies_are_found_again_and_not_written_over(
    make_pictures: MakePictures, records: RecordsPlace
) -> None:
    root = make_pictures({"cats": 2, "dogs": 2})
    out = free_output(root, "strong")
    protect_folder(root, out, epsilon=16 / 255, records=records)
    (earlier,) = earlier_copies(root)
    assert (earlier.output, earlier.finished, earlier.strength) == (out, True, "strong")
    assert free_output(root, "strong") == root.with_name("photos-protected-2")


def test_copies_that_were_begun_go_on_where_they_are_of_that_strength(make_pictures: MakePictures) -> None:
    root = make_pictures({"cats": 2, "dogs": 2})
    out = root.with_name("photos-protected")
    out.mkdir()
    body = {"schema": 2, "settings": {"epsilon": 4 / 255}, "inputs": 0, "versions": {}, "fitted": None}
    (out / ".bitterant-state.json").write_text(json.dumps(body), encoding="utf-8")
    (earlier,) = earlier_copies(root)
    assert (earlier.output, earlier.finished, earlier.strength) == (out, False, "subtle")
    assert free_output(root, "subtle") == out
    assert free_output(root, "balanced") == root.with_name("photos-protected-2")
    (out / ".bitterant-state.json").write_text("damaged", encoding="utf-8")
    assert earlier_copies(root) == []
    assert free_output(root, "subtle") == root.with_name("photos-protected-2")
