"""``bitterant verify`` on folders that are not as they should be: exit code, words, and never a grade by mistake.

Reading, pairing, checking and judging are real. What a training answers is drawn instead of trained: all right on clean
pictures and on noise, all wrong on protected pictures, so that only the fault can stop a verdict.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from bitterant.attacks.training import grid
from bitterant.attacks.training.cells import CellResult, CellTask
from bitterant.surrogates import CurvePoint

Run = Callable[..., Result]

CLASSES = ("ants", "bees", "crows")
TRAIN, TEST, SIDE, EPSILON = 8, 6, 16, 8
GRADES = re.compile(r"\b(blocks|hinders|does not stop|leaves open|adds|weak|moderate|strong)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Places:
    """The folders of one run; a fault changes them or answers further words."""

    root: Path

    @property
    def clean(self) -> Path:
        return self.root / "clean"

    @property
    def protected(self) -> Path:
        return self.root / "protected"

    @property
    def test(self) -> Path:
        return self.root / "test"


def draw_folder(root: Path, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for name in CLASSES:
        (root / name).mkdir(parents=True)
        for i in range(count):
            pixels = rng.integers(20, 235, (SIDE, SIDE, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name[0]}{i:03d}.png")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Folders without a fault: the copies differ by the whole budget and say so."""
    places = Places(tmp_path_factory.mktemp("sound"))
    draw_folder(places.clean, TRAIN, 0)
    draw_folder(places.test, TEST, 1)
    shutil.copytree(places.clean, places.protected)
    for path in places.protected.rglob("*.png"):
        pixels = np.asarray(Image.open(path)).astype(int)
        Image.fromarray(np.where(pixels < 128, pixels + EPSILON, pixels - EPSILON).astype(np.uint8)).save(path)
    (places.protected / "bitterant-manifest.jsonl").write_text("")
    (places.protected / "bitterant-run.json").write_text(json.dumps({"settings": {"epsilon": EPSILON / 255}}))
    return places


@pytest.fixture
def places(sound: Places, tmp_path: Path) -> Places:
    shutil.copytree(sound.root, tmp_path / "run")
    return Places(tmp_path / "run")


@pytest.fixture
def unprotected(request: pytest.FixtureRequest) -> bool:
    """Whether a victim learns from the copies as from the originals: where a test asks for it."""
    return getattr(request, "param", False)


@pytest.fixture(autouse=True)
def trained(monkeypatch: pytest.MonkeyPatch, unprotected: bool) -> list[str]:
    """Arms that were trained; nothing really is."""
    arms: list[str] = []

    def answer(task: CellTask) -> CellResult:
        arms.append(task.cell.arm)
        labels = np.load(task.inputs.test_labels).astype(np.int64)
        right = task.cell.arm not in ("protected", "shuffled") or (unprotected and task.cell.arm == "protected")
        said = labels if right else np.zeros_like(labels)
        curve = tuple(CurvePoint(k, float(k), 1 / k, 1.0, float(right)) for k in range(1, 3))
        return CellResult(task.cell, 2, 1.0, 0.1, True, said, said, 2, curve, 0.1, said)

    monkeypatch.setattr(grid, "run_cell", answer)
    return arms


Fault = Callable[[Places], "list[object] | None"]


@dataclass(frozen=True)
class Row:
    """A fault, what the command answers, and what must stand in it."""

    fault: Fault
    code: int
    words: tuple[str, ...]


def remove(which: str, name: str) -> Fault:
    return lambda p: (p.root / which / name).unlink()


def empty(which: str) -> Fault:
    def fault(p: Places) -> None:
        shutil.rmtree(p.root / which)
        (p.root / which).mkdir()

    return fault


def spoil(which: str, pattern: str) -> Fault:
    def fault(p: Places) -> None:
        for path in (p.root / which).rglob(pattern):
            path.write_bytes(path.read_bytes()[:50])

    return fault


