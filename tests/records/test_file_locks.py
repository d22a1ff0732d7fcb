"""OUT is one run's alone, and a run that died holds nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import filelock
import pytest

from bitterant.errors import OutputError, ResumeError
from bitterant.records.files import exclusive, holding


def test_a_second_run_on_one_folder_is_refused_and_does_not_free_the_first(tmp_path: Path) -> None:
    lock = tmp_path / ".bitterant-state.lock"
    with exclusive(lock):
        for _ in range(2):
            with pytest.raises(ResumeError, match="Another bitterant"), exclusive(lock):
                pass
    assert not lock.exists()


@pytest.mark.parametrize("next_holder", [True, False])
def test_a_lock_is_not_held_twice_when_its_file_is_replaced_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, next_holder: bool
) -> None:
    """Between our opening and our locking of the file its holder ends and removes it, and another run may take it."""
    lock = tmp_path / ".bitterant-state.lock"
    real, others = filelock.lock_descriptor, []

    def lock_late(descriptor: int, *, blocking: bool) -> bool:
        if not others:
            lock.unlink()
            others.append(os.open(lock, os.O_RDWR | os.O_CREAT) if next_holder else -1)
            if next_holder:
                assert real(others[0], blocking=False)
        return real(descriptor, blocking=blocking)

    monkeypatch.setattr(filelock, "lock_descriptor", lock_late)
    if not next_holder:
        with exclusive(lock):
            assert lock.exists(), "what is held is not what the next run will see"
        return
    with pytest.raises(ResumeError, match="Another bitterant"), exclusive(lock):
        pass
    assert lock.exists(), "the lock of the other run was removed"
    os.close(others[0])


def test_the_lock_is_held_until_its_file_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock"
    real, seen = Path.unlink, []

    def unlink(path: Path, missing_ok: bool = False) -> None:
        with pytest.raises(ResumeError), exclusive(path):
            pass
        seen.append(path)
        real(path, missing_ok)

    with exclusive(lock):
        monkeypatch.setattr(Path, "unlink", unlink)
    assert seen == [lock]


def test_a_killed_process_blocks_nobody(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    script = "\n".join(
        [
            "import sys, pathlib",
            "from bitterant.records.files import exclusive",
            "with exclusive(pathlib.Path(sys.argv[1])):",
            "    print('held', flush=True)",
            "    sys.stdin.read()",
        ]
    )
    words = [sys.executable, "-c", script, str(lock)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ResumeError, match="Another bitterant"), exclusive(lock):
            pass
        holder.kill()
        holder.wait()
    assert lock.exists(), "the process was not killed"
    with exclusive(lock):
        pass
    assert not lock.exists()


def test_a_disk_without_locks_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, *, blocking: bool) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(filelock, "lock_descriptor", refuse)
    with exclusive(tmp_path / "lock"):
        assert "cannot be locked" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_what_is_no_lock_file_is_left_alone(tmp_path: Path, kind: str) -> None:
    lock, other = tmp_path / "lock", tmp_path / "other"
    other.write_text("somebody's")
    {"link": lambda: lock.symlink_to(other), "folder": lock.mkdir, "pipe": lambda: os.mkfifo(lock)}[kind]()
    with pytest.raises(OutputError, match="cannot be written"), exclusive(lock):
        pass
    assert os.path.lexists(lock)
    assert other.read_text() == "somebody's"


@pytest.mark.parametrize("existed", [True, False])
def test_a_folder_made_for_nothing_goes_again(tmp_path: Path, existed: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(OSError, match="full"), holding(out, out / "lock", existed=existed):
        raise OSError("full")
    assert out.exists() is existed
