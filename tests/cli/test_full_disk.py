"""Disks that are full, read-only, gone, shared with another run, or blind to case: a clear word, the right exit code,
nothing lost, and the same bytes in the end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from typer.testing import Result

from bitterant.imaging.encoding import resolve_output_names
from bitterant.imaging.scan import scan_folder
from bitterant.protect.folder import writing
from bitterant.records.files import exclusive
from bitterant.records.run_state import StateFiles

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]
TEXTURE = ("--method", "texture", "--seed", "0", "--workers", "1")
NOISE = ("--method", "noise", "--resolution", "16", "--device", "cpu", "--workers", "1")
OWN = ("bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html")


def mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    """``disk(kib)``: a disk of so many KiB; ``disk(kib, "ro")`` changes it. Needs root."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = False

    def make(kib: int, *options: str) -> Path:
        nonlocal mounted
        words = ",".join([*(["remount"] if mounted else []), f"size={kib}k", *options])
        if not sys.platform.startswith("linux") or not mount("-t", "tmpfs", "-o", words, "tmpfs", str(place)):
            pytest.skip("no small disk can be mounted here: that takes root on Linux")
        mounted = True
        return place

    yield make
    if mounted:
        subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def source(make_folder: MakeFolder) -> Path:
    return make_folder({"a": 8, "b": 8})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that is left but for our own tables, which hold times."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in OWN)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def told(result: Result, *words: str) -> None:
    assert result.exit_code == 3, result.stderr
    assert any(word in result.stderr for word in words), result.stderr
    assert "Traceback" not in result.stderr
    assert "fault in bitterant" not in result.stderr


@pytest.mark.parametrize("kib", [0, 4, 12, 24, 40, 64])
@pytest.mark.parametrize("method", [TEXTURE, NOISE], ids=["texture", "noise"])
def test_a_disk_that_fills_up_at_any_moment(
    run: Run, disk: Any, source: Path, tmp_path: Path, kib: int, method: tuple[str, ...]
) -> None:
    before = contents(source)
    assert run("protect", source, tmp_path / "plain", *method).exit_code == 0
    place = disk(256 if kib == 0 else kib)
    if kib == 0:
        (place / "filler").write_bytes(bytes(256 << 10))
    told(run("protect", source, place / "out", *method), "No space left", "disk is full", "Is the disk full?")
    whole = contents(tmp_path / "plain")
    kept = {name: data for name, data in contents(place / "out").items() if not name.startswith(".bitterant-state")}
    assert kept.items() <= whole.items(), "a half-written file, or one that should not be there"
    assert contents(source) == before
    (place / "filler").unlink(missing_ok=True)
    disk(4096)
    result = run("protect", source, place / "out", *method)
    assert result.exit_code == 0, result.stderr
    assert contents(place / "out") == whole


@pytest.mark.parametrize("command", ["fit", "apply", "publish", "code-book", "inspect"])
def test_other_commands_on_a_full_disk(run: Run, disk: Any, source: Path, tmp_path: Path, command: str) -> None:
    bank, out = tmp_path / "x.bank", tmp_path / "out"
    assert run("protect", source, out, *TEXTURE, "--bank", bank).exit_code == 0
    place = disk(4)
    (place / "filler").write_bytes(bytes(4096))
    words = {
        "fit": ("fit", source, place / "y.bank", *TEXTURE),
        "apply": ("apply", source, place / "out", "--bank", bank),
        "publish": ("publish", out, place / "published"),
        "code-book": ("code-book", place / "y.bank", "--class", "a", "--class", "b"),
        "inspect": ("inspect", source, out, "--picture", place / "y.png"),
    }[command]
    told(run(*words), "No space left", "disk is full", "Is the disk full?")
    left = [path for path in place.rglob("*") if path.is_file() and path.name != "filler" and path.stat().st_size]
    assert not [path for path in left if not path.name.startswith(".bitterant-state")]
    disk(4096)
    (place / "filler").unlink()
    result = run(*words)
    assert result.exit_code == 0, result.stderr


def test_a_disk_that_is_read_only(run: Run, disk: Any, source: Path) -> None:
    place = disk(4096)
    assert run("protect", source, place / "out", *TEXTURE).exit_code == 0
    before = contents(place)
    disk(4096, "ro")
    try:
        told(run("protect", source, place / "other", *TEXTURE), "read-only", "Read-only")
        told(run("protect", source, place / "out", *TEXTURE, "--seed", "1", "--no-resume"), "read-only", "Read-only")
        told(run("protect", source, place / "other", *TEXTURE, "--records", "beside"), "read-only", "Read-only")
        told(run("publish", place / "out", place / "published"), "read-only", "Read-only")
        assert contents(place) == before
    finally:
        disk(4096, "rw")