def rename(which: str, old: str, new: str) -> Fault:
    def fault(p: Places) -> None:
        (p.root / which / old).rename(p.root / which / new)

    return fault


def copy(source: str, target: str) -> Fault:
    def fault(p: Places) -> None:
        shutil.copy(p.root / source, p.root / target)

    return fault


def resize(p: Places) -> None:
    path = p.protected / "ants" / "a000.png"
    Image.open(path).resize((SIDE + 1, SIDE)).save(path)


def near(p: Places) -> None:
    for i in range(2):
        pixels = np.asarray(Image.open(p.clean / "ants" / f"a00{i}.png"))
        Image.fromarray(pixels + np.uint8(3)).save(p.test / "ants" / f"near{i}.png")


def one_class(*folders: str) -> Fault:
    def fault(p: Places) -> None:
        for folder in folders:
            for name in CLASSES[1:]:
                shutil.rmtree(p.root / folder / name)

    return fault


def keep(count: int, *folders: str) -> Fault:
    def fault(p: Places) -> None:
        for folder in folders:
            for path in (p.root / folder).rglob("*.png"):
                if int(path.stem[1:]) >= count:
                    path.unlink()

    return fault


def held_out(p: Places) -> list[object]:
    keep(5, "clean", "protected")(p)
    return ["without test"]


def place(option: str, path: str, *, a_file: str = "") -> Fault:
    def fault(p: Places) -> list[object]:
        if a_file:
            (p.root / a_file).write_text("of mine")
        return [option, p.root / path]

    return fault


def blocked(p: Places) -> list[object]:
    (p.root / "out" / "report.html").mkdir(parents=True)
    return ["--report", p.root / "out"]


G6 = "protected files are not as they should be (G6: "
NEAR = "too many test pictures nearly equal training pictures (G5: 2 of 20"


def two_renamed(p: Places) -> None:
    for name in CLASSES[:2]:
        (p.protected / name).rename(p.protected / f"{name}-new")


BEFORE = {
    "empty CLEAN": Row(empty("clean"), 2, ("CLEAN holds no images", "/clean", "Check the path")),
    "empty PROTECTED": Row(empty("protected"), 2, ("PROTECTED holds no images", "/protected", "Check the path")),
    "empty test folder": Row(empty("test"), 2, ("The test folder holds no images", "/test", "Check the path")),
    "no test folder": Row(lambda p: shutil.rmtree(p.test), 2, ("There is no folder", "/test")),
    "one class": Row(one_class("clean", "protected", "test"), 2, ("CLEAN has no two class folders", "or more")),
    "one class left": Row(one_class("protected"), 2, ("PROTECTED has one class folder only", "'ants'")),
    "one class tested": Row(one_class("test"), 2, ("The test folder has one class folder only", "/test")),
    "other classes tested": Row(
        rename("test", "bees", "wasps"), 2, ("missing: bees; not in CLEAN: wasps", "/test", "Rename or complete")
    ),
    "5 pictures a class": Row(
        held_out,
        2,
        ("3 pictures of 3 classes held out from", "1.0 a class", "At least 5", "with 25 pictures each"),
    ),
    "2 test pictures a class": Row(
        keep(2, "test"), 2, ("6 pictures of 3 classes in the test folder", "2.0 a class", "15 in all", "Put more")
    ),
    "all copies broken": Row(
        spoil("protected", "*.png"),
        2,
        ("None of the 24 files in", "The first is ants/a000.png: the copy", "both paths"),
    ),
    "all test pictures broken": Row(spoil("test", "*.png"), 2, ("Not one picture in the test folder", "/test")),
    "the same folder twice": Row(lambda p: ["same"], 2, ("the same folder", "/clean", "originals first")),
    "swapped": Row(lambda p: ["swapped"], 2, ("seem to be swapped", "bitterant-manifest.jsonl", "originals first")),
    "two classes renamed": Row(
        two_renamed, 2, ("of 1 classes left", "ants/a000.png: its protected copy lies in class")
    ),
    "tested on CLEAN": Row(lambda p: ["--test", p.clean], 2, ("not trained on", "/clean", "leave --test out")),
    "unrelated folders": Row(lambda p: ["--test", p.test, "unrelated"], 2, ("No file in", "paths of the originals")),
    "report in a file": Row(place("--report", "f", a_file="f"), 2, ("/f is a file", "--report", "Name another")),
    "report below a file": Row(place("--report", "f/a/b", a_file="f"), 2, ("/f is a file", "--report")),
    "report in CLEAN": Row(place("--report", "clean/report"), 2, ("lies in", "a class", "place beside it")),
    "report in the test folder": Row(place("--report", "test/report"), 2, ("lies in", "a class", "place beside it")),
    "report.html is a folder": Row(blocked, 2, ("report.html is a folder", "Move it away")),
    "cells in a file": Row(place("--cells", "f", a_file="f"), 2, ("/f is a file", "--cells")),
    "cells in PROTECTED": Row(place("--cells", "protected/cells"), 2, ("lies in", "a class", "--cells")),
}
"""What is refused before anything is trained."""

