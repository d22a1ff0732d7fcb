"""The dry run: counts are exact, estimates are of the right size, and nothing is written."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bitterant.errors import FolderError, LabelError
from bitterant.imaging import Entry, Picture, read_header, scan_folder
from bitterant.protect.folder import plan as plan_module
from bitterant.protect.folder import protect_folder
from bitterant.protect.folder.plan import Plan
from bitterant.records.text import spread

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "dry_run": True}


def noise(**options: Any) -> dict[str, Any]:
    """The cheap method, with some options changed."""
    return {**NOISE, **options}


def make(kit: Any, **options: Any) -> Plan:
    plan = protect_folder(kit.root / "src", kit.root / "out", **noise(**options))
    assert isinstance(plan, Plan)
    return plan


def test_counts_and_settings_are_exact_and_nothing_is_written(kit: Any) -> None:
    source = kit.folder(classes=3, each=4)
    kit.draw(source / "class0/photo.jpg", 1)
    kit.draw(source / "class0/called.png.jpg", 2)
    (source / "class0/png-inside.jpg").write_bytes((source / "class0/0.png").read_bytes())
    (source / "class1/bad.png").write_bytes(b"junk")
    (source / "class1/0.txt").write_text("x")
    (source / "notes.pdf").write_text("x")
    before = kit.tree(kit.root)
    plan = make(kit, granularity="class", epsilon=4 / 255)
    assert kit.tree(kit.root) == before
    assert not (kit.root / "out").exists()
    assert (plan.images, plan.captions, plan.skipped, plan.sampled) == (16, 1, 1, 16)
    assert plan.by_class == {"class0": 7, "class1": 5, "class2": 4}
    assert plan.by_format == {"PNG": 14, "JPEG": 2}
    assert plan.bytes_in == sum(entry.stat().st_size for entry in source.rglob("*.[pj][np]g"))
    assert (plan.method, plan.resolution) == ("noise", 64)
    assert plan.settings["granularity"] == "class"
    assert [problem.relative for problem in plan.problems] == ["class1/bad.png"]
    assert plan.seconds.read > 0
    assert plan.seconds.write > 0
    assert plan.peak_bytes > 50_000_000
    said = json.loads(json.dumps(plan.to_json()))
    assert said["seconds"]["total"] == pytest.approx(plan.seconds.total, abs=0.1)


@pytest.mark.parametrize("depth", ["", "garden/deep/"])
def test_a_method_that_needs_names_alone_is_measured_on_pictures_of_class_folders(kit: Any, depth: str) -> None:
    """On each of them: one that was left out of the measuring would be taken to cost nothing."""
    for index in range(8):
        kit.draw(kit.root / f"src/class{index % 2}/{depth}photo{index}.jpg", index, size=(120, 90))
    plan = make(kit, method="texture")
    protect_folder(kit.root / "src", kit.root / "out", device="cpu", method="texture")
    real = sum(path.stat().st_size for path in (kit.root / "out").rglob("*.png"))
    assert plan.bytes_out == pytest.approx(real, rel=0.25)
    assert plan.bytes_out > 1.5 * plan.bytes_in


def test_the_estimated_size_is_near_the_real_one(kit: Any) -> None:
    source = kit.folder(each=10)
    for index in range(5):
        kit.draw(source / f"class0/photo{index}.jpg", index, size=(120, 90))
    plan = make(kit)
    protect_folder(source, kit.root / "out", **noise(dry_run=False))
    real = sum(path.stat().st_size for path in (kit.root / "out").rglob("class*/*.png"))
    assert plan.bytes_out == pytest.approx(real, rel=0.25)


def test_estimates_grow_with_the_folder_not_with_the_sample(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kit.folder(each=20)
    calls: list[tuple[int, int]] = []

    class Counting:
        def __init__(self, method: Any) -> None:
            self.method = method

        def __getattr__(self, name: str) -> Any:
            return getattr(self.method, name)

        def estimate(self, dataset: Any, total: int) -> Any:
            calls.append((len(dataset), total))
            return self.method.estimate(dataset, total)

    from bitterant.protect.methods import create_method

    monkeypatch.setattr(plan_module, "_READ_SAMPLE", 8)
    plan = make(kit, method=Counting(create_method("noise", device="cpu")))
    assert calls == [(8, 40)]
    assert (plan.images, plan.sampled) == (40, 8)


def test_a_sample_meets_all_classes() -> None:
    entries = [Entry(f"c{i // 10}/{i}", Path(), i // 10, f"c{i // 10}", 1) for i in range(100)]
    picked = spread(entries, 10)
    assert {entry.class_name for entry in picked} == {f"c{i}" for i in range(10)}
    assert spread(entries[:3], 10) == entries[:3]


def test_the_state_of_the_output_is_told(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    source = kit.folder()
    protect_folder(source, kit.root / "out", **noise(dry_run=False))
    assert any("finished run" in text for text in make(kit).warnings)
    kit.draw(kit.root / "other/x.png", 1)
    plan = protect_folder(source, kit.root / "other", **NOISE)
    assert any("did not write" in text for text in plan.warnings)
    monkeypatch.setattr(plan_module.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    assert any("are needed" in text for text in make(kit).warnings)


def test_a_folder_of_junk_is_refused(kit: Any) -> None:
    (kit.root / "src/a").mkdir(parents=True)
    (kit.root / "src/a/x.png").write_bytes(b"junk")
    with pytest.raises(FolderError, match="could be read"):
        make(kit)


def unbalanced(kit: Any) -> None:
    """Two classes, of which an even spread meets only the large one."""
    kit.folder(classes=1, each=30)
    for index in range(2):
        kit.draw(kit.root / f"src/small/{index}.png", index)


def test_a_small_class_beside_a_large_one_is_in_the_sample(
    kit: Any, labelled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbalanced(kit)
    monkeypatch.setattr(plan_module, "_READ_SAMPLE", 4)
    assert {entry.class_name for entry in spread(scan_folder(kit.root / "src").entries, 4)} == {"class0"}
    plan = make(kit, method=labelled(device="cpu"))
    assert (plan.images, plan.sampled) == (32, 4)


def test_a_small_class_whose_first_picture_is_damaged_is_found(
    kit: Any, labelled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbalanced(kit)
    (kit.root / "src/small/0.png").write_bytes(b"junk")
    monkeypatch.setattr(plan_module, "_READ_SAMPLE", 4)
    plan = make(kit, method=labelled(device="cpu"))
    assert [problem.relative for problem in plan.problems] == ["small/0.png"]
    (kit.root / "src/small/1.png").write_bytes(b"junk")
    with pytest.raises(LabelError):
        make(kit, method=labelled(device="cpu"))


def test_picked_are_the_first_of_each_class_and_then_a_spread() -> None:
    entries = [Entry(f"a/{i:02}", Path(), 0, "a", 1) for i in range(50)] + [Entry("b/0", Path(), 1, "b", 1)]
    picked = plan_module._pick(entries, 10)
    assert len(picked) == 10
    assert picked == sorted(picked, key=lambda entry: entry.relative)
    assert {"a/00", "b/0"} < {entry.relative for entry in picked}
    assert max(int(entry.relative[2:]) for entry in picked if entry.class_name == "a") > 40
    many = [Entry(f"c{i:02}/0", Path(), i, f"c{i:02}", 1) for i in range(30)]
    assert len({entry.class_name for entry in plan_module._pick(many, 10)}) == 10


def test_the_memory_of_a_fit_is_counted(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two copies of the pictures (as read, in the order of the keys), float32 noise and the int16 bank."""
    kit.folder(each=20)
    monkeypatch.setattr(plan_module, "_memory_in_use", lambda: 0)
    assert make(kit, resolution=128).peak_bytes == (2 + 4 + 2) * 40 * 3 * 128**2


