"""The account of a run: every file below SRC, once, in a fixed order, with what becomes of it and the noise it gets."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from heapq import merge
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from ...imaging.perturb import Budget
from ...imaging.picture import Picture
from ...imaging.scan import Entry, FolderScan
from ...records.places import sha256_or_none
from ...records.progress import ProgressCallback, StopRequest
from ...records.run_state import InputList, InputRecord
from ...records.threads import Attempt, Patience, patient_map


class NoiseStore(Protocol):
    """Noise by key, within a budget. Read from several threads."""

    @property
    def budget(self) -> Budget:
        """The bound that all of it keeps."""
        ...

    @property
    def surrogate(self) -> str:
        """Name of the model behind it, empty where there is none."""
        ...

    @property
    def surrogate_sha256(self) -> str:
        """Digest of that model's weights."""
        ...

    @property
    def report(self) -> dict[str, Any]:
        """What is known of how it was made."""
        ...

    def digest(self) -> str:
        """sha256 over what decides about the pictures."""
        ...

    def key_for(self, image_key: str) -> str | None:
        """The key of the noise for a picture; ``None`` where there is none."""
        ...

    def levels_on(self, picture: Picture, key: str) -> np.ndarray:
        """The noise of a key on a picture: float32 ``[R, S, 1 or 3]``, in 8-bit levels. Stored noise is the same for
        every picture, and of its own size.

        Raises:
            ImageError: this picture cannot be protected by it.
        """
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One input and what it becomes.

    Attributes:
        record: the input.
        path: where it lies.
        output: path below OUT; ``None`` where nothing is written.
        encoder: file format of the output; ``None`` for what is not an image.
    """

    record: InputRecord
    path: Path
    output: str | None
    encoder: str | None


def hash_paths(
    paths: Iterable[Path],
    count: int,
    *,
    workers: int,
    stop: StopRequest,
    progress: ProgressCallback,
    message: str,
    limit: float = math.inf,
) -> Iterator[str | None]:
    """sha256 of every file in their order, ``None`` where it cannot be read.

    Args:
        paths: the files.
        count: how many they are.
        workers: threads.
        stop: a flag to stop at the next file.
        progress: told about every file.
        message: what is told.
        limit: seconds after which a file counts as one that cannot be read.

    Raises:
        Interrupted: a stop was asked for.
    """

    def digest_of(path: Path, attempt: Attempt) -> str | None:
        return sha256_or_none(path)

    done = 0
    found = patient_map(
        digest_of, paths, workers=workers, stop=stop, patience=patience_with(progress, limit), late=lambda *_: None
    )
    for digest in found:
        done += 1
        progress("check", done, count, message)
        yield digest
    if done < count:
        stop.check("Nothing was changed.")


def patience_with(progress: ProgressCallback, limit: float) -> Patience[Any]:
    """Tells people of a file that takes long, and gives it up after so many seconds.

    Args:
        progress: hears of it, as of the stage ``slow``.
        limit: seconds.
    """

    def tell(item: Path | Entry | Job, seconds: float) -> None:
        name = item.record.relative if isinstance(item, Job) else item.relative if isinstance(item, Entry) else item
        until = "" if math.isinf(limit) else f" It counts as failed after {limit:g} seconds (--max-seconds-per-file)."
        progress("slow", 0, 0, f"{name} takes long: {seconds:.0f} seconds so far.{until}")

    return Patience(limit, tell)


def hash_inputs(
    scan: FolderScan, *, workers: int, stop: StopRequest, progress: ProgressCallback, limit: float = math.inf
) -> InputList:
    """Every input below SRC as it is now, without decoding any; ``limit`` as in :func:`hash_paths`.

    Raises:
        Interrupted: a stop was asked for.
    """
    count = len(scan.entries) + len(scan.captions) + len(scan.label_maps)
    digests = hash_paths(
        (scan.root / record.relative for record in _in_order(scan) if record.kind not in _ASIDE),
        count,
        workers=workers,
        stop=stop,
        progress=progress,
        message="checking the source folder",
        limit=limit,
    )
    found = InputList(
        record if record.kind in _ASIDE else replace(record, sha256=next(digests)) for record in _in_order(scan)
    )
    next(digests, None)  # to its end, where it closes its threads
    return found


def list_inputs(
    scan: FolderScan, digests: Mapping[str, str | None], problems: Mapping[str, str] | None = None
) -> InputList:
    """Every input below SRC in the order of the manifest.

    Args:
        scan: what lies in SRC.
        digests: relative path to sha256, of images, captions and label maps.
        problems: relative path to reason, of images that cannot be read.
    """
    bad = problems or {}

    def known(record: InputRecord) -> InputRecord:
        record = replace(record, sha256=digests.get(record.relative)) if record.kind not in _ASIDE else record
        reason = bad.get(record.relative)
        return record if record.kind != "image" or reason is None else replace(record, kind="failed", reason=reason)

    return InputList(known(record) for record in _in_order(scan))


#: What is not opened: it is not input, or could not be looked at even by name.
_ASIDE: Final = ("skipped", "failed")


def _in_order(scan: FolderScan) -> Iterator[InputRecord]:
    """Every input, sorted by the bytes of the path, as the lists of a scan are."""
    return merge(
        (InputRecord(entry.relative, "image", class_name=entry.class_name) for entry in scan.entries),
        (InputRecord(relative, "caption") for relative in scan.captions),
        (InputRecord(relative, "label_map") for relative in scan.label_maps),
        (
            InputRecord(skip.relative, "failed" if skip.kind == "unread" else "skipped", reason=skip.reason)
            for skip in scan.skipped
        ),
        key=lambda record: os.fsencode(record.relative),
    )


def make_jobs(source: Path, records: Iterable[InputRecord], names: Mapping[str, tuple[str, str]]) -> Iterator[Job]:
    """What each input becomes.

    Args:
        source: SRC.
        records: the inputs.
        names: relative path of an image to its path below OUT and its file format there.
    """
    for record in records:
        output, encoder = None, None
        if record.kind == "image":
            output, encoder = names[record.relative]
        elif record.kind in ("caption", "label_map"):
            output = record.relative
        yield Job(record, source / record.relative, output, encoder)


def tell_found(scan: FolderScan, progress: ProgressCallback) -> None:
    """Say before any work what the pictures are and which folders were taken for classes."""
    for message in (scan.describe(), *scan.notes):
        progress("found", 0, 0, message)
