"""Trainings on Ray: on a cluster that runs already, or on one that is started on this machine and ends with the run.

Its workers need none of this machine's files. What a task reads goes through Ray's object store, each array once, and
stays in memory there; a network that others go on from comes back with the result. Nothing but this process writes
what is kept, so a run whose own process was killed goes on where it stood.
"""

from __future__ import annotations

import logging
import pickle
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ConfigError, OutputError, SetupError
from ...imaging import write_atomic
from ...records.cluster import RETRIES, RayConnection, cause_of, differences, last_line
from ...records.processes import available_cpus
from ...surrogates.tasks import FileInMemory, FileTask
from ..facts import Node
from .cache import program_facts
from .executor import processor_name

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

_SHARE_OF_A_GPU = 0.01  # for a look at it


@dataclass(frozen=True)
class _Look:
    """What trains on a node.

    Attributes:
        program: see :func:`program_facts`.
    """

    program: Mapping[str, Any]
    cpu: str | None
    cpus: int
    device_name: str | None


class RayCluster(RayConnection):
    """The machines that train; see :class:`RayConnection`.

    Args:
        address: as there.
        workers: as there.
        device: ``auto``, ``cpu`` or ``cuda``. A training gets a whole GPU, or one CPU.

    Attributes:
        device: where trainings run: ``cpu`` or ``cuda``, which GPU is Ray's to choose.
        program: what trains, as :func:`program_facts`. Where nodes differ, all that was found.
        nodes: the machines, those alike together.
    """

    def __init__(self, address: str | None, *, workers: int | None = None, device: str = "auto") -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise ConfigError(
                f"On Ray the device is auto, cpu or cuda, not {device}: which GPU a training gets is Ray's to choose."
            )
        super().__init__(address, workers=workers, gpus=device != "cpu")
        self._asked = device
        self.device = "cpu"
        self.program: dict[str, Any] = {}
        self.nodes: tuple[Node, ...] = ()

    def executor(self) -> RayExecutor:
        """Who runs tasks here, see :class:`Executor`."""
        return RayExecutor(self)

    def options(self) -> dict[str, Any]:
        """What a training needs."""
        return {"num_cpus": 1, "num_gpus": 1 if self.device == "cuda" else 0, "max_retries": RETRIES}

    @property
    def resource(self) -> str:
        """What a training takes one of, as Ray calls it."""
        return "GPU" if self.device == "cuda" else "CPU"

    def inspect(self) -> None:
        """Settle the device, and see what would train on every node.

        Raises:
            SetupError: none has such a device, or one runs another version of bitterant, torch or what else decides
                about a training.
        """
        nodes, with_gpu = self.nodes_with("CPU"), self.nodes_with("GPU")
        if self._asked == "cuda" and not with_gpu:
            raise SetupError("No node of the Ray cluster has a GPU. Use --device cpu, or join a cluster with GPUs.")
        if not nodes:
            raise SetupError(
                "No node of the Ray cluster has a CPU for trainings. Start a worker with at least one: ray start."
            )
        self.device = "cuda" if with_gpu and self._asked != "cpu" else "cpu"
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self.ray.remote(_look)
        on_gpu = self.device == "cuda"
        looks = [
            remote.options(
                num_cpus=0,  # a node that is busy is looked at all the same
                num_gpus=_SHARE_OF_A_GPU if on_gpu else 0,
                max_retries=RETRIES,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node_id=node["NodeID"], soft=False),
            ).remote(self.device)
            for node in (with_gpu if on_gpu else nodes)
        ]
        try:
            found: list[_Look] = self.ray.get(looks)
        except self.ray.exceptions.RayError as error:
            raise SetupError(
                f"bitterant cannot run on a node of the Ray cluster: {last_line(cause_of(error))}. "
                "Install the same version of it, with the same extras, on every node."
            ) from error
        here = program_facts("cpu")
        for look in found:
            _refuse_others(look.program, here)
        self.program = _joined([look.program for look in found])
        alike = Counter(Node(count=1, **_told(look)) for look in found)
        self.nodes = tuple(node.model_copy(update={"count": count}) for node, count in alike.items())
        if len({look.program["instructions"] for look in found}) > 1:
            logger.warning(
                "The processors of the Ray cluster have different instructions (%s): the last digits of a figure may "
                "depend on which of them computed it.",
                self.program["instructions"],
            )