def test_samples_are_chosen_by_pixels(kit: Any) -> None:
    """Thumbnails all, photos as many as the pixels allow, one at least; from all over the folder."""
    kit.folder(classes=2, each=8)
    entries = scan_folder(kit.root / "src").entries
    header = read_header(entries[0].path)
    each = header.width * header.height
    assert plan_module._within(entries, 10**9) == list(entries)
    few = plan_module._within(entries, 4 * each)
    assert len(few) <= 4
    assert {entry.class_name for entry in few} == {"class0", "class1"}
    assert len(plan_module._within(entries, 0)) == 1


@pytest.mark.parametrize("count", [1, 2, 3, 7, 64, 100])
def test_every_beginning_of_the_scattered_order_is_spread(count: int) -> None:
    order = list(plan_module._scattered(count))
    assert sorted(order) == list(range(count))
    for length in (2, 4, 8):
        first = sorted(order[:length])
        if len(first) == length < count:
            assert max(after - before for before, after in pairwise(first)) <= 2 * count / length + 1


def test_an_excerpt_is_of_all_parts_and_says_how_much_it_left_out() -> None:
    rng = np.random.default_rng(0)
    small = Picture(rng.integers(0, 256, (700, 760, 3), dtype=np.uint8))
    assert plan_module._excerpt(small) == (small, 1.0)
    rows = np.arange(3000, dtype=np.uint16)
    tall = Picture(np.repeat(rows[:, None, None], 40, axis=1), bit_depth=16, white=4095)
    part, times = plan_module._excerpt(tall)
    assert part.pixels.shape == (768, 40, 1)
    assert (times, part.full_range) == (3000 / 768, 4095)
    thirds = np.bincount(part.pixels[:, 0, 0] // 1000, minlength=3)
    assert thirds.tolist() == [256, 256, 256]


def test_what_large_photos_take_is_measured_on_an_excerpt(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The estimate of OUT's size is near the truth, and no more of a photo is encoded than the excerpt."""
    rng = np.random.default_rng(1)
    for index in range(2):
        path = kit.root / f"src/class{index}/photo.png"
        path.parent.mkdir(parents=True)
        soft = Image.fromarray(rng.integers(0, 256, (30, 45, 3), dtype=np.uint8)).resize((1500, 1000))
        Image.fromarray(np.asarray(soft) // 2 + rng.integers(0, 9, (1000, 1500, 1), dtype=np.uint8)).save(path)
    encoded: list[int] = []
    real = plan_module.encode

    def encode(picture: Picture, *, format: str) -> bytes:
        encoded.append(picture.pixels.size)
        return real(picture, format=format)

    monkeypatch.setattr(plan_module, "encode", encode)
    plan = make(kit)
    assert encoded == [768 * 768 * 3] * 2
    protect_folder(kit.root / "src", kit.root / "out", **noise(dry_run=False))
    written = sum(path.stat().st_size for path in (kit.root / "out").rglob("*.png"))
    assert plan.bytes_out == pytest.approx(written, rel=0.1)


def test_a_method_that_looks_at_no_picture_is_rehearsed_with_its_own_noise(kit: Any) -> None:
    """Also in class folders: a rehearsal that finds no noise would foretell a copy as large as its original."""
    for index in range(4):
        kit.draw(kit.root / f"src/class{index % 2}/{index}.jpg", index, (90, 90), quality=60)
    plan = make(kit, method="texture")
    protect_folder(kit.root / "src", kit.root / "out", **noise(method="texture", dry_run=False))
    written = sum(path.stat().st_size for path in (kit.root / "out").rglob("*.png"))
    assert plan.bytes_out == pytest.approx(written, rel=0.1)
    assert plan.seconds.write > 0
