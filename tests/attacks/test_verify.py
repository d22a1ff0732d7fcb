"""The verifier on protections whose worth is known: none at all, a perfect shortcut, and a test that cannot test."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.attacks import PRESETS, VerificationReport, verify, verify_folder, verify_sets
from bitterant.attacks.report import render_report
from bitterant.attacks.report.files import plan_bytes
from bitterant.attacks.schema import Plan
from bitterant.errors import BitterantError, ConfigError, FolderError, LabelError, UnknownNameError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe

Plant = Callable[..., ImageSet]
SaveFolder = Callable[..., Path]

LONG, SHORT = Recipe(steps=150, batch_size=32), Recipe(steps=3, batch_size=16)


@pytest.fixture(scope="module")
def shortcut(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> VerificationReport:
    """A pattern of 8 levels that tells the class."""
    return verify_sets(
        train_set,
        plant(train_set),
        test_set,
        victims=["small-cnn"],
        adversaries=["early-stop", "jpeg"],
        epsilon=8 / 255,
        recipe=LONG,
        require_tier="naive",
        require_grade="strong",
        workers=1,
    )


@pytest.fixture(scope="module")
def folders(
    tmp_path_factory: pytest.TempPathFactory, train_set: ImageSet, test_set: ImageSet, write_folder: SaveFolder
):
    """Originals, an untouched copy in another file format, test pictures, and a place for the report."""
    root = tmp_path_factory.mktemp("verify")
    write_folder(train_set, root / "clean")
    write_folder(train_set, root / "copy", ".bmp")
    write_folder(test_set, root / "test")
    return root


@pytest.fixture(scope="module")
def untouched(folders: Path) -> VerificationReport:
    return verify_folder(
        folders / "clean",
        folders / "copy",
        test=folders / "test",
        report=folders / "report",
        victims=["small-cnn"],
        adversaries=["early-stop"],
        seeds=2,
        recipe=LONG,
        require_tier="naive",
        require_grade="weak",
        workers=1,
    )


def test_a_planted_shortcut_is_strong_against_the_naive_trainer(shortcut: VerificationReport) -> None:
    naive = shortcut.verdict.tiers[0]
    assert (naive.tier, naive.grade) == ("naive", "strong")
    assert shortcut.verdict.headline.startswith("Blocks a")
    assert shortcut.exit_code() == 0
    # Drawn shapes of four kinds look alike, so a few test pictures nearly equal training pictures (G5).
    assert {gate.status for gate in shortcut.gates if gate.id != "G5"} == {"pass"}
    assert "fail" not in {gate.status for gate in shortcut.gates}
    plain = shortcut.condition("small-cnn/none")
    assert plain.clean is not None
    assert plain.clean.accuracy.estimate > 0.9
    assert plain.noise is not None
    assert plain.noise.accuracy.estimate > 0.9


def test_jpeg_undoes_it(shortcut: VerificationReport) -> None:
    """If compression did not undo a pattern of single pixels, the verifier would be at fault."""
    compressed = shortcut.condition("small-cnn/jpeg:10")
    assert compressed.rho is not None
    assert compressed.rho.estimate > 0.8
    assert shortcut.verdict.tiers[1].grade == "none"
    assert shortcut.verdict.weakest == "transforms"
    assert "does not stop a trainer who compresses them to JPEG quality 10 first" in shortcut.verdict.headline


def test_an_untouched_copy_gets_no_grade(untouched: VerificationReport) -> None:
    """Equal pictures, equal seeds: to the last bit the same victims."""
    assert untouched.verdict.tiers[0].grade == "none"
    for condition in untouched.conditions:
        assert condition.clean is not None
        assert condition.protected is not None
        assert condition.clean.accuracies == condition.protected.accuracies
        assert condition.rho_upper == 1.0
    assert untouched.stealth.linf_max == 0
    assert untouched.exit_code() == 4


@pytest.fixture(scope="module")
def standard(
    train_set: ImageSet, test_set: ImageSet, plant: Plant, tmp_path_factory: pytest.TempPathFactory
) -> tuple[VerificationReport, Path]:
    """Other labels, mixing and probes on a pattern of 8 levels."""
    folder = tmp_path_factory.mktemp("standard")
    report = verify_sets(
        train_set,
        plant(train_set),
        test_set,
        report=folder,
        victims=["small-cnn"],
        adversaries=["linear-probe", "knn", "regroup:2", "mix:0.8"],
        seeds=2,
        epsilon=8 / 255,
        recipe=Recipe(steps=80, batch_size=32),
        workers=1,
    )
    return report, folder


def test_regrouped_classes_are_still_protected(standard: tuple[VerificationReport, Path]) -> None:
    """The pattern tells the class, so it tells the group too."""
    found = standard[0].condition("small-cnn/regroup:2")
    assert found.chance == 0.5
    assert found.clean is not None
    assert found.clean.accuracy.estimate > 0.85
    assert found.rho is not None
    assert found.rho.estimate < 0.4
    assert (found.detail or "").startswith("group 1: ")
    assert found.rho_abs is None, "the same victim without adversary learned other labels"


def test_a_mixed_share_is_judged_by_what_it_adds(standard: tuple[VerificationReport, Path]) -> None:
    report = standard[0]
    found = report.condition("small-cnn/mix:0.8")
    assert set(found.arms) == {"clean", "mixed", "part", "noise-mixed"}
    assert found.arms["clean"] == report.condition("small-cnn/none").arms["clean"], "one training for both"
    cells = [cell for cell in report.cells if cell.adversary == "mix:0.8"]
    assert {cell.arm for cell in cells} == {"mixed", "part", "noise-mixed"}
    assert {cell.steps for cell in report.cells if cell.victim == "small-cnn" and cell.steps} == {80}
    # A training that a gate fails is set aside with its figure; one whose figure is undefined has none.
    assert found.mv is not None or found.status == "set aside"
    if found.status == "set aside":
        assert "undefined" in (found.reason or "") or "G" in (found.reason or "")


def test_probes_are_cells_of_their_own(standard: tuple[VerificationReport, Path]) -> None:
    report = standard[0]
    for name in ("linear-probe", "knn"):
        found = report.condition(f"efficientnet-lite0/{name}:efficientnet-lite0")
        assert found.detail == "frozen features of efficientnet-lite0, weights: embedded"
        assert found.arms["clean"].accuracy.estimate > 0.9
        assert set(found.arms) == {"clean", "protected", "noise"}
        assert found.arms["clean"].accuracies[0] != found.arms["clean"].accuracies[1]
        assert found.rho_abs is None, "no victim was trained from scratch"
    assert {cell.steps for cell in report.cells if cell.adversary.startswith("knn")} == {0}
    assert not [gate for gate in report.gates if gate.id == "G3" and "knn" in gate.scope], "it is not trained"


def test_the_report_of_all_tiers_is_whole(standard: tuple[VerificationReport, Path]) -> None:
    report, folder = standard
    assert VerificationReport.model_validate_json((folder / "report.json").read_text()) == report
    page = Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    assert page.open == []
    with np.load(folder / "predictions.npz", allow_pickle=False) as saved:
        for cell in report.cells:
            labels = saved[f"labels|{cell.adversary}" if cell.adversary == "regroup:2" else "labels"]
            name = f"{cell.victim}|{cell.adversary}|{cell.arm}|{cell.seed_index}"
            assert (saved[f"{name}|final"] == labels).mean() == cell.accuracy


def test_what_a_preset_brings_and_cannot_be_applied_is_left_out_and_told(
    train_set: ImageSet, test_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two classes cannot be regrouped into two. Asked for by name it is an error; skipped never counts as survived."""
    two, tested = (images.select([i for i, x in enumerate(images.labels) if x < 2]) for images in (train_set, test_set))  # type: ignore[arg-type]
    two, tested = (ImageSet(s.images, s.labels, s.classes[:2], s.keys) for s in (two, tested))
    preset = PRESETS["standard"]
    assert "regroup:2" in preset.adversaries
    few = replace(preset, seeds=2, victims=("small-cnn",), adversaries=("regroup:2",))
    monkeypatch.setitem(PRESETS, "standard", few)
    report = verify_sets(two, two, tested, preset="standard", recipe=SHORT, workers=1)
    found = report.condition("small-cnn/regroup:2")
    assert (found.status, found.arms) == ("dropped", {})
    assert "more than 2 classes" in (found.reason or "")
    assert {tier.tier: tier.grade for tier in report.verdict.tiers}["relabel"] == "not tested"
    with pytest.raises(LabelError, match="more than 2 classes"):
        verify_sets(two, two, tested, adversaries=["regroup:2"], recipe=SHORT, workers=1)


