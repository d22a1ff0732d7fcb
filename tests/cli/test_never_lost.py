"""No command replaces a file that is not its own, writes through a link, or leaves a secret for others to read."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]
NOISE = ("--method", "noise", "--resolution", "16", "--device", "cpu")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def source(make_folder: MakeFolder) -> Path:
    return make_folder({"a": 3, "b": 3})


@pytest.mark.parametrize(
    "words",
    [
        ("inspect", "SRC", "SRC", "--picture", "FILE"),
        ("preview", "SRC", "--count", "1", "--output", "FILE"),
        ("fit", "SRC", "FILE", *NOISE),
        ("protect", "SRC", "OUT", "--bank", "FILE", *NOISE),
        ("code-book", "FILE", "--class", "a", "--class", "b"),
        ("t2ue", "captions", "SRC", "--yes", "--out", "FILE"),
        ("t2ue", "captions", "SRC", "--yes", "--map", "FILE"),
        ("t2ue", "captions", "SRC", "--yes", "--key-file", "FILE"),
    ],
    ids=lambda words: " ".join(words[:3]),
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_file_that_is_there_stays_as_it_is(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], linked: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    precious = tmp_path / ("victim" if linked else "taken.png")
    precious.write_bytes(b"precious")
    if linked:
        (tmp_path / "taken.png").symlink_to(precious)
    places = {"SRC": source, "OUT": tmp_path / "out", "FILE": tmp_path / "taken.png"}
    result = run(*(places.get(word, word) for word in words))
    assert result.exit_code in (2, 3)
    assert "taken.png" in result.stderr
    assert precious.read_bytes() == b"precious"
    assert not list(tmp_path.glob(".bitterant-*"))


def test_a_preview_makes_room_for_the_next_and_for_nothing_else(run: Run, source: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for _ in range(2):
        assert run("preview", source, "--count", "1", "--output", page).exit_code == 0
    page.write_text("<html>mine</html>")
    assert run("preview", source, "--count", "1", "--output", page).exit_code == 2
    assert page.read_text() == "<html>mine</html>"


OWN = ("bitterant-manifest.jsonl", "bitterant-run.json", "bitterant-report.html", ".bitterant-state.json",
       ".bitterant-state.journal", ".bitterant-state.lock", ".bitterant-state.bank")  # fmt: skip


@pytest.mark.parametrize("resume", ["--resume", "--no-resume"])
@pytest.mark.parametrize("name", [*OWN, "a/000.png"])
def test_nothing_in_out_is_written_through_a_link(
    run: Run, source: Path, tmp_path: Path, name: str, resume: str
) -> None:
    victim, out = tmp_path / "victim", tmp_path / "out"
    victim.write_bytes(b"")
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(victim)
    result = run("protect", source, out, *NOISE, resume)
    assert result.exit_code in (2, 3)
    assert name in result.stderr
    assert victim.read_bytes() == b""
    assert (out / name).is_symlink()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize("name", OWN)
def test_a_pipe_with_a_name_of_ours_is_told_and_not_waited_for(
    run: Run, source: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    os.mkfifo(out / name)
    result = run("protect", source, out, *NOISE)
    assert result.exit_code in (2, 3)
    assert name in result.stderr


def test_a_page_of_the_users_with_the_name_of_the_report_stays(run: Run, source: Path, tmp_path: Path) -> None:
    page = tmp_path / "out" / "bitterant-report.html"
    page.parent.mkdir()
    page.write_text("<html>mine</html>")
    result = run("protect", source, page.parent, *NOISE)
    assert result.exit_code == 2
    assert page.read_text() == "<html>mine</html>"


@pytest.mark.skipif(os.name != "posix", reason="permission bits are a POSIX matter")
def test_what_takes_protection_off_is_its_owners_alone(run: Run, source: Path, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        words = ("protect", source, tmp_path / "out", *NOISE, "--bank", tmp_path / "kept.bank")
        assert run(*words).exit_code == 0
        assert run("fit", source, tmp_path / "fitted.bank", *NOISE).exit_code == 0
        assert run("code-book", tmp_path / "book", "--class", "a", "--class", "b").exit_code == 0
        assert run("t2ue", "captions", source, "--yes", "--out", tmp_path / "request.jsonl").exit_code == 0
    finally:
        os.umask(before)
    secret = {"kept.bank", "fitted.bank", "book", "request.map.json", "request.key"}
    found = {path.name: mode(path) for path in tmp_path.iterdir() if path.is_file()}
    assert {name for name, bits in found.items() if bits == 0o600} == secret
    assert set(found) == {*secret, "request.jsonl"}
