"""Machines of a Ray cluster write what one process writes, whichever of them is killed."""

from __future__ import annotations

import importlib.util
import os
import pickle
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitterant.cli import main
from bitterant.errors import ConfigError, Interrupted, SetupError, UnknownNameError
from bitterant.protect import TextureBank
from bitterant.protect.streams import apply_stream
from bitterant.protect.streams.cluster import Here
from bitterant.protect.streams.sources import Task
from bitterant.records.cluster import RayConnection
from bitterant.records.progress import StopRequest
from bitterant.records.stores import Item, LocalStore

from .conftest import records, samples, write_tar

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
SHARDS = 6


@pytest.fixture(scope="module")
def started() -> Iterator[RayConnection]:
    """A cluster of two workers, to which this process stays connected."""
    with RayConnection(None, workers=2) as made:
        yield made


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for number in range(SHARDS):
        write_tar(tmp_path / "shards" / f"p-{number:06d}.tar", samples(2, 2 * number))
    return tmp_path / "shards"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def noted(output: Path) -> list[dict[str, Any]]:
    """Rows of the manifest but for the time that they took."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in records(output)]


@with_ray
def test_the_copies_are_those_of_one_process(
    shards: Path, folder: Path, bank: Path, tmp_path: Path, started: RayConnection
) -> None:
    alone = apply_stream(shards, tmp_path / "alone", bank=bank)
    together = apply_stream(shards, tmp_path / "together", bank=bank, executor="ray")
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert noted(tmp_path / "together") == noted(tmp_path / "alone")
    assert (together.counts, together.tasks) == (alone.counts, SHARDS)
    again = apply_stream(shards, tmp_path / "together", bank=bank)
    assert again.resumed == SHARDS, "whoever did it, it is done"
    # Single pictures, by the command; the folders are the classes.
    apply_stream(f"file://{folder}", tmp_path / "pictures", bank=bank)
    assert main(("apply", str(folder), str(tmp_path / "by-command"), "--bank", str(bank), "--executor", "ray")) == 0
    assert contents(tmp_path / "by-command") == contents(tmp_path / "pictures")


@with_ray
@pytest.mark.skipif(sys.platform != "linux", reason="looks for the worker in /proc")
def test_a_killed_worker_is_replaced(shards: Path, bank: Path, tmp_path: Path, started: RayConnection) -> None:
    killed: list[int] = []

    def kill(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done > 0 and not killed:
            for place in Path("/proc").iterdir():
                if place.name.isdigit() and b"ray::_do" in (place / "cmdline").read_bytes():
                    os.kill(int(place.name), signal.SIGKILL)
                    killed.append(int(place.name))
                    return

    write_tar(tmp_path / "shards" / "q.tar", samples(300, 100))  # something has to be under way still
    apply_stream(shards, tmp_path / "alone", bank=bank)
    apply_stream(shards, tmp_path / "killed", bank=bank, executor="ray", progress=kill)
    assert killed
    assert contents(tmp_path / "killed") == contents(tmp_path / "alone")
    assert noted(tmp_path / "killed") == noted(tmp_path / "alone")


@with_ray
def test_a_stop_is_heard_and_the_rest_is_done_later(
    shards: Path, bank: Path, tmp_path: Path, started: RayConnection
) -> None:
    stop = StopRequest()

    def ask(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "write" and done > 0:
            stop.request()

    with pytest.raises(Interrupted, match="The same command goes on from there"):
        apply_stream(shards, tmp_path / "out", bank=bank, executor="ray", workers=1, progress=ask, stop=stop)
    left = apply_stream(shards, tmp_path / "out", bank=bank)
    assert 0 < left.resumed < SHARDS
    apply_stream(shards, tmp_path / "alone", bank=bank)
    assert contents(tmp_path / "out") == contents(tmp_path / "alone")


@with_ray
def test_a_bank_that_cannot_be_sent_is_told(
    shards: Path, book: TextureBank, tmp_path: Path, started: RayConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(bank: TextureBank) -> Any:
        raise TypeError("it holds a lock")

    monkeypatch.setattr(TextureBank, "__reduce__", refuse)
    with pytest.raises(ConfigError, match="cannot be sent to other machines: it holds a lock"):
        apply_stream(shards, tmp_path / "out", bank=book, executor="ray")


@pytest.mark.parametrize("name", ["dask", "processes", "ray:nowhere"])
def test_other_executors_are_refused(name: str, shards: Path, bank: Path, tmp_path: Path) -> None:
    with pytest.raises((UnknownNameError, ConfigError), match="executor"):
        apply_stream(shards, tmp_path / "out", bank=bank, executor=name)
    assert not (tmp_path / "out").exists()


# What a machine must have.


@pytest.fixture
def here(tmp_path: Path) -> Here:
    place = tmp_path / "out.bitterant"
    place.mkdir()
    (place / "run.json").write_bytes(b"the run")
    return Here.of(LocalStore(place), "run.json", b"the run")


def worker_over(store: LocalStore) -> Any:
    """What is looked at of a worker."""
    return SimpleNamespace(source=SimpleNamespace(store=store))


def test_a_machine_with_other_versions_is_refused(here: Here, folder: Path) -> None:
    store, task = LocalStore(folder), Task("t", (Item("cat/0000.jpg", (folder / "cat/0000.jpg").stat().st_size),))
    here.check(worker_over(store), task)
    other = replace(here, versions={**here.versions, "pillow": "1.0"})
    with pytest.raises(SetupError, match=r"pillow \S+ there, 1\.0 here"):
        other.check(worker_over(store), task)
    built = replace(here, versions={**here.versions, "torch": here.versions["torch"].partition("+")[0] + "+cu999"})
    built.check(worker_over(store), task)


def test_a_machine_that_sees_other_places_is_refused(here: Here, folder: Path, tmp_path: Path) -> None:
    item = Item("cat/0000.jpg", (folder / "cat/0000.jpg").stat().st_size)
    told = "does not see .* as this machine does. Give URLs"
    with pytest.raises(SetupError, match=told):
        replace(here, content=b"another").check(worker_over(LocalStore(folder)), Task("t", (item,)))
    with pytest.raises(SetupError, match=told):
        replace(here, records=LocalStore(tmp_path / "none")).check(worker_over(LocalStore(folder)), Task("t", (item,)))
    with pytest.raises(SetupError, match=told):
        here.check(worker_over(LocalStore(tmp_path)), Task("t", (item,)))


def test_a_folder_that_was_sent_is_looked_at_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    sent = pickle.dumps(LocalStore(Path(folder.name), follow_links=True))
    monkeypatch.chdir("/")
    found = pickle.loads(sent)
    assert found.follow_links
    assert len(list(found.listing())) == 6
    found.check()
