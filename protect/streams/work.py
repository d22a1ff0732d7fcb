"""One task: some pictures by themselves, or a shard, from SRC to OUT."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, BinaryIO, TypeAlias

from ...errors import ConfigError, ImageError, OutputError
from ...imaging.formats import MAX_FILE_BYTES
from ...imaging.label_maps import is_label_map, partner_stem
from ...imaging.loading import took_too_long
from ...imaging.shards import Sample, Shard, open_shard
from ...records.manifest import ManifestRow
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.stores import HashingFile, Item, Store, sha256_of
from ...records.threads import Attempt, Patience, patient_map
from ..folder.inputs import patience_with
from ..folder.writing import OF_ONE_PATH, PictureWriter, follow_names
from ..request.config import StreamConfig
from .pictures import LABEL_MAP, Classes, ClassUnknown, Outcome, encoder_for, plain_row, protect_one, protect_sample
from .sources import Source, Task
from .summary import Input, Written

#: Told the share of a task that is done, 0 to 1, and what was done last.
Tell: TypeAlias = Callable[[float, str], None]


@dataclass
class Result:
    """What a task came to.

    Attributes:
        rows: of the manifest.
        sources: what was read; what could not be is not among them, and is tried again by the next run.
        outputs: what was written.
        left_out: samples.
        classless: pictures or samples that are left out for their class alone.
        notes: what people should know.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    sources: list[Input] = field(default_factory=list)
    outputs: list[Written] = field(default_factory=list)
    left_out: int = 0
    classless: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Single:
    """What becomes of an object by itself.

    Attributes:
        row: of the manifest.
        source: what was read; ``None`` where it could not be.
        data: bytes of its copy; ``None`` where there is none.
        classless: whether it is left out for its class alone.
    """

    row: ManifestRow
    source: Input | None
    data: bytes | None = None
    classless: bool = False


class _NothingKept(Exception):
    """No sample of a shard is left, so that no shard is written."""


class _Unreadable(Exception):
    """A shard could not be read on, which is told apart from a copy that cannot be written."""


def _readable(samples: Iterator[Sample]) -> Iterator[Sample]:
    try:
        yield from samples
    except OSError as error:
        raise _Unreadable(str(error.strerror or error)) from error


def _of_one_path(error: ConfigError | OutputError) -> str | None:
    """What the disk says of one path alone; ``None`` where every other object would fail, too."""
    cause = error.__cause__
    return str(cause.strerror or cause) if isinstance(cause, OSError) and cause.errno in OF_ONE_PATH else None


