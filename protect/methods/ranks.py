"""One fit on several processes: rank 0 leads it, and the others compute blocks of pictures for it.

The leader runs the fit as it would alone: it reads the pictures, trains the surrogate, adds up, keeps the state and
writes the bank. What costs most are passes of pictures through the frozen surrogate, and these are cut into blocks
whose size does not depend on how many processes there are. Each block is computed by one process, with the same kernels
on the same shapes, and what comes of the blocks is used in their order: so the sums, and with them the bank, are those
of one process, and a state that any number of processes left is one that any number goes on from.

Rank r has the blocks r, r + size, r + 2 size, ... Where each picture has a perturbation of its own, the blocks are runs
of the set's order, that of the content keys: a picture's perturbation belongs to one rank throughout.

Lightning Fabric finds the others, as ``torchrun`` or ``srun`` started them. Messages go over gloo, from one CPU to
another, so that processes need no GPU, or may share one, and may wait for as long as the leader trains. In a message
tensors travel beside the pickled rest without a copy. They arrive with the strides that they had, since the layout
decides about kernels and kernels about the last bit, and on the receiver's own device of the same kind.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from typing import Any, Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from ...errors import FitError, Interrupted, SetupError, explain
from ...records.processes import Launch

OwnDevice = Callable[[str], torch.device]
"""Kind of a device, such as ``cuda`` -> the one of that kind that the receiver computes on."""

_AT_ONCE: Final = 1 << 28  # bytes
_Layout = tuple[tuple[int, ...], tuple[int, ...], torch.dtype, str]


class Message:
    """A message, as it is sent or was received. Only for processes of one job, which trust each other: it is pickled.

    Args:
        body: pickled, without tensors.
        layouts: shape, strides, type, and kind of device of each tensor.
        tensors: dense in memory.
    """

    def __init__(self, body: bytes, layouts: list[_Layout], tensors: list[Tensor]) -> None:
        self._body, self._layouts, self._tensors = body, layouts, tensors

    @classmethod
    def of(cls, value: Any, known: Mapping[str, Any]) -> Message:
        """That of any object that can be pickled.

        Args:
            value: the object.
            known: objects that the receiver has by these names already: where the value holds one, its name is sent.

        Raises:
            Exception: something in it cannot be pickled; of many kinds.
        """
        pickler = _Pickler(known)
        pickler.dump(value)
        return cls(pickler.body.getvalue(), pickler.layouts, pickler.tensors)

    @classmethod
    def received(cls, fill: Callable[[Tensor], object]) -> Message:
        """The next message of a connection.

        Args:
            fill: receives one of :meth:`parts` into a tensor of its length.
        """

        def whole(part: Tensor) -> None:
            for piece in _pieces(part):
                fill(piece)

        length = torch.zeros(1, dtype=torch.int64)
        fill(length)
        head = torch.empty(int(length), dtype=torch.uint8)
        whole(head)
        body, layouts = pickle.loads(head.numpy().tobytes())
        tensors = [torch.empty_strided(shape, strides, dtype=dtype) for shape, strides, dtype, _ in layouts]
        for tensor in tensors:
            whole(_memory(tensor))
        return cls(body, layouts, tensors)

    def parts(self) -> Iterator[Tensor]:
        """What is sent, one after the other: a length, int64 ``[1]``, then uint8."""
        head = pickle.dumps((self._body, self._layouts))
        yield torch.tensor([len(head)])
        yield from _pieces(torch.frombuffer(bytearray(head), dtype=torch.uint8))
        for tensor in self._tensors:
            yield from _pieces(_memory(tensor))

    def open(self, known: Mapping[str, Any], own: OwnDevice) -> Any:
        """The object.

        Args:
            known: see :meth:`of`.
            own: devices of this process.

        Raises:
            Exception: something in it cannot be made here; of many kinds.
        """
        layouts = zip(self._tensors, self._layouts, strict=True)
        return _Unpickler(self._body, [tensor.to(own(layout[3])) for tensor, layout in layouts], known, own).load()


class _Pickler(pickle.Pickler):
    def __init__(self, known: Mapping[str, Any]) -> None:
        self.body = io.BytesIO()
        super().__init__(self.body, protocol=5)
        self._names = {id(value): name for name, value in known.items()}
        self._numbers: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no other object takes over the identity of one
        self.layouts: list[_Layout] = []
        self.tensors: list[Tensor] = []

    def persistent_id(self, obj: Any) -> Any:
        if (name := self._names.get(id(obj))) is not None:
            return "known", name
        if isinstance(obj, torch.device):
            return "device", obj.type
        # A parameter is taken apart by pickle, and its values come by as a plain tensor.
        return ("tensor", self._number(obj)) if type(obj) is Tensor else None

    def _number(self, tensor: Tensor) -> int:
        number = self._numbers.setdefault(id(tensor), len(self.tensors))
        if number == len(self.tensors):
            dense = _dense(tensor.detach())
            self._alive.append(tensor)
            self.tensors.append(dense)
            self.layouts.append((tuple(dense.shape), dense.stride(), dense.dtype, dense.device.type))
        return number


class _Unpickler(pickle.Unpickler):
    def __init__(self, body: bytes, tensors: list[Tensor], known: Mapping[str, Any], own: OwnDevice) -> None:
        super().__init__(io.BytesIO(body))
        self._tensors, self._known, self._own = tensors, known, own

    def persistent_load(self, pid: Any) -> Any:
        what, which = pid
        if what == "tensor":
            return self._tensors[which]
        return self._own(which) if what == "device" else self._known[which]


def _dense(tensor: Tensor) -> Tensor:
    """The same without holes, in the layout that it has, if it has one."""
    return tensor if torch.empty_like(tensor, device="meta").stride() == tensor.stride() else tensor.contiguous()


def _memory(dense: Tensor) -> Tensor:
    """Its memory on the CPU, uint8 ``[bytes]``; what is there already is not copied."""
    return dense.as_strided((dense.numel(),), (1,), dense.storage_offset()).cpu().view(torch.uint8)


def _pieces(part: Tensor) -> tuple[Tensor, ...]:
    return part.split(_AT_ONCE) if len(part) else ()


_log = logging.getLogger(__name__)

_T = TypeVar("_T")

FABRIC_MISSING = "Several processes need the package lightning-fabric: pip install 'bitterant[fabric]'."

_TO_MEET: Final = timedelta(minutes=5)

#: For the leader, while it reads pictures and trains. One that is gone is noticed by its closed connection.
_TO_WAIT: Final = timedelta(days=30)

_SHARE, _FORGET, _COMPUTE, _END = range(4)


class Ranks:
    """The processes that compute a fit, as the leader sees them. This one is alone and does everything itself.

    Attributes:
        size: how many there are.
    """

    size: int = 1

    def share(self, **values: Any) -> None:
        """Let every process have these, until others come under the same names. A job that holds one of them costs
        nothing to send; what is shared may not change."""

    def map(self, work: Callable[..., _T], jobs: Iterable[tuple[Any, ...]]) -> Iterator[_T]:
        """``work(*job)`` of every job, in their order.

        Args:
            work: a function of a module, or a method of something shared. It must depend on its arguments alone.
            jobs: arguments; taken one for each process at a time.

        Raises:
            Exception: whatever ``work`` raised, here or elsewhere.
            Interrupted: another process was asked to stop.
            SetupError: another process is gone.
        """
        for job in jobs:
            yield work(*job)

    def forget(self) -> None:
        """Let go of what is shared."""


_here = Ranks()


def ranks() -> Ranks:
    """The processes that this one leads; itself alone, unless :func:`join` found others."""
    return _here


class Membership:
    """This process among the others, from :func:`join` to the end of the job.

    Attributes:
        leads: whether it is the one that reads, writes and speaks.
    """

    def __init__(self, link: _Link | None = None) -> None:
        self._link = link
        self.leads = link is None or link.rank == 0
        if link is not None and self.leads:
            _set_ranks(_Leader(link))

    def follow(self) -> int:
        """Compute what the leader asks for, until it ends the job. Returns its exit code; 1 where it is gone."""
        assert self._link is not None
        try:
            return _follow(self._link)
        except SetupError as error:
            _log.debug("%s", error)
            return 1
        finally:
            self._link.close()

    def end(self, code: int) -> None:
        """The job is over: the others leave with this exit code. The leader's last step; it never fails."""
        leader = _here
        _set_ranks(Ranks())
        if isinstance(leader, _Leader):
            leader.end(code)


