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

from ...errors import OutputError
from ...imaging.atomic import check_free, write_atomic
from ...imaging.structured import parse_json

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
        # It holds the perturbations as far as they are made, so it is as private as the bank.
        write_atomic(self._path, save(packed, metadata), overwrite=_is_checkpoint, private=True)

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
    try:
        with safe_open(path, framework="pt") as handle:
            return {"identity", "facts"} <= (handle.metadata() or {}).keys()
    except SafetensorError:
        return False
