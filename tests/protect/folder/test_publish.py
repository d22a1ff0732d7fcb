"""What is published is what the manifest proves, and nothing else; a kill or a second call changes nothing."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import ConfigError, FolderError, Interrupted, ResumeError
from bitterant.protect.folder import StopRequest, protect_folder, publish, publish_folder
from bitterant.records.run_state import StateFiles

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16, "workers": 1}


def left(summary: publish.PublishSummary) -> dict[str, str]:
    return {item.name: item.reason for item in summary.left}


@pytest.fixture
def out(kit: Any) -> Path:
    """A finished folder of four pictures, with a text beside one."""
    source = kit.folder(classes=2, each=2)
    (source / "class0/0.txt").write_text("a caption")
    protect_folder(source, kit.root / "out", **NOISE)
    return kit.root / "out"


def test_pictures_and_their_captions_are_published_and_ours_stays(kit: Any, out: Path) -> None:
    before = kit.tree(out)
    summary = publish_folder(out, kit.root / "dest")
    found = kit.tree(kit.root / "dest")
    assert found == {name: data for name, data in before.items() if not name.startswith("bitterant-")}
    assert (summary.pictures, summary.companions, summary.new) == (4, 1, 5)
    assert summary.bytes == sum(len(data) for data in found.values())
    assert set(left(summary)) == {"bitterant-manifest.jsonl", "bitterant-report.html", "bitterant-run.json"}
    assert kit.tree(out) == before


def test_a_dry_run_says_the_same_and_writes_nothing(kit: Any, out: Path) -> None:
    plan = publish_folder(out, kit.root / "dest", tdmrep="/photos", dry_run=True)
    assert not (kit.root / "dest").exists()
    summary = publish_folder(out, kit.root / "dest", tdmrep="/photos")
    names = ("pictures", "companions", "bytes", "left")
    assert [getattr(plan, name) for name in names] == [getattr(summary, name) for name in names]
    json.dumps(plan.to_json())


def test_a_second_call_does_nothing(kit: Any, out: Path) -> None:
    publish_folder(out, kit.root / "dest")
    (kit.root / "dest/.DS_Store").write_text("litter")
    times = {path: path.stat().st_mtime_ns for path in (kit.root / "dest").rglob("*")}
    summary = publish_folder(out, kit.root / "dest")
    assert (summary.new, summary.pictures) == (0, 4)
    assert {path: path.stat().st_mtime_ns for path in (kit.root / "dest").rglob("*")} == times


def test_a_stopped_call_goes_on(kit: Any, out: Path) -> None:
    stop = StopRequest()

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done == 2:
            stop.request()

    with pytest.raises(Interrupted, match="2 of 5"):
        publish_folder(out, kit.root / "dest", progress=progress, stop=stop)
    assert len(kit.tree(kit.root / "dest")) == 2
    (kit.root / "dest/class0/.bitterant-tmp-0123").write_bytes(b"half a picture")
    assert publish_folder(out, kit.root / "dest").new == 3
    publish_folder(out, kit.root / "whole")
    assert kit.tree(kit.root / "dest") == kit.tree(kit.root / "whole")


# ------------------------------------------------------------------ what stays behind
def test_failed_and_foreign_files_stay_and_are_named(kit: Any) -> None:
    source = kit.folder(classes=2, each=2)
    (source / "class0/bad.png").write_bytes(b"junk")
    (source / "class0/bad.txt").write_text("its caption")
    (source / "class1/README.txt").write_text("about it all")
    (source / "notes.pdf").write_text("x")
    protect_folder(source, kit.root / "out", **NOISE)
    (kit.root / "out/class0/original.png").write_bytes((source / "class0/0.png").read_bytes())
    (kit.root / "out/mine.bank").write_bytes(b"secret")
    summary = publish_folder(kit.root / "out", kit.root / "dest")
    assert sorted(kit.tree(kit.root / "dest")) == ["class0/0.png", "class0/1.png", "class1/0.png", "class1/1.png"]
    reasons = left(summary)
    assert reasons["class0/bad.png"].startswith("failed: ")
    assert reasons["notes.pdf"].startswith("skipped: ")
    assert "not protected" in reasons["class0/bad.txt"]
    assert "belongs to no picture" in reasons["class1/README.txt"]
    assert reasons["class0/original.png"] == reasons["mine.bank"] == "bitterant did not write it"


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("extra", [None, "class0/bad.png", "../secret.png", "https://example.org/a.png"])
def test_tables_that_name_other_files_stay(kit: Any, kind: str, extra: str | None) -> None:
    source = kit.folder(classes=2, each=1)
    (source / "class0/bad.png").write_bytes(b"junk")
    names = ["class0/0.png", "class1/0.png", *([extra] if extra else [])]
    lines = [json.dumps({"file_name": name, "text": "t"}) for name in names]
    if kind == "csv":
        lines = ["file_name,text", *(f"{name},t" for name in names)]
    (source / f"metadata.{kind}").write_text("\n".join(lines) + "\n")
    protect_folder(source, kit.root / "out", **NOISE)
    summary = publish_folder(kit.root / "out", kit.root / "dest")
    assert (kit.root / f"dest/metadata.{kind}").exists() is (extra is None)
    if extra is not None:
        assert f"1 file not published: {extra}." in left(summary)[f"metadata.{kind}"]


def test_a_table_that_cannot_be_understood_stays(kit: Any) -> None:
    source = kit.folder(classes=2, each=1)
    (source / "metadata.jsonl").write_text('{"file_name": "class0/0.png"}\n{broken\n')
    protect_folder(source, kit.root / "out", **NOISE)
    summary = publish_folder(kit.root / "out", kit.root / "dest")
    assert "cannot be understood" in left(summary)["metadata.jsonl"]
    assert not (kit.root / "dest/metadata.jsonl").exists()


def test_label_maps_follow_their_pictures(kit: Any) -> None:
    for name in ("0", "1"):
        kit.draw(kit.root / f"src/images/{name}.png", int(name), size=(40, 40))
        mask = np.zeros((40, 40), np.uint8)
        mask[10:20] = 1
        (kit.root / "src/masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(kit.root / f"src/masks/{name}.png")
    (kit.root / "src/images/1.png").write_bytes(b"junk")
    protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    assert (kit.root / "out/masks/1.png").exists()
    summary = publish_folder(kit.root / "out", kit.root / "dest")
    assert sorted(kit.tree(kit.root / "dest")) == ["images/0.png", "masks/0.png"]
    assert "not protected" in left(summary)["masks/1.png"]


# ------------------------------------------------------------------ refusals
def test_an_unfinished_or_strange_folder_is_refused(kit: Any, out: Path) -> None:
    with pytest.raises(FolderError, match="no folder"):
        publish_folder(kit.root / "nowhere", kit.root / "dest")
    with pytest.raises(ResumeError, match="holds no run"):
        publish_folder(kit.root / "src", kit.root / "dest")
    (out / "bitterant-run.json").unlink()
    with pytest.raises(ResumeError):
        publish_folder(out, kit.root / "dest")
    assert not (kit.root / "dest").exists()


def test_an_interrupted_run_is_refused(kit: Any) -> None:
    stop = StopRequest()

    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done == 2:
            stop.request()

    with pytest.raises(Interrupted):
        protect_folder(kit.folder(), kit.root / "out", **NOISE, progress=progress, stop=stop)
    with pytest.raises(ResumeError, match="unfinished: run the same command"):
        publish_folder(kit.root / "out", kit.root / "dest")


@pytest.mark.parametrize("damage", ["changed", "gone", "linked", "caption", "manifest"])
def test_what_changed_since_it_was_checked_is_refused(kit: Any, out: Path, damage: str) -> None:
    path = out / "class0/0.png"
    if damage == "changed":
        path.write_bytes((kit.root / "src/class0/0.png").read_bytes())
    elif damage == "gone":
        path.unlink()
    elif damage == "linked":
        path.rename(kit.root / "elsewhere.png")
        path.symlink_to(kit.root / "elsewhere.png")
    elif damage == "caption":
        (out / "class0/0.txt").write_text("another")
    else:
        lines = (out / "bitterant-manifest.jsonl").read_bytes().splitlines(keepends=True)
        (out / "bitterant-manifest.jsonl").write_bytes(b"".join(lines[:-1]))
    with pytest.raises(ResumeError):
        publish_folder(out, kit.root / "dest")
    assert not (kit.root / "dest").exists()


@pytest.mark.parametrize("place", ["out", "out/dest", "."])
def test_a_destination_must_lie_apart(kit: Any, out: Path, place: str) -> None:
    before = kit.tree(kit.root)
    with pytest.raises(FolderError, match="lie apart"):
        publish_folder(out, kit.root / place)
    assert kit.tree(kit.root) == before


@pytest.mark.parametrize("name", ["mine.txt", "class0/0.png", "bitterant-report.html", ".hidden"])
def test_a_destination_with_other_things_is_refused_and_left_alone(kit: Any, out: Path, name: str) -> None:
    path = kit.root / "dest" / name
    path.parent.mkdir(parents=True)
    path.write_text("somebody's")
    with pytest.raises(FolderError, match="not among those"):
        publish_folder(out, kit.root / "dest")
    assert kit.tree(kit.root / "dest") == {name: b"somebody's"}


def test_a_destination_with_a_link_is_refused(kit: Any, out: Path) -> None:
    (kit.root / "dest").mkdir()
    (kit.root / "dest/class0").symlink_to(kit.root / "src", target_is_directory=True)
    before = kit.tree(kit.root / "src")
    with pytest.raises(FolderError, match="not among those"):
        publish_folder(out, kit.root / "dest")
    assert kit.tree(kit.root / "src") == before


def test_a_folder_under_way_is_not_published(kit: Any, out: Path) -> None:
    from bitterant.records.files import exclusive

    with exclusive(StateFiles(out).lock), pytest.raises(ResumeError, match="Another bitterant"):
        publish_folder(out, kit.root / "dest")
    assert not StateFiles(out).lock.exists()


def test_nothing_protected_is_nothing_to_publish(kit: Any) -> None:
    (kit.root / "src").mkdir()
    Image.new("RGBA", (20, 20)).save(kit.root / "src/0.png")
    kit.draw(kit.root / "src/1.png", 1)
    protect_folder(kit.root / "src", kit.root / "out", **NOISE)
    for row in kit.rows(kit.root / "out"):
        assert row["status"] == "protected"
    lines = (kit.root / "out/bitterant-manifest.jsonl").read_text().replace('"protected"', '"failed"')
    (kit.root / "out/bitterant-manifest.jsonl").write_text(lines)
    run = json.loads((kit.root / "out/bitterant-run.json").read_text())
    run["counts"].update(protected=0, failed=2)
    (kit.root / "out/bitterant-run.json").write_text(json.dumps(run))
    with pytest.raises(ConfigError, match="no protected picture"):
        publish_folder(kit.root / "out", kit.root / "dest")


# ------------------------------------------------------------------ reservation
@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/", "/*"),
        ("/photos", "/photos/*"),
        ("/photos/", "/photos/*"),
        ("/a%20b/*.png", "/a%20b/*.png"),
        ("/a$", "/a$"),
    ],
)
def test_the_reservation_says_where(kit: Any, out: Path, path: str, location: str) -> None:
    summary = publish_folder(out, kit.root / "dest", tdmrep=path)
    assert summary.tdmrep == kit.root / "dest/tdmrep.json"
    told = json.loads((kit.root / "dest/tdmrep.json").read_text())
    assert told == [{"location": location, "tdm-reservation": 1}]
    assert publish_folder(out, kit.root / "dest", tdmrep=path).new == 0


@pytest.mark.parametrize("path", ["photos", "https://example.org/photos", "", "/a b", "/a?b", "/a#b", "/a\n", "/%zz"])
def test_what_is_no_path_of_a_url_is_refused(kit: Any, out: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="no path of a URL"):
        publish_folder(out, kit.root / "dest", tdmrep=path)
    assert not (kit.root / "dest").exists()


def test_the_reservation_is_there_before_any_picture(kit: Any, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names: list[str] = []
    real = publish.write_atomic

    def noted(path: Path, data: bytes, **options: Any) -> None:
        names.append(path.name)
        real(path, data, **options)

    monkeypatch.setattr(publish, "write_atomic", noted)
    publish_folder(out, kit.root / "dest", tdmrep="/photos")
    assert names[0] == "tdmrep.json"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_published_all_the_same(kit: Any, out: Path) -> None:
    out.chmod(0o555)
    try:
        assert publish_folder(out, kit.root / "dest").pictures == 4
    finally:
        out.chmod(0o755)
