"""Opening a bank file of any kind, without torch where its kind needs none, and one perturbation of many in it."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from safetensors import SafetensorError, safe_open

from ..errors import BankError
from ..records.places import open_regular
from ..records.text import parse_json
from .textures.bank import FORMAT, TextureBank

if TYPE_CHECKING:
    from .bank import Bank


def needs_torch(path: Path) -> bool:
    """Whether a bank file may need torch: it holds perturbations, or clusters, in which new pictures are found by a
    network. Of what is no bank, yes: opening it says why."""
    metadata = _metadata(path)
    return metadata.get("format") != FORMAT or metadata.get("granularity") != "sample"


def made_for(path: Path) -> str:
    """The digest of settings and inputs that a bank file was made for; empty where it says none, or is no bank."""
    return _metadata(path).get("made_for", "")


def open_bank(path: Path) -> Bank | TextureBank:
    """Read a bank file.

    Raises:
        BankError: no such file, damaged, or of another format version.
    """
    if not path.is_file():
        raise BankError(f"There is no bank file {path}. `bitterant fit SRC BANK` makes one.")
    if _metadata(path).get("format") == FORMAT:
        return TextureBank.load(path)
    from .bank import Bank

    return Bank.load(path)


def _metadata(path: Path) -> dict[str, str]:
    """Of a safetensors file; nothing of any other."""
    try:
        with safe_open(path, framework="np") as handle:
            return handle.metadata() or {}
    except (SafetensorError, OSError):
        return {}


_KINDS: Final = {"I8": np.dtype("<i1"), "I16": np.dtype("<i2")}


@dataclass(frozen=True)
class StoredLevels:
    """The tensor ``levels`` of a bank file, of which one row at a time is read.

    The file is opened for every row and not mapped: a mapped file that shrinks would end the process, and on Windows
    could not be moved or removed.

    Attributes:
        path: the file.
        kind: of its values.
        shape: ``(M, 3, R, R)``.
        start: first byte of the tensor in the file.
        state: what tells that it is still the file that was opened: inode, size and time.
    """

    path: Path
    kind: np.dtype[np.signedinteger]
    shape: tuple[int, ...]
    start: int
    state: tuple[int, ...]

    @classmethod
    def find(cls, path: Path) -> StoredLevels:
        """Look into the header of a bank file. Its layout: length as 8 bytes little-endian, JSON, tensors.

        Raises:
            OSError: it cannot be read.
            ValueError, KeyError, TypeError: it holds no whole numbers of that name.
        """
        with open_regular(path) as file:
            length = int.from_bytes(file.read(8), "little")
            told = parse_json(file.read(length))["levels"]
            state = _state(file.fileno())
        if told["dtype"] not in _KINDS:
            raise ValueError(f"its levels are {told['dtype']}")
        shape = tuple(int(side) for side in told["shape"])
        found = cls(path, _KINDS[told["dtype"]], shape, 8 + length + int(told["data_offsets"][0]), state)
        if found.start + found.size > state[1]:
            raise ValueError("its levels are cut")
        return found

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return math.prod(self.shape) * self.kind.itemsize

    def read(self, number: int) -> np.ndarray:
        """Row ``number``: int8 or int16 ``[3, R, R]``.

        Raises:
            BankError: the file cannot be read, or is another one by now.
        """
        row = self.shape[1:]
        length = math.prod(row) * self.kind.itemsize
        try:
            with open_regular(self.path) as file:
                same = _state(file.fileno()) == self.state
                file.seek(self.start + number * length)
                data = file.read(length) if same else b""
        except OSError as error:
            raise BankError(f"The bank {self.path} cannot be read: {error.strerror or error}.") from error
        if len(data) != length:
            raise BankError(f"The bank {self.path} was changed while it was in use. Put it back and start again.")
        return np.frombuffer(data, self.kind).reshape(row)


def _state(descriptor: int) -> tuple[int, ...]:
    status = os.fstat(descriptor)
    return (status.st_ino, status.st_size, status.st_mtime_ns)
