"""Folder runs with textures: few pictures are read before they are written, and no torch is needed to put them on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import BankError, ConfigError, FolderError, Interrupted, LabelError, ResumeError
from bitterant.imaging import loading
from bitterant.protect import TextureBank, apply_folder, fit_folder, load_bank, protect_folder
from bitterant.protect.folder import fitting, plan
from bitterant.protect.methods import texture
from bitterant.records.progress import StopRequest

TEXTURE: dict[str, Any] = {"method": "texture", "device": "cpu", "seed": 0}
SEED_1: dict[str, Any] = {**TEXTURE, "seed": 1}


def levels(before: Path, after: Path) -> tuple[np.ndarray, np.ndarray]:
    """A picture, and how its copy differs."""
    one, two = (np.asarray(Image.open(path).convert("RGB"), np.int64) for path in (before, after))
    return one, two - one


@pytest.fixture
def reads_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading more than three pictures of a class at the working resolution fails."""
    monkeypatch.setattr(texture, "SAMPLE_A_CLASS", 3)
    whole = loading.load_image_set

    def few(scan: Any, *rest: Any, **options: Any) -> Any:
        assert max(Counter(entry.class_name for entry in scan.entries).values()) <= 3, "too many were read"
        return whole(scan, *rest, **options)

    for module in (loading, fitting, plan):
        monkeypatch.setattr(module, "load_image_set", few)


@pytest.mark.usefixtures("reads_few")
def test_protect_is_fit_and_apply(kit: Any) -> None:
    source = kit.folder(classes=3)
    (source / "class0" / "0.txt").write_text("a caption")
    (source / "class1" / "cut.png").write_bytes((source / "class1/0.png").read_bytes()[:-40])
    kit.draw(source / "class2/tiny.png", 5, (7, 30))
    kit.draw(source / "class2/photo.jpg", 6, quality=92)
    before = kit.tree(source)
    summary = protect_folder(source, kit.root / "one", bank=kit.root / "one.bank", **TEXTURE)
    assert kit.tree(source) == before
    assert summary.counts == {"protected": 10, "copied": 1, "skipped": 0, "failed": 2}
    rows = {row["source"]: row for row in kit.rows(kit.root / "one")}
    assert "short side of 7 px is too small" in rows["class2/tiny.png"]["reason"]
    assert rows["class1/cut.png"]["status"] == "failed"
    for name, row in rows.items():
        if row["status"] == "protected":
            assert row["linf_levels"] == 12
            assert row["key"] == f"{name.partition('/')[0]}/{row['sha256_in']}"
            before_it, change = levels(source / name, kit.root / "one" / row["output"])
            free = ((before_it >= 12) & (before_it <= 243)).all(axis=2)
            assert free.mean() > 0.5
            assert set(np.unique(change[free])) == {-12, 12}
            assert (change == change[..., :1])[free].all()
    run_file = json.loads((kit.root / "one/bitterant-run.json").read_text())
    assert run_file["settings"]["resolution"] is None
    assert run_file["fit"]["texture"] == {
        "classes": 3, "rings": [3.7, 5.7], "codes": "3 waves", "for_resolution": None,
        "dealt": "against what nature gives the classes",
    }  # fmt: skip

    fitted = fit_folder(source, kit.root / "two.bank", **TEXTURE)
    assert (fitted.images, fitted.exit_code) == (12, 0)
    for path in ("one.bank", "two.bank"):
        assert stat.S_IMODE((kit.root / path).stat().st_mode) == 0o600
    assert (kit.root / "one.bank").read_bytes() == (kit.root / "two.bank").read_bytes()
    for number, bank in enumerate((kit.root / "two.bank", load_bank(kit.root / "two.bank"))):
        apply_folder(source, kit.root / f"applied{number}", bank=bank)
        assert kit.result(kit.root / f"applied{number}") == kit.result(kit.root / "one")
    assert apply_folder(source, kit.root / "applied0", bank=kit.root / "two.bank").already_done


