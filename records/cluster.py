"""A Ray cluster: one that runs already, or one that is started on this machine and ends with the run."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import BitterantError, ConfigError, SetupError
from .processes import available_cpus

logger = logging.getLogger(__name__)

RETRIES = 3
"""How often work is begun anew whose process or machine was lost. What kills whatever runs it has to end."""

_AHEAD = 2  # tasks handed over for each that can run: none waits for this process, and little waits in memory
_REACHED_WITHIN = 10.0  # seconds
_LONGEST_PLACE = 16  # letters: below it Ray makes sockets, whose paths may have 103 on macOS
_HERE = ("127.0.0.1", "localhost", "::1")
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nobody is told that or how it is used
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # what it will do by default, and otherwise announces
}


class RayConnection:
    """A connection to a cluster, as a context: joined ones are left as they are, one that was started here is stopped.

    Where this process is connected already and no address is given, that connection is used, and left.

    Args:
        address: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``; ``None`` starts a cluster on this machine, which
            listens to no other.
        workers: tasks at the same time, at most; ``None`` for all that the cluster has room for.
        gpus: whether a cluster that is started here offers GPUs.

    Attributes:
        ray: the package, connected within the context.
    """

    ray: Any

    def __init__(self, address: str | None, *, workers: int | None = None, gpus: bool = False) -> None:
        self.address, self.workers, self._gpus = address, workers, gpus
        self._place: Path | None = None
        self._leave = False

    def __enter__(self) -> Self:
        """Connect.

        Raises:
            ConfigError: this process is connected to another cluster.
            SetupError: Ray is not installed; the cluster cannot be reached, or is not fit for the work.
        """
        with _settings():
            self.ray = _import_ray()
        try:
            if not self.ray.is_initialized():
                self._leave = True
                self._connect()
            elif self.address is not None:
                raise ConfigError(
                    f"This process is connected to a Ray cluster already, so it cannot join {self.address}. Leave out "
                    "the address to use that cluster, or call ray.shutdown() first."
                )
            self.inspect()
        except BaseException:
            self._disconnect()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._disconnect()

    def inspect(self) -> None:
        """Look at the nodes, once connected.

        Raises:
            SetupError: they are not fit for the work.
        """
        if not self.nodes_with("CPU"):
            raise SetupError("No node of the Ray cluster has a CPU to give. Start a worker that has one: ray start.")

    @property
    def name(self) -> str:
        """What runs the work, for reports."""
        return f"ray {self.ray.__version__}"

    def nodes_with(self, resource: str) -> list[dict[str, Any]]:
        """Ray's description of every node that is there and offers a whole one of this resource."""
        return [node for node in self.ray.nodes() if node["Alive"] and node["Resources"].get(resource, 0) >= 1]

    def room(self, resource: str) -> int:
        """Tasks that can run at the same time now, each with one of this resource; a cluster may grow."""
        room = int(self.ray.cluster_resources().get(resource, 0))
        return max(1, room if self.workers is None else min(room, self.workers))

    def limit(self, resource: str) -> int:
        """Tasks that are handed over at the same time."""
        return self.workers if self.workers is not None else _AHEAD * self.room(resource)

    def get(self, reference: Any, what: str) -> Any:
        """What a task gave.

        Args:
            reference: of it.
            what: the kind of task, for messages.

        Raises:
            SetupError: workers or nodes were lost again and again.
            BaseException: whatever the task itself raised.
        """
        try:
            return self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            cause = cause_of(error)
            if not isinstance(cause, self.ray.exceptions.RayError):
                raise cause from error
            raise SetupError(f"A worker of the Ray cluster failed: {last_line(cause)}.") from error
        except self.ray.exceptions.RayError as error:
            raise SetupError(
                f"A {what} was lost again and again, or the Ray cluster is gone: {last_line(error)}. "
                "Most often memory ran out. What was finished is kept: the same command goes on from there."
            ) from error

    def cancel(self, references: Sequence[Any]) -> None:
        """Stop tasks, at once."""
        for reference in references:
            with contextlib.suppress(Exception):  # a cluster that is gone runs nothing
                self.ray.cancel(reference, force=True)

    def _connect(self) -> None:
        if self.address is not None:
            _check_reached(self.address)
        quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
        try:
            with _terminating_as_before(), _settings(), _loopback(self.address):
                if self.address is None:
                    self._start(quiet)
                else:
                    self.ray.init(address=self.address, **quiet)
        except (OSError, RuntimeError, ValueError, AssertionError, ImportError, self.ray.exceptions.RayError) as error:
            raise SetupError(self._trouble(error)) from error

    def _start(self, quiet: Mapping[str, Any]) -> None:
        base = tempfile.gettempdir()
        if os.name == "posix" and len(base) > _LONGEST_PLACE:
            base = "/tmp"
        self._place = Path(tempfile.mkdtemp(prefix="bitterant-ray-", dir=base))
        self.ray.init(
            address="local",
            num_cpus=self.workers or available_cpus(),
            num_gpus=None if self._gpus else 0,
            include_dashboard=False,
            _temp_dir=str(self._place),
            **quiet,
        )
        heard_at = {node["NodeManagerAddress"] for node in self.ray.nodes()}
        if not all(address.startswith("127.") or address == "::1" for address in heard_at):
            logger.warning("This version of Ray listens to the network too, at %s.", ", ".join(sorted(heard_at)))

    def _trouble(self, error: BaseException) -> str:
        said = last_line(error)
        if self.address is None:
            return f"No Ray cluster could be started on this machine: {said}. Without Ray: --executor processes."
        if isinstance(error, ImportError):
            return f"Ray needs a package to join {self.address}: {said}. pip install 'bitterant[ray]' brings it."
        return (
            f"The Ray cluster at {self.address} cannot be joined: {said}. "
            "Check the address, that the same versions of Python and Ray run there, and that this machine has the "
            "cluster's token where it asks for one (RAY_AUTH_MODE=token, ~/.ray/auth_token)."
        )

    def _disconnect(self) -> None:
        if self._leave:
            self._leave = False
            try:
                with _terminating_as_before():
                    self.ray.shutdown()
            finally:
                if self._place is not None:
                    shutil.rmtree(self._place, ignore_errors=True)  # the logs of a cluster that is gone
                    self._place = None


def _import_ray() -> Any:
    try:
        with _terminating_as_before():
            return importlib.import_module("ray")
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise SetupError(
            "--executor ray needs the package ray: pip install 'bitterant[ray]'. Or leave the option out."
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


def differences(there: Mapping[str, str | None], here: Mapping[str, str | None]) -> list[str]:
    """Which versions of a machine are not those of this one, in words. Builds for other devices, ``2.15.0+cu128`` and
    ``2.15.0``, are alike."""
    return [
        f"{name} {there.get(name) or 'not installed'} there, {ours or 'not installed'} here"
        for name, ours in here.items()
        if (there.get(name) or "").partition("+")[0] != (ours or "").partition("+")[0]
    ]


def cause_of(error: BaseException) -> BaseException:
    """The error that was raised in the worker itself."""
    while (inner := getattr(error, "cause", None)) is not None and isinstance(inner, BaseException):
        error = inner
    return error


def last_line(error: BaseException) -> str:
    """The line of a long message that says most."""
    if isinstance(error, BitterantError):
        return str(error).rstrip(".")
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")
