"""Listing a folder: order, labels, and that every file is accounted for."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitterant.errors import FolderError
from bitterant.imaging import FolderScan, scan_folder, scan_source
from bitterant.imaging.scan import why_not_a_picture


def touch(root: Path, *names: str, content: bytes = b"x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def relatives(scan: FolderScan) -> list[str]:
    return [entry.relative for entry in scan.entries]


def reasons(scan: FolderScan) -> dict[str, str]:
    return {path.relative: path.kind for path in scan.skipped}


def test_class_folders_give_labels_at_any_depth(tmp_path):
    touch(tmp_path, "b/1.png", "a/deep/er/2.jpg", "a/3.PNG", content=b"abc")
    scan = scan_folder(tmp_path)
    assert scan.classes == ("a", "b")
    assert scan.labelled
    assert [(e.relative, e.label, e.class_name, e.size) for e in scan.entries] == [
        ("a/3.PNG", 0, "a", 3),
        ("a/deep/er/2.jpg", 0, "a", 3),
        ("b/1.png", 1, "b", 3),
    ]
    assert scan.entries[0].path == tmp_path / "a" / "3.PNG"
    assert scan.total_bytes == 9


def test_flat_folder_has_no_labels(tmp_path):
    touch(tmp_path, "2.png", "1.png", "notes/readme.md")
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["1.png", "2.png"]
    assert scan.classes == ()
    assert not scan.labelled
    assert all(entry.label is None and entry.class_name is None for entry in scan.entries)
    assert reasons(scan) == {"notes/readme.md": "other"}


def test_images_beside_class_folders_are_a_class_of_their_own(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png", "stray.png")
    scan = scan_folder(tmp_path)
    assert [(entry.relative, entry.class_name, entry.label) for entry in scan.entries] == [
        ("a/1.png", "a", 1),
        ("b/2.png", "b", 2),
        ("stray.png", ".", 0),
    ]
    assert scan.classes == (".", "a", "b")
    assert scan.skipped == ()
    assert "1 of 3 pictures lies beside the class folders" in scan.notes[0]


def test_a_folder_that_is_mostly_loose_is_flat(tmp_path):
    touch(tmp_path, *(f"{i}.jpg" for i in range(4)), "scraps/a.jpg", "more/b.jpg")
    scan = scan_folder(tmp_path)
    assert len(scan.entries) == 6
    assert not scan.labelled
    assert "4 of 6 pictures lie in no class folder" in scan.notes[0]


def test_folders_without_images_are_no_class(tmp_path):
    touch(tmp_path, "a/1.png", "docs/text.md", "movies/film.mp4")
    (tmp_path / "empty").mkdir()
    assert scan_folder(tmp_path).classes == ("a",)


def test_every_file_stands_in_exactly_one_list(tmp_path):
    touch(
        tmp_path, "a/1.png", "a/1.txt", "a/metadata.jsonl", "metadata.csv", "a/b.gif", "a/noext", "top.jpg", ".hidden"
    )
    scan = scan_folder(tmp_path)
    assert scan.captions == ("a/1.txt", "a/metadata.jsonl", "metadata.csv")
    assert reasons(scan) == {"a/b.gif": "other", "a/noext": "other", ".hidden": "other"}
    assert ".gif" in next(path.reason for path in scan.skipped if path.relative == "a/b.gif")
    everything = [*relatives(scan), *scan.captions, *reasons(scan)]
    assert len(everything) == len(set(everything)) == 8


def test_hidden_files_and_folders_are_no_input(tmp_path):
    touch(tmp_path, "a/1.png", "a/.DS_Store", "a/._1.png", ".git/x.png", ".ipynb_checkpoints/y.png")
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["a/1.png"]
    assert set(reasons(scan)) == {"a/.DS_Store", "a/._1.png", ".git", ".ipynb_checkpoints"}


def test_our_own_files_at_the_root_are_passed_over(tmp_path):
    own = ["bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html", ".bitterant-state.bin"]
    touch(tmp_path, "a/1.png", *own)
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["a/1.png"]
    assert scan.skipped == ()
    assert scan.captions == ()


def test_own_names_count_as_images_below_the_root(tmp_path):
    touch(tmp_path, "a/bitterant-tree.png")
    assert relatives(scan_folder(tmp_path)) == ["a/bitterant-tree.png"]


def test_empty_folder_is_no_error(tmp_path):
    assert scan_folder(tmp_path) == FolderScan(tmp_path, (), (), (), ())


def test_missing_folder_and_file_are_refused(tmp_path):
    with pytest.raises(FolderError, match="no folder"):
        scan_folder(tmp_path / "gone")
    touch(tmp_path, "file.png")
    with pytest.raises(FolderError, match="is a file"):
        scan_folder(tmp_path / "file.png")
    with pytest.raises(FolderError, match="cannot be opened"):
        scan_folder(tmp_path / "file.png" / "below")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not stop the root user")
def test_unreadable_folders_are_said(tmp_path):
    touch(tmp_path, "a/1.png", "b/2.png")
    (tmp_path / "b").chmod(0)
    try:
        scan = scan_folder(tmp_path)
        assert relatives(scan) == ["a/1.png"]
        assert reasons(scan) == {"b": "unread"}
        with pytest.raises(FolderError, match="cannot be read"):
            scan_folder(tmp_path / "b")
    finally:
        (tmp_path / "b").chmod(0o755)


def test_a_subfolder_that_vanishes_or_cannot_be_read_is_reported(tmp_path, monkeypatch):
    touch(tmp_path, "a/1.png", "b/2.png")
    real = os.scandir

    def scandir(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["a/1.png"]
    assert reasons(scan) == {"b": "unread"}
    assert "Permission denied" in scan.skipped[0].reason


@pytest.fixture
def linked(tmp_path):
    touch(tmp_path, "src/a/1.png", "other/2.png")
    try:
        (tmp_path / "src/a/link.png").symlink_to(tmp_path / "src/a/1.png")
        (tmp_path / "src/b").symlink_to(tmp_path / "other", target_is_directory=True)
        (tmp_path / "src/a/up").symlink_to(tmp_path / "src", target_is_directory=True)
        (tmp_path / "src/a/broken.png").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this system makes no symbolic links")
    return tmp_path / "src"


def test_links_are_not_followed_unless_asked(linked):
    scan = scan_folder(linked)
    assert relatives(scan) == ["a/1.png"]
    assert reasons(scan) == dict.fromkeys(["a/broken.png", "a/link.png", "a/up", "b"], "link")


def test_followed_links_end_even_where_they_lead_back(linked):
    scan = scan_folder(linked, follow_links=True)
    assert relatives(scan) == ["a/1.png", "a/link.png", "b/2.png"]
    assert reasons(scan) == dict.fromkeys(["a/broken.png", "a/up"], "link")


def test_a_link_as_root_is_fine(linked):
    alias = linked.parent / "alias"
    alias.symlink_to(linked, target_is_directory=True)
    assert relatives(scan_folder(alias)) == ["a/1.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_never_opened(tmp_path):
    touch(tmp_path, "a/1.png")
    os.mkfifo(tmp_path / "a" / "2.png")
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["a/1.png"]
    assert reasons(scan) == {"a/2.png": "other"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no names that are not text")
def test_names_that_are_no_text_are_listed_and_can_be_opened(tmp_path):
    (tmp_path / "a").mkdir()
    with open(os.fsencode(tmp_path) + b"/a/\xff\xfe.png", "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(b"x")
    (entry,) = scan_folder(tmp_path).entries
    assert entry.path.read_bytes() == b"x"
    assert os.fsencode(entry.relative) == b"a/\xff\xfe.png"


ODD_NAMES = [
    "Zebra",
    "zebra",
    "äpfel",
    "a b",
    "a-b",
    "a",
    "日本",
    "été",
    "e\u0301te\u0301",
    "10",
    "9",
    "\U0001f600",
    "\uffee",
]


def test_class_indices_equal_torchvision(tmp_path):
    datasets = pytest.importorskip("torchvision.datasets")
    for i, name in enumerate(ODD_NAMES):
        touch(tmp_path, f"{name}/{i}.png", f"{name}/sub/{i}.jpg")
    folder = datasets.ImageFolder(tmp_path)
    scan = scan_folder(tmp_path)
    assert list(scan.classes) == folder.classes
    assert {str(entry.path): entry.label for entry in scan.entries} == dict(folder.samples)


# Two names that only differ in case or accents are one file on some systems; such pairs are left out here.
NAME = st.text(st.sampled_from("abcXYZ0_- .éß日😀\uffee"), min_size=1, max_size=6).filter(
    lambda name: name.strip(". ") == name
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(st.lists(NAME, max_size=2), NAME, st.sampled_from([".png", ".JPG", ".tif"])),
        min_size=1,
        max_size=12,
        unique_by=lambda parts: "/".join([*parts[0], parts[1]]).casefold(),
    )
)
def test_order_is_that_of_the_path_bytes_and_nothing_is_lost(tmp_path_factory, files):
    root = tmp_path_factory.mktemp("scan")
    names = {"/".join([*folders, name + suffix]) for folders, name, suffix in files}
    for name in names:
        touch(root, name)
    scan = scan_folder(root)
    assert relatives(scan) == sorted(names, key=lambda name: name.encode())
    assert scan.skipped == ()
    loose = [name for name in names if "/" not in name]
    folders = {name.split("/")[0] for name in names if "/" in name}
    flat = not folders or (bool(loose) and (len(folders) < 2 or 2 * len(loose) >= len(names)))
    assert scan.classes == (() if flat else tuple(sorted(folders | ({"."} if loose else set()))))
    for entry in scan.entries:
        assert entry.path.is_file()
        head, slash, _ = entry.relative.partition("/")
        assert entry.class_name == (None if flat else head if slash else ".")
        assert flat or scan.classes[entry.label or 0] == entry.class_name


def test_names_of_the_user_that_begin_like_ours_are_input(tmp_path):
    touch(
        tmp_path, "bitterant-photos/1.png", "a/2.png", "bitterant-notes.txt", "bitterant-run.json.bak", ".bitterant-x"
    )
    scan = scan_folder(tmp_path)
    assert scan.classes == ("a", "bitterant-photos")
    assert scan.captions == ("bitterant-notes.txt",)
    assert reasons(scan) == {"bitterant-run.json.bak": "other", ".bitterant-x": "other"}
    touch(tmp_path / "flat", "bitterant-tree.png")
    assert relatives(scan_folder(tmp_path / "flat")) == ["bitterant-tree.png"]


def test_a_folder_with_the_name_of_a_run_file_is_named_not_lost(tmp_path):
    touch(tmp_path, "a/1.png", "bitterant-run.json/2.png")
    (skip,) = scan_folder(tmp_path).skipped
    assert skip.relative == "bitterant-run.json"
    assert "rename" in skip.reason


@pytest.mark.parametrize(
    "name",
    ["$RECYCLE.BIN", "#recycle", "@eaDir", "System Volume Information", "__MACOSX", "lost+found", "@__thumb"],
)
def test_system_folders_are_hidden_at_any_depth(tmp_path, name):
    touch(tmp_path, "a/1.png", "b/2.png", f"{name}/3.png", f"a/{name}/4.png/5.jpg")
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["a/1.png", "b/2.png"]
    assert {path.relative: path.reason for path in scan.skipped} == dict.fromkeys([name, f"a/{name}"], "hidden")


def test_the_library_of_a_photo_program_is_named(tmp_path):
    touch(tmp_path, "a/1.png", "Mine.photoslibrary/originals/1.jpg", "Catalog Previews.lrdata/2.jpg", "Thumbs.db")
    scan = scan_folder(tmp_path)
    assert relatives(scan) == ["a/1.png"]
    told = {path.relative: path.reason for path in scan.skipped}
    assert told.pop("Thumbs.db") == "hidden"
    assert all("export" in reason for reason in told.values())
    assert set(told) == {"Mine.photoslibrary", "Catalog Previews.lrdata"}


def test_one_picture_is_a_flat_folder_with_its_captions(tmp_path):
    touch(tmp_path, "1.jpg", "1.txt", "2.jpg", "2.txt", "notes.md")
    scan = scan_source(tmp_path / "1.jpg")
    assert scan.root == tmp_path
    assert relatives(scan) == ["1.jpg"]
    assert scan.captions == ("1.txt",)
    assert not scan.labelled
    with pytest.raises(FolderError, match=r"notes\.md is a file, and not an image type that is read \(\.md\)"):
        scan_source(tmp_path / "notes.md")
    assert relatives(scan_source(tmp_path)) == ["1.jpg", "2.jpg"]


def test_a_file_too_large_to_be_read_is_refused_alone_and_left_aside_in_a_folder(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate((1 << 30) + 1)  # takes no room on the disk
    with pytest.raises(FolderError, match="1 GiB"):
        scan_source(tmp_path / "huge.png")
    (skipped,) = scan_folder(tmp_path).skipped
    assert "1 GiB" in skipped.reason


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a.CR2", "from your raw converter"),
        ("a.dng", "from your raw converter"),
        ("a.gif", "as PNG"),
        ("a.mov", "(.mov)"),
    ],
)
def test_what_people_take_for_a_picture_is_left_aside_with_a_remedy(name: str, told: str) -> None:
    reason = why_not_a_picture(f"holidays/{name}")
    assert reason.startswith("not an image type that is read (.")
    assert told in reason
    assert (";" in reason) == (name != "a.mov")