def test_out_goes_in_mid_run_and_comes_back(run: Run, source: Path, tmp_path: Path) -> None:
    assert run("protect", source, tmp_path / "plain", *NOISE).exit_code == 0
    out, away = tmp_path / "out", tmp_path / "away"
    calls = []
    real = writing.write_atomic

    def write(path: Path, data: bytes, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 4:
            out.rename(away)
        real(path, data, **options)

    with mock.patch.object(writing, "write_atomic", write):
        result = run("protect", source, out, *NOISE)
    assert result.exit_code == 3, result.stderr
    assert "out is no longer there" in result.stderr
    assert "run the same command" in result.stderr
    if out.exists():  # what was written into a folder of that name that was made anew
        shutil.rmtree(out)
    away.rename(out)
    assert run("protect", source, out, *NOISE).exit_code == 0
    assert contents(out) == contents(tmp_path / "plain")


def test_two_writers_at_once(run: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    code = "import sys, bitterant.cli; sys.argv = sys.argv[1:]; bitterant.cli.main()"
    words = [sys.executable, "-c", code, "bitterant", "protect", str(source), str(out), *TEXTURE]
    with exclusive(StateFiles(out).lock):
        second = run("protect", source, out, *TEXTURE)
        assert second.exit_code == 2
        assert "Another bitterant is writing to" in second.stderr
    both = [subprocess.Popen(words, stderr=subprocess.PIPE) for _ in range(2)]
    said = [process.communicate()[1].decode() for process in both]
    codes = sorted(process.returncode for process in both)
    assert codes in ([0, 0], [0, 2]), said  # the second may have come when the first was done
    assert run("protect", source, tmp_path / "plain", *TEXTURE).exit_code == 0
    assert contents(out) == contents(tmp_path / "plain")


def blind(place: Path) -> Any:
    """Lets the writer meet ``place`` as a disk that takes ``A`` and ``a`` for one name."""
    real = os.path.lexists

    def lexists(path: Any) -> bool:
        path = Path(path)
        beside = list(path.parent.iterdir()) if path.is_relative_to(place) and path.parent.is_dir() else []
        return real(path) or path.name.lower() in {other.name.lower() for other in beside}

    return mock.patch.object(writing.os.path, "lexists", lexists)


def test_names_that_differ_in_case_alone(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 3, "b": 3})
    for name, text in (("Notes.txt", "one"), ("notes.txt", "two")):
        (source / "a" / name).write_text(text, encoding="utf-8")
    shutil.copy(source / "a" / "000.png", source / "a" / "X.png")
    shutil.copy(source / "a" / "001.png", source / "a" / "x.png")
    if not {"Notes.txt", "notes.txt", "X.png", "x.png"} <= {path.name for path in (source / "a").iterdir()}:
        pytest.skip("this disk takes names that differ in case for one")
    scan = scan_folder(source)
    names = [name for name, _ in resolve_output_names(scan.entries, "lossless", beside=scan.captions).values()]
    assert len({name.lower() for name in names}) == len(names)
    with blind(tmp_path / "out"):
        result = run("protect", source, tmp_path / "out", *TEXTURE)
    assert result.exit_code == 1, result.stderr
    assert "a/notes.txt" in result.stderr
    assert "differs from Notes.txt in case alone" in result.stderr
    assert "rename one of them" in result.stderr
    assert len(list((tmp_path / "out").rglob("*.png"))) == 8


def test_what_to_do_when_a_source_file_is_gone_for_good(run: Run, source: Path, tmp_path: Path) -> None:
    """The run stopped, and a file of its SRC was deleted meanwhile: the message says how to go on without it."""
    out = tmp_path / "out"
    calls = []
    real = writing.write_atomic

    def write(path: Path, data: bytes, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 4:
            raise KeyboardInterrupt
        real(path, data, **options)

    with mock.patch.object(writing, "write_atomic", write):
        assert run("protect", source, out, *NOISE).exit_code == 130
    (source / "b" / "007.png").unlink()
    result = run("protect", source, out, *NOISE)
    assert result.exit_code == 2
    assert "b/007.png" in result.stderr
    assert "--no-resume" in result.stderr
    assert run("protect", source, out, *NOISE, "--no-resume").exit_code == 0
    assert run("protect", source, tmp_path / "plain", *NOISE).exit_code == 0
    assert contents(out) == contents(tmp_path / "plain")
