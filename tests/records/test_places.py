"""Places under several names, and files that are none."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from bitterant.errors import ImageError
from bitterant.imaging import decode
from bitterant.imaging.formats import format_of_file
from bitterant.records.places import identity_of, lies_in, open_own, open_regular, read_regular, sha256_file


def test_a_folder_is_found_under_any_name(tmp_path: Path) -> None:
    inner = tmp_path / "src" / "a"
    inner.mkdir(parents=True)
    (tmp_path / "other").symlink_to(inner)
    for path in (inner, inner / "not" / "yet", tmp_path / "other" / "x", tmp_path / "src" / ".." / "src"):
        assert lies_in(path, tmp_path / "src")
    for path in (tmp_path, tmp_path / "src2", tmp_path / "src" / ".." / "out"):
        assert not lies_in(path, tmp_path / "src")


def test_a_second_mount_is_the_same_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount shows one folder under two paths that resolve to themselves; here two names say they are one inode."""
    (tmp_path / "src" / "class").mkdir(parents=True)
    (tmp_path / "mount").mkdir()
    same = identity_of(tmp_path / "src" / "class")
    from bitterant.records import places

    real = identity_of
    monkeypatch.setattr(places, "identity_of", lambda path: same if path == tmp_path / "mount" else real(path))
    assert lies_in(tmp_path / "mount" / "out", tmp_path / "src")
    assert not lies_in(tmp_path / "out", tmp_path / "src")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def door(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("make", [pipe, door, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_never_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path("x.png")
    make(path)
    told: list[object] = []

    def read() -> None:
        for function in (open_regular, read_regular, sha256_file, decode):
            with pytest.raises((OSError, ImageError), match="not a regular file") as caught:
                function(path)
            told.append(caught.value)
        told.append(format_of_file(path))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert len(told) == 5
    assert told[4] == "PNG"  # by its name


def test_our_own_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "own").symlink_to(victim)
    (tmp_path / "dangling").symlink_to(tmp_path / "new")
    for name in ("own", "dangling"):
        for append in (False, True):
            with pytest.raises(OSError, match="link"):
                open_own(tmp_path / name, append=append)
    assert victim.read_bytes() == b"precious"
    assert not (tmp_path / "new").exists()


def test_our_own_file_is_made_kept_and_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "own"
    with open_own(path) as file:
        file.write(b"abc")
    with open_own(path) as file:
        assert file.read() == b"abc"
    with open_own(path, append=True) as file:
        file.write(b"def")
    assert path.read_bytes() == b"abcdef"