if Path("/proc/self").exists():  # a folder in which nobody can make another one, not even root
    BEFORE["report in /proc"] = Row(lambda p: ["--report", "/proc/r"], 3, ("/proc/r cannot be used", "--report"))

AFTER = {
    "broken original": Row(
        spoil("clean", "ants/a000.png"),
        5,
        (f"{G6}1 unreadable", "ants/a000.png: the original", "Replace broken originals"),
    ),
    "broken copy": Row(
        spoil("protected", "ants/a000.png"), 5, (f"{G6}1 unreadable", "ants/a000.png: the copy", "protect again")
    ),
    "resized copy": Row(
        resize, 5, (f"{G6}1 of another size", "ants/a000.png: the original is 16 x 16 RGB", "Protect again")
    ),
    "copy without original": Row(
        copy("test/ants/a000.png", "protected/ants/new.png"),
        5,
        (f"{G6}1 without original", "ants/new.png", "Take it out"),
    ),
    "copy in another class": Row(
        rename("protected", "ants/a000.png", "bees/a000.png"), 5, (f"{G6}1 relabelled", "in class 'bees'", "Move it")
    ),
    "class folder renamed": Row(
        rename("protected", "ants", "aunts"), 5, (f"{G6}8 relabelled", "in class 'aunts'", "Move it", "and 5 more")
    ),
    "nearly the same test pictures": Row(near, 5, (NEAR, "ants/near0.png", "Test on other pictures")),
}
"""What a gate finds."""


def verify(run: Run, p: Places, fault: Fault, *more: object) -> Result:
    words = list(fault(p) or [])
    first, second, tested = p.clean, p.protected, ["--test", p.test]
    for word in [word for word in words if word in ("same", "swapped", "unrelated", "without test")]:
        words.remove(word)
        if word == "same":
            second = first
        elif word == "swapped":
            first, second = second, first
        elif word == "unrelated":
            for path in second.rglob("*.png"):
                path.rename(path.with_name(f"other-{path.name}"))
        else:
            tested = []
    if "--test" in words:
        tested = []
    settings = ["--victim", "small-cnn", "--adversary", "none", "--seeds", 2, "--workers", 1, "--json"]
    return run("verify", first, second, *tested, *words, *settings, *more)


def assert_told(result: Result, row: Row) -> None:
    told = " ".join(result.stderr.split()).replace("\\", "/")
    assert result.exit_code == row.code, told
    for words in row.words:
        assert words in told
    assert "Traceback" not in told
    assert "fault in bitterant" not in told


@pytest.mark.parametrize("name", BEFORE)
def test_refused_before_anything_is_trained(run: Run, places: Places, trained: list[str], name: str) -> None:
    row = BEFORE[name]
    result = verify(run, places, row.fault)
    assert_told(result, row)
    assert trained == []
    answer = json.loads(result.stdout)
    assert answer["error"]["exit_code"] == row.code
    assert "verdict" not in answer
    assert not GRADES.search(result.stderr)