@pytest.mark.usefixtures("reads_few")
def test_a_tint_moves_blue_alone_and_no_order_of_files_changes_it(kit: Any) -> None:
    source, coloured = kit.folder(classes=3), {**TEXTURE, "parameters": {"colour": 1.0}}
    grey = source / "class0/grey.png"
    Image.fromarray(np.asarray(Image.open(source / "class0/0.png").convert("L"))).convert("RGB").save(grey)
    for name, options in (("plain", TEXTURE), ("one", coloured)):
        protect_folder(source, kit.root / name, bank=kit.root / f"{name}.bank", workers=1, **options)
    for row in kit.rows(kit.root / "one"):
        before, change = levels(source / row["source"], kit.root / "one" / row["output"])
        _, plain = levels(source / row["source"], kit.root / "plain" / row["output"])
        assert row["linf_levels"] == 12
        assert np.array_equal(change[..., :2], plain[..., :2])
        assert (change != plain).any() == (row["source"] != "class0/grey.png")
        free = ((before >= 12) & (before <= 243)).all(axis=2)
        assert set(np.unique(change[free])) == {-12, 12}
    run_file = json.loads((kit.root / "one/bitterant-run.json").read_text())
    assert run_file["settings"]["recipe"]["colour"] == 1.0
    assert run_file["fit"]["texture"]["colour"] == 1.0
    assert "colour" not in json.loads((kit.root / "plain/bitterant-run.json").read_text())["settings"]["recipe"]
    protect_folder(source, kit.root / "four", workers=4, **coloured)
    apply_folder(source, kit.root / "applied", bank=kit.root / "one.bank")
    assert kit.result(kit.root / "four") == kit.result(kit.root / "applied") == kit.result(kit.root / "one")
    with pytest.raises(ResumeError, match=r"colour was 0\.0, is now 1\.0"):
        protect_folder(source, kit.root / "plain", **coloured)


@pytest.mark.usefixtures("reads_few")
def test_workers_names_and_other_pictures_change_no_picture(kit: Any) -> None:
    source = kit.folder(each=4)
    protect_folder(source, kit.root / "one", workers=1, **TEXTURE)
    protect_folder(source, kit.root / "four", workers=4, **TEXTURE)
    assert kit.result(kit.root / "four") == kit.result(kit.root / "one")
    # With one bank, a picture's texture depends on nothing but its own content and its class.
    other = kit.root / "other"
    for label in (0, 1):
        (other / f"class{label}").mkdir(parents=True)
        shutil.copy(source / f"class{label}/2.png", other / f"class{label}/renamed.png")
    fit_folder(source, kit.root / "bank", **TEXTURE)
    apply_folder(other, kit.root / "renamed", bank=kit.root / "bank")
    for label in (0, 1):
        one, two = kit.root / f"one/class{label}/2.png", kit.root / f"renamed/class{label}/renamed.png"
        assert one.read_bytes() == two.read_bytes()


