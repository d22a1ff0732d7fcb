"""Tasks of a run over a place, done by the machines of a Ray cluster.

A machine reads its objects from SRC and writes their copies to OUT by itself. What comes back is what a task came to,
and only the process that was started notes it. A task whose machine was lost is done again, on another one: what the
first had put in place is the same, byte for byte.
"""

from __future__ import annotations

import pickle
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from ...errors import ConfigError, SetupError
from ...records.cluster import RETRIES, RayConnection, differences, last_line
from ...records.progress import StopRequest, silent
from ...records.run_file import versions
from ...records.stores import LocalStore, Store
from .sources import Task
from .work import Result, Worker

#: Seconds after which a stop is looked for.
_ASK_AGAIN: Final = 0.3


@dataclass(frozen=True)
class Here:
    """What a machine has to have as this one has it.

    Attributes:
        records: the place of the records.
        name: of an object in it.
        content: its bytes.
        versions: of everything that can change a byte of a copy.
    """

    records: Store
    name: str
    content: bytes
    versions: dict[str, str]

    @classmethod
    def of(cls, records: Store, name: str, content: bytes) -> Here:
        """This machine, which wrote the object."""
        return cls(records, name, content, versions())

    def check(self, worker: Worker, task: Task) -> None:
        """Compare the machine that runs this.

        Raises:
            SetupError: it would write other bytes, or sees another place.
        """
        if different := differences(versions(), self.versions):
            raise SetupError(
                f"A node of the Ray cluster has other versions: {'; '.join(different)}. Install on every node what is "
                "installed here."
            )
        first = task.items[0]
        try:
            same = self.records.read(self.name, len(self.content) + 1) == self.content
            found = worker.source.store.stat(first.name) if isinstance(worker.source.store, LocalStore) else first
        except OSError:
            same, found = False, None
        place = worker.source.store.shown if same else self.records.shown
        if not same or found is None or found.size != first.size:
            raise SetupError(
                f"A node of the Ray cluster does not see {place} as this machine does. Give URLs, or folders on a disk "
                "that every node has under the same path."
            )


def done_by_cluster(
    cluster: RayConnection,
    worker: Worker,
    here: Here,
    tasks: Sequence[Task],
    stop: StopRequest,
    so_far: Callable[[], str],
) -> Iterator[tuple[Task, Result]]:
    """Tasks and what they came to, in the order in which they are done.

    Args:
        cluster: a connection that stands.
        worker: does a task; a copy of it goes to every machine, with the bank.
        here: what machines are compared with.
        tasks: what is to be done.
        stop: asked again and again. What runs then is broken off, and noted nowhere.
        so_far: what is finished, for the message of a stop.

    Raises:
        ConfigError: the run cannot be sent to other machines.
        Interrupted: a stop was asked for.
        SetupError: machines were lost again and again, or are not what is needed.
        OutputError: OUT cannot be written, or SRC is gone.
        ResumeError: another object is in the way.
    """
    alone = replace(worker, config=worker.config.model_copy(update={"workers": 1}), stop=StopRequest(), progress=silent)
    try:
        sent = cluster.ray.put((alone, here))
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        why = last_line(error.__cause__ or error)  # Ray tells it at length, and its cause in a line
        raise ConfigError(f"This run cannot be sent to other machines: {why}. Leave out --executor.") from error
    do = cluster.ray.remote(_do).options(num_cpus=1, max_retries=RETRIES)
    waiting, running = deque(tasks), {}
    try:
        while waiting or running:
            while waiting and len(running) < cluster.limit("CPU"):
                task = waiting.popleft()
                running[do.remote(sent, task)] = task
            stop.check(so_far())
            done, _ = cluster.ray.wait(list(running), num_returns=1, timeout=_ASK_AGAIN)
            for reference in done:
                yield running.pop(reference), cluster.get(reference, "task")
    finally:
        cluster.cancel(list(running))


def _do(sent: tuple[Worker, Here], task: Task) -> Result:
    """On the machine."""
    worker, here = sent
    here.check(worker, task)
    return worker.do(task, lambda share, message: None, "")
