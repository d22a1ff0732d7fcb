"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from bitterant.errors import ConfigError, OutputError
from bitterant.records.files import sweep_temporaries, sweep_temporaries_of, write_atomic


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_the_bytes_and_makes_the_folders(tmp_path):
    path = tmp_path / "a" / "ü b" / "c.bin"
    write_atomic(path, b"data", overwrite=False)
    assert path.read_bytes() == b"data"
    assert names(path.parent) == ["c.bin"]


def test_an_existing_file_is_left_alone_unless_overwriting(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(ConfigError, match="exists already"):
        write_atomic(path, b"new", overwrite=False)
    assert path.read_bytes() == b"old"
    write_atomic(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"


def test_a_dangling_link_counts_as_existing(tmp_path):
    try:
        (tmp_path / "x").symlink_to(tmp_path / "gone")
    except OSError:
        pytest.skip("this system makes no symbolic links")
    with pytest.raises(ConfigError, match="exists already"):
        write_atomic(tmp_path / "x", b"new", overwrite=False)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
def test_the_file_gets_the_permissions_the_umask_asks_for(tmp_path):
    before = os.umask(0o022)
    try:
        write_atomic(tmp_path / "x", b"", overwrite=False)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o644


def test_a_place_below_a_file_cannot_be_written(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        write_atomic(tmp_path / "file" / "x", b"data", overwrite=False)


def test_a_folder_in_the_way_is_said_and_nothing_is_left(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_atomic(tmp_path / "x", b"data", overwrite=True)
    assert names(tmp_path) == ["x"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="permission bits do not stop the root user")
def test_a_folder_without_permission_is_said(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputError, match="may not write"):
            write_atomic(tmp_path / "x", b"", overwrite=False)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "may not write"), (errno.EIO, "check")],
)
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_on_the_way_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch, number, words, step):
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(*_args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(*((os, "fsync") if step == "fsync" else (Path, "replace")), fail)
    with pytest.raises(OutputError, match=words) as caught:
        write_atomic(path, b"new", overwrite=True)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["x"]


def test_an_interruption_leaves_no_debris_either(tmp_path, monkeypatch):
    def interrupt(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "x", b"new", overwrite=False)
    assert names(tmp_path) == []


def test_the_name_only_ever_shows_whole_content(tmp_path, monkeypatch):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    seen: list[tuple[bytes, list[str]]] = []
    real = os.fsync

    def watch(descriptor):
        seen.append((path.read_bytes(), [n for n in names(tmp_path) if n != "x"]))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomic(path, b"new", overwrite=True)
    assert seen[0][0] == b"old"
    assert seen[0][1][0].startswith(".bitterant-")
    assert seen[-1] == (b"new", [])


def test_sweeping_removes_debris_and_nothing_else(tmp_path):
    kept = ["photo.png", ".bitterant-state.safetensors", "bitterant-run.json", "sub/.bitterant-note"]
    debris = [".bitterant-tmp-0011", "sub/deep/.bitterant-tmp-2233"]
    for name in kept + debris:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert sweep_temporaries(tmp_path) == 2
    left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert left == set(kept)
    assert sweep_temporaries(tmp_path) == 0


def test_sweeping_a_missing_folder_is_fine(tmp_path):
    assert sweep_temporaries(tmp_path / "gone") == 0


def test_what_a_killed_write_leaves_is_swept(tmp_path, monkeypatch):
    class Killed(BaseException):
        pass

    def kill(*_args, **_options):
        raise Killed

    monkeypatch.setattr(Path, "unlink", kill)  # a killed process cleans nothing up
    monkeypatch.setattr(os, "fsync", kill)
    with pytest.raises(Killed):
        write_atomic(tmp_path / "x", b"new", overwrite=False)
    monkeypatch.undo()
    assert len(names(tmp_path)) == 1
    assert sweep_temporaries(tmp_path) == 1
    assert names(tmp_path) == []


def killed_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process leaves that is killed while it writes this file."""

    class Killed(BaseException):
        pass

    def kill(*_args, **_options):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", kill)
        patch.setattr(os, "fsync", kill)
        with pytest.raises(Killed):
            write_atomic(path, b"new", overwrite=True)


@pytest.mark.parametrize("name", ["my.bank", "ä" * 127, "x" * 255])
def test_the_debris_of_one_file_is_swept_and_that_of_no_other(tmp_path, monkeypatch, name):
    (tmp_path / "below").mkdir()
    for path in (tmp_path / name, tmp_path / "other", tmp_path / "my.bank.json", tmp_path / "below" / name):
        killed_write(path, monkeypatch)
    assert len(names(tmp_path)) == 4
    assert sweep_temporaries_of(tmp_path / name) == 1
    assert len(names(tmp_path)) == 3
    assert len(names(tmp_path / "below")) == 1
    assert sweep_temporaries_of(tmp_path / name) == 0
    assert sweep_temporaries_of(tmp_path / "gone" / name) == 0


def test_a_name_that_is_taken_meanwhile_is_not_lost(tmp_path, monkeypatch):
    path = tmp_path / "x"
    real = os.fsync

    def meanwhile(descriptor):
        path.write_bytes(b"another's")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", meanwhile)
    with pytest.raises(ConfigError, match="exists already"):
        write_atomic(path, b"new", overwrite=False)
    assert path.read_bytes() == b"another's"
    assert names(tmp_path) == ["x"]


def test_a_disk_without_second_names_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    write_atomic(tmp_path / "x", b"new", overwrite=False)
    assert (tmp_path / "x").read_bytes() == b"new"
    assert names(tmp_path) == ["x"]


def test_only_a_file_of_its_kind_is_replaced(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="left alone"):
        write_atomic(path, b"new", overwrite=lambda file: file.read_bytes().startswith(b"ours"))
    path.write_bytes(b"ours, old")
    write_atomic(path, b"ours, new", overwrite=lambda file: file.read_bytes().startswith(b"ours"))
    assert path.read_bytes() == b"ours, new"


@pytest.mark.parametrize("overwrite", [True, lambda file: True])
def test_what_a_link_leads_to_is_never_written(tmp_path, overwrite):
    victim, path = tmp_path / "victim", tmp_path / "x"
    victim.write_bytes(b"precious")
    path.symlink_to(victim)
    if overwrite is True:
        write_atomic(path, b"new", overwrite=overwrite)
        assert path.read_bytes() == b"new"
        assert not path.is_symlink()
    else:
        with pytest.raises(ConfigError):
            write_atomic(path, b"new", overwrite=overwrite)
    assert victim.read_bytes() == b"precious"


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
@pytest.mark.parametrize("before", [0o644, None])
def test_a_private_file_is_its_owners_alone(tmp_path, before):
    path = tmp_path / "x"
    if before is not None:
        path.write_bytes(b"old")
        path.chmod(before)
    old = os.umask(0)
    try:
        write_atomic(path, b"secret", overwrite=True, private=True)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
