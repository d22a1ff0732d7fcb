"""``inspect``, ``preview``, ``list`` and ``doctor``: what they show is what is there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from typer.testing import Result

from bitterant.cli import doctor
from bitterant.imaging import flip_available

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def test_inspect_measures_two_files_and_shows_their_difference(run: Run, tmp_path: Path) -> None:
    before = np.full((24, 30, 3), 100)
    after = before.copy()
    after[3, 4, 1] += 5
    a, b = save(tmp_path / "a.png", before), save(tmp_path / "b.png", after)
    result = run("inspect", a, b, "--json", "--picture", tmp_path / "row.png", "--gain", "4")
    assert result.exit_code == 0
    (pair,) = json.loads(result.stdout)["pairs"]
    assert pair["linf_levels"] == 5
    assert pair["psnr"] == pytest.approx(10 * np.log10(255**2 / (25 / before.size)), abs=0.01)
    assert 0 < pair["ciede"] < 0.1 < 2 * 24 * 30 * pair["ciede"]
    assert pair["ciede_p95"] == 0
    assert 0 < pair["ciede_patches"] < 0.1
    assert (pair["flip"] is None) != flip_available()
    row = np.asarray(Image.open(tmp_path / "row.png"))
    assert row.shape == (24, 3 * 30 + 2 * 8, 3)
    assert (row[:, :30] == before).all()
    assert (row[:, 38:68] == after).all()
    assert tuple(row[3, 76 + 4]) == (128, 148, 128)
    assert (row[10:, 76:] == 128).all()


def test_inspect_prints_what_the_eye_sees_and_lists_the_most_visible_first(run: Run, tmp_path: Path) -> None:
    grey, signs = np.full((32, 32, 3), 120), np.random.default_rng(0).choice([-6, 6], (32, 32, 1))
    for number in range(6):
        save(tmp_path / f"a/{number}.png", grey)
        save(tmp_path / f"b/{number}.png", grey + (np.array([4, 0, -4]) if number == 3 else signs))
    result = run("inspect", tmp_path / "a", tmp_path / "b")
    text = result.stdout + result.stderr
    assert "CIEDE2000" in text
    assert ("FLIP" in text) == flip_available()
    names = [word for word in text.split() if word.endswith(".png")]
    assert names[0] == "3.png"


def test_inspect_pairs_folders_by_name_by_stem_and_by_manifest(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder({"cats": 2, "dogs": 2})
    grey = np.full((16, 20, 3), 90)
    Image.fromarray(grey.astype(np.uint8)).save(src / "dogs/000.jpg")  # beside 000.png: its copy is 000.jpg.png
    out = src.parent / "out"
    assert run("protect", src, out, "--method", "noise").exit_code == 0
    told = json.loads(run("inspect", src, out, "--json").stdout)
    assert {pair["name"] for pair in told["pairs"]} == {p.relative_to(src).as_posix() for p in src.rglob("*.*")}
    levels = {pair["name"]: pair["linf_levels"] for pair in told["pairs"]}
    assert 1 <= levels.pop("dogs/000.jpg") <= 8  # without colour: it gets the mean of three channels
    assert set(levels.values()) == {8}
    (out / "bitterant-manifest.jsonl").unlink()
    told = json.loads(run("inspect", src, out, "--json").stdout)
    assert told["unpaired"] == []
    assert sorted(pair["linf_levels"] for pair in told["pairs"])[1:] == [8] * 4
    (out / "dogs/000.jpg.png").unlink()
    told = json.loads(run("inspect", src, out, "--json").stdout)
    assert told["unpaired"] == ["dogs/000.jpg"]  # dogs/000.png is the copy of another picture
    assert len(told["pairs"]) == 4


def test_inspect_pairs_a_picture_with_its_only_copy_of_another_ending(run: Run, tmp_path: Path) -> None:
    pixels = np.full((16, 20, 3), 90)
    save(tmp_path / "a/cats/x.bmp", pixels)
    save(tmp_path / "b/cats/x.png", pixels + 2)
    (pair,) = json.loads(run("inspect", tmp_path / "a", tmp_path / "b", "--json").stdout)["pairs"]
    assert (pair["name"], pair["linf_levels"]) == ("cats/x.bmp", 2)


def test_inspect_says_what_cannot_be_compared(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    src = make_folder({"cats": 1})
    picture = src / "cats/000.png"
    assert run("inspect", src, picture).exit_code == 2
    assert run("inspect", src, tmp_path / "none").exit_code == 2
    small = save(tmp_path / "small.png", np.zeros((4, 4, 3)))
    result = run("inspect", picture, small)
    assert result.exit_code == 1
    assert "warning: " in result.stderr


def test_a_table_in_a_pipe_has_one_line_a_row(run: Run) -> None:
    lines = run("list", "adversaries").stdout.splitlines()
    assert lines[0].split() == ["name", "tier", "class", "crafting", "cost", "what", "the", "trainer", "does", "source"]
    assert any(line.startswith("jpeg ") and "transforms" in line for line in lines)
    assert all(line == line.rstrip() for line in lines)


@pytest.mark.parametrize(
    ("kind", "some"),
    [
        ("methods", {"emn", "noise"}),
        ("surrogates", {"small-cnn", "efficientnet-lite0", "timm:NAME"}),
        ("victims", {"small-cnn", "resnet18", "mobilenetv2"}),
        ("adversaries", {"jpeg", "grayscale", "early-stop"}),
    ],
)
def test_lists_name_what_there_is_with_a_word_on_each(run: Run, kind: str, some: set[str]) -> None:
    rows = json.loads(run("list", kind, "--json").stdout)[kind]
    assert some <= {row["name"] for row in rows}
    assert all(row["about"] for row in rows)


def test_a_pretrained_network_is_no_victim(run: Run) -> None:
    assert "efficientnet-lite0" not in run("list", "victims").stdout


def test_listing_something_else_is_a_usage_error(run: Run) -> None:
    assert run("list", "animals").exit_code == 2


def test_preview_shows_each_picture_four_times_and_promises_nothing(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder({"cats": 4, "dogs": 4})
    page = src.parent / "page.html"
    result = run("preview", src, "--output", page, "--count", "3", "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["pictures"] == 3
    html = page.read_text(encoding="utf-8")
    assert html.count('src="data:image/png;base64,') == 3 * 4
    for words in ("at most 8 of 255", "at most 12 of 255", "at most 16 of 255", "not how well it protects"):
        assert words in html
    assert html.count("CIEDE2000 ") >= 3 * 3
    assert html.count(", FLIP 0.") == (3 * 3 if flip_available() else 0)
    assert ("FLIP was not measured" in html) != flip_available()
    assert "http:" not in html
    assert "https:" not in html


def test_preview_of_nothing(run: Run, tmp_path: Path) -> None:
    assert run("preview", tmp_path).exit_code == 2
    (tmp_path / "a.png").write_bytes(b"")
    result = run("preview", tmp_path)
    assert result.exit_code == 2
    assert "can be read" in result.stderr


def test_doctor_finds_this_machine_well(run: Run) -> None:
    told = json.loads(run("doctor", "--json").stdout)
    assert told["ok"]
    checks = {check["name"]: check for check in told["checks"]}
    assert checks["torch and torchvision"]["status"] == "ok"
    assert "change 8 of 8" in checks["self-test"]["detail"]


def test_doctor_knows_the_mismatched_pair(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(doctor, "prepare_torch", broken)
    result = run("doctor")
    assert result.exit_code == 3
    assert "BAD  torch and torchvision" in result.stdout
    assert "matching pair" in result.stderr


class TestClipWeights:
    """What ``doctor`` says of the weights of CLIP, with a cache of the hub that the test fills."""

    ROW = "clip:ViT-B-32/laion2b_s34b_b79k"

    @pytest.fixture(autouse=True)
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        pytest.importorskip("open_clip", reason="open_clip is not installed: pip install 'bitterant[clip]'")

        def cached(repo: str, name: str) -> str | None:
            file = tmp_path / repo.replace("/", "--") / name
            return str(file) if file.is_file() else None

        monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cached)

    def file(self, folder: Path, content: bytes) -> Path:
        file = folder / "laion--CLIP-ViT-B-32-laion2B-s34B-b79K/open_clip_model.safetensors"
        file.parent.mkdir()
        file.write_bytes(content)
        return file

    @staticmethod
    def row(run: Run) -> dict[str, str]:
        result = run("doctor", "--json")
        assert result.exit_code == 0
        (found,) = [check for check in json.loads(result.stdout)["checks"] if check["name"] == "CLIP weights"]
        return found

    def test_none(self, run: Run) -> None:
        row = self.row(run)
        assert (row["status"], row["detail"]) == ("note", "none on this machine")
        assert "--allow-download" in row["remedy"]
        assert "--weights FILE" in row["remedy"]

    def test_some(self, run: Run, tmp_path: Path) -> None:
        self.file(tmp_path, safetensors.torch.save({"a": torch.zeros(3)}))
        row = self.row(run)
        assert row["status"] == "ok"
        assert row["detail"] == f"on this machine: {self.ROW}; others: --allow-download"

    @pytest.mark.parametrize("kept", [0, 5, -4])
    def test_a_file_that_was_cut_short(self, run: Run, tmp_path: Path, kept: int) -> None:
        file = self.file(tmp_path, safetensors.torch.save({"a": torch.zeros(3)})[:kept])
        row = self.row(run)
        assert (row["status"], row["detail"]) == ("note", f"damaged: {self.ROW}")
        assert str(file) in row["remedy"]
        assert "--allow-download" in row["remedy"]

    def test_without_open_clip(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "open_clip", None)
        row = self.row(run)
        assert (row["status"], row["detail"]) == ("note", "open_clip is not installed")
        assert "bitterant[clip]" in row["remedy"]


@pytest.mark.parametrize(
    ("ours", "vision", "requires", "fits"),
    [
        ("2.15.0+cu132", "0.29.2+cu132", ["numpy", "torch (>=2.14.0)"], True),
        ("2.13.0+cpu", "0.29.2+cpu", ["torch>=2.14.0"], False),
        ("2.9.0", "0.24.0", ["torch==2.9.0"], True),
        ("2.8.0", "0.24.0", ["torch==2.9.0"], False),
        ("2.15.0+cpu", "0.29.2+cu132", ["torch>=2.14.0"], False),
        ("2.15.0", "0.29.2", [], True),
    ],
)
def test_which_versions_fit(ours: str, vision: str, requires: list[str], fits: bool) -> None:
    assert (doctor.pair_problem(ours, vision, requires) is None) is fits


def test_names_that_are_no_text_are_told_without_a_crash(make_folder: MakeFolder, tmp_path: Path) -> None:
    """On a strict UTF-8 stdout, both as JSON and as a table."""
    before, after = make_folder({"a": 2, "b": 2}, "before"), make_folder({"a": 2, "b": 2}, "after")
    odd = os.fsdecode(b"odd-\xff.png")
    for folder in (before, after):
        picture = next(path for path in sorted(folder.rglob("*")) if path.is_file())
        try:
            shutil.copy(picture, picture.parent / odd)
        except OSError:
            pytest.skip("this file system takes no such names")
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:strict"}

    def inspect(*words: str) -> str:
        command = [sys.executable, "-m", "bitterant", "inspect", str(before), str(after), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert any("odd-" in pair["name"] for pair in json.loads(inspect("--json"))["pairs"])
    assert "largest" in inspect()


def test_the_list_says_that_textures_do_without_classes(run: Run) -> None:
    (line,) = [line for line in run("list", "methods").stdout.splitlines() if line.startswith("texture")]
    assert "cluster" in line


def test_the_columns_of_inspect_are_explained(run: Run, tmp_path: Path) -> None:
    a = save(tmp_path / "a.png", np.full((16, 16, 3), 90))
    b = save(tmp_path / "b.png", np.full((16, 16, 3), 92))
    result = run("inspect", a, b)
    columns = result.stdout.splitlines()[0]
    for name in ("PSNR", "SSIM", "CIEDE2000", "95 %", "patches"):
        assert name in columns
        assert name in result.stderr
