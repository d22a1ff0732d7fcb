"""Telling the pictures that noise was asked for from those that changed, are gone, or are new."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from ...errors import BundleError
from ..records.state import InputRecord
from .request_map import RequestMap

__all__ = ["UNKNOWN", "Vetting"]

_CHANGED: Final = "it is not the file that noise was asked for: it changed since. Make a new request for it"
_MISSING: Final = "noise was asked for it, but it is no longer there"
UNKNOWN: Final = "no noise was asked for it; it was not copied. Make a new request for it"


class Vetting:
    """Which inputs are the pictures that noise was asked for, byte for byte."""

    def __init__(self, known: RequestMap, images: Path) -> None:
        self.images = images
        self.by_path = {picture.path: (name, picture) for name, picture in known.pictures.items()}

    def id_of(self, record: InputRecord) -> str | None:
        """The id under which noise was asked for."""
        found = self.by_path.get(record.relative)
        return None if found is None else found[0]

    def __call__(self, records: Sequence[InputRecord]) -> tuple[InputRecord, ...]:
        """The inputs, with those that may not be protected marked, and those that are gone.

        Raises:
            BundleError: none may be protected.
        """
        judged = [self._judge(record) for record in records]
        there = {record.relative for record in records}
        judged += [InputRecord(path, "failed", reason=_MISSING) for path in self.by_path if path not in there]
        if not any(record.kind == "image" for record in judged):
            raise BundleError(
                f"None of the {len(self.by_path)} pictures that noise was asked for is in {self.images} as it was. "
                "Give the folder that the request was made for, or make a new request."
            )
        return tuple(sorted(judged, key=lambda record: os.fsencode(record.relative)))

    def _judge(self, record: InputRecord) -> InputRecord:
        found = self.by_path.get(record.relative)
        if found is None:
            return replace(record, kind="skipped", sha256=None, reason=UNKNOWN) if record.kind == "image" else record
        if record.kind != "image":
            return replace(record, kind="failed", reason=record.reason or _CHANGED)
        changed = record.sha256 is not None and record.sha256 != found[1].sha256
        return replace(record, kind="failed", reason=_CHANGED) if changed else record