def join() -> Membership:
    """Find the processes that were started with this one; on its own, it leads itself.

    Tasks of ``srun`` that were given different commands have different work to do: each is then on its own.

    Raises:
        SetupError: Lightning Fabric is not installed, or the processes do not find each other.
    """
    launch = Launch.of()
    if launch is None:
        return Membership()
    _connect(launch)
    commands: list[Any] = [None] * launch.size
    # Whether they are the same is all that anybody has to know of them.
    dist.all_gather_object(commands, hashlib.sha256(repr(sys.argv).encode()).hexdigest())
    if any(command != commands[0] for command in commands):
        dist.destroy_process_group()
        return Membership()
    link = _Link(launch)
    # Sums may depend on the number of threads.
    threads = torch.tensor([torch.get_num_threads()])
    dist.broadcast(threads, 0)
    torch.set_num_threads(int(threads))
    return Membership(link)


@contextmanager
def several_processes() -> Iterator[bool]:
    """For a script that ``torchrun`` or ``srun`` starts several times: lets all processes take part in its fits.

    Yields:
        Whether this process leads: only the leader may go on to read, fit and write. For the others all is done by
        then. Alone, a process leads.

    Raises:
        SetupError: see :func:`join`.
    """
    member = join()
    if not member.leads:
        member.follow()
        yield False
        return
    code = 1
    try:
        yield True
        code = 0
    except Exception as error:
        code = explain(error)[1]
        raise
    finally:
        member.end(code)


