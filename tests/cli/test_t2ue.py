"""``bitterant t2ue`` as a user meets it: three steps, what they print, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from bitterant.cli.app import app
from bitterant.errors import WeightsError

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]
TWO = {"cats": 3, "dogs": 3}


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch, noise_source: Callable[..., Any]) -> Any:
    """A generator without weights takes the place of the embedded one."""
    from bitterant.protect.methods import t2ue

    made = noise_source(8)
    monkeypatch.setattr(t2ue, "load_source", lambda *_, **__: made)
    return made


@pytest.fixture
def work(tmp_path: Path, make_folder: MakeFolder, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with two classes of pictures in ``src``."""
    make_folder(TWO)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def three_steps(run: Run, *words: object) -> Result:
    assert run("t2ue", "captions", "src", "--yes").exit_code == 0
    assert run("t2ue", "noise", "request.jsonl", "-o", "n.noise.safetensors", *words).exit_code == 0
    return run("t2ue", "apply", "src", "n.noise.safetensors", "--map", "request.map.json", "-o", "out")


def tree(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


class TestThreeSteps:
    @pytest.mark.parametrize("words", [(), ("--z-mode", "class"), ("--z-mode", "codebook", "--prompt-mode", "cycle")])
    def test_from_a_folder_to_its_copy(self, run: Run, work: Path, words: tuple[str, ...]) -> None:
        result = three_steps(run, *words)
        assert result.exit_code == 0
        assert "6 pictures protected" in result.stderr
        for path in sorted((work / "src").rglob("*.png")):
            change = np.abs(pixels(work / "out" / path.relative_to(work / "src")) - pixels(path))
            assert 0 < change.max() <= 8

    def test_what_leaves_is_shown_and_is_what_is_written(self, run: Run, work: Path) -> None:
        result = run("t2ue", "captions", "src", "-o", "ask/r.jsonl", "-y")
        lines = (work / "ask/r.jsonl").read_text(encoding="utf-8").splitlines()
        assert len(lines) == 6
        for line in lines[:5]:
            assert line in result.stderr
        assert "and 1 more" in result.stderr
        assert "6 from the names of class folders" in result.stderr
        assert not any(name in line for name in (".png", "src", str(work)) for line in lines)
        # Digits of an id say nothing, and may be three zeros.
        assert not any("000" in json.loads(line)["prompt"] for line in lines)
        assert set(json.loads(lines[0])) == {"id", "prompt", "class_id"}
        assert "ask/r.map.json" in result.stderr
        assert "ask/r.key" in result.stderr
        assert (work / "ask/r.key").stat().st_mode & 0o077 == 0

    def test_a_request_again_has_the_same_ids(self, run: Run, work: Path) -> None:
        run("t2ue", "captions", "src", "-y")
        run("t2ue", "captions", "src", "-y", "-o", "two.jsonl", "--key-file", "request.key")
        run("t2ue", "captions", "src", "-y", "-o", "three.jsonl")
        one, two, three = ((work / name).read_bytes() for name in ("request.jsonl", "two.jsonl", "three.jsonl"))
        assert one == two != three

    def test_raw_bytes_and_their_digits_are_the_same_key(self, run: Run, work: Path) -> None:
        secret = bytes(range(128, 160))
        (work / "raw.key").write_bytes(secret)
        (work / "hex.key").write_text(secret.hex())
        for key in ("raw", "hex"):
            asked = ("t2ue", "captions", "src", "-y", "-o", f"{key}.jsonl", "--map", f"{key}.map", "--send-seed")
            assert run(*asked, "--key-file", f"{key}.key").exit_code == 0
            made = ("t2ue", "noise", f"{key}.jsonl", "-o", f"{key}.noise.safetensors", "--key-file", f"{key}.key")
            assert run(*made).exit_code == 0
        for name in ("{}.jsonl", "{}.noise.safetensors"):
            assert (work / name.format("raw")).read_bytes() == (work / name.format("hex")).read_bytes()

    def test_json_is_one_object_for_every_step(self, run: Run, work: Path) -> None:
        asked = json.loads(run("t2ue", "captions", "src", "-y", "--json", "--quiet").stdout)
        assert asked["pictures"] == 6
        assert asked["sources"] == {"class": 6}
        made = json.loads(run("t2ue", "noise", "request.jsonl", "-o", "n.noise.safetensors", "--json").stdout)
        assert made["count"] == 6
        plan = ("t2ue", "apply", "src", "n.noise.safetensors", "--map", "request.map.json", "-o", "out", "--json")
        assert json.loads(run(*plan, "--dry-run").stdout)["protect"] == 6
        assert not (work / "out").exists()
        done = json.loads(run(*plan, "--report", "report.json").stdout)
        assert done["counts"]["protected"] == 6
        assert json.loads((work / "report.json").read_text(encoding="ascii"))["counts"] == done["counts"]
        looked = json.loads(run("t2ue", "inspect", "n.noise.safetensors", "--map", "request.map.json", "--json").stdout)
        assert looked["sound"] is True
        assert looked["metadata"]["count"] == "6"

    def test_the_server_keeps_its_seeds_in_a_key_file(self, run: Run, work: Path) -> None:
        run("t2ue", "captions", "src", "-y")
        for name, key in (("a", "s.key"), ("b", "s.key"), ("c", "t.key")):
            out = f"{name}.noise.safetensors"
            assert run("t2ue", "noise", "request.jsonl", "-o", out, "--key-file", key).exit_code == 0
        one, two, three = ((work / f"{name}.noise.safetensors").read_bytes() for name in "abc")
        assert one == two != three

    @pytest.mark.parametrize("form", ["npz", "png"])
    def test_other_forms(self, run: Run, work: Path, form: str) -> None:
        run("t2ue", "captions", "src", "-y")
        result = run("t2ue", "noise", "request.jsonl", "-o", f"n.{form}", "--format", form, "--z-mode", "class")
        assert result.exit_code == 0
        assert (work / f"n.{form}").exists()
        assert not list(work.glob(".bitterant-*"))

    def test_inspect_prints_a_table(self, run: Run, work: Path) -> None:
        three_steps(run, "--epsilon", "6")
        result = run("t2ue", "inspect", "n.noise.safetensors", "--request", "request.jsonl")
        assert result.exit_code == 0
        rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
        assert rows["epsilon_levels"] == "6"
        assert rows["generator_id"] == "fake-generator"
        assert rows["checked"] == "sound"


class TestConsent:
    def test_no_means_that_nothing_is_written(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = tree(work)
        result = self._asked(monkeypatch, "n\n")
        assert result.exit_code == 130
        assert "Nothing was written" in result.stderr
        assert tree(work) == before

    def test_yes_writes(self, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        result = self._asked(monkeypatch, "y\n", "--quiet")
        assert result.exit_code == 0
        assert "This is what will leave the machine" in result.stderr  # nobody can agree to what was not shown
        assert (work / "request.jsonl").exists()

    @staticmethod
    def _asked(monkeypatch: pytest.MonkeyPatch, typed: str, *words: str) -> Result:
        from bitterant.cli import t2ue as t2ue_request

        class Terminal:
            class stdin:
                @staticmethod
                def isatty() -> bool:
                    return True

        monkeypatch.setattr(t2ue_request, "sys", Terminal)
        return CliRunner().invoke(app, ["t2ue", "captions", "src", *words], input=typed, env={"COLUMNS": "500"})


class TestRefusals:
    """One line that says what is wrong, the right exit code, and nothing written."""

    @pytest.mark.parametrize(
        ("spoil", "why"),
        [
            (lambda data: data[:-5], "cut off or damaged"),
            (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "changed after it was written"),
            (lambda data: data.replace(b'"version":"1"', b'"version":"2"'), "bundle format 2; this bitterant reads 1"),
            (lambda data: b"not a bundle", "no safetensors file"),
        ],
    )
    def test_bundles(self, run: Run, work: Path, spoil: Callable[[bytes], bytes], why: str) -> None:
        run("t2ue", "captions", "src", "-y")
        run("t2ue", "noise", "request.jsonl", "-o", "n.noise.safetensors")
        path = work / "n.noise.safetensors"
        path.write_bytes(spoil(path.read_bytes()))
        before = tree(work)
        for words in (
            ("apply", "src", path, "--map", "request.map.json", "-o", "out"),
            ("apply", "src", path, "--map", "request.map.json", "-o", "out", "--dry-run"),
            ("inspect", path),
        ):
            result = run("t2ue", *words)
            assert result.exit_code == 2
            assert why in result.stderr
            assert "Traceback" not in result.stderr
        assert tree(work) == before
        assert not (work / "out").exists()

    @pytest.mark.parametrize(
        ("words", "why"),
        [
            (("captions", "none"), "There is no folder"),
            (("captions", "empty"), "There is no picture in empty"),
            (("captions", "flat"), "have no caption: 000.png"),
            (("captions", "src", "-o", "src/r.jsonl"), "lies inside src"),
            (("captions", "src", "--key-file", "src/k"), "lies inside src"),
            (("captions", "src", "--source", "coco"), "--coco"),
            (("captions", "src", "--template", "a photo"), "{}"),
            (("captions", "src", "--captioner", "none"), "There is no folder none"),
            (("noise", "none.jsonl", "-o", "n.noise.safetensors"), "There is no request none.jsonl"),
            (("noise", "src/cats/000.png", "-o", "n.noise.safetensors"), "line 1"),
            (("noise", "r.jsonl", "-o", "n.safetensors"), "NAME.noise.safetensors"),
            (("noise", "r.jsonl", "-o", "n.noise.safetensors", "--epsilon", "0"), "0"),
            (("noise", "r.jsonl", "-o", "n.noise.safetensors", "--z-mode", "class"), "needs a class for every picture"),
            (("apply", "src", "none", "--map", "r.map.json", "-o", "out"), "There is no map r.map.json"),
            (("inspect", "none"), "There is no noise bundle none"),
        ],
    )
    def test_what_is_missing_or_wrong(
        self, run: Run, work: Path, make_folder: MakeFolder, words: tuple[str, ...], why: str
    ) -> None:
        (work / "empty").mkdir()
        make_folder({"": 2}, "flat")
        (work / "r.jsonl").write_text('{"id": "0123456789abcdef", "prompt": "a cat"}\n', encoding="utf-8")
        before = tree(work)
        result = run("t2ue", *words)
        assert result.exit_code == 2
        assert why in result.stderr
        assert "Traceback" not in result.stderr
        assert tree(work) == before

    def test_nothing_is_overwritten(self, run: Run, work: Path) -> None:
        assert three_steps(run).exit_code == 0
        before = tree(work)
        for words in (
            ("captions", "src", "-y"),
            ("captions", "src", "-y", "-o", "other.jsonl", "--map", "request.map.json"),
            ("noise", "request.jsonl", "-o", "n.noise.safetensors"),
        ):
            result = run("t2ue", *words)
            assert result.exit_code == 2
            assert "exists already and is left alone" in result.stderr
        assert tree(work) == before

    def test_a_place_that_is_no_folder(self, run: Run, work: Path) -> None:
        (work / "file").touch()
        result = run("t2ue", "captions", "src", "-y", "-o", "file/r.jsonl")
        assert result.exit_code == 3
        assert "file/r" in result.stderr
        run("t2ue", "captions", "src", "-y")
        result = run("t2ue", "noise", "request.jsonl", "-o", "file/n.noise.safetensors")
        assert result.exit_code == 3
        assert "Traceback" not in result.stderr

    def test_a_damaged_picture_is_left_out_and_told(self, run: Run, work: Path) -> None:
        (work / "src/cats/001.png").write_bytes(b"no picture")
        asked = run("t2ue", "captions", "src", "-y")
        assert asked.exit_code == 1
        assert "cats/001.png" in asked.stderr
        run("t2ue", "noise", "request.jsonl", "-o", "n.noise.safetensors")
        done = run("t2ue", "apply", "src", "n.noise.safetensors", "-o", "out")
        assert done.exit_code == 0
        assert "5 pictures protected, 1 skipped" in done.stderr
        assert "cats/001.png: " in done.stderr
        assert not (work / "out/cats/001.png").exists()

    def test_a_generator_that_is_not_there(self, run: Run, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from bitterant.protect.methods import t2ue

        def missing(*_: object, **__: object) -> None:
            raise WeightsError("There is no generator.")

        monkeypatch.setattr(t2ue, "load_source", missing)
        run("t2ue", "captions", "src", "-y")
        before = tree(work)
        result = run("t2ue", "noise", "request.jsonl", "-o", "n.noise.safetensors", "--key-file", "s.key")
        assert result.exit_code == 3
        assert tree(work) == before


@pytest.mark.parametrize("step", ["captions", "apply", "inspect"])
def test_the_owners_steps_load_no_torch(run: Run, work: Path, step: str) -> None:
    """In a process where any import of torch fails."""
    three_steps(run)
    words = {
        "captions": ["captions", "src", "-y", "-o", "again.jsonl"],
        "apply": ["apply", "src", "n.noise.safetensors", "--map", "request.map.json", "-o", "again"],
        "inspect": ["inspect", "n.noise.safetensors"],
    }[step]
    script = "import sys; sys.modules['torch'] = None; from bitterant.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", script, "t2ue", *words], capture_output=True, text=True, cwd=work, check=False
    )
    assert done.returncode == 0, done.stderr
