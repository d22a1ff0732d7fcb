"""A run that is killed anywhere goes on and ends with the same bytes; a run that is something else is refused."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bitterant.errors import ConfigError, Interrupted, ResumeError
from bitterant.protect.folder import apply_folder, fit_folder, protect_folder
from bitterant.protect.folder import run as run_module
from bitterant.records.progress import StopRequest, interruptible
from bitterant.records.run_file import records_of
from bitterant.records.run_state import (
    InputRecord,
    Journal,
    StateFiles,
    decisive_inputs,
    explain_inputs,
    explain_settings,
    plan_hash,
)

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


def noise(**options: Any) -> dict[str, Any]:
    """The cheap method, with some options changed."""
    return {**NOISE, **options}


# ------------------------------------------------------------------ kills
@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, list[int]]]]:
    """One folder protected, killed and resumed at every point by the script ``killing.py``."""
    from PIL import Image

    root = tmp_path_factory.mktemp("killed")
    for index in range(6):
        path = root / "src" / f"class{index % 2}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((17 + index, 20)).rotate(30 * index).convert("RGB").save(path)
    (root / "src" / "class0" / "0.txt").write_text("a caption")
    (root / "src" / "class1" / "bad.png").write_bytes(b"")
    script = Path(__file__).with_name("killing.py")
    done = subprocess.run(
        [sys.executable, str(script), str(root / "src"), str(root)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    return root, json.loads(done.stdout)


POINTS = ("read", "fit-0", "fit-1", "begin", "bank-0", "bank-1", "before-1", "before-4", "half-2", "after-1", "after-3")
POINTS += ("after-7", "row-1", "row-5", "report", "clean", "often")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("records", ["inside", "beside"])
@pytest.mark.parametrize("point", POINTS)
def test_a_kill_changes_nothing_in_the_end(
    killed: tuple[Path, dict[str, dict[str, list[int]]]], kit: Any, point: str, records: str
) -> None:
    root, ends = killed[0] / records, killed[1][records]
    assert ends["none"] == [0]
    assert set(ends[point][:-1]) == {-signal.SIGKILL}, "the process was meant to be killed"
    assert ends[point][-1] == 0
    assert kit.result(root / point) == kit.result(root / "none")
    kept = [records_of(root / name) for name in (point, "none")]
    # Before the pictures are read nothing is written that would say where the records are to lie.
    assert kept[0].place == ("inside" if point == "read" else records)
    for folder in (root / point, kept[0].folder):
        assert sorted(path.name for path in folder.rglob(".*")) == [], "state or temporary files were left"
    assert {path.suffix for path in (root / point).rglob("*.*") if kept[0].place == "beside"} <= {".png", ".txt"}
    runs = [json.loads(found.run_file.read_text()) for found in kept]
    assert runs[0]["plan"] == runs[1]["plan"]
    assert runs[0]["fit"] == runs[1]["fit"]


# ------------------------------------------------------------------ finished
def test_a_finished_folder_is_left_alone(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    first = protect_folder(source, output, **NOISE)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    again = protect_folder(source, output, **NOISE)
    assert again.already_done
    assert "Nothing to do" in again.headline
    assert again.counts == first.counts
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_a_finished_folder_with_a_failed_file_says_so_again(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    (source / "class0/bad.png").write_bytes(b"junk")
    assert protect_folder(source, output, **NOISE).exit_code == 1
    again = protect_folder(source, output, **NOISE)
    assert (again.already_done, again.exit_code, again.problems[0].relative) == (True, 1, "class0/bad.png")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epsilon": 4 / 255}, "epsilon was 8/255, is now 4/255"),
        ({"seed": 3}, "seed was 0, is now 3"),
        ({"granularity": "class"}, "granularity was sample, is now class"),
        ({"format": "same"}, "format was lossless, is now same"),
        ({"metadata": "strip"}, "metadata was keep, is now strip"),
        ({"resolution": 32}, "resolution was 16, is now 32"),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_other_settings_are_refused_and_named(kit: Any, change: dict[str, Any], said: str, finished: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=finished)
    before = kit.tree(output)
    with pytest.raises(ResumeError) as caught:
        protect_folder(source, output, **noise(**change))
    assert said in str(caught.value)
    assert "--no-resume" in str(caught.value)
    assert caught.value.exit_code == 2
    assert kit.tree(output) == before


@pytest.mark.parametrize("finished", [True, False])
def test_a_changed_source_is_refused_and_named(kit: Any, finished: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=finished)
    kit.draw(source / "class0/1.png", seed=99)
    (source / "class1/0.png").unlink()
    kit.draw(source / "class1/new.png", seed=98)
    with pytest.raises(ResumeError) as caught:
        protect_folder(source, output, **NOISE)
    for said in ("1 file is new (class1/new.png)", "1 file is gone (class1/0.png)", "1 file is changed (class0/1.png)"):
        assert said in str(caught.value)


def test_other_versions_are_refused_under_way_but_not_when_done(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source, done, half = kit.folder(), kit.root / "done", kit.root / "half"
    start(source, done, finished=True)
    start(source, half, finished=False)
    real = run_module.versions()
    monkeypatch.setattr(run_module, "versions", lambda: {**real, "pillow": "0.1"})
    assert protect_folder(source, done, **NOISE).already_done
    with pytest.raises(ResumeError, match=r"pillow was .* is now 0\.1"):
        protect_folder(source, half, **NOISE)


@pytest.mark.parametrize("damage", ["missing", "changed"])
@pytest.mark.parametrize("finished", [True, False])
def test_outputs_that_went_missing_are_noticed(kit: Any, damage: str, finished: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=finished)
    victim = output / "class0/0.png"
    victim.unlink() if damage == "missing" else victim.write_bytes(b"x")
    with pytest.raises(ResumeError, match=r"class0/0\.png"):
        protect_folder(source, output, **NOISE)


# ------------------------------------------------------------------ start again, foreign files
@pytest.mark.parametrize("finished", [True, False])
def test_no_resume_starts_again_with_other_settings(kit: Any, finished: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=finished)
    (source / "class0/1.png").unlink()
    protect_folder(source, output, **noise(seed=7), resume=False)
    protect_folder(source, kit.root / "fresh", **noise(seed=7))
    assert kit.result(output) == kit.result(kit.root / "fresh")


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", ["class0/0.png", "class0/foreign.png", "notes.txt"])
def test_no_resume_never_touches_what_is_not_ours(kit: Any, name: str, finished: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=finished)
    (output / name).write_bytes(b"the user's own")
    before = kit.tree(output)
    with pytest.raises(ResumeError, match=name):
        protect_folder(source, output, **NOISE, resume=False)
    assert kit.tree(output) == before


def test_no_resume_takes_a_file_that_was_written_but_not_yet_listed(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=False, unlisted=True)
    assert protect_folder(source, output, **NOISE, resume=False).counts["protected"] == 6


@pytest.mark.parametrize("resume", [True, False])
def test_a_foreign_file_in_a_new_output_is_refused(kit: Any, resume: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    kit.draw(output / "class0/0.png", seed=1)
    before = kit.tree(output)
    with pytest.raises(ResumeError, match=r"did not write: class0/0\.png"):
        protect_folder(source, output, **NOISE, resume=resume)
    assert kit.tree(output) == before


def test_a_file_put_in_the_way_of_an_unfinished_run_is_not_overwritten(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=False)
    (output / "class1").mkdir(exist_ok=True)
    (output / "class1/2.png").write_bytes(b"the user's own")
    with pytest.raises(ResumeError, match="in the way"):
        protect_folder(source, output, **NOISE)
    assert (output / "class1/2.png").read_bytes() == b"the user's own"
    (output / "class1/2.png").unlink()
    assert protect_folder(source, output, **NOISE).counts["protected"] == 6


def test_litter_of_desktops_is_no_reason_to_refuse(kit: Any) -> None:
    (kit.root / "out").mkdir()
    (kit.root / "out/.DS_Store").write_text("")
    assert protect_folder(kit.folder(), kit.root / "out", **NOISE).exit_code == 0


def test_a_damaged_state_says_how_to_start_again(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=False)
    (output / ".bitterant-state.json").write_bytes(b"{")
    with pytest.raises(ResumeError, match="--no-resume"):
        protect_folder(source, output, **NOISE)
    assert protect_folder(source, output, **NOISE, resume=False).counts["protected"] == 6


def test_a_manifest_without_its_run_file_is_refused(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"
    start(source, output, finished=True)
    (output / "bitterant-run.json").unlink()
    with pytest.raises(ResumeError, match="without its run file"):
        protect_folder(source, output, **NOISE)


# ------------------------------------------------------------------ interruption
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stage", ["read", "fit", "write"])
def test_a_first_signal_stops_between_files_and_the_run_goes_on(kit: Any, number: int, stage: str) -> None:
    source, output = kit.folder(each=8), kit.root / "out"
    told: list[bool] = []

    def progress(now: str, done: float, total: float, message: str = "", /) -> None:
        if now == stage and not told and (done or stage == "fit"):
            signal.raise_signal(number)

    earlier = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interruptible(lambda: told.append(True)) as stop:
        protect_folder(source, output, **NOISE, workers=1, progress=progress, stop=stop)
    assert signal.getsignal(number) == earlier
    assert told == [True]
    assert caught.value.exit_code == 130
    assert "same command" in str(caught.value)
    protect_folder(source, output, **NOISE)
    protect_folder(source, kit.root / "whole", **NOISE)
    assert kit.result(output) == kit.result(kit.root / "whole")


def test_a_second_signal_aborts() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible() as stop:  # noqa: PT012 - the second raise is the test
        signal.raise_signal(signal.SIGINT)
        assert stop.requested
        signal.raise_signal(signal.SIGINT)


def test_outside_the_main_thread_no_handler_is_installed() -> None:
    import threading

    earlier, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interruptible() as stop:
            seen.append((signal.getsignal(signal.SIGINT), stop.requested))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(earlier, False)]


def test_a_failing_disk_stops_the_run_which_goes_on_later(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitterant.errors import OutputError
    from bitterant.protect.folder import writing

    source, output = kit.folder(), kit.root / "out"
    real, calls = writing.write_atomic, []

    def full(path: Path, data: bytes, **options: Any) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OutputError("the disk is full")
        real(path, data, **options)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_atomic", full)
        with pytest.raises(OutputError, match="disk is full"):
            protect_folder(source, output, **NOISE, workers=1)
    protect_folder(source, output, **NOISE)
    protect_folder(source, kit.root / "whole", **NOISE)
    assert kit.result(output) == kit.result(kit.root / "whole")


# ------------------------------------------------------------------ bank
def test_a_kept_bank_that_exists_is_not_replaced(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "my.bank"
    bank.write_bytes(b"the user's own")
    with pytest.raises(ConfigError, match="exists already"):
        protect_folder(source, kit.root / "out", **NOISE, bank=bank)
    assert bank.read_bytes() == b"the user's own"


def test_a_finished_folder_accepts_its_own_bank_and_refuses_to_promise_another(kit: Any) -> None:
    source, output, bank = kit.folder(), kit.root / "out", kit.root / "my.bank"
    protect_folder(source, output, **NOISE, bank=bank)
    assert protect_folder(source, output, **NOISE, bank=bank).already_done
    with pytest.raises(ResumeError, match=r"cannot write its bank to .* it is not there"):
        protect_folder(source, output, **NOISE, bank=kit.root / "other.bank")


def test_an_interrupted_apply_goes_on(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "my.bank"
    fit_folder(source, bank, **NOISE)
    stop = StopRequest()

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done == 2:
            stop.request()

    with pytest.raises(Interrupted):
        apply_folder(source, kit.root / "out", bank=bank, workers=1, progress=progress, stop=stop)
    apply_folder(source, kit.root / "out", bank=bank)
    apply_folder(source, kit.root / "whole", bank=bank)
    assert kit.result(kit.root / "out") == kit.result(kit.root / "whole")


def test_an_interrupted_fit_goes_on_and_leaves_only_the_bank(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "banks" / "my.bank"
    stop = StopRequest()

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "fit":
            stop.request()

    with pytest.raises(Interrupted):
        fit_folder(source, bank, **NOISE, progress=progress, stop=stop)
    assert not bank.exists()
    with pytest.raises(ResumeError, match="seed was 0, is now 1"):
        fit_folder(source, bank, **NOISE, seed=1)
    fit_folder(source, bank, **NOISE)
    assert [path.name for path in bank.parent.iterdir()] == ["my.bank"]


# ------------------------------------------------------------------ parts
def test_a_journal_with_half_a_line_keeps_the_others(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert list(journal.read()) == []
    journal.note("a/ä.png", "00")
    with journal.path.open("ab") as file:
        file.write(b'\n["b.pn')
    journal.note("c.png", "11")
    assert list(journal.read()) == [("a/ä.png", "00"), ("c.png", "11")]


def test_explanations_name_what_differs() -> None:
    assert explain_settings({"a": (1, 2), "b": {"c": 1}}, {"a": [1, 2], "b": {"c": 1}}) == []
    assert explain_settings({"b": {"c": 1}}, {"b": {"c": 2}}) == ["c was 1, is now 2"]
    assert explain_settings({"x": None}, {"x": 1}) == ["x was not set, is now 1"]
    before = {"bend": 0.0, "floor": 0.8, "set": {"bend": 0.0}}
    assert explain_settings(before, {"bend": 2.0, "floor": 0.8, "set": {}}) == ["bend was 0.0, is now 2.0"]
    before = {"method": "texture", "bend": 2.0, "seed": 1, "set": {"bend": 0.0}}
    now = {"method": "noise", "seed": 2, "set": {}}
    assert explain_settings(before, now) == ["method was texture, is now noise", "seed was 1, is now 2"]
    assert explain_inputs([("a", "1")], [("a", "1")]) == []
    many = [(f"{index}.png", "1") for index in range(5)]
    before = [("1.png", "1"), ("2.png", "2"), ("3.png", None), ("gone.png", "1")]
    told = ["2 files are new (0.png, 4.png)", "1 file is gone (gone.png)", "2 files are changed (2.png, 3.png)"]
    assert explain_inputs(before, many) == told
    assert explain_inputs([], many) == ["5 files are new (0.png, 1.png, 2.png, ...)"]


def test_the_plan_is_one_for_all_orders_and_another_for_any_change() -> None:
    def inputs(*pairs: tuple[str, str | None]) -> list[InputRecord]:
        return [InputRecord(name, "image", digest) for name, digest in pairs]

    known = inputs(("a", "1"), ("b", None))
    settings = {"x": 1, "y": 2}
    text = b'[{"x": 1, "y": 2}, [["a", "1"], ["b", null]]]'
    assert plan_hash(settings, known) == hashlib.sha256(text).hexdigest()
    assert plan_hash({"y": 2, "x": 1}, known[::-1]) == plan_hash(settings, known)
    assert plan_hash(settings, [*known, InputRecord("c", "skipped")]) == plan_hash(settings, known)
    assert plan_hash({"x": 1, "y": 3}, known) != plan_hash(settings, known)
    assert plan_hash(settings, inputs(("a", "2"), ("b", None))) != plan_hash(settings, known)
    assert plan_hash(settings, inputs(("a", "1"), ("c", None))) != plan_hash(settings, known)


def start(source: Path, output: Path, *, finished: bool, unlisted: bool = False) -> None:
    """A finished run, or one that was stopped after two rows (``unlisted``: with a file that has no row yet)."""
    if finished:
        protect_folder(source, output, **NOISE)
        return
    stop = StopRequest()

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done == 2:
            stop.request()

    with pytest.raises(Interrupted):
        protect_folder(source, output, **NOISE, workers=1, progress=progress, stop=stop)
    if unlisted:
        manifest = output / "bitterant-manifest.jsonl"
        manifest.write_bytes(b"".join(manifest.read_bytes().splitlines(keepends=True)[:-1]))
    assert StateFiles(output).plan.exists()


# ------------------------------------------------------------------ skipped files
@pytest.mark.parametrize("finished", [True, False])
def test_a_hidden_file_that_comes_or_goes_does_not_matter(kit: Any, finished: bool) -> None:
    source, output = kit.folder(), kit.root / "out"
    (source / "class0/notes.pdf").write_text("x")
    (source / "class0/.gone").write_text("x")
    protect_folder(source, kit.root / "whole", **NOISE)
    start(source, output, finished=finished)
    (source / "class0/.DS_Store").write_text("x")
    (source / ".hidden").mkdir()
    (source / "class0/.gone").unlink()
    (source / "class0/notes.pdf").unlink()
    summary = protect_folder(source, output, **NOISE)
    assert summary.already_done == finished
    assert kit.result(output) == kit.result(kit.root / "whole"), "the run is about what was there when it began"
    plans = [json.loads((kit.root / name / "bitterant-run.json").read_text())["plan"] for name in ("out", "whole")]
    assert plans[0] == plans[1]
    assert protect_folder(source, output, **NOISE).already_done


def test_a_hidden_file_does_not_stop_a_fit_or_an_apply_from_going_on(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "my.bank"

    def interrupted(stage: str, call: Any) -> None:
        stop = StopRequest()

        def progress(now: str, done: float, total: float, message: str = "", /) -> None:
            if now == stage and (done or stage == "fit"):
                stop.request()

        with pytest.raises(Interrupted):
            call(progress=progress, stop=stop)

    interrupted("fit", lambda **more: fit_folder(source, bank, **NOISE, **more))
    (source / ".DS_Store").write_text("x")
    fit_folder(source, bank, **NOISE)
    interrupted("write", lambda **more: apply_folder(source, kit.root / "out", bank=bank, workers=1, **more))
    (source / "class0/.DS_Store").write_text("x")
    assert apply_folder(source, kit.root / "out", bank=bank).counts["protected"] == 6


# ------------------------------------------------------------------ clean-up
def remove_some(files: StateFiles, count: int) -> None:
    """What a kill leaves within the clean-up, after so many files."""
    if not files.plan.exists():
        return  # a run that begins
    for path in files.kept[:count]:
        path.unlink(missing_ok=True)
    raise KeyboardInterrupt


@pytest.mark.parametrize("count", range(5))
def test_a_kill_within_the_clean_up_costs_no_second_fit(kit: Any, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    source, output, bank = kit.folder(), kit.root / "out", kit.root / "my.bank"
    with monkeypatch.context() as patch:
        patch.setattr(StateFiles, "remove", lambda files: remove_some(files, count))
        with pytest.raises(KeyboardInterrupt):
            protect_folder(source, output, **NOISE, bank=bank)
    monkeypatch.setattr(run_module, "fit_and_keep", None)
    assert protect_folder(source, output, **NOISE, bank=bank).already_done
    assert not list(output.glob(".bitterant-*"))


@pytest.mark.parametrize("count", range(5))
def test_a_fit_that_was_killed_within_its_clean_up_is_done(
    kit: Any, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    source, bank = kit.folder(), kit.root / "banks" / "my.bank"
    (source / "class0/bad.png").write_bytes(b"junk")
    with monkeypatch.context() as patch:
        patch.setattr(StateFiles, "remove", lambda files: remove_some(files, count))
        with pytest.raises(KeyboardInterrupt):
            fit_folder(source, bank, **NOISE)
    made = bank.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        fit_folder(source, bank, **NOISE, resume=False)
    with pytest.raises(ResumeError, match="seed was 0, is now 1"):
        fit_folder(source, bank, **NOISE, seed=1)
    summary = fit_folder(source, bank, **NOISE)
    assert (summary.images, len(summary.problems), summary.exit_code) == (6, 1, 1)
    assert "placebo" in summary.report["note"]
    assert bank.read_bytes() == made
    assert [path.name for path in bank.parent.iterdir()] == ["my.bank"]
    assert fit_folder(source, bank, **NOISE).already_done
    assert bank.read_bytes() == made


def test_a_foreign_bank_put_beside_an_interrupted_fit_is_not_taken_for_its_own(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "my.bank"
    stop = StopRequest()

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "fit":
            stop.request()

    with pytest.raises(Interrupted):
        fit_folder(source, bank, **NOISE, stop=stop, progress=progress)
    assert StateFiles(kit.root, "my.bank.").plan.exists()
    bank.write_bytes(b"the user's own")
    with pytest.raises(ConfigError, match="exists already"):
        fit_folder(source, bank, **NOISE)
    assert bank.read_bytes() == b"the user's own"
    bank.unlink()
    assert fit_folder(source, bank, **NOISE).images == 6


def test_banks_in_one_folder_leave_each_other_alone(kit: Any) -> None:
    """Neither the state nor the half-written files of another fit are touched, and nothing below or in SRC."""
    source, banks = kit.folder("banks/src"), kit.root / "banks"
    debris = [banks / ".bitterant-tmp-0123", source / ".bitterant-tmp-4567", source / "class0/.bitterant-tmp-89ab"]
    others = [path for tag in ("my.bank.", "my.fit.") for path in StateFiles(banks, tag).kept]
    for path in (*debris, *others):
        path.write_bytes(b"of another run")
    fit_folder(source, banks / "my", **NOISE)
    assert all(path.exists() for path in (*debris, *others))


def test_only_inputs_that_are_read_decide() -> None:
    records = [InputRecord("a", "image", "1"), InputRecord("b", "skipped"), InputRecord("c", "failed")]
    assert list(decisive_inputs(records)) == [("a", "1"), ("c", None)]


def test_names_of_files_reach_the_disk_before_rows_that_speak_of_them(
    kit: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows wait for each other, so that small files cost little; a power cut leaves no row without its file."""
    steps: list[tuple[str, set[str]]] = []
    sync, append = run_module.sync_folder, run_module.ManifestWriter.append

    def noted_sync(folder: Path) -> None:
        steps.append(("names", {folder.name}))
        sync(folder)

    def noted_append(writer: Any, rows: Any) -> None:
        steps.append(("rows", {Path(row.output).parent.name for row in rows if row.output}))
        append(writer, rows)

    monkeypatch.setattr(run_module, "sync_folder", noted_sync)
    monkeypatch.setattr(run_module.ManifestWriter, "append", noted_append)
    monkeypatch.setattr(run_module, "ROWS_AT_ONCE", 4)
    monkeypatch.setattr(run_module, "LONGEST_WAIT", 1e9)
    protect_folder(kit.folder(), kit.root / "out", **NOISE)
    rows = [number for number, (what, _) in enumerate(steps) if what == "rows"]
    assert len(rows) == 2
    begun = 0
    for number in rows:
        named: set[str] = set().union(*(folders for _, folders in steps[begun:number]))
        assert named == steps[number][1]
        begun = number + 1
