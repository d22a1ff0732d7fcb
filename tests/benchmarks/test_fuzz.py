"""The fuzzer, for some seconds: nothing that bitterant reads breaks on damaged files, and what breaks is caught."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bitterant.errors import BitterantError, ImageError
from bitterant.records.processes import tune_allocator

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's about damaged files
pytest.importorskip("pyarrow", reason="its tables are among what is damaged")
if not sys.platform.startswith("linux"):
    pytest.skip("needs the limits of Linux", allow_module_level=True)


@pytest.fixture(scope="module")
def targets(script: Any) -> Any:
    return script.make_targets()


def test_nothing_breaks_on_some_thousand_damaged_files(script: Any, targets: Any, tmp_path: Path) -> None:
    progress = script.run(targets, 2000, 7, tmp_path)
    assert progress.failures == {}, script.table(progress)
    assert progress.done == 2000
    assert set(progress.by_target) == set(targets)


def test_every_target_reads_what_is_sound(script: Any, targets: Any, tmp_path: Path) -> None:
    """Otherwise it would be damaged files alone that nothing breaks on."""
    for name, target in targets.items():
        read = 0
        for data in target.sound:
            with contextlib.suppress(BitterantError):  # a mode that no copy can have
                target.read(data, tmp_path)
                read += 1
        assert read or name == "report", name  # a whole one takes a training


def raises(error: Exception) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> None:
        raise error

    return read


def hide_a_slip(data: bytes, folder: Path) -> None:
    try:
        data.nothing  # type: ignore[attr-defined]
    except AttributeError as error:
        raise ImageError("x", "damaged") from error


def take_memory(data: bytes, folder: Path) -> None:
    bytearray(40 << 20)


def take_time(data: bytes, folder: Path) -> None:
    while True:
        time.process_time()


@pytest.mark.parametrize(
    ("read", "kind"),
    [
        (raises(KeyError("x")), "KeyError at test_fuzz.py:read"),
        (hide_a_slip, "hidden AttributeError at test_fuzz.py:hide_a_slip"),
        (take_memory, "memory in bad"),
        (take_time, "more than 0.2 s in bad"),
        (lambda data, folder: os.abort(), "died with -6 in bad"),
        (lambda data, folder: os._exit(3), "died with 3 in bad"),
    ],
)
def test_what_breaks_is_kept_and_the_rest_goes_on(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, kind: str
) -> None:
    tune_allocator()  # as other tests may have done before: freed memory is then kept
    bytearray(64 << 20)
    monkeypatch.setattr(script, "CPU_SECONDS", 0.2)
    monkeypatch.setattr(script, "MEMORY_KIB", 32 << 10)
    monkeypatch.setattr(script, "warm_up", lambda targets: None)
    bad = script.Target(read, (b"0123",), lambda rng, data, others: rng.randbytes(4))
    good = script.Target(lambda data, folder: None, (b"0123",), bad.damage)
    progress = script.run({"bad": bad, "good": good}, 12, 0, tmp_path)
    assert progress.done == 12
    assert set(progress.failures) == {kind}
    assert progress.failures[kind] == progress.by_target["bad"] > 0
    assert progress.by_target["good"] > 0
    kept = sorted((tmp_path / "failures").glob("*.bin"))
    assert 0 < len(kept) <= 3
    number = int(kept[0].stem.rpartition("-")[2])
    assert script.make_input({"bad": bad, "good": good}, 0, number) == ("bad", kept[0].read_bytes())


def test_a_run_goes_on_where_it_stopped(script: Any, targets: Any, tmp_path: Path) -> None:
    some = {name: targets[name] for name in ("manifest", "exif")}
    script.run(some, 50, 1, tmp_path / "parts")
    assert json.loads((tmp_path / "parts" / "progress-1.json").read_text())["done"] == 50
    parts, whole = script.run(some, 120, 1, tmp_path / "parts"), script.run(some, 120, 1, tmp_path / "whole")
    assert (parts.done, parts.by_target) == (120, whole.by_target)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("name", ["map", "state", "report", "captions", "manifest", "request", "table-jsonl"])
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(JSON, min_size=1, max_size=3))
def test_any_json(script: Any, targets: Any, tmp_path: Path, name: str, lines: list[Any]) -> None:
    data = b"\n".join(json.dumps(line).encode("utf-8", "surrogatepass") for line in lines)
    assert script.judge(targets[name], data, tmp_path) is None


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), choice=st.randoms(use_true_random=False))
def test_any_bytes(script: Any, targets: Any, tmp_path: Path, data: bytes, choice: random.Random) -> None:
    name = choice.choice(sorted(targets))
    head = choice.choice(targets[name].sound)[: choice.choice((0, 4, 40, 400))]
    assert script.judge(targets[name], head + data, tmp_path) is None
