"""A file that takes too long is named, and fails with the reason; the others are protected as ever."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import pytest

from bitterant.imaging import decoders
from bitterant.protect import TextureBank, apply_folder, protect_folder
from bitterant.records import threads

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16}


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a decoder hang on a file until the test is over."""
    over = threading.Event()
    monkeypatch.setattr(threads, "_LOOK_EVERY", 0.02)
    monkeypatch.setattr(threads, "TOLD_AFTER", 0.1)

    def hang(name: str) -> None:
        real = decoders.decode

        def decode(*args: Any, **options: Any) -> Any:
            if options.get("name") == name:
                over.wait(60)
            return real(*args, **options)

        monkeypatch.setattr(decoders, "decode", decode)

    yield hang
    over.set()


def told_of(calls: list[str]) -> Any:
    def progress(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "slow":
            calls.append(message)

    return progress


def test_a_file_that_hangs_while_it_is_written(kit: Any, hanging: Any) -> None:
    source, out, calls = kit.folder(), kit.root / "out", []
    bank = TextureBank.of_classes(["class0", "class1"], bytes(range(16)))
    apply_folder(source, kit.root / "without", bank=bank)
    hanging("class0/1.png")
    options: dict[str, Any] = {"bank": bank, "workers": 2, "max_seconds_per_file": 1.0}
    summary = apply_folder(source, out, progress=told_of(calls), **options)
    assert summary.exit_code == 1
    assert [(problem.relative, problem.reason[:23]) for problem in summary.problems] == [
        ("class0/1.png", "took longer than 1 seco")
    ]
    assert "class0/1.png takes long: 0 seconds so far. It counts as failed after 1 seconds" in calls[0]
    expected = kit.tree(kit.root / "without")
    assert {name for name in expected if name not in kit.tree(out)} == {"class0/1.png"}
    assert all(expected[name] == data for name, data in kit.tree(out).items() if name.startswith("class"))
    assert sorted(path.name for path in out.rglob(".*")) == []


def test_a_file_that_hangs_while_a_fit_reads_it(kit: Any, labelled: Any, hanging: Any) -> None:
    calls: list[str] = []
    hanging("class1/0.png")
    options: dict[str, Any] = {"method": labelled(device="cpu"), "resolution": 16, "workers": 2}
    summary = protect_folder(
        kit.folder(), kit.root / "out", **options, max_seconds_per_file=1.0, progress=told_of(calls)
    )
    assert summary.counts == {"protected": 5, "copied": 0, "skipped": 0, "failed": 1}
    (row,) = [row for row in kit.rows(kit.root / "out") if row["status"] == "failed"]
    assert row["source"] == "class1/0.png"
    assert "--max-seconds-per-file" in row["reason"]
    assert "takes long" in calls[0]


def test_one_worker_goes_on_after_a_file_that_hangs(kit: Any, hanging: Any) -> None:
    source = kit.folder()
    hanging("class0/0.png")
    summary = protect_folder(source, kit.root / "out", **NOISE, workers=1, max_seconds_per_file=1.0)
    assert (summary.counts["protected"], summary.counts["failed"]) == (5, 1)
    assert Path(kit.root / "out/class1/2.png").is_file()


def test_a_large_file_that_hangs_is_ended_with_its_process(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the process that decodes it nor the thread that waited for it outlives the run."""
    made: list[Any] = []

    class Child(decoders._Child):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    start = (
        "import sys, time; sys.path[:] = sys.argv[1:]; import {0} as here; real = here.decode; "
        "here.decode = lambda *a, **k: time.sleep(600) if k['name'] == 'class0/1.png' else real(*a, **k); here.serve()"
    )
    monkeypatch.setattr(decoders, "_Child", Child)
    monkeypatch.setattr(decoders, "_START", start)
    monkeypatch.setattr(decoders, "LARGE_PIXELS", 0)
    monkeypatch.setattr(threads, "_LOOK_EVERY", 0.02)
    source, out = kit.folder(), kit.root / "out"
    bank = TextureBank.of_classes(["class0", "class1"], bytes(range(16)))
    before = set(threading.enumerate())
    summary = apply_folder(source, out, bank=bank, workers=2, max_seconds_per_file=1.0)
    assert (summary.counts["protected"], summary.counts["failed"]) == (5, 1)
    assert [problem.relative for problem in summary.problems] == ["class0/1.png"]
    assert len(made) in (2, 3)  # one a thread, and one for the thread that took the place of the first
    for thread in set(threading.enumerate()) - before:
        thread.join(20)
        assert not thread.is_alive()
    gc.collect()
    assert not [child for child in made if child.alive]
