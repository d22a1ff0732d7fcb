"""State of a fit on disk, so that a killed fit goes on where it stood; on a CPU it ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ...imaging import write_atomic

__all__ = ["Checkpoint"]

_log = logging.getLogger(__name__)


class Checkpoint:
    """One file, written whole or not at all. Without a path it keeps nothing.

    Args:
        path: the file, or ``None``.
        identity: digest of everything the fit depends on; state of another identity is ignored.
    """

    def __init__(self, path: Path | None, identity: str) -> None:
        self._path, self._identity = path, identity

    def bound(self, more: str) -> Checkpoint:
        """The same file for a fit that also depends on something found out on the way."""
        digest = hashlib.sha256(f"{self._identity} {more}".encode()).hexdigest()
        return Checkpoint(self._path, digest)

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep tensors and JSON-safe facts, replacing what was kept before."""
        if self._path is None:
            return
        metadata = {"identity": self._identity, "facts": json.dumps(facts)}
        packed = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        write_atomic(self._path, save(packed, metadata), overwrite=True)

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
                return {name: handle.get_tensor(name) for name in names}, json.loads(metadata["facts"])
        except (SafetensorError, KeyError, ValueError, OSError) as error:
            _log.warning("%s cannot be read and is ignored: %s", self._path, error)
            return None