def test_codes_are_dealt_by_contents_and_not_by_names_or_copies(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texture, "SAMPLE_A_CLASS", 3)
    source, other = kit.folder(classes=4, each=6), kit.root / "other"
    for place in sorted(source.glob("*/*.png")):
        (other / place.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(place, other / place.parent.name / f"z{9 - int(place.stem)}.png")
        shutil.copy(place, other / place.parent.name / f"a{place.stem}.png")
    for name, folder in (("one", source), ("two", other)):
        fit_folder(folder, kit.root / name, **TEXTURE)
    assert load_bank(kit.root / "one") == load_bank(kit.root / "two")


def test_the_sample_does_not_grow_with_the_classes() -> None:
    made = texture.Texture()
    assert [made.sample_a_class(classes) for classes in (2, 10, 100, 1000)] == [64, 64, 20, 2]


def test_a_stop_while_the_sample_is_read(kit: Any) -> None:
    stop = StopRequest()

    def tell(stage: str, *rest: Any) -> None:
        if stage == "read":
            stop.request()

    with pytest.raises(Interrupted):
        protect_folder(kit.folder(), kit.root / "out", progress=tell, stop=stop, **TEXTURE)
    assert not kit.tree(kit.root / "out")


def test_a_class_that_cannot_be_read_leaves_the_dealing_to_the_key(kit: Any) -> None:
    source = kit.folder(classes=3, each=2)
    for place in (source / "class1").glob("*.png"):
        place.write_bytes(place.read_bytes()[:50])
    fitted = fit_folder(source, kit.root / "bank", **TEXTURE)
    assert fitted.report["texture"]["dealt"] == "by the key"


@pytest.mark.usefixtures("reads_few")
def test_another_key_another_texture(kit: Any) -> None:
    source = kit.folder()
    key = kit.root / "key"
    key.write_bytes(os.urandom(32))
    protect_folder(source, kit.root / "seed", **TEXTURE)
    protect_folder(source, kit.root / "key-out", parameters={"key_file": str(key)}, **TEXTURE)
    protect_folder(source, kit.root / "seed1", **SEED_1)
    pictures = [kit.root / name / "class0/0.png" for name in ("seed", "key-out", "seed1")]
    assert len({path.read_bytes() for path in pictures}) == 3
    published = (kit.root / "key-out/bitterant-run.json").read_bytes()
    assert key.read_bytes().hex().encode() not in published
    assert str(key).encode() not in published
    key.write_bytes(os.urandom(32))
    with pytest.raises(ResumeError, match="key_id was"):
        protect_folder(source, kit.root / "key-out", parameters={"key_file": str(key)}, **TEXTURE)
    key.write_bytes(b"short")
    with pytest.raises(ConfigError, match="fewer than 16 bytes"):
        protect_folder(source, kit.root / "short", parameters={"key_file": str(key)}, **TEXTURE)


def test_a_bank_of_another_key_gives_other_pictures_and_is_refused_for_the_same_folder(kit: Any) -> None:
    source = kit.folder()
    for seed, how in enumerate((TEXTURE, SEED_1)):
        fit_folder(source, kit.root / f"{seed}.bank", **how)
        apply_folder(source, kit.root / f"out{seed}", bank=kit.root / f"{seed}.bank")
    one, two = (kit.tree(kit.root / f"out{seed}") for seed in (0, 1))
    assert all(one[name] != two[name] for name in one)
    with pytest.raises(ResumeError, match="bank_sha256"):
        apply_folder(source, kit.root / "out0", bank=kit.root / "1.bank")


def test_new_pictures_of_the_classes_and_unknown_classes(kit: Any) -> None:
    fit_folder(kit.folder("known"), kit.root / "bank", **TEXTURE)
    new = kit.folder("new", classes=3, each=2)
    kit.draw(new / "stray.png", 50)
    summary = apply_folder(new, kit.root / "out", bank=kit.root / "bank")
    assert summary.counts == {"protected": 4, "copied": 0, "skipped": 3, "failed": 0}
    assert {problem.relative for problem in summary.problems} == {"class2/0.png", "class2/1.png", "stray.png"}
    reasons = {problem.relative: problem.reason for problem in summary.problems}
    assert "holds no perturbation for this picture" in reasons["class2/0.png"]
    flat = kit.root / "flat"
    kit.draw(flat / "0.png", 1)
    with pytest.raises(BankError, match=r"goes by 2 classes: class0, class1.*--class NAME"):
        apply_folder(flat, kit.root / "out2", bank=kit.root / "bank")


@pytest.mark.usefixtures("reads_few")
def test_a_stopped_run_goes_on_to_the_same_bytes(kit: Any) -> None:
    source = kit.folder(each=5)
    protect_folder(source, kit.root / "whole", **TEXTURE)
    for limit in (0, 1, 4):
        output, stop = kit.root / f"stopped{limit}", StopRequest()

        def tell(
            stage: str, done: float, total: float, message: str = "", *, at: int = limit, stop: Any = stop
        ) -> None:
            if (stage == "write" and done >= at) or (stage == "fit" and at == 0):
                stop.request()

        with pytest.raises(Interrupted):
            protect_folder(source, output, workers=1, progress=tell, stop=stop, **TEXTURE)
        protect_folder(source, output, **TEXTURE)
        assert kit.result(output) == kit.result(kit.root / "whole")


KILL = """
import os, signal, sys
from bitterant.protect import protect_folder
from bitterant.protect.folder import writing
written = writing.write_atomic
def die(path, *rest, **options):
    if path.name == sys.argv[3]:
        os.kill(os.getpid(), signal.SIGKILL)
    written(path, *rest, **options)
writing.write_atomic = die
protect_folder(sys.argv[1], sys.argv[2], method="texture", device="cpu", seed=0, workers=1)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_goes_on_to_the_same_bytes(kit: Any) -> None:
    source = kit.folder()
    protect_folder(source, kit.root / "whole", **TEXTURE)
    output = kit.root / "killed"
    done = subprocess.run([sys.executable, "-c", KILL, str(source), str(output), "2.png"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert stat.S_IMODE((output / ".bitterant-state.bank").stat().st_mode) == 0o600
    # Rows of small files are written together, so those of the first two may be missing; the files are not: they are
    # taken up as they lie there, and not written a second time.
    finished = {path: path.stat().st_ino for path in output.rglob("*.png")}
    assert {path.name for path in finished} == {"0.png", "1.png"}
    protect_folder(source, output, **TEXTURE)
    assert {path: path.stat().st_ino for path in finished} == finished
    assert kit.result(output) == kit.result(kit.root / "whole")
    assert not [path for path in output.rglob(".bitterant*") if not path.name.endswith("lock")]


@pytest.mark.usefixtures("reads_few")
def test_the_plan_reads_a_few_pictures_and_writes_none(kit: Any) -> None:
    source = kit.folder(classes=4)
    (source / "class1" / "cut.png").write_bytes((source / "class1/0.png").read_bytes()[:-40])
    planned = protect_folder(source, kit.root / "out", dry_run=True, **TEXTURE)
    assert (planned.images, planned.resolution, planned.method) == (13, None, "texture")
    assert [problem.relative for problem in planned.problems] in ([], ["class1/cut.png"])
    assert planned.seconds.write > 0
    assert planned.seconds.fit < 1
    assert planned.bytes_out > 0
    assert planned.to_json()["settings"]["recipe"]["sigma"] == 0.6
    assert not (kit.root / "out").exists()
    for path in source.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(ConfigError, match="could be read"):
        protect_folder(source, kit.root / "out", dry_run=True, **TEXTURE)


def test_bad_requests_are_told_before_any_work(kit: Any) -> None:
    source = kit.folder()

    def refuse(error: type[Exception], match: str, source: Path = source, **options: Any) -> None:
        with pytest.raises(error, match=match):
            protect_folder(source, kit.root / "out", **{**TEXTURE, **options})
        assert not (kit.root / "out").exists()

    refuse(ConfigError, "has no working resolution", resolution=64)
    refuse(ConfigError, "for_resolution 0 is below 16", parameters={"for_resolution": 0})
    refuse(ConfigError, "floor of texture must be more than 0 and at most 1", parameters={"floor": 2.0})
    refuse(ConfigError, "colour of texture must be at least 0 and at most 1", parameters={"colour": 3.0})
    refuse(ConfigError, "works per sample", granularity="class")
    refuse(LabelError, "only one class folder", kit.folder("alone", classes=1))
    kit.draw(kit.root / "flat/0.png", 1)
    refuse(FolderError, "0.png is one picture alone", kit.root / "flat")
    for number in range(1001):
        (kit.root / f"many/{number}").mkdir(parents=True)
        shutil.copy(source / "class0/0.png", kit.root / f"many/{number}/0.png")
    refuse(ConfigError, "at most 1000 classes, and there are 1001", kit.root / "many")


def test_a_bank_for_a_resolution_has_longer_waves(kit: Any) -> None:
    fit_folder(kit.folder(), kit.root / "bank", parameters={"for_resolution": 20}, **TEXTURE)
    bank = load_bank(kit.root / "bank")
    assert isinstance(bank, TextureBank)
    assert [code[0].cycles for code in bank.codes] == pytest.approx([20 / 6.15] * len(bank.codes))


def test_applying_needs_no_torch(kit: Any) -> None:
    """In a process where any import of torch fails."""
    source = kit.folder()
    fit_folder(source, kit.root / "bank", parameters={"colour": 0.5}, **TEXTURE)
    script = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        "from bitterant.protect import apply_folder\n"
        "summary = apply_folder(sys.argv[1], sys.argv[2], bank=sys.argv[3])\n"
        "loaded = {'torch', 'torchvision', 'timm', 'sklearn'} & set(sys.modules) - {'torch'}\n"
        "assert not loaded, loaded\n"
        "print(summary.counts['protected'])\n"
    )
    words = [str(path) for path in (source, kit.root / "out", kit.root / "bank")]
    done = subprocess.run([sys.executable, "-c", script, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "6"


RANDOM: dict[str, Any] = {name: value for name, value in TEXTURE.items() if name != "seed"}


def secret_in(bank: Path) -> bytes:
    loaded = load_bank(bank)
    assert isinstance(loaded, TextureBank)
    return loaded.secret


def run_file(output: Path) -> dict[str, Any]:
    return json.loads((output / "bitterant-run.json").read_text())


def test_without_seed_and_key_file_the_key_is_random_and_only_in_the_bank(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "one.bank"
    summary = protect_folder(source, kit.root / "one", bank=bank, **RANDOM)
    assert not [text for text in summary.warnings if "key" in text]
    protect_folder(source, kit.root / "two", **RANDOM)
    protect_folder(source, kit.root / "seed", **TEXTURE)
    assert len({(kit.root / name / "class0/0.png").read_bytes() for name in ("one", "two", "seed")}) == 3
    assert [run_file(kit.root / name)["settings"]["key"] for name in ("one", "seed")] == ["random", "seed"]
    secret = secret_in(bank)
    assert stat.S_IMODE(bank.stat().st_mode) == 0o600
    left = [path for path in kit.root.rglob("*") if path.is_file() and path != bank]
    assert not [path for path in left if secret in path.read_bytes() or secret.hex().encode() in path.read_bytes()]
    # The bank gives the same again, and the command on its own output has nothing to do.
    apply_folder(source, kit.root / "again", bank=bank)
    assert kit.result(kit.root / "again") == kit.result(kit.root / "one")
    assert protect_folder(source, kit.root / "one", bank=bank, **RANDOM).already_done
    assert protect_folder(source, kit.root / "two", **RANDOM).already_done
    with pytest.raises(ResumeError, match="key was random, is now seed"):
        protect_folder(source, kit.root / "two", **TEXTURE)
    fit_folder(source, kit.root / "fitted", **RANDOM)
    assert fit_folder(source, kit.root / "fitted", **RANDOM).already_done
    assert secret_in(kit.root / "fitted") != secret


@pytest.mark.parametrize("limit", [0, 1, 4])
def test_a_stopped_run_keeps_its_random_key(kit: Any, limit: int) -> None:
    source, output, bank, stop = kit.folder(each=4), kit.root / "out", kit.root / "bank", StopRequest()

    def tell(stage: str, done: float, total: float, message: str = "") -> None:
        if (stage == "write" and done >= limit) or (stage == "fit" and limit == 0):
            stop.request()

    with pytest.raises(Interrupted):
        protect_folder(source, output, bank=bank, workers=1, progress=tell, stop=stop, **RANDOM)
    protect_folder(source, output, bank=bank, **RANDOM)
    apply_folder(source, kit.root / "whole", bank=bank)
    assert kit.result(output) == kit.result(kit.root / "whole")
