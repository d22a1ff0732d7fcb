"""A Ray cluster gives what one process gives, whoever is killed; and what it cannot do it says in plain words."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from bitterant.attacks import VerificationReport, verify_folder
from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.training import check_victim
from bitterant.attacks.training import cluster as training_cluster
from bitterant.attacks.training.cache import program_facts
from bitterant.attacks.training.cells import Cell, CellTask
from bitterant.attacks.training.cluster import RayCluster, _joined, _refuse_others, _Sent
from bitterant.attacks.training.store import Inputs
from bitterant.errors import ConfigError, SetupError, UnknownNameError
from bitterant.imaging import ImageSet

with_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
can_kill = pytest.mark.skipif(sys.platform == "win32", reason="no signals, and no ps")

OF_THE_CLOCK = {"created", "wall_seconds", "seconds", "reused_cells"}
OF_THE_EXECUTOR = {"executor", "workers", "nodes"}
PATIENCE = 240.0
Plant = Callable[..., ImageSet]


def within(seconds: float, what: Callable[[], bool]) -> bool:
    """Whether it comes true in that time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def processes() -> dict[int, tuple[int, str]]:
    """Parent and title of every process that is not a zombie."""
    told = subprocess.run(["ps", "-ewwo", "pid,ppid,stat,args"], capture_output=True, text=True, check=True).stdout
    rows = (line.split(None, 3) for line in told.splitlines()[1:])
    return {int(row[0]): (int(row[1]), row[3]) for row in rows if not row[2].startswith("Z")}


def below(parent: int) -> dict[int, str]:
    """The processes that one has started, and theirs."""
    known, found, new = processes(), {}, {parent}
    while new:
        new = {pid for pid, (above, _) in known.items() if above in new and pid not in found}
        found.update({pid: known[pid][1] for pid in new})
    return found


# The same report.


@dataclass(frozen=True)
class Material:
    """Folders to verify, and what one process makes of them."""

    root: Path
    options: Mapping[str, Any]

    def run(self, name: str, **options: Any) -> VerificationReport:
        return verify_folder(
            self.root / "clean", self.root / "protected", report=self.root / name, **{**self.options, **options}
        )

    def command(self, name: str, executor: str, **options: Any) -> list[str]:
        config = VerifyConfig.of({**self.options, "report": self.root / name, **options})
        return [sys.executable, "-m", "bitterant", "verify", str(self.root / "clean"), str(self.root / "protected"),
                *config.words(), "--executor", executor]  # fmt: skip

    def timeless(self, name: str) -> Any:
        """A report without what depends on the clock, on who trained, and on its own place."""
        report = json.loads((self.root / name / "report.json").read_text(encoding="utf-8"))
        del report["command"]

        def strip(value: Any) -> Any:
            if isinstance(value, dict):
                left = value.keys() - OF_THE_CLOCK - OF_THE_EXECUTOR
                return {name: strip(inner) for name, inner in value.items() if name in left}
            return [strip(inner) for inner in value] if isinstance(value, list) else value

        return strip(report)

    def tables(self, name: str) -> dict[str, Any]:
        """The tables beside a report, and the networks that were kept."""
        folder = self.root / name
        tables = [folder / table for table in ("predictions.npz", "plan.json", "stealth.csv", "curves.csv")]
        networks = {path.name: load_file(path) for path in folder.glob("cells/*.safetensors")}
        assert networks
        weights = {name: {key: value.tolist() for key, value in found.items()} for name, found in networks.items()}
        return {path.name: path.read_bytes() for path in tables} | weights

    def kept(self, name: str) -> int:
        return len(list((self.root / name / "cells").glob("*.npz")))


@pytest.fixture(scope="module")
def material(
    tmp_path_factory: pytest.TempPathFactory, make_set: Any, plant: Plant, write_folder: Callable[..., Path]
) -> Material:
    root = tmp_path_factory.mktemp("ray")
    clean = make_set(12, 0)
    write_folder(clean, root / "clean")
    write_folder(plant(clean), root / "protected")
    write_folder(make_set(12, 1), root / "test")
    options = {
        "test": root / "test", "victims": ["small-cnn"], "adversaries": ["jpeg:10", "recover:0.5", "last-layer:0.5"],
        "seeds": 2, "epochs": 0.5, "resolution": 16, "device": "cpu", "epsilon": 8 / 255,
    }  # fmt: skip
    made = Material(root, options)
    made.run("serial", executor="serial")
    return made


@pytest.fixture(scope="module")
def started() -> Iterator[RayCluster]:
    """A cluster of two workers, to which this process stays connected."""
    with RayCluster(None, workers=2, device="cpu") as made:
        yield made


@with_ray
def test_the_report_is_that_of_one_process(material: Material, started: RayCluster) -> None:
    report = material.run("ray", executor="ray")
    assert material.timeless("ray") == material.timeless("serial")
    assert material.tables("ray") == material.tables("serial"), "networks too, which came back from the workers"
    there = report.environment
    assert (there.executor, there.workers) == (started.name, 2)
    assert [(node.count, node.cpus) for node in there.nodes] == [(1, there.cpus)]
    assert material.run("ray", executor="serial").reused_cells == len(report.cells), "kept for every executor"


