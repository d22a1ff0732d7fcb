"""The manifest: one JSON line for each input, append-only, whole after any kill but for its last line."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, get_args

from ..errors import OutputError, ResumeError
from .on_disk import LinesOnDisk
from .places import open_own, open_regular
from .text import parse_json

MANIFEST_NAME = "bitterant-manifest.jsonl"

Status = Literal["protected", "copied", "skipped", "failed"]
_STATUSES: tuple[str, ...] = get_args(Status)
_NUMBERS = (int, float)

#: The reason of hidden and system files, which nobody needs to hear of.
HIDDEN: Final = "hidden"


def image_key(class_name: str | None, sha256: str) -> str:
    """The identity of an image: ``class/sha256`` of its file's bytes, or the hash alone where there are no classes.

    Names do not enter, so a perturbation finds its image again after renaming.
    """
    return sha256 if class_name is None else f"{class_name}/{sha256}"


@dataclass(frozen=True, slots=True)
class ManifestRow:
    """What became of one input file.

    Attributes:
        source: path below SRC, with forward slashes.
        output: path below OUT, or ``None`` where nothing was written.
        sha256_in: of the input's bytes; ``None`` where they were not or could not be read.
        sha256_out: of the bytes read back from OUT.
        status: ``protected``, ``copied`` (captions, label maps), ``skipped`` (not ours to change) or ``failed``.
        reason: why it was skipped or failed, or what else is worth knowing.
        width, height: of the protected picture, in pixels.
        mode: Pillow's mode of the protected picture.
        format: file format of the protected picture.
        linf_levels: largest change of any value read back from disk, in 1/255 units.
        psnr: peak signal-to-noise ratio in dB; ``None`` where the picture did not change (infinite).
        ssim: structural similarity, 1 where the picture did not change.
        ciede, ciede_p95: mean CIEDE2000 colour difference of the pixels looked at, and the 95th percentile.
        ciede_patches: the same mean for patches of 8 x 8 pixels.
        ciede_flat: the mean of those patches that are plain in the original; ``None`` where hardly any is.
        flip: mean FLIP error; ``None`` where it was not measured. All as in :class:`Visibility`.
        kept: share of the change that the file format left over, in [0, 1]; ``None`` where it left all of it.
        key: which row of the bank was added.
        seconds: time spent on this file.
    """

    source: str
    output: str | None
    sha256_in: str | None
    sha256_out: str | None
    status: Status
    reason: str | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    linf_levels: float | None = None
    psnr: float | None = None
    ssim: float | None = None
    ciede: float | None = None
    ciede_p95: float | None = None
    ciede_patches: float | None = None
    ciede_flat: float | None = None
    flip: float | None = None
    kept: float | None = None
    key: str | None = None
    seconds: float = 0.0

    @property
    def is_problem(self) -> bool:
        """Whether the user should hear of it: failed, or skipped for another reason than being hidden."""
        return self.status == "failed" or (self.status == "skipped" and self.reason != HIDDEN)

    def to_line(self) -> bytes:
        """One line of JSON with its newline. Pure ASCII, so that any file name and any line splitter are safe."""
        body = {name: getattr(self, name) for name in self.__slots__}
        return json.dumps(body, allow_nan=False).encode("ascii") + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> ManifestRow:
        """The inverse of :meth:`to_line`. Unknown fields, of a later version, are ignored.

        Raises:
            ValueError: the line is not a manifest row.
        """
        data = parse_json(line)
        if not isinstance(data, dict) or data.get("status") not in _STATUSES or not isinstance(data.get("source"), str):
            raise ValueError("it is no row of a manifest")
        found = {name: data[name] for name in cls.__slots__ if name in data}
        for name, value in found.items():
            kinds = str if "str" in cls.__annotations__[name] or name == "status" else _NUMBERS
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool)):
                raise ValueError(f"its field {name} is of another kind")
        if not all(_stays_below(found.get(name) or "") for name in ("source", "output")):
            raise ValueError("it speaks of a file that lies elsewhere")
        try:
            return cls(**{**found, "seconds": found.get("seconds") or 0.0})
        except TypeError as error:
            raise ValueError("fields are missing") from error


@dataclass(frozen=True)
class ManifestLog:
    """A manifest as read from disk.

    Attributes:
        rows: the whole rows, in file order.
        size: number of bytes that the whole rows take.
        cut: whether half a row followed them: the trace of a kill.
    """

    rows: Sequence[ManifestRow] = ()
    size: int = 0
    cut: bool = False


def read_manifest(path: Path) -> ManifestLog:
    """Read a manifest; a missing file is an empty one, a last line cut by a kill is left out.

    Raises:
        ResumeError: a line before the last is no manifest row, or the file cannot be read.
    """
    log = open_manifest(path)
    return replace(log, rows=tuple(log.rows))


def open_manifest(path: Path) -> ManifestLog:
    """As :func:`read_manifest`, for a manifest too long to hold in memory: its rows are checked now, and read again
    whenever they are gone through."""
    count, size = 0, 0
    try:
        with open_regular(path) as file:
            for line in file:
                if not line.endswith(b"\n"):
                    return ManifestLog(LinesOnDisk(path, ManifestRow.from_line, count), size, cut=True)
                try:
                    ManifestRow.from_line(line)
                except ValueError as error:
                    # A power cut can leave a last block of zeros that ends in a newline of an earlier write.
                    if not file.peek(1):
                        return ManifestLog(LinesOnDisk(path, ManifestRow.from_line, count), size, cut=True)
                    raise ResumeError(
                        f"{path}: line {count + 1} is damaged: {error}. Give an empty output folder, "
                        "or move the damaged manifest away and check the files by hand."
                    ) from error
                count += 1
                size += len(line)
    except FileNotFoundError:
        return ManifestLog()
    except OSError as error:
        raise ResumeError(f"{path} cannot be read: {error.strerror}.") from error
    return ManifestLog(LinesOnDisk(path, ManifestRow.from_line, count), size)


class ManifestWriter:
    """Appends rows; each append is on disk when it returns.

    Args:
        path: the manifest.
        size: bytes to keep of what is there; the rest (half a row) is cut off first.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        try:
            self._file = open_own(path)
            self._file.truncate(size)
            self._file.seek(size)
        except OSError as error:
            raise _unwritable(path, error) from error

    def append(self, rows: Sequence[ManifestRow]) -> None:
        """Append rows in one write and one fsync.

        Raises:
            OutputError: the disk is full or gone.
        """
        if not rows:
            return
        try:
            self._file.write(b"".join(row.to_line() for row in rows))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file; more appends are an error.

        What an append could not write is given up: that append has said so, and closing must not say it again, worse.
        """
        with contextlib.suppress(OSError):
            self._file.close()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _stays_below(relative: str) -> bool:
    """Whether a path with forward slashes, put behind a folder, leads to something in it."""
    return not relative.startswith("/") and ".." not in relative.split("/")


def count_statuses(rows: Iterable[ManifestRow]) -> dict[str, int]:
    """How many rows have each status; all four names are present. Their sum is the number of inputs."""
    return all_statuses(Counter(row.status for row in rows))


def all_statuses(counted: Mapping[str, int]) -> dict[str, int]:
    """Numbers by status; all four names are present."""
    return {status: counted.get(status, 0) for status in _STATUSES}


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}. Make room or fix the permission, "
        "then run the same command again; it goes on where it stopped."
    )
