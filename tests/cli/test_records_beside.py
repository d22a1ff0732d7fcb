"""``--records beside``: OUT holds nothing of ours, and every command finds what it needs in the folder beside it."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from bitterant.attacks.data.folders import _check_order
from bitterant.protect.folder import run as run_module
from bitterant.protect.folder.session import Session
from bitterant.records.files import write_atomic
from bitterant.records.run_file import RECORD_NAMES, RecordsPlace

Run = Callable[..., Result]
MakeFolder = Callable[..., Path]
NOISE = ("--method", "noise", "--resolution", "16", "--device", "cpu", "--workers", "1")
BESIDE = ("--records", "beside")


@pytest.fixture
def source(make_folder: MakeFolder) -> Path:
    source = make_folder({"a": 3, "b": 3})
    (source / "a/000.txt").write_text("a caption")
    return source


def tree(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def flat(result: Result) -> str:
    return " ".join(result.stderr.split())


def protected(run: Run, source: Path, out: Path, *words: object) -> Result:
    result = run("protect", source, out, *NOISE, *words)
    assert result.exit_code == 0, result.stderr
    return result


# ------------------------------------------------------------------ what is written, and where
def _apply(run: Run, source: Path, out: Path, *words: object) -> None:
    bank = source.parent / "noise.bank"
    if not bank.exists():
        assert run("fit", source, bank, *NOISE).exit_code == 0
    assert run("apply", source, out, "--bank", bank, *words).exit_code == 0


def _merge(run: Run, source: Path, out: Path, *words: object) -> None:
    shares = [source.parent / f"share{number}" for number in (1, 2)]
    for number, share in enumerate(shares, start=1):
        if not share.exists():  # each keeps its own in another place than the other
            protected(run, source, share, "--shard", f"{number}/2", "--records", ("inside", "beside")[number - 1])
    assert run("merge", *shares, out, *words).exit_code == 0


@pytest.mark.parametrize("make", [protected, _apply, _merge], ids=["protect", "apply", "merge"])
@pytest.mark.parametrize("place", ["out", "public/train"])
def test_both_places_hold_the_same(
    run: Run, source: Path, tmp_path: Path, make: Callable[..., object], place: str
) -> None:
    inside, beside = tmp_path / "one" / place, tmp_path / "two" / place
    make(run, source, inside, "--records", "inside")
    make(run, source, beside, *BESIDE)
    copies, records = tree(beside), tree(tmp_path / "two" / f"{place.replace('/', '-')}-records")
    assert set(copies) == {"a/000.txt", *(f"{label}/00{i}.png" for label in "ab" for i in range(3))}
    assert set(records) == set(RECORD_NAMES)
    whole = tree(inside)
    assert copies == {name: data for name, data in whole.items() if name not in RECORD_NAMES}
    assert _facts(records) == _facts(whole)


def _facts(files: dict[str, bytes]) -> tuple[Any, ...]:
    """What the records say, without seconds and the words that asked for the place."""
    rows = [{**json.loads(line), "seconds": 0} for line in files["bitterant-manifest.jsonl"].splitlines()]
    told = json.loads(files["bitterant-run.json"])
    told["repeat"] = told["repeat"].replace(" --records beside", "")
    return rows, {**told, "timing": None}, files["bitterant-report.html"].count(b"<img")


def test_people_and_programs_are_told_the_true_places(run: Run, source: Path, tmp_path: Path) -> None:
    result = run("protect", source, tmp_path / "out", *NOISE, *BESIDE, "--json")
    told = json.loads(result.stdout)
    for name, kind in zip(RECORD_NAMES, ("manifest", "run_file", "report"), strict=True):
        assert told[kind] == str(tmp_path / "out-records" / name)
        assert Path(told[kind]).is_file()
    assert told["records"] == "beside"
    assert str(tmp_path / "out-records/bitterant-report.html") in result.stderr
    assert "Do not publish the folder as it is" not in result.stderr
    assert f"Next: bitterant inspect {source} {tmp_path / 'out'}" in result.stderr
    page = (tmp_path / "out-records/bitterant-report.html").read_text()
    assert page.count("<img") >= 3, "pictures are read from OUT"


def test_a_table_of_a_file_can_ask_for_it(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text('[protect]\nrecords = "beside"\n')
    protected(run, source, tmp_path / "out", "--config", tmp_path / "b.toml")
    assert names(tmp_path / "out") == ["a", "b"]
    result = run("protect", source, tmp_path / "other", *NOISE, "--records", "besides")
    assert result.exit_code == 2
    assert "beside" in result.stderr


def test_text_alone_can_keep_them_apart_too(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise_source: Callable[..., Any]
) -> None:
    from bitterant.protect.methods import t2ue  # loads torch, which the others do without until they run

    made = noise_source(8)
    monkeypatch.setattr(t2ue, "load_source", lambda *_, **__: made)
    monkeypatch.chdir(tmp_path)
    assert run("t2ue", "captions", source, "--yes").exit_code == 0
    assert run("t2ue", "noise", "request.jsonl", "-o", "n.noise.safetensors").exit_code == 0
    words = ("t2ue", "apply", source, "n.noise.safetensors", "--map", "request.map.json", "-o", "out")
    assert run(*words, *BESIDE).exit_code == 0
    assert names(tmp_path / "out") == ["a", "b"]
    assert names(tmp_path / "out-records") == sorted(RECORD_NAMES)


# ------------------------------------------------------------------ who reads them
def test_every_reader_finds_them_also_after_a_move(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    """A picture whose name was changed so much that nothing but the manifest tells whose copy it is."""
    source = make_folder({"a": 3, "b": 3})
    protected(run, source, tmp_path / "public/train", *BESIDE)
    manifest = tmp_path / "public-train-records/bitterant-manifest.jsonl"
    (tmp_path / "public/train/a/000.png").rename(tmp_path / "public/train/a/renamed.png")
    manifest.write_text(manifest.read_text().replace('"output": "a/000.png"', '"output": "a/renamed.png"'))

    def read(out: Path) -> None:
        told = json.loads(run("inspect", source, out, "--json").stdout)
        assert (len(told["pairs"]), told["unpaired"]) == (6, [])
        dest = out.parent / "dest"
        assert run("publish", out, dest).exit_code == 0
        assert len(tree(dest)) == 6
        shutil.rmtree(dest)
        swapped = run("verify", out, source, "--preset", "smoke", "--no-report")
        assert swapped.exit_code == 2
        assert "seem to be swapped" in swapped.stderr

    read(tmp_path / "public/train")
    (tmp_path / "public").rename(tmp_path / "shown")
    (tmp_path / "public-train-records").rename(tmp_path / "shown-train-records")
    read(tmp_path / "shown/train")
    twice = run("protect", tmp_path / "shown/train", tmp_path / "twice", *NOISE)
    assert "is itself the output of bitterant" in twice.stderr


def test_where_the_copies_alone_were_moved_it_is_said_where_was_looked(run: Run, source: Path, tmp_path: Path) -> None:
    protected(run, source, tmp_path / "out", *BESIDE)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    looked = f"{moved} and {tmp_path / 'moved-records'}"
    inspected = run("inspect", source, moved)
    assert inspected.exit_code == 0
    assert f"No manifest of 'bitterant protect' lies in {looked}" in inspected.stderr
    published = run("publish", moved, tmp_path / "dest")
    assert published.exit_code == 2
    assert f"no records of one lie in {looked}" in published.stderr


@pytest.mark.slow
def test_verify_knows_how_the_copies_were_made(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    source = make_folder({"cats": 25, "dogs": 25})
    out = tmp_path / "out"
    protected(run, source, out, *BESIDE, "--strength", "subtle")
    words = ("--preset", "smoke", "--victim", "small-cnn", "--resolution", "16", "--seeds", "1", "--epochs", "1")
    words += ("--adversary", "none", "--device", "cpu", "--no-report", "--json")
    result = run("verify", source, out, *words)
    told = json.loads(result.stdout)
    assert told["protection"]["method"] == "noise"
    assert told["stealth"]["budget_levels"] == 4
    assert "No run file" not in result.stderr
    shutil.rmtree(tmp_path / "out-records")
    result = run("verify", source, out, *words)
    assert f"lies in {out} and {tmp_path / 'out-records'}" in result.stderr
    assert json.loads(result.stdout)["protection"] is None


def test_what_is_verified_is_read_with_them(run: Run, make_folder: MakeFolder, tmp_path: Path) -> None:
    from bitterant.attacks.data.folders import load_folders

    source, out = make_folder({"cats": 25, "dogs": 25}), tmp_path / "out"
    protected(run, source, out, *BESIDE, "--strength", "subtle")

    def load() -> Any:
        how = {"test": None, "resolution": 16, "seed": 0, "device_type": "cpu", "epsilon": None}
        return load_folders(source, out, step=lambda *_: None, **how)

    found = load()
    assert (found.protection.method, found.budget_levels) == ("noise", 4)
    assert len(found.protection.manifest_sha256) == 64
    shutil.rmtree(tmp_path / "out-records")
    missed = load()
    assert (missed.protection, missed.budget_levels) == (None, None)


def test_publish_goes_nowhere_near_the_records(run: Run, source: Path, tmp_path: Path) -> None:
    protected(run, source, tmp_path / "out", *BESIDE)
    result = run("publish", tmp_path / "out", tmp_path / "out-records/dest")
    assert result.exit_code == 2
    assert "lies in" in result.stderr
    assert names(tmp_path / "out-records") == sorted(RECORD_NAMES)


# ------------------------------------------------------------------ going on
@pytest.mark.parametrize(("first", "then"), [("beside", "inside"), ("inside", "beside")])
def test_a_run_goes_on_where_its_records_are(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    out = tmp_path / "out"
    place = tmp_path / "out-records" if first == "beside" else out

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "fit_and_keep", stop)
        assert run("protect", source, out, *NOISE, "--records", first).exit_code == 130
    assert (out / ".bitterant-state.json").is_file()
    for _ in range(2):  # goes on, and then finds that there is nothing to do
        result = protected(run, source, out, "--records", then)
        assert flat(result).count(f"The records lie in {place}, where this run was begun, and stay there") == 1
        assert sorted(path.parent for path in tmp_path.rglob("bitterant-*")) == [place] * 3
    assert "stay there" not in protected(run, source, out).stderr, "nobody asked for another place"


@pytest.mark.parametrize(("first", "then"), [("beside", "inside"), ("inside", "beside"), ("beside", "beside")])
def test_a_run_that_starts_over_may_be_stopped_anywhere(
    run: Run, make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: str, then: RecordsPlace
) -> None:
    """Every removal of a file or folder in turn is never done, and the same command then goes on."""
    source, work = make_folder({"a": 1, "b": 1}), tmp_path / "work"
    protected(run, source, tmp_path / "done/out", "--records", first)
    out, beside = work / "out", work / "out-records"

    def kill_at(count: int) -> bool:
        """Clear OUT, but for the removal of this number and what comes after it; whether it came so far."""
        calls = itertools.count(1)

        def removing(real: Callable[..., None]) -> Callable[..., None]:
            def remove(path: Path, *args: Any, **options: Any) -> None:
                if next(calls) == count:
                    raise SystemExit(9)
                real(path, *args, **options)

            return remove

        with monkeypatch.context() as patch:
            for name in ("unlink", "rmdir"):
                patch.setattr(Path, name, removing(getattr(Path, name)))
            try:
                Session.open(out, resume=False, records=then).clear()
            except SystemExit:
                return True
        return False

    killed, count = True, 0
    while killed:
        count += 1
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(tmp_path / "done", work)
        killed = kill_at(count)
        protected(run, source, out, "--no-resume", "--records", then)
        place = beside if then == "beside" else out
        assert sorted(path.parent for path in work.rglob("bitterant-*")) == [place] * 3
        assert then == "beside" or not beside.exists() or names(beside) == []
        assert [name for name in tree(out) if "bitterant" not in name] == ["a/000.png", "b/000.png"]
    assert count > 8


def test_starting_over_takes_nothing_that_is_not_of_this_folder(run: Run, source: Path, tmp_path: Path) -> None:
    """The copies were moved away, or there are two folders whose records would have one name."""
    protected(run, source, tmp_path / "public-train", *BESIDE)
    before = tree(tmp_path / "public-train-records")
    for out in (tmp_path / "public/train", tmp_path / "public-train"):
        if out.exists():
            out.rename(tmp_path / "away")
        for words in ((), ("--no-resume",)):
            result = run("protect", source, out, *NOISE, *BESIDE, *words)
            assert result.exit_code == 2
            assert f"holds the records of another folder than {out}" in flat(result)
            assert tree(tmp_path / "public-train-records") == before
            assert not out.exists()
    protected(run, source, tmp_path / "public/train")
    assert tree(tmp_path / "public-train-records") == before


def test_records_of_the_same_names_are_not_taken_for_those_of_this_folder(
    run: Run, source: Path, tmp_path: Path
) -> None:
    """``public-train`` and ``public/train`` hold copies of the same pictures, and other noise."""
    protected(run, source, tmp_path / "public-train", *BESIDE)
    protected(run, source, tmp_path / "public/train", "--seed", "1")
    before = tree(tmp_path)
    result = run("protect", source, tmp_path / "public/train", *NOISE, *BESIDE, "--no-resume")
    assert result.exit_code == 2
    assert f"holds the records of another folder than {tmp_path / 'public/train'}" in flat(result)
    assert tree(tmp_path) == before


def test_a_copy_of_the_records_is_left_alone_where_a_run_has_its_own(run: Run, source: Path, tmp_path: Path) -> None:
    out, copy = tmp_path / "out", tmp_path / "out-records"
    protected(run, source, out)
    copy.mkdir()
    for name in RECORD_NAMES:
        shutil.copy(out / name, copy / name)
    before = tree(copy)
    protected(run, source, out, "--no-resume", "--seed", "1")
    assert tree(copy) == before
    assert set(RECORD_NAMES) <= set(names(out))


def test_copied_records_are_not_believed_of_a_run_that_starts_over_beside(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped on its way, it goes on; the run file of the earlier run would say that it is finished."""
    out, copy = tmp_path / "out", tmp_path / "out-records"
    protected(run, source, out)
    copy.mkdir()
    for name in RECORD_NAMES:
        shutil.copy(out / name, copy / name)
    with monkeypatch.context() as patch:

        def stop(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(run_module, "write_report", stop)
        assert run("protect", source, out, *NOISE, *BESIDE, "--no-resume", "--seed", "1").exit_code == 130
    assert not (copy / "bitterant-run.json").exists()
    protected(run, source, out, *BESIDE, "--seed", "1")
    assert json.loads((copy / "bitterant-run.json").read_text())["seed"] == 1
    assert names(out) == ["a", "b"]


def test_originals_are_not_taken_for_copies_by_records_of_the_same_name(
    run: Run, make_folder: MakeFolder, tmp_path: Path
) -> None:
    made = make_folder({"a": 3, "b": 3})
    source, out = tmp_path / "set/train", tmp_path / "set-train"
    source.parent.mkdir()
    made.rename(source)
    protected(run, source, out, *BESIDE)
    again = protected(run, source, out, *BESIDE)
    assert "Nothing to do" in again.stderr
    assert "is itself the output" not in again.stderr
    assert run("publish", out, tmp_path / "shown").exit_code == 0
    _check_order(source, tmp_path / "shown")  # verify would say that the two seem to be swapped


def test_copies_that_were_moved_alone_are_told_where_their_records_were_looked_for(
    run: Run, source: Path, tmp_path: Path
) -> None:
    out, moved = tmp_path / "out", tmp_path / "moved"
    protected(run, source, out, *BESIDE)
    out.rename(moved)
    result = run("protect", source, moved, *NOISE)
    assert result.exit_code == 2
    assert f"No records of a run lie in {moved} and {tmp_path / 'moved-records'}." in flat(result)


def test_files_may_be_moved_from_one_place_to_the_other(run: Run, source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    protected(run, source, out)
    (tmp_path / "out-records").mkdir()
    for name in RECORD_NAMES:
        (out / name).rename(tmp_path / "out-records" / name)
    assert "Nothing to do" in protected(run, source, out).stderr
    assert names(out) == ["a", "b"]


# ------------------------------------------------------------------ refusals, before any work
def _a_file_in_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")


def _a_folder_in_it(folder: Path) -> None:
    (folder / "bitterant-manifest.jsonl").mkdir(parents=True)


def _a_link_in_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "bitterant-run.json").symlink_to(folder.parent / "victim")


def _a_page_in_it(folder: Path) -> None:
    folder.mkdir()
    (folder / "bitterant-report.html").write_text("<html>mine</html>")


def _a_link(folder: Path) -> None:
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to(folder.parent / "elsewhere")


def _a_dangling_link(folder: Path) -> None:
    folder.symlink_to(folder.parent / "nowhere")


def _a_file(folder: Path) -> None:
    folder.write_text("mine")


@pytest.mark.parametrize(
    ("take", "said"),
    [
        (_a_file_in_it, "holds what is no record of a run: notes.txt"),
        (_a_folder_in_it, "holds what is no record of a run: bitterant-manifest.jsonl"),
        (_a_link_in_it, "holds what is no record of a run: bitterant-run.json"),
        (_a_page_in_it, "holds what is no record of a run: bitterant-report.html"),
        (_a_link, "is a link"),
        (_a_dangling_link, "is a link"),
        (_a_file, "is a file"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--no-resume",), ("--dry-run",)])
def test_a_folder_that_is_taken_is_left_alone(
    run: Run, source: Path, tmp_path: Path, take: Callable[[Path], None], said: str, words: tuple[str, ...]
) -> None:
    take(tmp_path / "out-records")
    (tmp_path / "victim").write_text("precious")
    before = tree(tmp_path)
    result = run("protect", source, tmp_path / "out", *NOISE, *BESIDE, *words)
    assert result.exit_code == 2
    assert f"{tmp_path / 'out-records'} {said}" in flat(result)
    assert "move it away" in result.stderr
    assert tree(tmp_path) == before
    assert not (tmp_path / "out").exists()
    protected(run, source, tmp_path / "out")  # inside there is room


def test_litter_of_desktops_is_no_reason_to_refuse(run: Run, source: Path, tmp_path: Path) -> None:
    (tmp_path / "out-records").mkdir()
    (tmp_path / "out-records/.DS_Store").write_bytes(b"x")
    protected(run, source, tmp_path / "out", *BESIDE)


def test_what_lies_in_the_way_of_a_run_that_was_begun_is_named(run: Run, source: Path, tmp_path: Path) -> None:
    protected(run, source, tmp_path / "out", *BESIDE)
    (tmp_path / "out-records/notes.txt").write_text("mine")
    result = run("protect", source, tmp_path / "out", *NOISE)
    assert result.exit_code == 2
    assert "notes.txt. Move that away." in flat(result)
    (tmp_path / "out-records/notes.txt").unlink()
    (tmp_path / "out/bitterant-report.html").write_bytes((tmp_path / "out-records/bitterant-report.html").read_bytes())
    result = run("protect", source, tmp_path / "out", *NOISE)
    assert result.exit_code == 2
    assert "bitterant-report.html is in the way" in flat(result)


@pytest.mark.parametrize(
    ("source_name", "out", "said"),
    [
        ("out-records", "out", "is the source folder itself"),
        ("out-records/deep", "out", "contains the source folder"),
        ("src", "src/out", "lies inside the source folder"),  # through a link, so that OUT itself does not
    ],
)
def test_source_and_records_lie_apart(
    run: Run, source: Path, tmp_path: Path, source_name: str, out: str, said: str
) -> None:
    if source_name != "src":
        (tmp_path / source_name).parent.mkdir(exist_ok=True)
        source = source.rename(tmp_path / source_name)
    else:
        (tmp_path / "real").mkdir()
        (source / "out").symlink_to(tmp_path / "real")
    before = tree(tmp_path)
    result = run("protect", source, tmp_path / out, *NOISE, *BESIDE)
    assert result.exit_code == 2
    assert "The folder of the records" in result.stderr
    assert said in result.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("words", [(), ("--dry-run",)])
def test_a_parent_that_cannot_be_written_is_the_machines_fault(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    out = tmp_path / "shelf/out"
    out.mkdir(parents=True)
    real_mkdir, real_access = Path.mkdir, os.access

    def mkdir(path: Path, *args: Any, **options: Any) -> None:
        if path == tmp_path / "shelf/out-records":
            raise PermissionError(13, "Permission denied", str(path))
        real_mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(os, "access", lambda path, *rest: Path(path) != out.parent and real_access(path, *rest))
    result = run("protect", source, out, *NOISE, *BESIDE, *words)
    assert result.exit_code == 3
    assert "The folder of the records" in result.stderr
    assert names(out) == []


def test_the_bank_does_not_lie_among_the_records(run: Run, source: Path, tmp_path: Path) -> None:
    result = run("protect", source, tmp_path / "out", *NOISE, *BESIDE, "--bank", tmp_path / "out-records/my.bank")
    assert result.exit_code == 2
    assert "for the records of the run alone" in flat(result)
    assert not (tmp_path / "out-records").exists()


def test_a_request_that_fails_leaves_no_folder_behind(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run_module, "read_inputs", fail)
    assert run("protect", source, tmp_path / "out", *NOISE, *BESIDE).exit_code == 130
    assert names(tmp_path) == ["src"]


def test_two_runs_do_not_share_a_folder_of_records(
    run: Run, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``public/train`` and ``public-train`` would have one: the second is told while the first is at work."""
    told: list[Result] = []

    def write(path: Path, data: bytes, **options: Any) -> None:
        if not told:
            told.append(run("protect", source, tmp_path / "public-train", *NOISE, *BESIDE))
        write_atomic(path, data, **options)

    monkeypatch.setattr("bitterant.protect.folder.writing.write_atomic", write)
    protected(run, source, tmp_path / "public/train", *BESIDE)
    assert told[0].exit_code == 2
    assert "holds the records of another folder" in flat(told[0])
    assert not (tmp_path / "public-train").exists()


@pytest.mark.parametrize("place", ["share1", "share1-records", "share1-records/in"])
def test_a_whole_lies_apart_from_its_shares(run: Run, source: Path, tmp_path: Path, place: str) -> None:
    shares = [tmp_path / "share1", tmp_path / "share2"]
    for number, share in enumerate(shares, start=1):
        protected(run, source, share, *BESIDE, "--shard", f"{number}/2")
    before = tree(tmp_path)
    assert run("merge", *shares, tmp_path / place).exit_code == 2
    assert tree(tmp_path) == before


def test_shards_and_stores_say_that_theirs_lie_beside_anyway(run: Run, source: Path, tmp_path: Path) -> None:
    assert run("code-book", tmp_path / "book", "--class", "a", "--class", "b").exit_code == 0
    result = run("apply", str(source / "*.tar"), tmp_path / "out", "--bank", tmp_path / "book", *BESIDE)
    assert result.exit_code == 2
    assert "with .bitterant behind. Leave it out." in flat(result)
    plan = run("apply", source, tmp_path / "out", "--bank", tmp_path / "book", *BESIDE, "--dry-run")
    assert plan.exit_code == 0, plan.stderr
