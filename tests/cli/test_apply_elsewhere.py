"""``bitterant apply`` on what is no folder of pictures: it is recognised, and said."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from bitterant.protect import TextureBank

from .conftest import MakeFolder, Run


@pytest.fixture
def book(tmp_path: Path) -> Path:
    TextureBank.of_classes(["cats", "dogs"], b"a key of at least sixteen bytes").save(tmp_path / "book.safetensors")
    return tmp_path / "book.safetensors"


def pack(folder: Path, place: Path) -> Path:
    """The pictures of class folders as WebDataset has them."""
    place.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(place, "w") as archive:
        for number, path in enumerate(sorted(folder.rglob("*.png"))):
            for ending, data in (("png", path.read_bytes()), ("cls", path.parent.name.encode())):
                info = tarfile.TarInfo(f"{number:05d}.{ending}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return place


def test_shards_are_recognised(run: Run, make_folder: MakeFolder, book: Path, tmp_path: Path) -> None:
    source = make_folder({"cats": 3, "dogs": 2})
    for path in source.rglob("*.png"):
        Image.open(path).resize((40, 40)).save(path)
    pack(source, tmp_path / "shards" / "a.tar")
    planned = run("apply", tmp_path / "shards", tmp_path / "out", "--bank", book, "--dry-run")
    assert planned.exit_code == 0, planned.stderr
    assert "1 tar shard in" in planned.stderr
    assert "Nothing was written." in planned.stderr
    assert not (tmp_path / "out").exists()
    done = run("apply", tmp_path / "shards", tmp_path / "out", "--bank", book, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["kind"], told["tasks"], told["counts"]["protected"]) == ("tar", 1, 5)
    assert (tmp_path / "out.bitterant" / "run.json").is_file()
    again = run("apply", tmp_path / "shards", tmp_path / "out", "--bank", book)
    assert "Nothing to do" in again.stderr


def test_a_folder_of_pictures_takes_the_path_it_took(
    run: Run, make_folder: MakeFolder, book: Path, tmp_path: Path
) -> None:
    source = make_folder({"cats": 2, "dogs": 2})
    for path in source.rglob("*.png"):
        Image.open(path).resize((40, 40)).save(path)
    planned = run("apply", source, tmp_path / "out", "--bank", book, "--dry-run", "--json")
    assert planned.exit_code == 0, planned.stderr
    assert json.loads(planned.stdout)["kind"] == "pictures"
    assert run("apply", source, tmp_path / "out", "--bank", book).exit_code == 0
    assert (tmp_path / "out" / "bitterant-manifest.jsonl").is_file()
    wrong = run("apply", source, tmp_path / "other", "--bank", book, "--class-from", "cls")
    assert wrong.exit_code == 2
    assert "--class-from: for shards alone" in wrong.stderr


def test_a_dry_run_decides_as_the_run_does(run: Run, make_folder: MakeFolder, book: Path, tmp_path: Path) -> None:
    source = make_folder({"cats": 2, "dogs": 2})
    for path in source.rglob("*.png"):
        Image.open(path).resize((40, 40)).save(path)
    pack(source, source / "stray.tar")
    for words in (["--dry-run"], []):
        done = run("apply", source, tmp_path / "out", "--bank", book, *words)
        assert done.exit_code == 0, done.stderr
        assert "stray.tar" in done.stderr


def test_protect_names_the_two_commands(run: Run, tmp_path: Path) -> None:
    found = run("protect", "s3://bucket/photos", tmp_path / "out")
    assert found.exit_code == 2
    assert "s3://bucket/photos is no folder on this machine" in found.stderr
    assert "bitterant code-book BANK" in found.stderr
    assert "bitterant apply SRC OUT --bank BANK" in found.stderr


def test_secrets_of_a_url_are_not_printed(run: Run, book: Path, tmp_path: Path) -> None:
    pytest.importorskip("fsspec", reason="needs the extra remote")
    url = "memory://user:pa55word@host/photos?token=t0ps3cret"
    for words in (["apply", url, tmp_path / "out"], ["apply", tmp_path, url], ["protect", url, tmp_path / "out"]):
        bank = ["--bank", book] if words[0] == "apply" else []
        found = run(*words, *bank, "--debug", "--json")
        assert found.exit_code
        assert "pa55word" not in found.stdout + found.stderr
        assert "t0ps3cret" not in found.stdout + found.stderr


def test_shards_need_no_torch(book: Path, make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"cats": 1, "dogs": 1})
    for path in source.rglob("*.png"):
        Image.open(path).resize((40, 40)).save(path)
    pack(source, tmp_path / "a.tar")
    words = ["apply", str(tmp_path / "a.tar"), str(tmp_path / "out"), "--bank", str(book)]
    code = f"import sys\nsys.modules['torch'] = None\nfrom bitterant.cli import main\nsys.exit(main({words!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
