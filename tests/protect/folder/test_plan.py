"""The dry run: counts are exact, estimates are of the right size, and nothing is written."""

from __future__ import annotations

import json
from typing import Any

import pytest

from bitterant.errors import FolderError
from bitterant.protect.folder import plan as plan_module
from bitterant.protect.folder import protect_folder
from bitterant.protect.folder.plan import Plan

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
    from pathlib import Path

    from bitterant.imaging import Entry

    entries = [Entry(f"c{i // 10}/{i}", Path(), i // 10, f"c{i // 10}", 1) for i in range(100)]
    picked = plan_module._spread(entries, 10)
    assert {entry.class_name for entry in picked} == {f"c{i}" for i in range(10)}
    assert plan_module._spread(entries[:3], 10) == entries[:3]


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
