"""``protect``, ``fit`` and ``apply`` as a user meets them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]
TWO = {"cats": 3, "dogs": 3}


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path), dtype=int)


def flat(text: str) -> str:
    return " ".join(text.split())


def test_a_folder_is_protected_within_the_budget_and_told_in_words(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    out = src.parent / "out"
    result = run("protect", src, out, "--method", "noise", "--epsilon", "6")
    assert result.exit_code == 0
    assert result.stdout == ""
    for path in sorted(src.rglob("*.png")):
        change = abs(read(path) - read(out / path.relative_to(src)))
        assert change.max() == 6
    assert "6 pictures protected" in result.stderr
    assert str(out / "bitterant-report.html") in result.stderr
    assert f"Next: bitterant inspect {src} {out}" in result.stderr  # too few to verify


@pytest.mark.parametrize(
    ("words", "levels"),
    [
        (("--method", "noise"), 8),
        (("--method", "noise", "--strength", "subtle"), 4),
        (("--method", "noise", "--strength", "strong"), 16),
        ((), 12),
        (("--strength", "subtle"), 8),
        (("--strength", "strong"), 16),
    ],
)
def test_strengths_are_budgets(run: Run, make_folder: MakeFolder, words: tuple[str, ...], levels: int) -> None:
    src = make_folder(TWO)
    assert run("protect", src, src.parent / "out", *words).exit_code == 0
    assert abs(read(src / "cats/000.png") - read(src.parent / "out/cats/000.png")).max() == levels


def test_json_is_one_object_on_stdout_and_words_stay_on_stderr(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    result = run("protect", src, src.parent / "out", "--method", "noise", "--json")
    summary = json.loads(result.stdout)
    assert summary["counts"]["protected"] == 6
    assert summary["exit_code"] == 0
    assert "6 pictures protected" in result.stderr
    quiet = run("protect", src, src.parent / "out2", "--method", "noise", "--json", "--quiet")
    assert json.loads(quiet.stdout)["counts"]["protected"] == 6
    assert quiet.stderr == ""


def wrong(run: Run, *words: object) -> str:
    """The message of a command that must end with 2, the same with and without ``--json``."""
    result = run(*words)
    assert result.exit_code == 2, result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    told = json.loads(run(*words, "--json").stdout)["error"]
    assert told["exit_code"] == 2
    assert flat(told["message"]) in flat(result.stderr)
    return flat(result.stderr)


def test_a_missing_or_empty_source(run: Run, tmp_path: Path) -> None:
    assert "There is no folder" in wrong(run, "protect", tmp_path / "none", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    assert "There is no picture in" in wrong(run, "protect", tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_output_may_not_overlap_the_source(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    assert "lies inside the source folder" in wrong(run, "protect", src, src / "out")
    assert "is the source folder itself" in wrong(run, "protect", src, src)
    assert "contains the source folder" in wrong(run, "protect", src, src.parent)


@pytest.mark.parametrize("levels", ["0", "300", "-8", "0.5", "nan"])
def test_a_budget_out_of_range(run: Run, make_folder: MakeFolder, levels: str) -> None:
    src = make_folder(TWO)
    assert "outside 1..255 levels" in wrong(run, "protect", src, src.parent / "out", "--epsilon", levels)


def test_unknown_names_come_with_what_was_meant(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    out = src.parent / "out"
    assert "Did you mean 'emn'?" in wrong(run, "protect", src, out, "--method", "enm")
    assert "Did you mean 'resnet18'?" in wrong(run, "protect", src, out, "--surrogate", "resnet-18")
    assert "is not a device" in wrong(run, "protect", src, out, "--device", "toaster")
    assert "resolution is a whole number or 'auto'" in wrong(run, "protect", src, out, "--resolution", "big")


def test_several_mistakes_are_told_together(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    told = wrong(run, "protect", src, src / "out", "--epsilon", "0", "--method", "enm")
    assert "3 things are wrong" in told


def test_folders_that_cannot_be_learned_from(run: Run, make_folder: MakeFolder) -> None:
    one = make_folder({"cats": 4}, "one")
    assert "only one class folder" in wrong(run, "protect", one, one.parent / "out")
    flat_folder = make_folder({"": 4}, "flat")
    told = wrong(run, "protect", flat_folder, flat_folder.parent / "out", "--method", "emn")
    assert "one folder for each class" in told
    alone = make_folder({"": 1}, "alone")
    assert "at least 2 different" in wrong(run, "protect", alone, alone.parent / "out")


def test_a_flat_folder_takes_the_placebo(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder({"": 3})
    assert run("protect", src, src.parent / "out", "--method", "noise").exit_code == 0
    assert (src.parent / "out/002.png").is_file()


def test_damaged_files_among_good_ones(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    (src / "cats/broken.png").write_bytes((src / "cats/000.png").read_bytes()[:90])
    (src / "dogs/zero.jpg").write_bytes(b"")
    result = run("protect", src, src.parent / "out", "--method", "noise", "--json")
    assert result.exit_code == 1
    summary = json.loads(result.stdout)
    assert summary["counts"]["protected"] == 6
    assert summary["counts"]["failed"] == 2
    assert {problem["source"] for problem in summary["problems"]} == {"cats/broken.png", "dogs/zero.jpg"}
    assert "cats/broken.png: " in result.stderr
    assert "dogs/zero.jpg: " in result.stderr


def test_an_output_that_cannot_be_written_is_the_machines_fault(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    (src.parent / "file").write_text("not a folder")
    result = run("protect", src, src.parent / "file/out", "--method", "noise")
    assert result.exit_code == 3
    assert "cannot be written" in result.stderr


def test_a_class_with_a_single_picture_is_protected_with_a_warning(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder({"cats": 4, "dogs": 4, "emu": 1})
    result = run("protect", src, src.parent / "out")
    assert result.exit_code == 0
    assert "single picture (emu)" in result.stderr
    assert abs(read(src / "emu/000.png") - read(src.parent / "out/emu/000.png")).max() > 0


def test_a_dry_run_tells_how_long_the_surrogate_is_trained(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder({"cats": 6, "dogs": 6})
    result = run("protect", src, src.parent / "out", "--method", "beo", "--resolution", "16", "--dry-run", "--json")
    assert result.exit_code == 0
    (told,) = [line for line in result.stderr.splitlines() if line.split()[:1] == ["training"]]
    assert "30 steps (30 epochs) first, up to 1,500 in all while the surrogate is underfit" in told
    assert json.loads(result.stdout)["schedule"] in told


def test_a_dry_run_tells_the_plan_and_writes_nothing(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    before = sorted(src.parent.rglob("*"))
    result = run("protect", src, src.parent / "out", "--method", "emn", "--dry-run", "--json")
    assert result.exit_code == 0
    plan = json.loads(result.stdout)
    assert plan["images"] == 6
    assert plan["seconds"]["total"] > 0
    assert "Nothing was written" in result.stderr
    assert "6 in 2 classes (6 PNG)" in result.stderr
    assert sorted(src.parent.rglob("*")) == before


def test_settings_from_a_file(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    config = src.parent / "settings.toml"
    config.write_text('[protect]\nmethod = "noise"\nstrength = "strong"\nquiet = true\n', encoding="utf-8")
    result = run("protect", src, src.parent / "out", "--config", config)
    assert (result.exit_code, result.stderr) == (0, "")
    assert abs(read(src / "cats/000.png") - read(src.parent / "out/cats/000.png")).max() == 16
    config.write_text('[protect]\nmethd = "noise"\n', encoding="utf-8")
    result = run("protect", src, src.parent / "out2", "--config", config)
    assert result.exit_code == 2
    assert "did you mean 'method'" in result.stderr


def test_hyper_parameters_are_set_by_name(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    quick = ("--set", "rounds=1", "--set", "attempts=0", "--set", "clusters=2", "--set", "objective=labels")
    result = run("protect", src, src.parent / "out", "--method", "uc", "--surrogate", "small-cnn", *quick)
    assert result.exit_code == 0, result.stderr
    settings = json.loads((src.parent / "out/bitterant-run.json").read_text())["settings"]
    assert (settings["rounds"], settings["clusters"], settings["objective"]) == (1, 2, "labels")
    config = src.parent / "settings.toml"
    config.write_text('[protect]\nmethod = "uc"\nset = ["clusters=99"]\n', encoding="utf-8")
    result = run("protect", src, src.parent / "out2", "--config", config)
    assert result.exit_code == 2
    assert "6 pictures, but the method uc needs at least 99" in flat(result.stderr)
    assert "fewer clusters" in flat(result.stderr)


def test_the_hyper_parameters_of_a_method_are_listed(run: Run) -> None:
    listed = run("list", "methods", "emn", "--json")
    told = json.loads(listed.stdout)
    rounds = next(each for each in told["hyper_parameters"] if each["name"] == "rounds")
    assert (rounds["values"], rounds["default"]) == ("a whole number, at least 1", "30")
    assert set(told["presets"]) == {"fast", "paper"}
    assert "rounds" in run("list", "methods", "emn").stdout
    assert "noise has no hyper-parameters" in flat(run("list", "methods", "noise").stderr)
    assert wrong(run, "list", "victims", "emn")
    assert "no method named 'enm'" in wrong(run, "list", "methods", "enm")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("clusters", "NAME=VALUE"),
        ("clusters=1", "clusters of uc must be at least 2, not 1"),
        ("objective=everything", "Known: features, joint, labels"),
        ("clusters=", "NAME=VALUE"),
        ("clusters=many", "a whole number"),
        ("cluster=3", "Did you mean 'clusters'"),
        ("seed=3", "an option of its own"),
        ("preset=paper", "an option of its own"),
        ("name=uc", "an option of its own"),
        ("self=1", "an option of its own"),
        ("lr=NaN", "NaN, which is no number"),
        ("label_surrogate=nope", "no surrogate named"),
    ],
)
def test_bad_hyper_parameters_are_told(run: Run, make_folder: MakeFolder, setting: str, words: str) -> None:
    src = make_folder(TWO)
    result = run("protect", src, src.parent / "out", "--method", "uc", "--set", setting)
    assert result.exit_code == 2
    assert words in flat(result.stderr)
    assert not (src.parent / "out").exists()


def test_fit_then_apply_serves_new_pictures_of_the_classes(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    bank = src.parent / "noise.safetensors"
    fitted = run("fit", src, bank, "--method", "noise", "--granularity", "class", "--json")
    assert fitted.exit_code == 0, fitted.stderr
    assert json.loads(fitted.stdout)["images"] == 6
    assert "Keep it private" in fitted.stderr
    more = make_folder({"cats": 2, "dogs": 2}, "more", seed=9)
    applied = run("apply", more, src.parent / "out", "--bank", bank)
    assert applied.exit_code == 0, applied.stderr
    first, second = (read(src.parent / f"out/cats/00{i}.png") - read(more / f"cats/00{i}.png") for i in (0, 1))
    assert abs(first).max() == 8
    assert (first == second)[:, 4:].all()  # away from white, where clipping differs, the class's one pattern


def test_keeping_the_bank_beside_the_copies_is_refused(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    out = src.parent / "out"
    told = wrong(run, "protect", src, out, "--method", "noise", "--bank", out / "noise.safetensors")
    assert "take the protection off" in told


def test_a_bank_that_is_none(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    told = wrong(run, "apply", src, src.parent / "out", "--bank", src / "cats/000.png")
    assert "000.png" in told


def test_a_second_run_does_nothing_and_another_strength_is_refused(run: Run, make_folder: MakeFolder) -> None:
    src = make_folder(TWO)
    out = src.parent / "out"
    words: tuple[Any, ...] = ("protect", src, out, "--method", "noise")
    assert run(*words).exit_code == 0
    again = run(*words, "--json")
    assert json.loads(again.stdout)["already_done"] is True
    assert "epsilon" in wrong(run, *words, "--epsilon", "4")
    assert run(*words, "--epsilon", "4", "--no-resume").exit_code == 0
    assert abs(read(src / "cats/000.png") - read(out / "cats/000.png")).max() == 4


def test_the_plan_of_textures_without_classes_speaks_of_clusters(run: Run, make_folder: MakeFolder) -> None:
    source = make_folder({"": 8})
    told = run("protect", source, source.parent / "out", "--method", "texture", "--dry-run").stderr
    assert "Making the noise" not in told
    assert "making the noise" not in told
    assert not re.search(r"\b0 s\b", told)
    assert "one pattern for each cluster" in told
