"""Work that any process can do, on this machine or on another one that has none of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class FileTask:
    """A task that reads arrays from ``.npy`` files, which lie where it was made.

    Attributes:
        checkpoint: a file that the work reads where it is there, and may write; ``None`` for none.
        at_hand: the arrays by their paths, where they were sent along: the files themselves are then not looked for.
    """

    checkpoint: Path | None = None
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