def test_a_victim_that_cannot_learn_is_invalid(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> None:
    """Without learning, protected and clean are equally bad; that must never look like protection."""
    report = verify_sets(
        train_set,
        plant(train_set),
        test_set,
        victims=["small-cnn"],
        adversaries=["early-stop"],
        seeds=2,
        recipe=Recipe(steps=5, batch_size=16, lr=0.0),
        epsilon=8 / 255,
        require_tier="naive",
        require_grade="weak",
        workers=1,
    )
    assert report.verdict.headline.startswith("INVALID")
    assert report.verdict.valid is False
    assert report.exit_code() == 5
    assert {tier.grade for tier in report.verdict.tiers} == {"not tested"}


def test_a_file_over_budget_is_invalid(
    tmp_path: Path, train_set: ImageSet, plant: Plant, write_folder: SaveFolder
) -> None:
    clean = write_folder(train_set, tmp_path / "clean")
    protected = write_folder(plant(train_set), tmp_path / "protected")
    settings = {"settings": {"epsilon": 8 / 255}}
    (protected / "bitterant-run.json").write_text(json.dumps(settings))

    def run() -> VerificationReport:
        return verify_folder(
            clean, protected, report=tmp_path / "report", preset="smoke", victims=["small-cnn"], recipe=LONG, workers=1
        )

    assert run().exit_code() == 0
    pixels = np.asarray(Image.open(clean / "ring" / "0003.png")).astype(np.int16)
    pixels[0, 0] += np.where(pixels[0, 0] < 128, 9, -9)
    Image.fromarray(pixels.astype(np.uint8)).save(protected / "ring" / "0003.png")
    report = run()
    gate = next(gate for gate in report.gates if gate.id == "G6")
    assert gate.status == "fail"
    assert "1 over budget" in gate.value
    assert report.stealth.over_budget == ("ring/0003.png",)
    assert report.exit_code() == 5
    # Hours of training could not make it valid, so there are none.
    assert report.cells == ()
    assert {condition.status for condition in report.conditions} == {"dropped"}
    assert "nothing was trained" in (report.conditions[0].reason or "")
    assert {tier.grade for tier in report.verdict.tiers} == {"not tested"}
    assert "1 over budget" in (tmp_path / "report" / "report.html").read_text()


def test_the_report_is_whole_and_reads_back(untouched: VerificationReport, folders: Path) -> None:
    names = {path.name for path in (folders / "report").iterdir()}
    assert names == {"plan.json", "report.json", "report.html", "stealth.csv", "curves.csv", "predictions.npz", "cells"}
    text = (folders / "report" / "report.json").read_text()
    again = VerificationReport.model_validate_json(text)
    assert again == untouched
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    plan = (folders / "report" / "plan.json").read_bytes()
    assert plan == plan_bytes(Plan.model_validate_json(plan))
    assert hashlib.sha256(plan).hexdigest() == untouched.plan_hash


def test_the_statistics_can_be_redone_from_the_predictions(untouched: VerificationReport, folders: Path) -> None:
    with np.load(folders / "report" / "predictions.npz", allow_pickle=False) as saved:
        labels = saved["labels"]
        for cell in untouched.cells:
            name = f"{cell.victim}|{cell.adversary}|{cell.arm}|{cell.seed_index}"
            assert (saved[f"{name}|final"] == labels).mean() == cell.accuracy
            assert (saved[f"{name}|peak"] == labels).mean() == cell.peak_accuracy
    assert len(untouched.cells) == 7, "three arms, two seeds, and the control"


class Page(HTMLParser):
    """Collects what a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        found = [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.loads += [value for value in found if not value.startswith("#")]
        if tag not in ("meta", "img", "br", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("rect", "line", "path", "polyline", "circle", "image"), "only SVG closes tags this way"
        self.loads += [value or "" for name, value in attrs if name == "href"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_loads_nothing_and_is_well_formed(untouched: VerificationReport, folders: Path) -> None:
    html = (folders / "report" / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(html)
    assert page.open == []
    assert not page.seen & {"script", "iframe", "link", "object"}
    assert page.loads
    assert all(value.startswith("data:image/png;base64,") for value in page.loads)
    # XML namespaces would be the only excuse for an address; inline SVG needs none.
    assert not re.search(r"https?://|@import|url\(", html)
    for text in ("Limitations", "Run it again", untouched.plan_hash, "Not tested", "chance: 25.0 %"):
        assert text in html


def test_the_page_escapes_what_users_name(untouched: VerificationReport) -> None:
    evil = untouched.model_copy(update={"command": "bitterant verify '<script>alert(1)</script>' b"})
    assert "<script" not in render_report(evil)


def test_the_command_repeats_the_run(untouched: VerificationReport, folders: Path) -> None:
    command = untouched.command
    assert command.startswith(f"bitterant verify {folders / 'clean'} {folders / 'copy'} --test")
    for part in ("--preset quick", "--seeds 2", "--resolution 16", "--victim small-cnn", "--require-grade weak"):
        assert part in command
    assert "recipe of its own" in command


def test_the_environment_names_no_machine(untouched: VerificationReport) -> None:
    assert platform.node() not in untouched.environment.model_dump_json()


def test_the_plan_is_written_before_the_first_training(
    tmp_path: Path, train_set: ImageSet, test_set: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        assert (tmp_path / "plan.json").exists()
        raise KeyboardInterrupt

    monkeypatch.setattr("bitterant.attacks.verify.run_grid", stop)
    with pytest.raises(KeyboardInterrupt):
        verify_sets(train_set, train_set, test_set, report=tmp_path, recipe=SHORT, workers=1)
    assert {path.name for path in tmp_path.iterdir()} == {"plan.json", "cells"}


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"preset": "quik"}, UnknownNameError, "Did you mean 'quick'"),
        ({"victims": ["small-cn"]}, UnknownNameError, "Did you mean 'small-cnn'"),
        ({"victims": ["efficientnet-lite0"]}, ConfigError, "trained weights"),
        ({"adversaries": ["jepg"]}, UnknownNameError, "Did you mean 'jpeg'"),
        ({"adversaries": ["knn:small-cnn"]}, ConfigError, "random weights"),
        ({"adversaries": ["regroup:9"]}, LabelError, "more than 9 classes"),
        ({"seeds": 0}, ConfigError, "at least 1"),
        ({"max_minutes": 0}, ConfigError, "positive"),
        ({"max_minutes": float("nan")}, ConfigError, "positive"),
        ({"require_tier": "naive"}, ConfigError, "--require-grade"),
        ({"require_tier": "nave", "require_grade": "weak"}, UnknownNameError, "Did you mean 'naive'"),
        ({"require_grade": "stronk"}, UnknownNameError, "Did you mean 'strong'"),
        (
            {"adversaries": ["jpeg:10"], "require_tier": "prior", "require_grade": "weak"},
            ConfigError,
            "Tested tiers: naive, transforms",
        ),
        ({"require_grade": "weak", "preset": "smoke"}, ConfigError, "One seed gives no grade"),
        ({"epochs": 0.0}, ConfigError, "--epochs must be a positive number"),
        ({"epochs": float("inf")}, ConfigError, "--epochs must be a positive number"),
        ({"epochs": 2.0, "recipe": SHORT}, ConfigError, "not both"),
        ({"epsilon": 0}, ConfigError, "epsilon"),
        ({"epsilon": 2}, ConfigError, "epsilon"),
        ({"device": "abacus"}, ConfigError, "abacus"),
    ],
)
def test_wrong_options_are_told_before_anything_is_trained(
    train_set: ImageSet,
    test_set: ImageSet,
    monkeypatch: pytest.MonkeyPatch,
    options: dict,
    error: type[BitterantError],
    words: str,
) -> None:
    monkeypatch.setattr("bitterant.attacks.verify.run_grid", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(error, match=words) as caught:
        verify_sets(train_set, train_set, test_set, **options)
    assert caught.value.exit_code == 2


def test_the_report_may_not_lie_among_the_pictures(folders: Path) -> None:
    for name in ("clean", "copy"):
        with pytest.raises(FolderError, match="loaders would take it for a class"):
            verify_folder(folders / "clean", folders / "copy", report=folders / name / "report")
        with pytest.raises(FolderError, match="The cells folder"):
            verify_folder(folders / "clean", folders / "copy", cells=folders / name / "cells")
    with pytest.raises(ConfigError, match="at least 8 pixels"):
        verify_folder(folders / "clean", folders / "copy", resolution=4)


def test_the_length_that_was_asked_for_is_made_and_told(train_set: ImageSet, test_set: ImageSet, plant: Plant) -> None:
    found = verify_sets(
        train_set, plant(train_set), test_set, preset="smoke", victims=["small-cnn"], adversaries=[], epochs=1.5,
        epsilon=8 / 255, workers=1, device="cpu",
    )  # fmt: skip
    steps = round(1.5 * len(train_set) / 64)
    assert found.plan.epochs["small-cnn"] == pytest.approx(64 * steps / len(train_set), abs=0.01)
    assert {cell.steps for cell in found.cells} == {found.plan.recipes["small-cnn"]["steps"]} == {steps}
    assert "epochs=1.5" in found.command


def test_labellings_share_the_minutes_of_the_call(
    tmp_path: Path, train_set: ImageSet, write_folder: SaveFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that runs four minutes in each grid: the second labelling gets what is left, and not as much again."""
    write_folder(train_set, tmp_path / "sorted")
    for place in sorted((tmp_path / "sorted").rglob("*.png")):
        for name in ("clean", "copy"):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{place.parent.name}-{place.name}").write_bytes(place.read_bytes())
    passed, given, whole = [0.0], [], verify.run_grid

    def run_grid(*parts: Any, **options: Any) -> Any:
        given.append(options["minutes"])
        result = whole(*parts, **options)
        passed[0] += 4 * 60
        return result

    monkeypatch.setattr(verify, "run_grid", run_grid)
    monkeypatch.setattr(verify.time, "perf_counter", lambda: passed[0])
    report = verify_folder(
        tmp_path / "clean", tmp_path / "copy", victims=["small-cnn"], adversaries=[], seeds=1, recipe=SHORT,
        max_minutes=10, workers=1, device="cpu", epsilon=8 / 255,
    )  # fmt: skip
    assert len(report.labellings) == len(given) == 2
    assert given == [5.0, 6.0]


def test_the_minutes_are_those_of_getting_ready_too(
    train_set: ImageSet, test_set: ImageSet, plant: Plant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock that runs three minutes while adversaries are looked at."""
    passed, given, grid, stage = [0.0], [], verify.run_grid, verify._stage

    def slow(*parts: Any) -> Any:
        passed[0] += 3 * 60
        return stage(*parts)

    def run_grid(*parts: Any, **options: Any) -> Any:
        given.append(options["minutes"])
        return grid(*parts, **options)

    monkeypatch.setattr(verify, "_stage", slow)
    monkeypatch.setattr(verify, "run_grid", run_grid)
    monkeypatch.setattr(verify.time, "perf_counter", lambda: passed[0])
    verify_sets(
        train_set, plant(train_set), test_set, victims=["small-cnn"], adversaries=[], seeds=1, recipe=SHORT,
        max_minutes=10, workers=1, device="cpu", epsilon=8 / 255,
    )  # fmt: skip
    assert given == [7.0]


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_the_plan_has_the_seeds_of_the_preset(
    monkeypatch: pytest.MonkeyPatch, train_set: ImageSet, test_set: ImageSet, plant: Plant, preset: str
) -> None:
    """And stops there: nothing is trained."""
    plans: list[Plan] = []

    real = verify._plan  # pyright: ignore[reportPrivateUsage]

    def kept(*args: Any) -> Plan:
        plans.append(real(*args))
        raise KeyboardInterrupt

    monkeypatch.setattr(verify, "_plan", kept)
    with pytest.raises(KeyboardInterrupt):
        verify_sets(train_set, plant(train_set), test_set, preset=preset, epsilon=8 / 255, workers=1)
    (plan,) = plans
    assert len(set(plan.victim_seeds)) == {"quick": 3, "standard": 5}[preset] == PRESETS[preset].seeds


def test_what_victims_are_trained_in_is_in_plan_report_and_keys(folders: Path) -> None:
    found: dict[str, VerificationReport] = {}
    for precision in ("float32", "bfloat16", "auto"):
        found[precision] = verify_folder(
            folders / "clean", folders / "copy", test=folders / "test", report=folders / precision,
            cells=folders / "kept", victims=["small-cnn"], adversaries=["early-stop"], seeds=1, preset="smoke",
            precision=precision, epochs=1, epsilon=8 / 255, workers=1,
        )  # fmt: skip
        plan = json.loads((folders / precision / "plan.json").read_text())
        chosen = found[precision].plan.precision["small-cnn"]["precision"]
        assert precision in ("auto", chosen)
        assert plan["precision"]["small-cnn"]["precision"] == chosen
        assert plan["recipes"]["small-cnn"]["precision"] == chosen
        assert json.loads((folders / precision / "report.json").read_text())["plan"]["precision"] == plan["precision"]
    assert found["float32"].reused_cells == 0
    assert found["bfloat16"].reused_cells == 0, "another precision is another training"
    assert found["auto"].reused_cells == len(found["auto"].cells), "what was chosen counts, not how"