class RayExecutor:
    """Tasks as Ray's tasks; see :class:`Executor`. A task whose process or machine is lost is done again elsewhere."""

    def __init__(self, cluster: RayCluster) -> None:
        self._cluster, self._ray = cluster, cluster.ray
        self._expected = program_facts("cpu")
        self._perform = self._ray.remote(_perform).options(num_returns=2, **cluster.options())
        self._running: dict[Any, _Handed] = {}

    @property
    def name(self) -> str:
        """See :class:`Executor`."""
        return self._cluster.name

    @property
    def workers(self) -> int:
        """See :class:`Executor`."""
        return self._cluster.room(self._cluster.resource)

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See :class:`Executor`.

        Raises:
            SetupError: workers or nodes were lost again and again, or are not what was started with.
            ConfigError: a task cannot be sent to another machine.
        """
        waiting, sent = deque(enumerate(tasks)), _Sent(self._ray, tasks)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._cluster.limit(self._cluster.resource):
                    self._hand_over(function, *waiting.popleft(), sent)
                done, _ = self._ray.wait(list(self._running), num_returns=1)
                handed = self._running.pop(done[0])
                result, wrote = self._cluster.get(done[0], "training")
                if wrote and handed.checkpoint is not None:
                    _keep(handed.checkpoint, self._cluster.get(handed.network, "training"))
                yield handed.position, result
        finally:
            self.close()

    def close(self) -> None:
        """Stop what runs, at once."""
        running, self._running = list(self._running), {}
        self._cluster.cancel(running)

    def _hand_over(self, function: Callable[[T], R], position: int, task: T, sent: _Sent) -> None:
        paths = task.reads() if isinstance(task, FileTask) else ()
        checkpoint = _checkpoint(task)
        arrays = [sent.array(path) for path in paths]
        earlier = None if checkpoint is None else sent.network(checkpoint)
        try:
            outcome, network = self._perform.remote(function, task, self._expected, paths, earlier, *arrays)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ConfigError(
                f"A training cannot be sent to other machines: {last_line(error)}. "
                "Victims and adversaries of your own have to be made of what can be pickled; or use --executor serial."
            ) from error
        if checkpoint is not None:
            sent.expect(checkpoint, network)
        self._running[outcome] = _Handed(position, checkpoint, network)


@dataclass(frozen=True)
class _Handed:
    """A task that Ray has: its place among the others, and the network that it leaves."""

    position: int
    checkpoint: Path | None
    network: Any


class _Sent:
    """What tasks read, in the object store: put there when the first task needs it, let go with the last."""

    def __init__(self, ray: Any, tasks: Sequence[object]) -> None:
        self._ray = ray
        self._left: Counter[Path] = Counter()
        self._references: dict[Path, Any] = {}
        for task in tasks:
            if isinstance(task, FileTask):
                self._left.update(task.reads())
            if (checkpoint := _checkpoint(task)) is not None:
                self._left[checkpoint] += 1

    def array(self, path: Path) -> Any:
        """Reference to an array."""
        if path not in self._references:
            self._references[path] = self._ray.put(np.asarray(np.load(path, mmap_mode="r", allow_pickle=False)))
        return self._taken(path)

    def network(self, path: Path) -> Any:
        """Reference to the bytes of a checkpoint, also where another task is only about to write it; else ``None``."""
        if path not in self._references and path.is_file():
            self._references[path] = self._ray.put(path.read_bytes())
        return self._taken(path)

    def expect(self, path: Path, reference: Any) -> None:
        """Whoever needs this checkpoint waits for the task that writes it, and does not train it a second time."""
        if self._left[path] > 0:
            self._references.setdefault(path, reference)

    def _taken(self, path: Path) -> Any:
        self._left[path] -= 1
        return self._references.get(path) if self._left[path] > 0 else self._references.pop(path, None)


def _checkpoint(task: object) -> Path | None:
    """The file of the network that a task goes on from or leaves, on this machine."""
    found = task.checkpoint if isinstance(task, FileTask) else None
    return found if isinstance(found, Path) else None


# On a worker.


def _look(device: str) -> _Look:
    name = torch.cuda.get_device_name() if device == "cuda" else None
    return _Look(program_facts(device), processor_name(), available_cpus(), name)


def _perform(
    function: Callable[[Any], Any],
    task: Any,
    expected: Mapping[str, Any],
    paths: Sequence[Path],
    earlier: bytes | None,
    *arrays: NDArray[Any],
) -> tuple[tuple[Any, bool], bytes | None]:
    """Do a task where none of its files are, and none are to be left.

    Returns:
        What it gives, and whether it wrote its checkpoint; and the bytes of the checkpoint as it is now.
    """
    _refuse_others(program_facts("cpu"), expected)  # a node may have come later than the look at all
    torch.set_num_threads(1)
    if not isinstance(task, FileTask):
        return (function(task), False), None
    task = replace(task, at_hand=dict(zip(paths, arrays, strict=True)))
    if task.checkpoint is None:
        return (function(task), False), None
    kept = FileInMemory(task.checkpoint.name, earlier)
    result = function(replace(task, checkpoint=kept))
    return (result, kept.content != earlier), kept.content


# Versions.


def _refuse_others(there: Mapping[str, Any], here: Mapping[str, Any]) -> None:
    """A training by other code would be another training.

    Raises:
        SetupError: what decides about a training is not the same; builds of torch for other devices may differ.
    """
    different = differences(
        *({name: look[name] for name in ("bitterant", "torch")} | look["libraries"] for look in (there, here))
    )
    if not different and there["code"] != here["code"]:
        different = [f"another state of the code of bitterant {here['bitterant']}"]
    if different:
        raise SetupError(
            f"A node of the Ray cluster would train with other versions: {'; '.join(different)}. "
            "Install on every node what is installed here."
        )


def _joined(found: Sequence[Any]) -> Any:
    """Descriptions of several nodes as one: where they differ, all values that there are."""
    first = found[0]
    if isinstance(first, Mapping):
        return {name: _joined([other[name] for other in found]) for name in first}
    if all(other == first for other in found):
        return first
    return ", ".join(sorted({str(other) for other in found}))


def _told(look: _Look) -> dict[str, Any]:
    return {
        "cpu": look.cpu,
        "cpus": look.cpus,
        "device_name": look.device_name,
        "torch": look.program["torch"],
        "instructions": look.program["instructions"],
    }


def _keep(path: Path, network: bytes | None) -> None:
    if network is None:
        return
    try:
        write_atomic(path, network, overwrite=True, private=True)
    except OutputError as error:  # nothing is lost but time: whoever goes on from it trains it again
        logger.info("a trained network is not kept: %s", error)