@with_ray
@can_kill
def test_a_killed_worker_is_replaced(material: Material, started: RayCluster) -> None:
    killed: list[int] = []

    def kill(stage: str, done: float, total: float, message: str = "", /) -> None:
        if stage == "verify" and not killed and not message.startswith(("0/", "1/")):
            at_work = [pid for pid, title in below(os.getpid()).items() if title.startswith("ray::_perform")]
            for pid in at_work[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    report = material.run("killed", executor="ray", progress=kill)
    assert killed
    assert report.reused_cells == 0
    assert material.timeless("killed") == material.timeless("serial")
    assert material.tables("killed") == material.tables("serial")


@with_ray
@can_kill
def test_a_killed_driver_goes_on_from_what_is_kept(material: Material, started: RayCluster) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    with subprocess.Popen(material.command("joined", f"ray:{address}"), stderr=subprocess.PIPE, text=True) as driver:
        within(PATIENCE, lambda: material.kept("joined") > 0 or driver.poll() is not None)
        driver.kill()
        told = driver.communicate()[1]
    kept = material.kept("joined")
    assert kept > 0, told
    assert not (material.root / "joined" / "report.json").exists(), told
    resumed = material.run("joined", executor="ray")
    assert resumed.reused_cells == kept < len(resumed.cells)
    assert material.timeless("joined") == material.timeless("serial")


@with_ray
@can_kill
def test_an_interrupt_ends_the_run_and_the_cluster_that_was_started(material: Material) -> None:
    place = Path(tempfile.mkdtemp(dir="/tmp"))
    around = {**os.environ, "TMPDIR": str(place)}
    words = material.command("interrupted", "ray", epochs=50)  # it must not end before it is interrupted
    driver = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=around)
    try:
        within(PATIENCE, lambda: material.kept("interrupted") > 0 or driver.poll() is not None)
        theirs = below(driver.pid)
        assert any("raylet" in title for title in theirs.values()), driver.poll() and driver.communicate()
        assert list(place.glob("bitterant-ray-*"))
        driver.send_signal(signal.SIGINT)
        told = driver.communicate(timeout=PATIENCE)[1]
    finally:
        driver.kill()
    assert driver.returncode == 130, told
    assert "goes on from there" in told
    assert within(30, lambda: not theirs.keys() & processes().keys()), "processes are left"
    assert list(place.iterdir()) == []
    place.rmdir()


# Tasks.


@with_ray
def test_errors_come_back_as_themselves(started: RayCluster) -> None:
    executor = started.executor()
    assert dict(executor.run(math.sqrt, [4.0, 9.0, 16.0])) == {0: 2.0, 1: 3.0, 2: 4.0}
    with pytest.raises(UnknownNameError, match="Did you mean 'small-cnn'") as found:
        list(executor.run(check_victim, ["smal-cnn"]))
    assert (type(found.value), found.value.name) == (UnknownNameError, "smal-cnn")
    with pytest.raises(ValueError, match="invalid literal") as other:
        list(executor.run(int, ["1", "x"]))
    assert type(other.value) is ValueError


@with_ray
def test_what_kills_every_worker_ends_the_run(started: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_cluster, "RETRIES", 0)
    with pytest.raises(SetupError, match="lost again and again"):
        list(started.executor().run(os._exit, [3]))


@with_ray
def test_what_cannot_be_sent_is_refused(started: RayCluster) -> None:
    with pytest.raises(ConfigError, match="cannot be sent to other machines"):
        list(started.executor().run(next, [iter([threading.Lock()])]))


@with_ray
def test_closing_does_not_wait_for_running_tasks(started: RayCluster) -> None:
    executor = started.executor()
    running = executor.run(time.sleep, [0.0, 600.0, 600.0])
    assert next(running) == (0, None)
    begun = time.monotonic()
    executor.close()
    assert dict(executor.run(math.sqrt, [4.0])) == {0: 2.0}, "the workers are free"
    assert time.monotonic() - begun < PATIENCE


class Store:
    """Stands for Ray's object store."""

    def __init__(self) -> None:
        self.put_in: list[Any] = []

    def put(self, value: Any) -> str:
        self.put_in.append(value)
        return f"reference {len(self.put_in)}"


def a_task(folder: Path, arrays: list[str], checkpoint: Path | None = None) -> CellTask:
    paths = [folder / f"{name}.npy" for name in arrays]
    for path in paths:
        np.save(path, np.arange(3))
    inputs = Inputs(paths[0], paths[1], paths[2], paths[3], classes=2)
    return CellTask(Cell("clean", "none", "a", 0, 0), "network", None, inputs, "cpu", 1, checkpoint=checkpoint)


