"""Trainings on Ray: on a cluster that runs already, or on one that is started on this machine and ends with the run.

Its workers need none of this machine's files. What a task reads goes through Ray's object store, each array once, and
stays in memory there; a network that others go on from comes back with the result. Nothing but this process writes
what is kept, so a run whose own process was killed goes on where it stood.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import pickle
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import BitterantError, ConfigError, OutputError, SetupError
from ...imaging import write_atomic
from ...records.text import counted
from ...surrogates.tasks import FileInMemory, FileTask
from ..facts import Node
from .cache import program_facts
from .executor import available_cpus, processor_name

logger = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")

RETRIES = 3
"""How often a training is begun anew whose process or machine was lost. One that kills whatever runs it has to end."""

_AHEAD = 2  # trainings handed over for each that can run: none waits for this process, and few arrays wait in memory
_REACHED_WITHIN = 10.0  # seconds
_LONGEST_PLACE = 16  # letters: below it Ray makes sockets, whose paths may have 103 on macOS
_SHARE_OF_A_GPU = 0.01  # for a look at it
_HERE = ("127.0.0.1", "localhost", "::1")
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told that or how it is used
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what it will do by default, and otherwise announces
}


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


class RayCluster:
    """A connection to a cluster, as a context: joined ones are left as they are, one that was started here is stopped.

    Where this process is connected already and no address is given, that connection is used, and left.

    Args:
        address: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; ``None`` starts a cluster on this machine, which
            listens to no other.
        workers: trainings at the same time, at most; ``None`` for all that the cluster has room for.
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
        self._address, self._workers, self._asked = address, workers, device
        self._ray: Any = None
        self._place: Path | None = None
        self._leave = False
        self.device = "cpu"
        self.program: dict[str, Any] = {}
        self.nodes: tuple[Node, ...] = ()

    def __enter__(self) -> RayCluster:
        """Connect, and look at every node.

        Raises:
            ConfigError: this process is connected to another cluster.
            SetupError: Ray is not installed; the cluster cannot be reached, has no such device, or runs another
                version of bitterant, torch or what else decides about a training.
        """
        with _settings():
            self._ray = _import_ray()
        try:
            if not self._ray.is_initialized():
                self._leave = True
                self._connect()
            elif self._address is not None:
                raise ConfigError(
                    f"This process is connected to a Ray cluster already, so it cannot join {self._address}. Leave out "
                    "the address to use that cluster, or call ray.shutdown() first."
                )
            self._inspect()
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()

    @property
    def name(self) -> str:
        """What runs the trainings, for reports."""
        return f"ray {self._ray.__version__}"

    @property
    def slots(self) -> int:
        """Trainings that can run at the same time now; a cluster may grow."""
        room = int(self._ray.cluster_resources().get(self._resource, 0))
        return max(1, room if self._workers is None else min(room, self._workers))

    @property
    def limit(self) -> int:
        """Trainings that are handed over at the same time."""
        return self._workers if self._workers is not None else _AHEAD * self.slots

    def executor(self) -> RayExecutor:
        """Who runs tasks here, see :class:`Executor`."""
        return RayExecutor(self, self._ray)

    def options(self) -> dict[str, Any]:
        """What a training needs."""
        return {"num_cpus": 1, "num_gpus": 1 if self.device == "cuda" else 0, "max_retries": RETRIES}

    @property
    def _resource(self) -> str:
        return "GPU" if self.device == "cuda" else "CPU"

    # Connecting.

    def _connect(self) -> None:
        if self._address is not None:
            _check_reached(self._address)
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            with _terminating_as_before(), _settings(), _loopback(self._address):
                if self._address is None:
                    self._start(quiet)
                else:
                    self._ray.init(address=self._address, **quiet)
        except (OSError, RuntimeError, ValueError, AssertionError, ImportError, self._ray.exceptions.RayError) as error:
            raise SetupError(self._trouble(error)) from error

    def _start(self, quiet: Mapping[str, Any]) -> None:
        base = tempfile.gettempdir()
        if os.name == "posix" and len(base) > _LONGEST_PLACE:
            base = "/tmp"
        self._place = Path(tempfile.mkdtemp(prefix="bitterant-ray-", dir=base))
        self._ray.init(
            address="local",
            num_cpus=self._workers or available_cpus(),
            num_gpus=0 if self._asked == "cpu" else None,
            include_dashboard=False,
            _temp_dir=str(self._place),
            **quiet,
        )
        heard_at = {node["NodeManagerAddress"] for node in self._ray.nodes()}
        if not all(address.startswith("127.") or address == "::1" for address in heard_at):
            logger.warning("This version of Ray listens to the network too, at %s.", ", ".join(sorted(heard_at)))

    def _trouble(self, error: BaseException) -> str:
        said = _last_line(error)
        if self._address is None:
            return f"No Ray cluster could be started on this machine: {said}. Without Ray: --executor processes."
        if isinstance(error, ImportError):
            return f"Ray needs a package to join {self._address}: {said}. pip install 'bitterant[ray]' brings it."
        return (
            f"The Ray cluster at {self._address} cannot be joined: {said}. "
            "Check the address, that the same versions of Python and Ray run there, and that this machine has the "
            "cluster's token where it asks for one (RAY_AUTH_MODE=token, ~/.ray/auth_token)."
        )

    def _disconnect(self) -> None:
        if self._leave:
            self._leave = False
            try:
                with _terminating_as_before():
                    self._ray.shutdown()
            finally:
                if self._place is not None:
                    shutil.rmtree(self._place, ignore_errors=True)  # the logs of a cluster that is gone
                    self._place = None

    # Who trains.

    def _inspect(self) -> None:
        """Settle the device, and see what would train on every node."""
        nodes = [node for node in self._ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
        with_gpu = [node for node in nodes if node["Resources"].get("GPU", 0) >= 1]
        if self._asked == "cuda" and not with_gpu:
            raise SetupError("No node of the Ray cluster has a GPU. Use --device cpu, or join a cluster with GPUs.")
        if not nodes:
            raise SetupError(
                "No node of the Ray cluster has a CPU for trainings. Start a worker with at least one: ray start."
            )
        self.device = "cuda" if with_gpu and self._asked != "cpu" else "cpu"
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        remote = self._ray.remote(_look)
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
            found: list[_Look] = self._ray.get(looks)
        except self._ray.exceptions.RayError as error:
            raise SetupError(
                f"bitterant cannot run on a node of the Ray cluster: {_last_line(_cause(error))}. "
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

    def __init__(self, cluster: RayCluster, ray: Any) -> None:
        self._cluster, self._ray = cluster, ray
        self._expected = program_facts("cpu")
        self._perform = ray.remote(_perform).options(num_returns=2, **cluster.options())
        self._running: dict[Any, _Handed] = {}

    @property
    def name(self) -> str:
        """See :class:`Executor`."""
        return self._cluster.name

    @property
    def workers(self) -> int:
        """See :class:`Executor`."""
        return self._cluster.slots

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See :class:`Executor`.

        Raises:
            SetupError: workers or nodes were lost again and again, or are not what was started with.
            ConfigError: a task cannot be sent to another machine.
        """
        waiting, sent = deque(enumerate(tasks)), _Sent(self._ray, tasks)
        try:
            while waiting or self._running:
                while waiting and len(self._running) < self._cluster.limit:
                    self._hand_over(function, *waiting.popleft(), sent)
                done, _ = self._ray.wait(list(self._running), num_returns=1)
                handed = self._running.pop(done[0])
                result, wrote = self._get(done[0])
                if wrote and handed.checkpoint is not None:
                    _keep(handed.checkpoint, self._get(handed.network))
                yield handed.position, result
        finally:
            self.close()

    def close(self) -> None:
        """Stop what runs, at once."""
        running, self._running = list(self._running), {}
        for reference in running:
            with contextlib.suppress(Exception):  # a cluster that is gone runs nothing
                self._ray.cancel(reference, force=True)

    def _hand_over(self, function: Callable[[T], R], position: int, task: T, sent: _Sent) -> None:
        paths = task.reads() if isinstance(task, FileTask) else ()
        checkpoint = _checkpoint(task)
        arrays = [sent.array(path) for path in paths]
        earlier = None if checkpoint is None else sent.network(checkpoint)
        try:
            outcome, network = self._perform.remote(function, task, self._expected, paths, earlier, *arrays)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise ConfigError(
                f"A training cannot be sent to other machines: {_last_line(error)}. "
                "Victims and adversaries of your own have to be made of what can be pickled; or use --executor serial."
            ) from error
        if checkpoint is not None:
            sent.expect(checkpoint, network)
        self._running[outcome] = _Handed(position, checkpoint, network)

    def _get(self, reference: Any) -> Any:
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayTaskError as error:
            cause = _cause(error)
            if not isinstance(cause, self._ray.exceptions.RayError):
                raise cause from error
            raise SetupError(f"A worker of the Ray cluster failed: {_last_line(cause)}.") from error
        except self._ray.exceptions.RayError as error:
            raise SetupError(
                f"A training was lost {counted(RETRIES + 1, 'time')}, or the Ray cluster is gone: {_last_line(error)}. "
                "Most often memory ran out. What was finished is kept: the same command goes on from there."
            ) from error


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
    pairs = {name: (there[name], here[name]) for name in ("bitterant", "torch")}
    pairs |= {name: (there["libraries"].get(name), version) for name, version in here["libraries"].items()}
    different = [
        f"{name} {theirs or 'not installed'} there, {ours or 'not installed'} here"
        for name, (theirs, ours) in pairs.items()
        if _public(theirs) != _public(ours)
    ]
    if not different and there["code"] != here["code"]:
        different = [f"another state of the code of bitterant {here['bitterant']}"]
    if different:
        raise SetupError(
            f"A node of the Ray cluster would train with other versions: {'; '.join(different)}. "
            "Install on every node what is installed here."
        )


def _public(version: str | None) -> str | None:
    """``2.15.0`` of ``2.15.0+cu128``."""
    return None if version is None else version.partition("+")[0]


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


# Around Ray.


def _import_ray() -> Any:
    try:
        with _terminating_as_before():
            return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SetupError(
            "--executor ray needs the package ray: pip install 'bitterant[ray]'. Without it: --executor processes."
        ) from error


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Set what Ray reads from the environment, for itself and for the processes that it starts."""
    before = {name: os.environ.get(name) for name in _SETTINGS}
    os.environ.update(_SETTINGS)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _terminating_as_before() -> Iterator[None]:
    """Keep our handler of SIGTERM: Ray's own ends the process before anything is said or put away."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def _loopback(address: str | None) -> Iterator[None]:
    """Let a cluster that is started meanwhile listen to this machine alone, and one that does be joined.

    Ray does so by itself on Windows and macOS. Elsewhere it takes ``127.0.0.1`` for the machine's address in the
    network, and its switch for that is read from the environment when it is imported.
    """
    if address is not None and _host_and_port(address)[0] not in _HERE:
        yield
        return
    constants = sys.modules.get("ray._private.ray_constants")
    before = getattr(constants, "ENABLE_RAY_CLUSTER", None)
    if before is None:
        yield
        return
    constants.ENABLE_RAY_CLUSTER = False  # type: ignore[union-attr]
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before  # type: ignore[union-attr]


def _host_and_port(address: str) -> tuple[str, int]:
    """Of ``HOST:PORT`` and ``ray://HOST:PORT``; no host for ``auto``."""
    host, colon, port = address.rpartition("/")[2].rpartition(":")
    return (host.strip("[]"), int(port)) if colon else ("", 0)


def _check_reached(address: str) -> None:
    """Ray tries for minutes, and is killed by an interrupt in the middle of that.

    Raises:
        SetupError: nothing answers at this address.
    """
    host, port = _host_and_port(address)
    if not host:
        return  # auto
    try:
        socket.create_connection((host, port), timeout=_REACHED_WITHIN).close()
    except OSError as error:
        raise SetupError(
            f"Nothing answers at {address}: {error.strerror or error}. Check the address of the Ray cluster: "
            "'ray start --head' prints it; --executor ray starts a cluster on this machine."
        ) from error


def _cause(error: BaseException) -> BaseException:
    """The error that was raised in the worker itself."""
    while (inner := getattr(error, "cause", None)) is not None and isinstance(inner, BaseException):
        error = inner
    return error


def _last_line(error: BaseException) -> str:
    """The line of a long message that says most."""
    if isinstance(error, BitterantError):
        return str(error).rstrip(".")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")


def _keep(path: Path, network: bytes | None) -> None:
    if network is None:
        return
    try:
        write_atomic(path, network, overwrite=True, private=True)
    except OutputError as error:  # nothing is lost but time: whoever goes on from it trains it again
        logger.info("a trained network is not kept: %s", error)
