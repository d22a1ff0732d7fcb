"""Runs independent tasks: one after the other here, or in several processes. The results are the same.

Several small trainings at once are processes of one thread each, and no more than that: stacked in one process, as
grouped convolutions, two or four trainings of ``small-cnn`` on a CPU took as long as one by one, with the same
accuracies (``benchmarks/verify_speed.py``, docs/measurements.md). On a GPU that was not measured.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait
from pathlib import Path
from typing import Protocol, TypeVar

import torch

from ...errors import ConfigError, SetupError
from ...records.processes import available_cpus

T = TypeVar("T")
R = TypeVar("R")


class Executor(Protocol):
    """What the grid needs of a backend.

    Attributes:
        name: what reports call it.
        workers: tasks at the same time.
    """

    @property
    def name(self) -> str: ...

    @property
    def workers(self) -> int: ...

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """Yield ``(position, function(tasks[position]))`` in the order in which they are done.

        ``function`` must be importable by name and depend on its task alone. The files that a task reads are those that
        a :class:`FileTask` names: on another machine there are no others.
        """
        ...

    def close(self) -> None:
        """Give processes back. Tasks that have not begun are dropped."""
        ...


class SerialExecutor:
    """One task after the other in this process."""

    name = "serial"
    workers = 1

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See :class:`Executor`."""
        for position, task in enumerate(tasks):
            yield position, function(task)

    def close(self) -> None:
        """Nothing to give back."""


@contextmanager
def _without_main() -> Iterator[None]:
    """Hide the caller's script while processes start.

    A spawned process imports the script again. Ours need nothing of it, and a script without the
    ``if __name__ == "__main__"`` guard would start the whole verification anew in every worker.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _prepare_worker() -> None:
    """One thread a worker, or they get in each other's way. Ctrl-C is for the parent, which stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    torch.set_num_threads(1)


def _leave_with_parent() -> None:
    """A killed parent can stop nobody; without this its workers would train on, and then wait for ever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


class ProcessExecutor:
    """Local processes, started afresh (never forked, which deadlocks with threads and CUDA).

    Args:
        workers: number of processes, at least 1.
    """

    name = "processes"

    def __init__(self, workers: int) -> None:
        if workers < 1:
            raise ConfigError(f"The number of workers must be at least 1, not {workers}.")
        self.workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R]]:
        """See :class:`Executor`.

        Raises:
            SetupError: a process died, most often for want of memory.
        """
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, mp_context=get_context("spawn"), initializer=_prepare_worker)
        with _without_main():
            positions = {self._pool.submit(function, task): position for position, task in enumerate(tasks)}
        try:
            for future in as_completed(positions):
                yield positions.pop(future), future.result()
        except BrokenProcessPool as error:
            self.close()
            raise SetupError(
                f"A worker process died, most often because memory ran out with {self.workers} of them. "
                "Try again with fewer: --workers 1."
            ) from error

    def close(self) -> None:
        """Stop the processes at once, also those in the middle of a task."""
        pool, self._pool = self._pool, None
        if pool is not None:
            running = list((getattr(pool, "_processes", None) or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in running:
                process.terminate()
            for process in running:
                process.join()


def processor_name() -> str | None:
    """The model of this machine's processor, where the system has a place for it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return platform.processor() or None
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None) or platform.processor() or None


def executor_for(workers: int | None, device_type: str, tasks: int, name: str | None = None) -> Executor:
    """The backend of this machine for so many tasks. By default one process a CPU, and this process alone on a GPU.

    Args:
        workers: tasks at the same time, at most.
        device_type: ``cpu``, or another kind of device.
        tasks: how many there will be.
        name: ``serial`` or ``processes``; ``None`` for processes where there is work for more than one.

    Raises:
        ConfigError: ``workers`` is less than 1.
    """
    if name == "serial":
        return SerialExecutor()
    if workers is None:
        workers = available_cpus() if device_type == "cpu" else 1
    elif workers < 1:
        raise ConfigError(f"The number of workers must be at least 1, not {workers}.")
    workers = min(workers, max(1, tasks))
    return SerialExecutor() if workers == 1 and name is None else ProcessExecutor(workers)
