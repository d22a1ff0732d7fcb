"""Textures on the command line: a code book from names alone, and applying it where there is no torch."""

from __future__ import annotations

import json
import secrets
import shutil
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from bitterant.protect import TextureBank

from .conftest import MakeFolder, Run


def test_a_book_of_names_serves_folders_of_those_names(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source, book, names = make_folder({"cats": 3, "dogs": 2}), tmp_path / "book.safetensors", tmp_path / "names.txt"
    names.write_text("cats\n\n  dogs \nemus\n")
    key = tmp_path / "key"
    key.write_bytes(bytes(range(32)))
    made = run("code-book", book, "--classes", names, "--key-file", key, "--epsilon", "6", "--json")
    assert made.exit_code == 0, made.stderr
    assert json.loads(made.stdout)["classes"] == 3
    assert "guess" not in made.stderr
    assert stat.S_IMODE(book.stat().st_mode) == 0o600
    applied = run("apply", source, tmp_path / "out", "--bank", book, "--json")
    assert applied.exit_code == 0, applied.stderr
    rows = [json.loads(line) for line in (tmp_path / "out/bitterant-manifest.jsonl").read_text().splitlines()]
    assert [row["linf_levels"] for row in rows] == [6.0] * 5


def test_a_book_differs_from_a_fit_only_in_who_has_which_code(
    run: Run, make_folder: MakeFolder, tmp_path: Path
) -> None:
    """A fit sees pictures, and deals codes against what nature gives the classes; names alone are dealt by the key."""
    source = make_folder({"cats": 1, "dogs": 1})
    how = ("--for-resolution", 20, "--seed", 0)
    assert run("fit", source, tmp_path / "fitted", "--method", "texture", *how).exit_code == 0
    made = run("code-book", tmp_path / "book", "--class", "dogs", "--class", "cats", *how)
    assert made.exit_code == 0
    assert "whoever guesses it" in made.stderr
    book, fitted = TextureBank.load(tmp_path / "book"), TextureBank.load(tmp_path / "fitted")
    assert sorted(book.codes) == sorted(fitted.codes)
    assert replace(book, codes=fitted.codes) == fitted
    assert [code[0].cycles for code in book.codes] == pytest.approx([20 / 6.15] * 2)


def test_a_book_of_colours(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"cats": 1, "dogs": 1})
    classes = ("--class", "cats", "--class", "dogs", "--seed", 0)
    assert run("code-book", tmp_path / "book", *classes, "--colour", 1).exit_code == 0
    assert run("code-book", tmp_path / "plain", *classes).exit_code == 0
    book, plain = TextureBank.load(tmp_path / "book"), TextureBank.load(tmp_path / "plain")
    assert len(set(book.tints)) == 2
    assert (plain.tints, plain.codes) == ((), book.codes)
    applied = run("apply", source, tmp_path / "out", "--bank", tmp_path / "book")
    assert applied.exit_code == 0, applied.stderr


