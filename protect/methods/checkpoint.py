"""State of a fit on disk, so that a killed fit goes on where it stood; on a CPU it ends with the same bytes.

Every fit that takes long is :class:`Resumable`, and :func:`run_resumable` runs it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...errors import OutputError
from ...imaging.scan import is_own_file
from ...records.files import atomic_file, check_free
from ...records.text import parse_json

_log = logging.getLogger(__name__)

SHARE = 0.05
"""Of the time of a fit that may go into keeping its state: what was not kept is done again, and comes out alike."""

_SELDOM = 5.0

_KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class Checkpoint:
    """One file, written whole or not at all. Without a path it keeps nothing.

    Args:
        path: the file, or ``None``.
        identity: digest of everything the fit depends on; state of another identity is ignored.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity
        self._begun = self._last = time.monotonic()
        self._spent = self._cost = 0.0

    def bound(self, more: str) -> Checkpoint:
        """The same file for a fit that also depends on something found out on the way."""
        digest = hashlib.sha256(f"{self._identity} {more}".encode()).hexdigest()
        return Checkpoint(self._path, digest)

    def due(self, *, important: bool = False) -> bool:
        """Whether a state should be kept now: at most every five seconds, and, counting what one cost last time, in
        at most a twentieth of the time since the fit began.

        Args:
            important: a state after which nothing of what was before is done again; only the share counts.
        """
        now = time.monotonic()
        if self._path is None or (not important and now - self._last < _SELDOM):
            return False
        return self._spent == 0.0 or self._spent + self._cost <= SHARE * (now - self._begun)

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep tensors and JSON-safe facts, replacing what was kept before. One tensor after the other goes to the
        disk: no second copy of a state is made in memory."""
        if self._path is None:
            return
        begun = time.monotonic()
        header: dict[str, Any] = {"__metadata__": {"identity": self._identity, "facts": json.dumps(facts)}}
        end = 0
        # The largest kinds first, so that each begins where its kind may: the format's own order.
        ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
        for name, value in ordered:
            start, end = end, end + value.numel() * value.element_size()
            header[name] = {"dtype": _KINDS[value.dtype], "shape": list(value.shape), "data_offsets": [start, end]}
        head = json.dumps(header).encode()
        head += b" " * (-len(head) % 8)
        # It holds the perturbations as far as they are made, so it is as private as the bank.
        with atomic_file(self._path, overwrite=_is_checkpoint, private=True) as file:
            file.write(len(head).to_bytes(8, "little") + head)
            for _, value in ordered:
                plain = value.detach().cpu().contiguous()
                file.write(plain.view(-1).view(torch.uint8).numpy().data)
        self._last = time.monotonic()
        self._cost = self._last - begun
        self._spent += self._cost

    def check(self) -> None:
        """Make sure, before any work, that what is there may be replaced.

        Raises:
            OutputError: a file of another kind has that name.
        """
        if self._path is not None:
            check_free(self._path, overwrite=_is_checkpoint)

    def remove(self) -> None:
        """Remove what was kept.

        Raises:
            OutputError: a file of another kind has that name, which is left alone, or it cannot be removed.
        """
        if self._path is None:
            return
        self.check()
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{self._path} cannot be removed: {error.strerror}.") from error

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was kept, or ``None`` when there is nothing, or nothing that fits."""
        if self._path is None or not self._path.is_file():
            return None
        try:
            with safe_open(self._path, framework="pt") as handle:
                metadata = handle.metadata() or {}
                if metadata.get("identity") != self._identity:
                    _log.info("%s belongs to another fit and is ignored", self._path)
                    return None
                names = list(handle.keys())  # not iterable itself
                return {name: handle.get_tensor(name) for name in names}, parse_json(metadata["facts"], finite=False)
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            _log.warning("%s cannot be read and is ignored: %s", self._path, error)
            return None


def _is_checkpoint(path: Path) -> bool:
    """Whether a file is the state of some fit, so that it may be replaced."""
    if is_own_file(path.name):  # in the place and by the name of our state: also one that is damaged
        return True
    try:
        with safe_open(path, framework="pt") as handle:
            return {"identity", "facts"} <= (handle.metadata() or {}).keys()
    except SafetensorError:
        return False


State = tuple[dict[str, Tensor], dict[str, Any]]
"""What is kept of a fit: tensors by name, and JSON-safe facts."""


class Resumable(Protocol):
    """Work in pieces, each a pure function of the state before it: a piece that is done again is done alike."""

    def pieces(self) -> Iterator[bool]:
        """Do what is left, piece by piece. True after one behind which nothing of what was before is done again."""
        ...

    def state_dict(self) -> State:
        """The state between two pieces."""
        ...

    def load_state_dict(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go back to a state; called before the first piece."""
        ...


class Stopped(Exception):
    """Somebody asked the work to stop; what was done is kept in the checkpoint."""


def run_resumable(work: Resumable, checkpoint: Checkpoint, *, stop: Callable[[], bool] | None = None) -> None:
    """Do the work from where the checkpoint says it stood, and keep its state where that is due.

    Args:
        work: what is done.
        checkpoint: where state is kept. A state that is not due is not kept: the pieces since are done again.
        stop: asked after every piece but the last; True keeps the state and ends.

    Raises:
        Stopped: ``stop`` said so.
    """
    if (kept := checkpoint.load()) is not None:
        work.load_state_dict(*kept)
    del kept  # it holds as much as the perturbations
    for important in work.pieces():
        stopped = stop is not None and stop()
        if stopped or checkpoint.due(important=important):
            checkpoint.save(*work.state_dict())
        if stopped:
            raise Stopped


def part_of(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors called ``name.…``, without that beginning."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def pack_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``{parameter number}.{name}`` to tensor."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def unpack_optimiser(optimiser: torch.optim.Optimizer, packed: dict[str, Tensor]) -> None:
    """The reverse of :func:`pack_optimiser`, into an optimiser of the same parameters."""
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in packed.items():
        number, _, name = key.partition(".")
        parameter = parameters[int(number)]
        if value.shape == parameter.shape and name != "step":
            # The memory layout of the parameter, which kernels that take all at once insist on.
            value = torch.empty_like(parameter).copy_(value)
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