@pytest.mark.parametrize("name", AFTER)
def test_found_by_a_gate(run: Run, places: Places, name: str) -> None:
    row = AFTER[name]
    result = verify(run, places, row.fault, "--require-tier", "naive", "--require-grade", "weak")
    assert_told(result, row)
    assert json.loads(result.stdout)["verdict"]["valid"] is False
    assert "INVALID" in result.stderr
    assert not GRADES.search(result.stderr)


def test_missing_copies_are_told_and_the_grade_is_not_reached(run: Run, places: Places) -> None:
    row = Row(remove("protected", "ants/a000.png"), 4, ("1 original has no protected copy", "ants/a000.png", "partly"))
    result = verify(run, places, row.fault, "--require-tier", "naive", "--require-grade", "weak")
    assert_told(result, row)
    tier = json.loads(result.stdout)["verdict"]["tiers"][0]
    assert (tier["tier"], tier["complete"]) == ("naive", False)


def test_test_pictures_of_clean_are_left_out_of_training_and_told(run: Run, places: Places) -> None:
    row = Row(copy("clean/ants/a000.png", "test/ants/same.png"), 0, ("tested on, so left out of training", "a000.png"))
    result = verify(run, places, row.fault)
    assert_told(result, row)
    assert json.loads(result.stdout)["dataset"]["train_images"] == TRAIN * len(CLASSES) - 1


def test_broken_test_pictures_are_told(run: Run, places: Places) -> None:
    row = Row(spoil("test", "a000.png"), 0, ("1 file: test pictures that cannot be read", "ants/a000.png"))
    assert_told(verify(run, places, row.fault), row)


@pytest.mark.parametrize("unprotected", [True], indirect=True)
def test_copies_that_are_the_originals_protect_from_nobody(run: Run, places: Places) -> None:
    """The sound way to get the grade none."""

    def fault(p: Places) -> None:
        shutil.rmtree(p.protected)
        shutil.copytree(p.clean, p.protected)

    result = verify(run, places, fault, "--require-tier", "naive", "--require-grade", "weak")
    assert result.exit_code == 4
    verdict = json.loads(result.stdout)["verdict"]
    assert (verdict["valid"], verdict["tiers"][0]["grade"]) == (True, "none")


def without_a_run_file(p: Places) -> None:
    """As another tool would leave its copies."""
    for name in ("bitterant-manifest.jsonl", "bitterant-run.json"):
        (p.protected / name).unlink()


def test_copies_of_another_tool_are_judged_by_the_budget_that_is_named(run: Run, places: Places) -> None:
    result = verify(run, places, without_a_run_file, "--epsilon", EPSILON)
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["stealth"]["budget_levels"] == EPSILON
    assert f"--epsilon {EPSILON}" in report["command"]
    assert "called from Python" not in report["command"]


def test_copies_that_move_further_than_named_are_over_budget(run: Run, places: Places) -> None:
    row = Row(without_a_run_file, 5, (f"{G6}24 over budget",))
    assert_told(verify(run, places, row.fault, "--epsilon", EPSILON - 2), row)


@pytest.mark.parametrize("levels", [0, 300])
def test_a_budget_that_is_none_is_refused(run: Run, places: Places, trained: list[str], levels: int) -> None:
    row = Row(without_a_run_file, 2, ("outside 1..255 levels",))
    assert_told(verify(run, places, row.fault, "--epsilon", levels), row)
    assert trained == []


def test_folders_without_a_fault_get_a_grade(run: Run, places: Places) -> None:
    """Else every other row could pass for the wrong reason."""
    result = verify(run, places, lambda _: None, "--require-tier", "naive", "--require-grade", "weak")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["verdict"]["valid"] is True