def test_one_key_file_gives_the_same_textures_in_every_way(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source, secret = make_folder({"cats": 1, "dogs": 1}), bytes(range(128, 160))
    written = tmp_path / "asked.key"
    asked = run("t2ue", "captions", source, "--yes", "-o", tmp_path / "r.jsonl", "--key-file", written)
    assert asked.exit_code == 0, asked.stderr
    (tmp_path / "hex.key").write_text(secret.hex())
    (tmp_path / "raw.key").write_bytes(secret)
    found = {}
    for name in ("asked", "hex", "raw"):
        key = tmp_path / f"{name}.key"
        book, bank, out = tmp_path / f"{name}.book", tmp_path / f"{name}.bank", tmp_path / name
        made = run("code-book", book, "--class", "cats", "--class", "dogs", "--key-file", key)
        assert made.exit_code == 0, made.stderr
        fitted = run("protect", source, out, "--method", "texture", "--set", f"key_file={key}", "--bank", bank)
        assert fitted.exit_code == 0, fitted.stderr
        one, other = TextureBank.load(book), TextureBank.load(bank)
        assert one.secret == other.secret
        found[name] = (one.secret, [path.read_bytes() for path in sorted(out.rglob("*.png"))])
    assert found["hex"] == found["raw"] != found["asked"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Which classes?"),
        (["--class", "cats"], "at least two classes"),
        (["--class", "cats", "--class", "cats"], "named twice"),
        (["--classes", "absent.txt"], "cannot be read"),
        (["--class", "a", "--class", "b", "--for-resolution", "0"], "for_resolution 0 is below 16"),
        (["--class", "a", "--class", "b", "--colour", "2"], "colour 2 of a texture is outside"),
        (["--class", "a", "--class", "b", "--epsilon", "0.5"], "outside 1..255"),
        (["--class", "a", "--class", "b", "--key-file", "absent"], "cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_books(run: Run, tmp_path: Path, words: list[str], message: str) -> None:
    result = run("code-book", tmp_path / "book", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "book").exists()


def test_a_bank_is_not_replaced_and_too_many_classes_are_counted(run: Run, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("\n".join(map(str, range(1001))))
    result = run("code-book", tmp_path / "book", "--classes", names)
    assert result.exit_code == 2
    assert "at most 1000 classes, and there are 1001" in result.stderr
    (tmp_path / "book").write_text("mine")
    result = run("code-book", tmp_path / "book", "--class", "a", "--class", "b")
    assert "is not replaced" in result.stderr
    names.write_bytes(b"\xff\xfe\xff")
    assert "not UTF-8" in run("code-book", tmp_path / "other", "--classes", names).stderr


def test_for_resolution_is_for_textures(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"cats": 2, "dogs": 2})
    result = run("protect", source, tmp_path / "out", "--method", "emn", "--for-resolution", 64)
    assert result.exit_code == 2
    assert "no hyper-parameter of emn named 'for_resolution'" in result.stderr
    plan = run("protect", source, tmp_path / "out", "--method", "texture", "--for-resolution", 64, "--dry-run")
    assert plan.exit_code == 0, plan.stderr
    assert "models see" not in plan.stderr


@pytest.mark.parametrize("command", ["code-book", "apply"])
def test_the_commands_of_the_owner_load_no_torch(
    run: Run, make_folder: MakeFolder, tmp_path: Path, command: str
) -> None:
    """In a process where any import of torch fails."""
    source = make_folder({"cats": 2, "dogs": 2})
    book = tmp_path / "book"
    words = ["code-book", str(book), "--class", "cats", "--class", "dogs"]
    if command == "apply":
        assert run(*words).exit_code == 0
        words = ["apply", str(source), str(tmp_path / "out"), "--bank", str(book)]
    script = "import sys; sys.modules['torch'] = None; from bitterant.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("classes", "words", "code"), [(1, (), 0), (2, (), 2), (2, ("--class", "b"), 0), (2, ("--class", "c"), 2)]
)
def test_a_picture_alone_gets_the_noise_of_a_class(
    run: Run, make_folder: MakeFolder, tmp_path: Path, classes: int, words: tuple[str, ...], code: int
) -> None:
    source = make_folder(dict.fromkeys("ab"[:classes], 2))
    bank, picture = tmp_path / "bank", source / "a/000.png"
    assert run("fit", source, bank, "--method", "noise", "--granularity", "class").exit_code == 0
    result = run("apply", picture, tmp_path / "out", "--bank", bank, *words)
    assert result.exit_code == code, result.stderr
    assert (tmp_path / "out/000.png").exists() == (code == 0)
    if code == 0 and words:
        both = make_folder({"b": 2}, name="other", seed=5)
        shutil.copy(picture, both / "b/000.png")
        assert run("apply", both, tmp_path / "all", "--bank", bank).exit_code == 0
        assert (tmp_path / "all/b/000.png").read_bytes() == (tmp_path / "out/000.png").read_bytes()
    if code:
        assert "a, b" in result.stderr


def test_a_class_for_pictures_that_have_classes_is_refused(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"a": 2, "b": 2})
    assert run("code-book", tmp_path / "book", "--class", "a", "--class", "b").exit_code == 0
    result = run("apply", source, tmp_path / "out", "--bank", tmp_path / "book", "--class", "a")
    assert result.exit_code == 2
    assert "which say their class" in result.stderr
    assert not (tmp_path / "out").exists()


def test_the_key_file_is_an_option_of_protect(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source, key = make_folder({"a": 2, "b": 2}), tmp_path / "key"
    key.write_text(secrets.token_hex(32))
    with_key = run("protect", source, tmp_path / "one", "--method", "texture", "--key-file", key)
    assert with_key.exit_code == 0
    assert "whoever guesses it" not in with_key.stderr
    of_seed = run("protect", source, tmp_path / "two", "--method", "texture", "--seed", 0)
    assert "--key-file FILE" in of_seed.stderr
    assert (tmp_path / "one/a/000.png").read_bytes() != (tmp_path / "two/a/000.png").read_bytes()
    assert run("protect", source, tmp_path / "three", "--method", "noise", "--key-file", key).exit_code == 2
    neither = run("protect", source, tmp_path / "four", "--method", "texture", "--dry-run")
    assert "a random key" in neither.stderr
    assert "whoever guesses it" not in neither.stderr


def test_a_book_without_seed_and_key_file_has_a_key_of_its_own(run: Run, tmp_path: Path) -> None:
    classes = ("--class", "a", "--class", "b")
    for name in ("one", "two"):
        made = run("code-book", tmp_path / name, *classes, "--json")
        assert json.loads(made.stdout)["key"] == "random"
        assert "whoever guesses it" not in made.stderr
    one, two = (TextureBank.load(tmp_path / name).secret for name in ("one", "two"))
    assert one != two
    for name in ("three", "four"):
        assert run("code-book", tmp_path / name, *classes, "--seed", 7).exit_code == 0
    assert (tmp_path / "three").read_bytes() == (tmp_path / "four").read_bytes()
