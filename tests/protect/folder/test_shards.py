"""Shares of a run, joined, are the run; what does not belong together is refused, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from bitterant.errors import ConfigError, FolderError, Interrupted, ResumeError
from bitterant.protect import TextureBank, apply_folder, merge_folders, protect_folder, read_run_file
from bitterant.protect.folder import merging
from bitterant.records.progress import StopRequest
from bitterant.records.run_file import Shard

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


@pytest.fixture
def source(kit: Any) -> Path:
    source = kit.folder(classes=2, each=6)
    for number in range(2):
        kit.draw(source / f"class0/photo{number}.jpg", 70 + number)
    shutil.copy(source / "class0/0.png", source / "class1/twin.png")
    (source / "class0/broken.png").write_bytes(b"junk")
    (source / "class0/0.txt").write_text("a caption")
    (source / "class0/metadata.csv").write_text("file_name,text\nphoto0.jpg,one\n0.png,two\n")
    (source / "notes.pdf").write_text("x")
    return source


def shares(kit: Any, source: Path, count: int = 3, **options: Any) -> list[Path]:
    made = []
    for number in range(1, count + 1):
        made.append(kit.root / f"share{number}")
        protect_folder(source, made[-1], **{**NOISE, **options}, shard=f"{number}/{count}")
    return made


def test_shares_joined_are_the_run(kit: Any, source: Path) -> None:
    protect_folder(source, kit.root / "whole", **NOISE)
    outputs = shares(kit, source)
    pictures = [{row["source"] for row in kit.rows(out) if row["status"] == "protected"} for out in outputs]
    assert all(pictures), "a share is empty: take other pictures"
    assert sum(map(len, pictures)) == len(set().union(*pictures)) == 15
    summary = merge_folders(outputs[::-1], kit.root / "joined")
    assert kit.result(kit.root / "joined") == kit.result(kit.root / "whole")
    one, other = (read_run_file(kit.root / name / "bitterant-run.json") for name in ("joined", "whole"))
    assert one is not None
    assert other is not None
    alike = ("plan", "settings", "seed", "versions", "counts", "stealth", "fit", "shard", "over_budget")
    assert [getattr(one, name) for name in alike] == [getattr(other, name) for name in alike]
    assert sorted(one.warnings) == sorted(other.warnings)
    assert one.repeat == other.repeat
    assert summary.counts == other.counts
    assert summary.exit_code == 1, "a picture is broken"
    again = merge_folders(outputs, kit.root / "joined")
    assert again.already_done
    assert again.counts == summary.counts
    # It is a finished run like any other.
    assert protect_folder(source, kit.root / "joined", **NOISE).already_done


def test_shares_go_by_content_and_not_by_names(kit: Any, source: Path) -> None:
    outputs = shares(kit, source)
    twins = [name for out in outputs for name in kit.tree(out) if name in ("class0/0.png", "class1/twin.png")]
    where = [{name in kit.tree(out) for name in ("class0/0.png", "class1/twin.png")} for out in outputs]
    assert len(twins) == 2
    assert all(len(found) == 1 for found in where), "the same bytes are in one share"
    assert [Shard.parse("2/3").holds(f"{value:016x}" + "0" * 48) for value in range(6)] == [0, 1, 0, 0, 1, 0]
    assert [Shard.parse(text).holds(None) for text in ("1/2", "2/2")] == [True, False]


def test_a_bank_is_applied_in_shares(kit: Any, source: Path) -> None:
    bank = TextureBank.of_classes(["class0", "class1"], bytes(range(16)))
    apply_folder(source, kit.root / "whole", bank=bank)
    outputs = [kit.root / "one", kit.root / "two"]
    for number, out in enumerate(outputs, start=1):
        apply_folder(source, out, bank=bank, shard=f"{number}/2")
    merge_folders(outputs, kit.root / "joined")
    assert kit.result(kit.root / "joined") == kit.result(kit.root / "whole")


def test_a_share_goes_on_as_it_was_begun(kit: Any, source: Path) -> None:
    stop, out = StopRequest(), kit.root / "out"

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done == 1:
            stop.request()

    with pytest.raises(Interrupted):
        protect_folder(source, out, **NOISE, workers=1, shard="1/2", stop=stop, progress=progress)
    for other in ("2/2", "1/3", None):
        with pytest.raises(ResumeError, match="shard was 1/2, is now"):
            protect_folder(source, out, **NOISE, shard=other)
    protect_folder(source, out, **NOISE, shard="1/2")
    assert protect_folder(source, out, **NOISE, shard="1/2").already_done
    with pytest.raises(ResumeError, match="shard was 1/2, is now not set"):
        protect_folder(source, out, **NOISE)
    protect_folder(source, kit.root / "straight", **NOISE, shard="1/2")
    assert kit.result(out) == kit.result(kit.root / "straight")


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/0", "-1/2"])
def test_what_is_no_share(kit: Any, source: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=f"shard {text} is no share"):
        protect_folder(source, kit.root / "out", **NOISE, shard=text)


def test_what_does_not_belong_together_is_refused(kit: Any, source: Path) -> None:
    outputs, joined = shares(kit, source), kit.root / "joined"
    with pytest.raises(ResumeError, match="shares 1/3, 3/3 of the run are missing"):
        merge_folders(outputs[1:2], joined)
    shutil.copytree(outputs[0], kit.root / "copy")
    with pytest.raises(ResumeError, match="both the share 1/3"):
        merge_folders([*outputs, kit.root / "copy"], joined)
    with pytest.raises(ConfigError, match="named twice"):
        merge_folders([*outputs, outputs[0]], joined)
    protect_folder(source, kit.root / "other", **NOISE, seed=1, shard="1/3")
    with pytest.raises(ResumeError, match="seed was 1, is now 0"):
        merge_folders([kit.root / "other", *outputs[1:]], joined)
    kit.draw(source / "class1/new.png", 99)
    protect_folder(source, kit.root / "more", **NOISE, shard="1/3")
    with pytest.raises(ResumeError, match="inputs and settings was"):
        merge_folders([kit.root / "more", *outputs[1:]], joined)
    protect_folder(source, kit.root / "whole", **NOISE)
    with pytest.raises(ResumeError, match="not a share"):
        merge_folders([kit.root / "whole", *outputs[1:]], joined)
    with pytest.raises(FolderError, match="Choose another folder"):
        merge_folders(outputs, outputs[0] / "in")
    with pytest.raises(FolderError, match="no folder"):
        merge_folders([kit.root / "none"], joined)
    with pytest.raises(ConfigError, match="Which folders"):
        merge_folders([], joined)
    assert not joined.exists()


def test_a_manifest_without_a_row_is_noticed(kit: Any, source: Path) -> None:
    outputs = shares(kit, source)
    manifest = outputs[1] / "bitterant-manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_bytes().splitlines()]
    rows[0]["source"] += "x"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ResumeError, match="do not hold the inputs"):
        merge_folders(outputs, kit.root / "joined")
    assert not (kit.root / "joined").exists()


def test_a_file_that_was_changed_is_not_joined_and_the_call_goes_on(kit: Any, source: Path) -> None:
    outputs, joined = shares(kit, source), kit.root / "joined"
    path = next(iter(sorted(outputs[2].rglob("*.png"))))
    data = path.read_bytes()
    path.write_bytes(data + b"x")
    with pytest.raises(ResumeError, match="was changed since it was protected"):
        merge_folders(outputs, joined)
    assert not (joined / "bitterant-manifest.jsonl").exists()
    path.write_bytes(data)
    merge_folders(outputs, joined)
    protect_folder(source, kit.root / "whole", **NOISE)
    assert kit.result(joined) == kit.result(kit.root / "whole")


def test_nothing_in_the_way_is_replaced(kit: Any, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outputs, joined = shares(kit, source), kit.root / "joined"
    joined.mkdir()
    (joined / "mine.txt").write_text("mine")
    with pytest.raises(ResumeError, match=r"mine\.txt"):
        merge_folders(outputs, joined)
    assert kit.tree(joined) == {"mine.txt": b"mine"}
    (joined / "mine.txt").unlink()
    (joined / "class0").mkdir()
    (joined / "class0/0.png").write_bytes(b"mine, too")
    with pytest.raises(FolderError, match="is in the way"):
        merge_folders(outputs, joined)
    assert (joined / "class0/0.png").read_bytes() == b"mine, too"
    (joined / "class0/0.png").unlink()
    # Killed between the manifest and the run file: the same call goes on.
    monkeypatch.setattr(merging, "write_report", lambda *args, **options: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        merge_folders(outputs, joined)
    monkeypatch.undo()
    merge_folders(outputs, joined)
    protect_folder(source, kit.root / "whole", **NOISE)
    assert kit.result(joined) == kit.result(kit.root / "whole")
    protect_folder(source, kit.root / "another", **NOISE, seed=1)
    with pytest.raises(FolderError, match="another run"):
        merge_folders(outputs, kit.root / "another")


def test_shares_that_would_draw_different_keys_are_refused(kit: Any, source: Path) -> None:
    options: dict[str, Any] = {"method": "texture", "device": "cpu"}
    with pytest.raises(ConfigError, match="--key-file"):
        protect_folder(source, kit.root / "share", **options, shard="1/2")
    assert not (kit.root / "share").exists()
    key = kit.root / "my.key"
    key.write_text("ab" * 32)
    outputs = [kit.root / "share1", kit.root / "share2"]
    for number, out in enumerate(outputs, start=1):
        protect_folder(source, out, **options, key_file=key, shard=f"{number}/2")
    protect_folder(source, kit.root / "whole", **options, key_file=key)
    merge_folders(outputs, kit.root / "joined")
    assert kit.result(kit.root / "joined") == kit.result(kit.root / "whole")
