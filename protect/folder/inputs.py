"""The account of a run: every file below SRC, once, in a fixed order, with what becomes of it and the noise it gets."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from ...imaging.budget import Budget
from ...imaging.loading import sha256_file
from ...imaging.picture import Picture
from ...imaging.scan import FolderScan
from ...records.progress import ProgressCallback, StopRequest
from ...records.run_state import InputRecord


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


_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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


def ordered_map(
    work: Callable[[_Item], _Result], items: Iterable[_Item], *, workers: int, stop: StopRequest | None = None
) -> Generator[_Result]:
    """Results in the order of the items, computed in a thread pool with a bounded number of items under way.

    When a stop is asked for, what has begun is finished and yielded, and the rest is left out; the caller then asks
    ``stop`` itself.
    """
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="bitterant")
    waiting: deque[Future[_Result]] = deque()
    source = iter(items)
    try:
        while True:
            while len(waiting) < 2 * workers and not (stop is not None and stop.requested):
                try:
                    waiting.append(pool.submit(work, next(source)))
                except StopIteration:
                    break
            if not waiting:
                return
            if stop is not None and stop.requested:
                # The pool begins items in order, so that only the tail can still be called back.
                while waiting and waiting[-1].cancel():
                    waiting.pop()
                if not waiting:
                    return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def hash_paths(
    paths: Sequence[Path], *, workers: int, stop: StopRequest, progress: ProgressCallback, message: str
) -> list[str | None]:
    """sha256 of every file, ``None`` where it cannot be read.

    Raises:
        Interrupted: a stop was asked for.
    """

    def digest(path: Path) -> str | None:
        try:
            return sha256_file(path)
        except OSError:
            return None

    digests: list[str | None] = []
    for value in ordered_map(digest, paths, workers=workers, stop=stop):
        digests.append(value)
        progress("check", len(digests), len(paths), message)
    if len(digests) < len(paths):
        stop.check("Nothing was changed.")
    return digests


def hash_inputs(
    scan: FolderScan, *, workers: int, stop: StopRequest, progress: ProgressCallback
) -> tuple[InputRecord, ...]:
    """Every input below SRC as it is now, without decoding any.

    Raises:
        Interrupted: a stop was asked for.
    """
    names = [*(entry.relative for entry in scan.entries), *scan.captions, *scan.label_maps]
    digests = hash_paths(
        [scan.root / name for name in names],
        workers=workers,
        stop=stop,
        progress=progress,
        message="checking the source folder",
    )
    return list_inputs(scan, dict(zip(names, digests, strict=True)))


def list_inputs(
    scan: FolderScan, digests: Mapping[str, str | None], problems: Mapping[str, str] | None = None
) -> tuple[InputRecord, ...]:
    """Every input below SRC in the order of the manifest: sorted by the bytes of the path.

    Args:
        scan: what lies in SRC.
        digests: relative path to sha256, of images, captions and label maps.
        problems: relative path to reason, of images that cannot be read.
    """
    bad = problems or {}
    records = [
        InputRecord(
            entry.relative,
            "failed" if entry.relative in bad else "image",
            digests.get(entry.relative),
            entry.class_name,
            bad.get(entry.relative),
        )
        for entry in scan.entries
    ]
    records += [InputRecord(relative, "caption", digests.get(relative)) for relative in scan.captions]
    records += [InputRecord(relative, "label_map", digests.get(relative)) for relative in scan.label_maps]
    records += [InputRecord(skip.relative, "skipped", reason=skip.reason) for skip in scan.skipped]
    return tuple(sorted(records, key=lambda record: os.fsencode(record.relative)))


def make_jobs(source: Path, records: Iterable[InputRecord], names: Mapping[str, tuple[str, str]]) -> list[Job]:
    """What each input becomes.

    Args:
        source: SRC.
        records: the inputs.
        names: relative path of an image to its path below OUT and its file format there.
    """
    jobs = []
    for record in records:
        output, encoder = None, None
        if record.kind == "image":
            output, encoder = names[record.relative]
        elif record.kind in ("caption", "label_map"):
            output = record.relative
        jobs.append(Job(record, source / record.relative, output, encoder))
    return jobs


def tell_found(scan: FolderScan, progress: ProgressCallback) -> None:
    """Say before any work what the pictures are and which folders were taken for classes."""
    for message in (scan.describe(), *scan.notes):
        progress("found", 0, 0, message)