def _set_ranks(value: Ranks) -> None:
    global _here
    _here = value


def _connect(launch: Launch) -> None:
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
        from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
        from lightning_fabric.strategies.ddp import DDPStrategy
    except ImportError as error:
        raise SetupError(FABRIC_MISSING) from error
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)  # it greets
    try:
        environment = TorchElasticEnvironment() if launch.by == "torchrun" else SLURMEnvironment(auto_requeue=False)
        Fabric(
            accelerator="cpu",  # of the messages; where a process computes is its own business
            devices=launch.size // launch.nodes,
            num_nodes=launch.nodes,
            strategy=DDPStrategy(process_group_backend="gloo", timeout=_TO_MEET),
            plugins=[environment],
        ).launch()
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        raise SetupError(
            f"The {launch.size} processes that {launch.by} started did not find each other: {error}"
        ) from error


class _Link:
    """Messages between the leader, rank 0, and the others."""

    def __init__(self, launch: Launch) -> None:
        self.rank, self.size = launch.rank, launch.size
        self._local_rank = launch.local_rank
        group = dist.new_group(backend="gloo", timeout=_TO_WAIT)
        assert isinstance(group, dist.ProcessGroup)  # not one that leaves this process out
        self._group = group

    def send(self, rank: int, kind: int, message: Message) -> None:
        """To one other.

        Raises:
            SetupError: it is gone.
        """
        with self._with(rank):
            dist.send(torch.tensor([kind]), rank, group=self._group)
            for part in message.parts():
                dist.send(part, rank, group=self._group)

    def send_all(self, message: Message) -> None:
        """What is to be shared, from the leader to all others.

        Raises:
            SetupError: one is gone.
        """
        for rank in range(1, self.size):
            with self._with(rank):
                dist.send(torch.tensor([_SHARE]), rank, group=self._group)
        with self._with(None):
            for part in message.parts():
                dist.broadcast(part, 0, group=self._group)

    def receive(self, rank: int) -> tuple[int, Message]:
        """Kind and content of the next message of another.

        Raises:
            SetupError: it is gone.
        """
        kind = torch.zeros(1, dtype=torch.int64)

        def fill(part: Tensor) -> None:
            if int(kind) == _SHARE:
                dist.broadcast(part, rank, group=self._group)
            else:
                dist.recv(part, rank, group=self._group)

        with self._with(rank):
            dist.recv(kind, rank, group=self._group)
            return int(kind), Message.received(fill)

    @contextmanager
    def _with(self, rank: int | None) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:  # gloo's, of a closed connection
            who = "One" if rank is None else f"Process {rank}"
            raise SetupError(
                f"{who} of the {self.size} processes ended without a word: it was killed, perhaps because memory ran "
                "out, or its machine is gone. Start all of them again: the same command goes on from what was kept."
            ) from error

    def own(self, kind: str) -> torch.device:
        """The device of this kind that this process computes on.

        Raises:
            SetupError: there is none.
        """
        if kind != "cuda" or self.rank == 0:
            return torch.device(kind)
        if not torch.cuda.is_available():
            raise SetupError(f"Process {self.rank} of {self.size} finds no CUDA device, though process 0 has one.")
        return torch.device("cuda", self._local_rank % torch.cuda.device_count())

    def close(self) -> None:
        """Leave the others; never fails."""
        with suppress(Exception):  # they may be gone already
            dist.destroy_process_group()