@dataclass(frozen=True, kw_only=True)
class Worker:
    """Does tasks. Attributes are as in :func:`apply_stream`; ``writer`` puts the noise on, and ``progress`` hears of
    what takes long."""

    source: Source
    output: Store
    config: StreamConfig
    classes: Classes
    writer: PictureWriter
    stop: StopRequest
    progress: ProgressCallback = silent

    @property
    def most(self) -> int:
        """Bytes that a picture within the limit of pixels can have, with room for what is said of it; never more than
        any file may have."""
        return min(MAX_FILE_BYTES, 8 * self.config.max_pixels + (1 << 26))

    @cached_property
    def _names(self) -> Mapping[str, tuple[str, str]]:
        return self.source.names(self.config.format)

    @cached_property
    def _renamed(self) -> dict[str, str]:
        return {**self.source.settled, **{old: new for old, (new, _) in self._names.items()}}

    def do(self, task: Task, tell: Tell, so_far: str) -> Result:
        """Do a task.

        Args:
            task: which.
            tell: see there.
            so_far: what is finished when it begins, for the message of a stop.

        Raises:
            Interrupted: a stop was asked for. Of a shard nothing is left then; single pictures are whole.
            OutputError: OUT cannot be written, or SRC is gone.
            ResumeError: another object is in the way.
        """
        if self.source.kind != "pictures":
            return self._shard(task.items[0], tell, so_far)
        result = Result()
        singles = patient_map(
            self._single,
            task.items,
            workers=self.config.threads,
            stop=self.stop,
            patience=self._patience(lambda item: item.name),
            late=self._late,
        )
        with closing(singles) as done:
            for item, (single, written) in zip(task.items, done, strict=False):
                result.rows.append(single.row)
                result.sources += [] if single.source is None else [single.source]
                result.outputs += [] if written is None else [written]
                result.classless += single.classless
                tell(len(result.rows) / len(task.items), item.name)
        if len(result.rows) < len(task.items):
            self.stop.check(so_far)
        return result

    def _patience(self, named: Callable[[Any], str]) -> Patience[Any]:
        """As in a folder run, for items of which ``named`` tells the names."""
        patience = patience_with(self.progress, self.config.max_seconds_per_file)
        return Patience(patience.limit, lambda item, seconds: patience.tell(named(item), seconds))

    def _late(self, item: Item, limit: float) -> tuple[Single, None]:
        """Of an object that was given up: the next run tries it again."""
        self.source.store.check()
        return Single(plain_row(item.name, "failed", took_too_long(limit)), None), None

    def _single(self, item: Item, attempt: Attempt) -> tuple[Single, Written | None]:
        made = self.make(item, attempt)
        attempt.commit()  # what was given up meanwhile puts nothing into OUT
        if made.data is None or made.row.output is None:
            return made, None
        digest = hashlib.sha256(made.data).hexdigest()
        try:
            self.output.put(made.row.output, made.data)
        except (ConfigError, OutputError) as error:
            if (told := _of_one_path(error)) is None:
                raise
            why = f"cannot be written as {made.row.output}: {told}; rename it"
            return Single(plain_row(made.row.source, "failed", why), None), None
        written = Written(name=made.row.output, size=len(made.data), sha256=digest)
        return replace(made, row=replace(made.row, sha256_out=digest), data=None), written

    def make(self, item: Item, attempt: Attempt | None = None) -> Single:
        """Make the copy of a picture, or of a caption file, by itself; it may be given up meanwhile.

        Raises:
            OutputError: SRC is gone.
        """
        name = item.name
        row = plain_row(name, "failed", None)
        source: Input | None = None
        try:
            if item.size > self.most:
                raise ImageError(name, f"{item.size / 2**20:.0f} MiB, more than any picture within the limits has")
            data = self.source.store.read(name, self.most)
            row = replace(row, sha256_in=hashlib.sha256(data).hexdigest())
            source = Input(name=name, size=item.size, tag=item.tag, sha256=row.sha256_in or "")
            if name not in self._names:
                followed = follow_names(name, data, self._renamed)
                return Single(replace(row, status="copied", reason=followed.reason, output=name), source, followed.data)
            alone = partner_stem(name) not in self.source.stems
            if self.source.may_be_map(name) and is_label_map(name, data, alone=alone):
                return Single(replace(row, status="copied", reason=LABEL_MAP, output=name), source, data)
            class_name = self.classes.in_folder(self.source.layout.class_of.get(name), name)
            encoder = encoder_for(name, data, self._names[name], self.config.format)
            row = replace(row, output=self._names[name][0])
            copy, row = protect_one(self.writer, data, row, class_name, encoder, attempt)
            return Single(row, source, copy or None)
        except ClassUnknown as error:
            return Single(replace(row, status="skipped", reason=f"{error}; not copied"), source, classless=True)
        except ImageError as error:
            failed = replace(row, status="failed", reason=error.reason, output=None, sha256_out=None)
            return Single(failed, source)
        except OSError as error:
            self.source.store.check()
            return Single(replace(row, reason=f"cannot be read: {error.strerror or error}"), None)

    def open_shard(self, file: BinaryIO, name: str) -> Shard:
        """Open a shard as it was asked for; see :func:`~bitterant.imaging.shards.open_shard`."""
        return open_shard(file, name, columns=self.config.columns, most=self.most)

    def protect(self, shard: Shard, name: str, sample: Sample, attempt: Attempt | None = None) -> Outcome:
        """Protect a sample of the shard of this name; it may be given up meanwhile."""
        return protect_sample(self.writer, shard, sample, f"{name}/", self.classes, self.config.format, attempt)

    def _shard(self, item: Item, tell: Tell, so_far: str) -> Result:
        """A shard. One that is damaged anywhere is left out as a whole."""
        name, result, digest = item.name, Result(), None
        try:
            with self.source.store.fetch(name) as file:
                digest = sha256_of(file)
                file.seek(0)
                result.sources.append(Input(name=name, size=item.size, tag=item.tag, sha256=digest))
                with contextlib.suppress(_NothingKept), self.output.writing(name) as made:
                    self._copy(name, file, made, result, tell, so_far)
                    result.outputs.append(Written(name=name, size=made.size, sha256=made.sha256))
        except ImageError as error:
            # Nothing of it was put in place, whatever its first samples came to.
            if isinstance(error.__cause__, OSError) and error.__cause__.errno is not None:
                return self._unread(name, error.__cause__)  # the disk's or the network's fault, and no damage
            row = plain_row(name, "failed", f"the whole shard: {error.reason}", digest)
            return Result([row], result.sources)
        except (OSError, _Unreadable) as error:
            return self._unread(name, error)
        except (ConfigError, OutputError) as error:
            if (why := _of_one_path(error)) is None:
                raise
            return Result([plain_row(name, "failed", f"cannot be written: {why}; rename it")])
        return result

    def _unread(self, name: str, error: Exception) -> Result:
        """Of a shard that could not be read: the next run tries it again."""
        self.source.store.check()
        why = error.strerror if isinstance(error, OSError) else None
        return Result([plain_row(name, "failed", f"cannot be read: {why or error}")])

    def _copy(self, name: str, file: BinaryIO, made: HashingFile, result: Result, tell: Tell, so_far: str) -> None:
        shard = self.open_shard(file, name)
        kept = seen = 0

        # A sample holds its own bytes and reads nothing of the shard any more, so one that was given up, whose thread
        # goes on, disturbs no other.
        def work(sample: Sample, attempt: Attempt) -> tuple[Sample, Outcome]:
            return sample, self.protect(shard, name, sample, attempt)

        def late(sample: Sample, limit: float) -> tuple[Sample, Outcome]:
            labels = [held.label for held in sample.pictures] or [sample.key]
            why = took_too_long(limit)
            return sample, Outcome([plain_row(f"{name}/{label}", "failed", why) for label in labels], None)

        outcomes = patient_map(
            work,
            _readable(shard.samples()),
            workers=self.config.threads,
            stop=self.stop,
            patience=self._patience(lambda sample: f"{name}/{sample.key}"),
            late=late,
        )
        # What writes is closed before its file is, whatever becomes of that.
        with (
            closing(shard.writer(made)) as writer,
            closing(outcomes) as done,
        ):
            for sample, outcome in done:
                seen += 1
                result.rows += outcome.rows
                result.classless += outcome.classless
                if outcome.replaced is None:
                    result.left_out += 1
                else:
                    writer.add(sample, outcome.replaced)
                    kept += 1
                tell(shard.share, f"{name}, sample {seen}")
        self.stop.check(so_far)
        result.notes += shard.notes
        if not kept:
            raise _NothingKept
