"""Work that any process can do, on this machine or on another one that has none of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass
class FileInMemory:
    """Stands for a file on a machine that is to keep none.

    Attributes:
        name: of the file.
        content: ``None`` as long as it was not written.
    """

    name: str
    content: bytes | None = None

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return Path(self.name).stem

    def is_file(self) -> bool:
        """Whether it was written."""
        return self.content is not None

    def read_bytes(self) -> bytes:
        """The content.

        Raises:
            FileNotFoundError: it was not written.
        """
        if self.content is None:
            raise FileNotFoundError(self.name)
        return self.content


@dataclass(frozen=True, kw_only=True)
class FileTask:
    """A task that reads arrays from ``.npy`` files, which lie where it was made.

    Attributes:
        checkpoint: a file that the work reads where it is there, and may write; ``None`` for none.
        at_hand: the arrays by their paths, where they were sent along: the files themselves are then not looked for.
    """

    checkpoint: Path | FileInMemory | None = None
    at_hand: Mapping[Path, NDArray[Any]] = field(default_factory=dict, compare=False, repr=False)

    def reads(self) -> tuple[Path, ...]:
        """The files of all arrays that it reads."""
        raise NotImplementedError

    def load(self, path: Path, rows: slice = slice(None)) -> NDArray[Any]:
        """Some rows of an array, by default all; a copy that may be written to."""
        if path in self.at_hand:
            return np.array(self.at_hand[path][rows])
        if rows == slice(None):
            return np.load(path, allow_pickle=False)
        return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[rows])