def test_an_array_is_sent_once_and_let_go_after_its_last_task(tmp_path: Path) -> None:
    tasks = [a_task(tmp_path, list("abcd")), a_task(tmp_path, list("ebcd"))]
    store = Store()
    sent = _Sent(store, tasks)
    first, second = ([sent.array(path) for path in task.reads()] for task in tasks)
    assert len(store.put_in) == 5
    assert first[1:] == second[1:]
    assert first[0] != second[0]
    assert sent._references == {}


def test_a_network_comes_from_its_file_or_from_the_task_that_writes_it(tmp_path: Path) -> None:
    path = tmp_path / "network"
    tasks = [a_task(tmp_path, list("abcd"), path) for _ in range(3)]
    sent = _Sent(Store(), tasks)
    assert sent.network(path) is None
    sent.expect(path, "from the first")
    assert sent.network(path) == "from the first"
    sent.expect(path, "from the second")
    assert sent.network(path) == "from the first"
    path.write_bytes(b"weights")
    store = Store()
    sent = _Sent(store, tasks)
    assert {sent.network(path) for _ in tasks} == {"reference 1"}
    assert store.put_in == [b"weights"]


# What is refused.


@pytest.mark.parametrize(
    "name",
    ["rey", "ray:", "ray:auto:", "ray:local", "ray:10.0.0.1", "ray:host:0", "ray:host:99999", "ray://host:1", "RAY",
     "ray:a b:1", "ray:http://host:1", "ray:host:१", "processes:2", "", "ray:auto\n"],
)  # fmt: skip
def test_a_bad_executor_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"ray:ADDRESS|ray alone starts one"):
        VerifyConfig.of({"executor": name})


@pytest.mark.parametrize(
    ("name", "address"),
    [("ray", None), ("ray:auto", "auto"), ("ray:127.0.0.1:6379", "127.0.0.1:6379"), ("ray:[::1]:6379", "[::1]:6379"),
     ("ray:ray://head.lab:10001", "ray://head.lab:10001")],
)  # fmt: skip
def test_an_address_is_taken(name: str, address: str | None) -> None:
    config = VerifyConfig.of({"executor": name})
    assert (config.on_ray, config.cluster_address) == (True, address)
    assert "executor" not in config.command(Path("a"), Path("b")), "the result does not depend on it"


def test_serial_is_one_at_a_time(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--workers asks for 4"):
        verify_folder(tmp_path, tmp_path, executor="serial", workers=4)


@pytest.mark.parametrize("device", ["cuda:1", "mps"])
def test_which_gpu_is_for_ray_to_choose(device: str) -> None:
    with pytest.raises(ConfigError, match="Ray's to choose"):
        RayCluster(None, device=device)


@with_ray
def test_one_process_is_in_one_cluster(started: RayCluster) -> None:
    with pytest.raises(ConfigError, match="connected to a Ray cluster already"), RayCluster("auto"):
        pass
    with RayCluster(None) as again:
        assert again.nodes == started.nodes
    assert dict(started.executor().run(math.sqrt, [4.0])) == {0: 2.0}, "it was left as it was"


# Versions.


def test_other_versions_and_other_code_are_refused() -> None:
    here = program_facts("cpu")
    _refuse_others({**here, "torch": f"{here['torch'].partition('+')[0]}+cu999", "device": "cuda"}, here)
    with pytest.raises(SetupError, match=r"torch 1\.0 there"):
        _refuse_others({**here, "torch": "1.0"}, here)
    with pytest.raises(SetupError, match="timm not installed there"):
        _refuse_others({**here, "libraries": {**here["libraries"], "timm": None}}, here)
    with pytest.raises(SetupError, match="another state of the code"):
        _refuse_others({**here, "code": "0"}, here)


@with_ray
def test_a_node_with_other_versions_ends_the_run(started: RayCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that came after the cluster was looked at."""
    monkeypatch.setattr(training_cluster, "program_facts", lambda device: {**program_facts(device), "torch": "1.0"})
    executor = started.executor()
    with pytest.raises(SetupError, match=r"there, 1\.0 here"):
        list(executor.run(math.sqrt, [4.0]))


def test_nodes_that_differ_are_known_by_all_they_have() -> None:
    first = {"torch": "2", "instructions": "AVX512", "libraries": {"timm": "1"}}
    assert _joined([first, first]) == first
    assert _joined([first, {**first, "instructions": "AVX2"}]) == {**first, "instructions": "AVX2, AVX512"}


def test_a_cluster_without_a_gpu_is_not_asked_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nodes:
        def __init__(self, resources: dict[str, float]) -> None:
            self.resources = resources

        def nodes(self) -> list[dict[str, Any]]:
            return [{"Alive": True, "Resources": self.resources}]

    for resources, device, said in (({"CPU": 8.0}, "cuda", "has a GPU"), ({}, "auto", "has a CPU")):
        made = RayCluster(None, device=device)
        made.ray = Nodes(resources)
        with pytest.raises(SetupError, match=said):
            made.inspect()
