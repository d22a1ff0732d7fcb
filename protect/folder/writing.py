"""One input to its output: add the perturbation, write the file, read it back from disk, and only then believe it.

Captions go along; where a picture changed its name (a JPEG becomes a PNG), the caption table follows.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import logging
import math
import os
import posixpath
import re
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Final, Literal

import numpy as np

from ...errors import CaptionError, ConfigError, ImageError, OutputError, ResumeError, SetupError
from ...imaging.codec import decode
from ...imaging.decoders import Decode, Decoders
from ...imaging.encoding import encode
from ...imaging.formats import TOO_LARGE
from ...imaging.loading import took_too_long
from ...imaging.metadata import add_mark, apply_metadata_policy, has_mark
from ...imaging.perturb import Budget, Change, add_delta, measure_change, share_kept, shrink_delta
from ...imaging.picture import Picture
from ...imaging.tables import TABLE_NAMES, visit_names
from ...imaging.visibility import measure_visibility
from ...records.config import Fit, Mark, MetadataPolicy
from ...records.files import write_atomic
from ...records.manifest import ManifestRow
from ...records.on_disk import Names, Table, as_blob
from ...records.places import StillThere, read_regular
from ...records.run_state import InputRecord, Journal
from ...records.text import counted, some, some_counted
from ...records.threads import Attempt
from .inputs import Job, NoiseStore

logger = logging.getLogger(__name__)

#: Room for the rounding of a measured change; far below one level of a 16-bit file (1/257).
_SLACK = 1e-4

#: Share of the range in use that a 16-bit picture has to span; the usual budget is 6 % of it, to both sides.
_LEAST_CONTRAST: Final = 1 / 8

#: What the disk says of one path and not of the whole place: the name is too long, or a file and a folder want it both.
OF_ONE_PATH = frozenset({errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY})

#: Why a picture is skipped that the bank does not know.
NOTHING_FOR_IT: Final = "the bank holds no perturbation for this picture; it was not copied"

#: How the reason begins of a copy whose format holds no mark.
UNMARKED: Final = "without the mark"


@dataclass(frozen=True)
class Made:
    """A protected picture that is yet to be written, or to be read back.

    Attributes:
        data: its bytes.
        before: the original.
        meant: the protected picture as it was before it was encoded.
        encoder: its file format.
        key: which noise was added.
    """

    data: bytes = field(repr=False)
    before: Picture
    meant: Picture
    encoder: str
    key: str


@dataclass(frozen=True, kw_only=True)
class PictureWriter:
    """Turns the bytes of pictures into those of their protected copies, wherever either lie. Safe to call from several
    threads.

    Attributes:
        bank: the fitted perturbations.
        metadata: ``keep``, ``private`` or ``strip``.
        max_pixels: larger pictures are refused before they are decoded.
        fit: how a perturbation of another size meets a picture; ``None`` for plain bilinear stretching.
        mark: what is said to those who would train on the pictures, in addition.
        decoders: of the originals, for all threads together.
    """

    bank: NoiseStore
    metadata: MetadataPolicy
    max_pixels: int
    fit: Fit | None = None
    mark: Mark | None = None
    decoders: Decoders = field(default_factory=Decoders)

    @property
    def budget(self) -> Budget:
        """The bound that every picture keeps on disk."""
        return self.bank.budget

    def make(self, data: bytes, name: str, entry_key: str | None, encoder: str, decode: Decode = decode) -> Made | None:
        """Protect a picture.

        Args:
            data: the bytes of its file.
            name: what messages call it.
            entry_key: its identity, see :func:`~bitterant.records.manifest.image_key`.
            encoder: file format of the copy.
            decode: of the block in which the copy is made, see :meth:`~bitterant.imaging.decoders.Decoders.at_work`.

        Returns:
            The copy, or ``None`` where the bank holds nothing for it.

        Raises:
            ImageError: it cannot be read, or cannot be protected.
        """
        # Decoded first: a damaged file is a failure, with or without a perturbation for it.
        before = decode(data, max_pixels=self.max_pixels, name=name)
        _check_contrast(before, name)
        key = None if entry_key is None else self.bank.key_for(entry_key)
        if key is None:
            return None
        levels = self.bank.levels_on(before, key)
        if self.fit is not None:
            levels = shrink_delta(levels, before.height, before.width, self.fit)
        if not levels.any():
            raise ImageError(
                name,
                f"the perturbation of {key} is zero everywhere and would protect nothing; make the noise again",
            )
        protected = add_delta(before, levels, self.budget, fit=self.fit or "stretch")
        protected = replace(protected, metadata=apply_metadata_policy(protected.metadata, self.metadata))
        if self.mark is not None:
            protected = replace(protected, metadata=add_mark(protected.metadata, self.mark))
        del levels  # as large as the picture, and not needed any more
        return Made(encode(protected, format=encoder), before, protected, encoder, key)

    def proved(self, made: Made, found: bytes, row: ManifestRow, *, with_flip: bool = False) -> ManifestRow:
        """The row of a copy whose bytes, as they were found where it was written, are what was meant.

        Args:
            made: the copy.
            found: its bytes as they were read back.
            row: what is known of it already.
            with_flip: measure FLIP, too.

        Raises:
            ImageError: they are not.
        """
        name, encoder = row.source, made.encoder
        after = decode(found, max_pixels=self.max_pixels, name=name)
        wrong = _difference(made.meant, after, lossless=encoder != "JPEG")
        if wrong is not None:
            raise _not_as_meant(name, wrong)
        change = measure_change(made.before, after)
        over = change.linf_levels > self.budget.levels + _SLACK
        if over and encoder != "JPEG":
            wrong = f"the change on disk is {change.linf_levels:g} levels, more than {self.budget.levels:g}"
            raise _not_as_meant(name, wrong)
        kept = share_kept(made.before, made.meant, after) if encoder == "JPEG" else None
        seen = measure_visibility(made.before, after, with_flip=with_flip)
        told = [_say_over(change, self.budget)] if over else []
        if self.mark is not None and not has_mark(after.metadata, self.mark):
            told.append(f"{UNMARKED} {self.mark}")
        return replace(
            row,
            status="protected",
            reason="; ".join(told) or None,
            width=int(after.pixels.shape[1]),
            height=int(after.pixels.shape[0]),
            mode=after.mode,
            format=after.format,
            linf_levels=round(change.linf_levels, 4),
            # Infinite where nothing changed, which JSON cannot say. Rounded below what threads can change in a sum.
            psnr=None if math.isinf(change.psnr) else round(change.psnr, 3),
            ssim=round(change.ssim, 5),
            ciede=round(seen.ciede, 3),
            ciede_p95=round(seen.ciede_p95, 3),
            ciede_patches=round(seen.ciede_patches, 3),
            ciede_flat=None if seen.ciede_flat is None else round(seen.ciede_flat, 3),
            flip=None if seen.flip is None else round(seen.flip, 4),
            kept=None if kept is None else round(kept, 3),
            key=made.key,
        )


@dataclass(frozen=True, kw_only=True)
class FileWriter(PictureWriter):
    """Turns jobs into files in OUT and manifest rows. Safe to call from several threads.

    Attributes:
        output: OUT.
        names: path of each picture below SRC to its path below OUT, for the caption tables.
        journal: notes each file before it appears.
        key_of: the identity by which the bank knows a picture.
        flip_for: sha256 of the pictures of which FLIP is measured, where its package is installed.
        folders: SRC and OUT, which are looked for where a file fails.
    """

    output: Path
    names: Mapping[str, str]
    journal: Journal
    key_of: Callable[[InputRecord], str | None] = attrgetter("key")
    flip_for: frozenset[str] = frozenset()
    folders: StillThere | None = None

    def __call__(self, job: Job, attempt: Attempt | None = None) -> ManifestRow:
        """Do one job. What is wrong with one file becomes its ``failed`` row. It commits ``attempt`` before it writes.

        The file is whole and on disk; its name there may not be (see :func:`~bitterant.records.files.sync_folder`).

        Raises:
            OutputError: OUT cannot be written, or SRC or OUT is gone; no file would succeed.
            ResumeError: a file that is not ours lies in the way.
        """
        started = time.perf_counter()
        try:
            row = self._row(job, attempt or Attempt())
        except ImageError as error:
            self._look_for_folders()
            row = _plain(job, "failed", error.reason)
        except OSError as error:
            self._look_for_folders()
            row = _plain(job, "failed", f"cannot be read: {error.strerror or error}")
        except MemoryError:  # of this picture: what is smaller still fits
            row = _plain(job, "failed", TOO_LARGE)
        return replace(row, seconds=round(time.perf_counter() - started, 4))

    def _look_for_folders(self) -> None:
        if self.folders is not None:
            self.folders.check()

    def late(self, job: Job, limit: float) -> ManifestRow:
        """The row of a job that was given up after so many seconds."""
        self._look_for_folders()
        return replace(_plain(job, "failed", took_too_long(limit)), seconds=limit)

    def _row(self, job: Job, attempt: Attempt) -> ManifestRow:
        record = job.record
        if record.kind in ("skipped", "failed"):
            return _plain(job, "skipped" if record.kind == "skipped" else "failed", record.reason)
        if record.sha256 is None:
            raise ImageError(
                record.relative,
                "could not be read, or not in time, when the run began; once it can, give another output folder, or "
                "start again with --no-resume (in Python: resume=False)",
            )
        data = read_regular(job.path)
        if hashlib.sha256(data).hexdigest() != record.sha256:
            raise ImageError(record.relative, "the file changed while the run was under way")
        if record.kind != "image":
            attempt.commit()
            return self._copy(job, data)
        with self.decoders.at_work(attempt) as decode:
            return self._protect(job, data, attempt, decode)

    def _copy(self, job: Job, data: bytes) -> ManifestRow:
        followed = Followed(data)
        if job.record.kind == "caption":
            followed = follow_names(job.record.relative, data, self.names)
        target, digest = self._put(job, followed.data)
        with _discarding(target, job.record.relative):
            if hashlib.sha256(target.read_bytes()).hexdigest() != digest:
                raise ImageError(job.record.relative, "the copy read back from disk differs; the file was removed")
        reason = followed.reason if job.record.kind == "caption" else "a label map, copied as it is"
        return replace(_plain(job, "copied", reason), output=job.output, sha256_out=digest)

    def _protect(self, job: Job, data: bytes, attempt: Attempt, decode: Decode) -> ManifestRow:
        relative = job.record.relative
        made = self.make(data, relative, self.key_of(job.record), job.encoder or "PNG", decode)
        if made is None:
            return _plain(job, "skipped", NOTHING_FOR_IT)
        attempt.commit()
        target, digest = self._put(job, made.data)
        made = replace(made, data=b"")  # it is read back from the disk, and the picture may be a large one
        with _discarding(target, relative):
            found = target.read_bytes()
            if hashlib.sha256(found).hexdigest() != digest:
                raise _not_as_meant(relative, "its bytes differ from those that were written")
            row = replace(_plain(job, "copied", None), output=job.output, sha256_out=digest)
            return self.proved(made, found, row, with_flip=job.record.sha256 in self.flip_for)

    def _put(self, job: Job, data: bytes) -> tuple[Path, str]:
        """Bring bytes to their place; a file of ours that an interrupted run left there is taken as it is."""
        output = job.output or job.record.relative
        target = self.output / output
        digest = hashlib.sha256(data).hexdigest()
        if os.path.lexists(target):
            if (
                target.is_file()
                and not target.is_symlink()
                and hashlib.sha256(target.read_bytes()).hexdigest() == digest
            ):
                return target, digest
            if target.is_dir() and not target.is_symlink():
                raise ImageError(
                    job.record.relative, f"cannot be written: a folder {output} is in its way; rename one of them"
                )
            if (other := _same_but_for_case(target)) is not None:
                raise ImageError(
                    job.record.relative,
                    f"cannot be written as {output}: it differs from {other} in case alone, which this disk takes for "
                    "the same name; rename one of them",
                )
            raise ResumeError(
                f"{target} is in the way and bitterant did not write it. Nothing is overwritten: "
                "move that file away and run the same command again."
            )
        self.journal.note(output, digest)
        try:
            write_atomic(target, data, overwrite=False, lasting=False)
        except (ConfigError, OutputError) as error:  # a name is taken, or cannot be
            if isinstance(error.__cause__, OSError) and error.__cause__.errno in OF_ONE_PATH:
                why = error.__cause__.strerror or error.__cause__
                raise ImageError(job.record.relative, f"cannot be written as {output}: {why}; rename it") from error
            raise
        return target, digest


def _same_but_for_case(target: Path) -> str | None:
    """The name of a file that a disk takes for ``target`` although it is spelled otherwise; ``None`` on most disks."""
    with contextlib.suppress(OSError):
        names = {path.name for path in target.parent.iterdir()}
        if target.name not in names:
            return next((name for name in sorted(names) if name.casefold() == target.name.casefold()), None)
    return None


def _plain(job: Job, status: Literal["copied", "skipped", "failed"], reason: str | None) -> ManifestRow:
    return ManifestRow(
        source=job.record.relative,
        output=None,
        sha256_in=job.record.sha256,
        sha256_out=None,
        status=status,
        reason=reason,
    )


@contextlib.contextmanager
def _discarding(target: Path, relative: str) -> Iterator[None]:
    """Remove the file again unless the block finds it sound; whatever goes wrong is a failure of that file.

    Raises:
        ImageError: it is not.
    """
    try:
        yield
    except Exception as error:
        with contextlib.suppress(OSError):
            target.unlink()
        if isinstance(error, ImageError):
            raise
        logger.error("%s: %r", relative, error)
        why = (error.strerror if isinstance(error, OSError) else None) or error or type(error).__name__
        raise ImageError(relative, f"cannot be read back from disk: {why}; the file was removed") from error


def _not_as_meant(relative: str, wrong: str) -> ImageError:
    logger.error("%s: %s", relative, wrong)
    return ImageError(relative, f"read back from disk, {wrong}; the file was removed. Please report this as a bug")


def _check_contrast(picture: Picture, relative: str) -> None:
    """Refuse 16 bits of which little is used, far from black: programs stretch it, and the change with it.

    Raises:
        ImageError: the picture is one of these.
    """
    if picture.bit_depth == 16:
        low, high = int(picture.pixels.min()), int(picture.pixels.max())
        if 0 < high - low < picture.full_range * _LEAST_CONTRAST:
            raise ImageError(
                relative,
                f"its 16-bit values lie between {low} and {high}: the noise would cover what little differs; "
                "stretch them to the full range",
            )


def _say_over(change: Change, budget: Budget) -> str:
    return f"over budget: JPEG changed it by {change.linf_levels:g} levels, more than {budget.levels:g}"


def _difference(meant: Picture, found: Picture, *, lossless: bool) -> str | None:
    """How the picture on disk differs from the one that was meant; ``None`` where it does not."""
    if found.pixels.shape[:2] != meant.pixels.shape[:2] or found.bit_depth != meant.bit_depth:
        return (
            f"it has {found.width} x {found.height} pixels of {found.bit_depth} bits, "
            f"not {meant.width} x {meant.height} of {meant.bit_depth}"
        )
    if meant.pixels.shape[2] > found.pixels.shape[2]:
        return "its colours are gone"
    if not lossless:
        return None
    if not np.array_equal(_opacity(meant), _opacity(found)):
        return "its transparency differs"
    # WebP has no grey: there a grey picture comes back with three equal channels.
    if not np.array_equal(np.broadcast_to(meant.pixels, found.pixels.shape), found.pixels):
        return "its pixels differ from those that were written"
    return None


def _opacity(picture: Picture) -> np.ndarray:
    # Encoders may leave out a transparency that is opaque everywhere.
    return np.array(255, np.uint8) if picture.alpha is None or (picture.alpha == 255).all() else picture.alpha


_URL: Final = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


def tell_unmarked(count: int, first: str, formats: Iterable[str]) -> list[str]:
    """What to say of copies whose files hold no mark, if there are any.

    Args:
        count: how many.
        first: one of them.
        formats: of their files.
    """
    if not count:
        return []
    return [
        f"{counted(count, 'copy bears', 'copies bear')} no mark, since {' and '.join(sorted(formats))} files hold "
        f"none: {some([first], 1, total=count)}. Convert them to PNG first to have them marked."
    ]


_SHOWN: Final = 5
_AS_IT_IS: Final = "copied as it is, the names of pictures in it too, since it cannot be understood"


@dataclass(frozen=True, slots=True)
class Followed:
    """A caption file for OUT.

    Attributes:
        data: its bytes.
        changed: how many names in it were changed.
        problem: why it could not be understood and is as it was; ``None`` where it could.
    """

    data: bytes
    changed: int = 0
    problem: str | None = None

    @property
    def reason(self) -> str | None:
        """What the manifest says of it."""
        if self.problem is not None:
            return f"{_AS_IT_IS}: {self.problem}"
        return f"file names that follow the new names of the pictures: {self.changed}" if self.changed else None


def follow_names(relative: str, data: bytes, names: Mapping[str, str]) -> Followed:
    """The caption file with the file names of OUT.

    Tables of the Hugging Face ``imagefolder`` layout name their pictures in ``file_name`` columns (see
    :func:`~bitterant.imaging.tables.is_name_column`), relative to the folder of the table. Only those values are
    changed; a file in which no name changes, that is of another kind, or that cannot be understood, comes back byte for
    byte.

    Args:
        relative: path of the caption file below SRC.
        data: its bytes.
        names: path of each picture below SRC to its path below OUT.
    """
    folder, _, name = relative.rpartition("/")
    if name.lower() not in TABLE_NAMES:
        return Followed(data)
    places = _Places(folder, names)
    changed = 0

    def follow(row: int, value: str) -> str:
        nonlocal changed
        new = places.of(value)
        if new is None:
            return value
        changed += 1
        return new

    try:
        return Followed(visit_names(name, data, follow), changed)
    except (CaptionError, SetupError) as error:
        return Followed(data, problem=str(error))


class _Places:
    """Where pictures that a table names lie in OUT, seen from the folder of the table."""

    def __init__(self, folder: str, names: Mapping[str, str]) -> None:
        self.folder = folder
        self.names = names

    @cached_property
    def folded(self) -> Names:
        """Folded, those that are no ASCII: a disk may store accents decomposed where the table has them composed."""
        table = Table(name="BLOB", output="BLOB")
        for source in self.names:
            if not source.isascii():
                table.append(as_blob(_fold(source)), as_blob(self.names[source]))
        return Names(table)

    def _find(self, path: str) -> str | None:
        if (output := self.names.get(path)) is not None:
            return output
        place = None if path.isascii() else self.folded.find(_fold(path))
        return None if place is None else os.fsdecode(self.folded.table.row(place)[1])

    def of(self, value: str) -> str | None:
        """The new name, or ``None`` where the value names no picture or need not change."""
        for spelt in (value, value.replace("\\", "/")):  # a table made on Windows
            # An absolute value or one that climbs out of SRC matches no picture, so it is left as it is.
            path = posixpath.normpath(posixpath.join(self.folder, spelt))
            output = self._find(path)
            if output is not None:
                new = posixpath.relpath(output, self.folder or ".")
                return None if new == posixpath.normpath(value) else new
        return None


def _fold(path: str) -> str:
    return unicodedata.normalize("NFC", path)


def table_warnings(output: Path, tables: Sequence[ManifestRow], rows: Iterable[ManifestRow]) -> list[str]:
    """What people must know of the tables in OUT: those that were not followed, and names that lead to no file.

    Args:
        output: OUT, all of its files written.
        tables: the rows of the tables that were copied.
        rows: the manifest; gone through only where there are tables.
    """
    if not tables:
        return []
    known, became = Names(), Names(Table(name="BLOB", what="BLOB"))
    for row in rows:
        if row.output is not None:
            known.append(_fold(row.output))
            continue
        what = as_blob(f"{row.source}: {row.status}")
        became.table.append(as_blob(_fold(row.source)), what)
        # A picture that failed while it was written may stand in the table under the name it was to get.
        became.table.append(as_blob(_fold(posixpath.splitext(row.source)[0])), what)
    warnings = []
    for row in tables:
        name = posixpath.basename(row.source)
        if row.output is None:
            continue
        if row.reason is not None and row.reason.startswith(_AS_IT_IS):
            warnings.append(f"{row.source}: {row.reason}. Captions in it may belong to names that the output lacks.")
            continue
        folder = posixpath.dirname(row.output)
        missing: dict[str, str] = {}

        def look(line: int, value: str, folder: str = folder, missing: dict[str, str] = missing) -> str:
            path = posixpath.normpath(posixpath.join(folder, value.replace("\\", "/")))
            if value and not _URL.match(value) and _fold(path) not in known:
                lost = (became.find(_fold(name)) for name in (path, posixpath.splitext(path)[0]))
                place = next((place for place in lost if place is not None), None)
                why = "" if place is None else f", {os.fsdecode(became.table.row(place)[1])}"
                missing.setdefault(value, f"{value} (row {line}{why})")
            return value

        try:
            visit_names(name, (output / row.output).read_bytes(), look)
        except (CaptionError, SetupError, OSError):
            continue
        if missing:
            warnings.append(
                f"{row.source} names {counted(len(missing), 'file')} that the output lacks: "
                f"{some_counted(missing.values(), _SHOWN)}. A program that loads the table will stop there: take these "
                "rows out of the table in the source folder, or mend the pictures, and protect it again with "
                "--no-resume (in Python: resume=False)."
            )
    return warnings