class _Leader(Ranks):
    def __init__(self, link: _Link) -> None:
        self._link, self.size = link, link.size
        self._shared: dict[str, Any] = {}
        self._owed: set[int] = set()  # ranks that have a job and have not answered

    def _settle(self) -> None:
        """Take what is still owed after an error: nobody hears anything while his answer waits."""
        while self._owed:
            self._link.receive(self._owed.pop())

    def share(self, **values: Any) -> None:
        self._settle()
        for name, value in values.items():
            if self._shared.get(name) is not value:
                self._shared.pop(name, None)
                self._link.send_all(Message.of({name: value}, self._shared))
                self._shared[name] = value

    def forget(self) -> None:
        self._settle()
        self._shared.clear()
        for rank in range(1, self.size):
            self._link.send(rank, _FORGET, Message.of(None, {}))

    def map(self, work: Callable[..., _T], jobs: Iterable[tuple[Any, ...]]) -> Iterator[_T]:
        self._settle()
        remaining = iter(jobs)
        while wave := list(islice(remaining, self.size)):
            for rank, job in enumerate(wave[1:], start=1):
                self._link.send(rank, _COMPUTE, Message.of((work, job), self._shared))
                self._owed.add(rank)
            made = [work(*wave[0])]
            made += [self._answer(rank) for rank in range(1, len(wave))]
            yield from made

    def _answer(self, rank: int) -> Any:
        self._owed.discard(rank)
        _, message = self._link.receive(rank)
        result, error, interrupted = message.open(self._shared, self._link.own)
        if error is not None:
            raise error
        if interrupted:
            raise Interrupted(
                "Stopped. The fit is under way; its checkpoint is kept. The same command goes on from there."
            )
        return result

    def end(self, code: int) -> None:
        for rank in range(1, self.size):
            with suppress(SetupError):
                if rank in self._owed:  # it hears nothing else before it has told what came of its job
                    self._link.receive(rank)
                self._link.send(rank, _END, Message.of(code, {}))
        self._link.close()


def _follow(link: _Link) -> int:
    known: dict[str, Any] = {}
    failed: Exception | None = None
    with _noted_signals() as noted:
        while True:
            kind, message = link.receive(0)
            if kind == _FORGET:
                known.clear()
                continue
            result = None
            try:
                if kind == _END:
                    return int(message.open(known, link.own))
                if kind == _SHARE:
                    known.update(message.open(known, link.own))
                elif failed is None:  # what was to be shared may be missing: that is told, and not what comes of it
                    work, job = message.open(known, link.own)
                    result = work(*job)
                    del work, job
            except Exception as error:
                failed = failed or error
            if kind == _COMPUTE:
                link.send(0, _COMPUTE, Message.of((result, _portable(failed, link), bool(noted)), {}))
                failed = None


def _portable(error: Exception | None, link: _Link) -> Exception | None:
    """The error as the leader can have it, and as a traceback where that is asked for."""
    if error is None:
        return None
    try:
        copied = pickle.loads(pickle.dumps(error))
    except Exception:  # of many kinds: an error of a library may hold anything
        copied = FitError(f"{type(error).__name__}: {error}")
    told = "".join(traceback.format_exception(error))
    copied.add_note(f"In process {link.rank} of {link.size}:\n{told}")
    return copied


@contextmanager
def _noted_signals() -> Iterator[list[int]]:
    """Ctrl-C and SIGTERM are noted and told to the leader, who ends the job for all."""
    noted: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, _: noted.append(number))
    try:
        yield noted
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
