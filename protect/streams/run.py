"""``apply`` over an object store or over shards: task by task, each written whole, checked, and noted as done.

What is noted lies in the *records*, a place beside OUT: for each task its rows of the manifest, and last of all its
receipt. A run that goes on does what has no receipt. What a kill left in OUT without one is made again and compared,
since the same picture gets the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, Literal, Unpack, overload

from ...errors import BankError, ConfigError, ImageError, OutputError, ResumeError
from ...imaging.allocator import giving_back
from ...imaging.budget import FLOAT32_SLACK
from ...imaging.label_maps import is_label_map, partner_stem
from ...imaging.loading import FileProblem
from ...imaging.shards import Sample, open_shard
from ...records.config import Problems, takes
from ...records.locks import exclusive
from ...records.manifest import ManifestRow
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_file import versions
from ...records.run_state import explain_settings
from ...records.stores import HashingFile, Item, LocalStore, Store, is_url, masked, open_store, sha256_of
from ...records.text import counted
from ..bank_file import open_bank
from ..folder.inputs import ordered_map
from ..folder.protecting import classes_of
from ..folder.writing import PictureWriter, follow_names
from ..request.config import StreamConfig, StreamKeywords, read_names
from ..request.places import check_writable
from .pictures import Classes, ClassUnknown, Outcome, encoder_for, plain_row, protect_one, protect_sample
from .sources import Source, Task, check_apart, find_source
from .summary import (
    MOST_PROBLEMS,
    Input,
    Receipt,
    StreamPlan,
    StreamRun,
    StreamSummary,
    Tally,
    Written,
    receipt_of,
)

if TYPE_CHECKING:
    from ..bank import Bank
    from ..textures import TextureBank

#: What is put behind OUT's name for the place of the records.
RECORDS_SUFFIX: Final = ".bitterant"
_RUN: Final = "run.json"
_LOCK: Final = "lock"
_RECEIPTS: Final = "done"
_MANIFEST: Final = "manifest"
#: Parts of a URL, behind ``//``, from which on there is a folder that can have another beside it.
_LEAST_PARTS: Final = {"hf": 4, "memory": 1}
#: Pictures that a dry run tries.
_TRIED: Final = 8
#: Of a receipt or a run file.
_LARGEST_RECORD: Final = 1 << 28


@overload
def apply_stream(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    dry_run: Literal[False] = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[StreamKeywords],
) -> StreamSummary: ...
@overload
def apply_stream(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    dry_run: bool,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[StreamKeywords],
) -> StreamSummary | StreamPlan: ...
@takes(StreamConfig)
def apply_stream(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[StreamKeywords],
) -> StreamSummary | StreamPlan:
    """Protect pictures in an object store, in WebDataset's tar shards or in Parquet files, with a bank fitted before.

    One object or shard is read, protected and written at a time; a picture gets the same pixels as in a folder. What
    is in OUT already is never written over. What cannot be protected is left out of OUT and stands in the manifest:
    a picture, or the whole sample of a shard that it belongs to. The same call goes on after a stop or a kill, and does
    what has come to SRC since.

    Args:
        source: SRC: the path or URL of a folder, of a shard, or with patterns, such as ``s3://bucket/photos``,
            ``shards/pictures-{000000..000009}.tar``, ``tables/*.parquet``.
        output: OUT: the path or URL of a folder, new or begun by an earlier call. The records lie beside it, under its
            name with ``.bitterant`` behind.
        bank: textures by class, or perturbations by class or picture; a bank or the file it was saved in.
        dry_run: write nothing and return a plan.
        class_from: where the class of a sample stands: ``"path"``, the ending of a member, a field of its ``.json``, or
            a column. Found by itself where left out: ``.cls``, a column of Hugging Face's ``ClassLabel``, ``label``,
            or the folder in the archive.
        classes: text file of class names, of which the first is number 0.
        columns: the only columns, or endings of members, that hold pictures.
        format: see :func:`protect_folder`.
        metadata: see :func:`protect_folder`.
        mark: see :func:`protect_folder`.
        class_name: the class of all pictures.
        resume: False refuses an OUT that was begun before.
        strict: skipped pictures make the exit code 1, too.
        workers: threads; the result does not depend on it.
        max_pixels: refuse larger pictures before decoding them.
        follow_links: links are never followed here.
        device, weights, allow_download: only for banks of clusters, which are applied to folders alone.
        progress: see :func:`protect_folder`.
        stop: see :func:`protect_folder`.

    Raises:
        BankError: the bank is damaged, goes by clusters, or has nothing for the first pictures.
        ConfigError: something is wrong with what was asked for, or SRC holds nothing.
        ResumeError: OUT holds what this run did not write, or SRC is not what it was.
        SetupError: a package is missing, or a place cannot be reached or written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    problems = Problems()
    config = StreamConfig.collect({**options, "dry_run": dry_run}, problems)
    loaded = names = found = out = records = None
    with problems.collecting():
        loaded = open_bank(Path(bank)) if isinstance(bank, str | Path) else bank
        if loaded.clusters is not None:
            raise BankError(
                "This bank goes by clusters: which one a picture belongs to is found by a network, which is done for "
                "folders on this machine alone. Take textures by class: `bitterant code-book` makes them of names."
            )
    with problems.collecting():
        names = read_names(config.classes) if config.classes is not None else []
    with problems.collecting():
        records = open_store(records_place(output))
        out = open_store(output)
    with problems.collecting():
        found = find_source(source)
    if found is not None and out is not None:
        problems.add(check_apart(found, out))
    if found is not None and found.kind == "pictures" and (config.class_from or config.classes or config.columns):
        problems.add(
            ConfigError(
                "--class-from, --classes and --column are for shards; single pictures have the class of their folder."
            )
        )
    classes = None
    if loaded is not None and names is not None:
        with problems.collecting():
            classes = Classes.of(classes_of(loaded), asked=config.class_name, field=config.class_from, names=names)
    if isinstance(out, LocalStore):
        with problems.collecting():
            check_writable(out.root, create=not dry_run and not problems.found)
    problems.raise_all()
    if loaded is None or found is None or out is None or records is None or classes is None:
        raise ConfigError("The request could not be checked.")  # a problem was noted whenever one is missing
    (progress or silent)("found", 0, 0, found.describe())
    run = StreamRunner(
        source=found,
        output=out,
        records=records,
        config=config,
        classes=classes,
        writer=PictureWriter(bank=loaded, metadata=config.metadata, max_pixels=config.max_pixels, mark=config.mark),
        settings={
            "kind": found.kind,
            "method": loaded.method,
            "granularity": loaded.granularity,
            "epsilon": loaded.budget.epsilon,
            "norm": loaded.budget.norm,
            "bank_sha256": loaded.digest(),
            "class": classes.fixed,
            "classes_sha256": hashlib.sha256("\n".join(names or ()).encode()).hexdigest() if names else None,
            **config.settings(),
            "columns": list(config.columns),
        },
        seed=loaded.seed,
        shown=masked(str(source)),
        progress=progress or silent,
        stop=stop or StopRequest(),
        started=started,
    )
    if dry_run:
        return run.plan()
    with run.alone():
        return run.run()


def records_place(output: Path | str) -> Path | str:
    """Where the records of OUT lie: beside it.

    Raises:
        ConfigError: OUT is a whole bucket or repository, beside which nothing can lie.
    """
    if not is_url(output):
        path = Path(output)
        if path.name in ("", ".."):
            path = Path(os.path.abspath(output))  # noqa: PTH100 - a name beside it; links are not followed
        return path.with_name(path.name + RECORDS_SUFFIX)
    text = str(output).rstrip("/")
    scheme, _, rest = text.partition(":")
    parts = [part for part in rest.split("/") if part]
    if len(parts) < _LEAST_PARTS.get(scheme.lower(), 2):
        raise ConfigError(
            f"{masked(text)} is a whole bucket. Name a folder in it, such as {masked(text)}/protected: the records of "
            "the run go beside that folder, so that it can be published as it is."
        )
    return text + RECORDS_SUFFIX


@dataclass
class _Result:
    """What a task came to.

    Attributes:
        rows: of the manifest.
        sources: what was read; what could not be is not among them, and is tried again by the next run.
        outputs: what was written.
        left_out: samples.
        classless: pictures that are left out for their class alone.
        notes: what people should know.
    """

    rows: list[ManifestRow] = field(default_factory=list)
    sources: list[Input] = field(default_factory=list)
    outputs: list[Written] = field(default_factory=list)
    left_out: int = 0
    classless: int = 0
    notes: list[str] = field(default_factory=list)


class _NothingKept(Exception):
    """No sample of a shard is left, so that no shard is written."""


class _Unreadable(Exception):
    """A shard could not be read on, which is told apart from a copy that cannot be written."""


def _readable(samples: Iterator[Sample]) -> Iterator[Sample]:
    try:
        yield from samples
    except OSError as error:
        raise _Unreadable(str(error.strerror or error)) from error


@dataclass(kw_only=True)
class StreamRunner:
    """A checked run. Attributes are as in :func:`apply_stream`; ``settings`` decide about the result, and ``shown`` is
    SRC as people may see it."""

    source: Source
    output: Store
    records: Store
    config: StreamConfig
    classes: Classes
    writer: PictureWriter
    settings: dict[str, Any]
    seed: int
    shown: str
    progress: ProgressCallback
    stop: StopRequest
    started: float
    tally: Tally = field(default_factory=Tally)
    problems: list[FileProblem] = field(default_factory=list)
    problem_count: int = 0
    warnings: list[str] = field(default_factory=list)

    # ------------------------------------------------------------------------------------------------ the whole run
    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second run on this machine out, and take away what a killed one left half-written."""
        if not isinstance(self.records, LocalStore):
            yield
            return
        check_writable(self.records.root, create=True, what="folder of the records")
        with exclusive(self.records.root / _LOCK):
            for store in (self.records, self.output):
                if isinstance(store, LocalStore):
                    store.sweep()
            yield

    def run(self) -> StreamSummary:
        """Do what is left to do."""
        self._vet_folders()
        earlier = self._begin()
        done = self._receipts() if earlier else {}
        written = self._check_done(done)
        self.tally = Tally()
        for receipt in done.values():
            self.tally.add(receipt)
        resumed, protected_before = self.tally.tasks, self.tally.counts["protected"]
        known = {source.name for receipt in done.values() for source in receipt.sources}
        tasks = self._pending(known)
        total = sum(len(task.items) for task in tasks)
        finished = 0
        for task in tasks:
            self.stop.check(self._so_far())
            with giving_back():
                result = self._do(task, lambda message, base=finished: self.progress("write", base, total, message))
            self._vet(result)
            self._note(task, result)
            finished += len(task.items)
            self.progress("write", finished, total, task.items[-1].name)
            written |= {made.name: made.size for made in result.outputs}
        for problem in self.source.skipped:
            self._tell(problem)
        self._check_strangers(written)
        return self._finish(resumed, self.tally.counts["protected"] - protected_before)

    def _so_far(self) -> str:
        return f"{counted(self.tally.tasks, 'task')} finished, {self.tally.counts['protected']} pictures protected."

    def _begin(self) -> bool:
        """Write down what the run is, or make sure that it is the one that is written down; whether it is.

        Raises:
            ResumeError: OUT holds anything else.
        """
        where = self.records.where(_RUN)
        try:
            there = self.records.stat(_RUN) is not None
            data = self.records.read(_RUN, _LARGEST_RECORD) if there else None
        except OSError as error:
            raise OutputError(f"{where} cannot be read: {error.strerror or error}.") from None
        if data is None:
            held = next((item.name for item in self.output.listing() if not _is_litter(item.name)), None)
            if held is not None:
                raise ResumeError(
                    f"{self.output.shown} holds what bitterant did not write, such as {held}. Nothing of that is "
                    "touched. Give an empty or new place."
                )
            stray = next((item.name for item in self.records.listing() if item.name != _LOCK), None)
            if stray is not None:
                raise ResumeError(
                    f"{self.records.shown}, where the records of this run are to lie, holds {stray}. Give another "
                    "output place, or move it away."
                )
            self.records.put(_RUN, self._run_file(finished=False, tally=Tally()).to_bytes())
            return False
        if not self.config.resume:
            raise ResumeError(
                f"{self.output.shown} was begun by an earlier run. To start again give another place, or remove it and "
                f"{self.records.shown}."
            )
        run: StreamRun = StreamRun.from_bytes(data, where)
        differences = explain_settings(run.settings, self.settings)
        if differences and not self._receipts() and next(iter(self.output.listing()), None) is None:
            # Begun and stopped before anything was done, perhaps for the very settings that differ.
            self.records.replace(_RUN, self._run_file(finished=False, tally=Tally()).to_bytes())
            return False
        if differences:
            raise ResumeError(
                f"{self.output.shown} was begun with other settings: {'; '.join(differences)}. Use the earlier ones to "
                "go on, or give another output place."
            )
        return True

    def _receipts(self) -> dict[str, Receipt]:
        """Of all tasks that are done, by their names."""
        names = sorted(item.name for item in self.records.listing(_RECEIPTS) if item.name.endswith(".json"))

        def read(name: str) -> Receipt:
            try:
                data = self.records.read(name, _LARGEST_RECORD)
            except OSError as error:
                raise OutputError(f"{self.records.where(name)} cannot be read: {error.strerror or error}.") from None
            return Receipt.from_bytes(data, self.records.where(name))

        done: dict[str, Receipt] = {}
        for receipt in ordered_map(read, names, workers=self.config.threads):
            done[receipt.task] = receipt
            self.progress("check", len(done), len(names), "what is done already")
        return done

    def _check_done(self, done: dict[str, Receipt]) -> dict[str, int]:
        """Make sure that what is done is still so, in SRC and in OUT; returns the names and sizes in OUT.

        Raises:
            ResumeError: names what is missing or changed.
        """
        now = {item.name: item for item in (*self.source.items, *self.source.captions)}
        before = {source.name: source for receipt in done.values() for source in receipt.sources}
        changed = [
            name
            for name, old in before.items()
            if (item := now.get(name)) is not None
            and (item.size != old.size or (item.tag != old.tag and self._digest(item) != old.sha256))
        ]
        if changed:
            raise ResumeError(
                f"{counted(len(changed), 'object')} in {self.shown} changed since {changed[0]} and the others were "
                f"done: {_some(changed)}. Give another output place for what is there now."
                if len(changed) > 1
                else f"{changed[0]} in {self.shown} changed since it was done. Give another output place."
            )
        outputs = {made.name: made for receipt in done.values() for made in receipt.outputs}
        there = {item.name: item.size for item in self.output.listing()} if outputs else {}
        wrong = [name for name, made in outputs.items() if there.get(name) != made.size]
        if isinstance(self.output, LocalStore) and not wrong:
            # Elsewhere to read all of it again would cost as much as it took to write.
            wrong = [name for name, made in outputs.items() if self.output.digest(name) != made.sha256]
        if wrong:
            raise ResumeError(
                f"{counted(len(wrong), 'object')} that earlier runs wrote to {self.output.shown}, now missing or "
                f"changed: {_some(wrong)}. Give another output place, or put back what was there."
            )
        return {name: made.size for name, made in outputs.items()}

    def _digest(self, item: Item) -> str:
        try:
            return self.source.store.digest(item.name)
        except OSError:
            return ""

    def _pending(self, known: set[str]) -> list[Task]:
        """What is left to do, where these objects are done."""
        return replace(
            self.source,
            items=tuple(item for item in self.source.items if item.name not in known),
            captions=tuple(item for item in self.source.captions if item.name not in known),
        ).tasks()

    def _vet_folders(self) -> None:
        """Refuse single pictures whose folders are all no classes of the bank.

        Raises:
            BankError: they are.
        """
        if self.source.kind != "pictures" or self.classes.fixed is not None or not self.classes.known:
            return
        folders = {name for name in self.source.layout.class_of.values() if name is not None}
        if not folders & self.classes.known:
            found = f"lie in {_some(sorted(folders))}" if folders else "lie in no class folders"
            raise BankError(
                f"The bank has nothing for any of the pictures in {self.shown}: they {found}, and it knows "
                f"{_some(sorted(self.classes.known))}. --class NAME gives all of them one class."
            )

    def _vet(self, result: _Result) -> None:
        """Refuse to go on where the samples of the very first shard all lack a class: something was asked for wrongly.

        Raises:
            BankError: they do.
        """
        if self.tally.tasks == 0 and result.classless and not result.outputs:
            first = next(row for row in result.rows if row.status == "skipped")
            raise BankError(
                f"The bank has nothing for any of the first {counted(len(result.rows), 'picture')}. {first.source}: "
                f"{(first.reason or '').removesuffix('; not copied')}. The bank knows "
                f"{_some(sorted(self.classes.known))}."
            )

    def _note(self, task: Task, result: _Result) -> None:
        """Write down that a task is done: its rows, then its receipt."""
        name = task.name
        unread = [row for row in result.rows if row.status == "failed" and row.sha256_in is None]
        receipt = receipt_of(
            name,
            # What could not be read is not done: the next run tries it again, and counts it then.
            [row for row in result.rows if row not in unread] if self.source.kind == "pictures" else result.rows,
            result.sources,
            result.outputs,
            limit=self.writer.budget.levels + FLOAT32_SLACK,
            left_out=result.left_out,
            notes=result.notes,
        )
        self.records.replace(f"{_MANIFEST}/{name}.jsonl", b"".join(row.to_line() for row in result.rows))
        if result.sources:
            self.records.replace(f"{_RECEIPTS}/{name}.json", receipt.to_bytes())
            self.tally.add(receipt)
        if not result.sources or self.source.kind == "pictures":
            self.tally.counts["failed"] += len(unread)
        for row in result.rows:
            if row.is_problem:
                self._tell(FileProblem(row.source, row.reason or ""))
        self.warnings += [note for note in result.notes if note not in self.warnings]

    def _tell(self, problem: FileProblem) -> None:
        self.problem_count += 1
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)

    def _check_strangers(self, written: dict[str, int]) -> None:
        strangers = [
            item.name for item in self.output.listing() if item.name not in written and not _is_litter(item.name)
        ]
        if strangers:
            self.warnings.append(
                f"{counted(len(strangers), 'object')} in {self.output.shown} that no run of yours accounts for, so "
                f"perhaps not protected: {_some(sorted(strangers))}."
            )

    def _run_file(self, *, finished: bool, tally: Tally) -> StreamRun:
        return StreamRun(
            kind=self.source.kind,
            source=self.shown,
            output=self.output.shown,
            settings=self.settings,
            seed=self.seed,
            versions=versions(),
            finished=finished,
            tasks=tally.tasks,
            counts=tally.counts,
            left_out=tally.left_out,
            over_budget=tally.over_budget,
            worst_levels=tally.worst_levels,
            warnings=self.warnings,
            seconds=round(time.perf_counter() - self.started, 3),
        )

    def _finish(self, resumed: int, protected: int) -> StreamSummary:
        self.warnings += self.config.warnings()
        self.records.replace(_RUN, self._run_file(finished=True, tally=self.tally).to_bytes())
        seconds = time.perf_counter() - self.started
        return StreamSummary(
            kind=self.source.kind,
            output=self.output.shown,
            records=self.records.shown,
            counts=self.tally.counts,
            tasks=self.tally.tasks,
            resumed=resumed,
            left_out=self.tally.left_out,
            over_budget=self.tally.over_budget,
            seconds=seconds,
            images_per_second=protected / seconds if seconds > 0 else 0.0,
            problems=self.problems,
            problem_count=self.problem_count,
            warnings=self.warnings,
            strict=self.config.strict,
        )

    # ------------------------------------------------------------------------------------------------------- a task
    @property
    def _most(self) -> int:
        """Bytes that a picture within the limit of pixels can have, with room for what is said of it."""
        return 8 * self.config.max_pixels + (1 << 26)

    def _do(self, task: Task, tell: Callable[[str], None]) -> _Result:
        if self.source.kind != "pictures":
            return self._do_shard(task.items[0], tell)
        result = _Result()
        with closing(ordered_map(self._do_object, task.items, workers=self.config.threads, stop=self.stop)) as done:
            for item, (row, source, output, classless) in zip(task.items, done, strict=False):
                result.rows.append(row)
                result.sources += [] if source is None else [source]
                result.outputs += [] if output is None else [output]
                result.classless += classless
                tell(item.name)
        if len(result.rows) < len(task.items):
            self.stop.check(self._so_far())
        return result

    @cached_property
    def _names(self) -> dict[str, tuple[str, str]]:
        return self.source.names(self.config.format)

    def _do_object(self, item: Item) -> tuple[ManifestRow, Input | None, Written | None, bool]:
        """A picture, or a caption file, by itself."""
        name = item.name
        row = plain_row(name, "failed", None)
        source: Input | None = None
        try:
            if item.size > self._most:
                raise ImageError(name, f"{item.size / 2**20:.0f} MiB, more than any picture within the limits has")
            data = self._read(item)
            row = replace(row, sha256_in=hashlib.sha256(data).hexdigest())
            source = Input(name=name, size=item.size, tag=item.tag, sha256=row.sha256_in or "")
            target, planned = self._names.get(name, (name, ""))
            if not planned:
                followed = follow_names(name, data, {old: new for old, (new, _) in self._names.items()})
                row = replace(row, status="copied", reason=followed.reason, output=name)
                return self._put(row, name, followed.data, source)
            alone = partner_stem(name) not in self.source.stems
            if is_label_map(name, data, alone=alone):
                row = replace(row, status="copied", reason="a label map, copied as it is", output=name)
                return self._put(row, name, data, source)
            class_name = self.classes.in_folder(self.source.layout.class_of[name], name)
            encoder = encoder_for(name, data, (target, planned), self.config.format)
            copy, row = protect_one(self.writer, data, replace(row, output=target), class_name, encoder)
            if row.status != "protected":
                return row, source, None, False
            return self._put(row, target, copy, source)
        except ClassUnknown as error:
            return replace(row, status="skipped", reason=f"{error}; not copied"), source, None, True
        except ImageError as error:
            failed = replace(row, status="failed", reason=error.reason, output=None, sha256_out=None)
            return failed, source, None, False
        except OSError as error:
            self.source.store.check()
            return replace(row, reason=f"cannot be read: {error.strerror or error}"), None, None, False

    def _read(self, item: Item) -> bytes:
        return self.source.store.read(item.name, self._most)

    def _put(self, row: ManifestRow, name: str, data: bytes, source: Input) -> tuple[ManifestRow, Input, Written, bool]:
        digest = hashlib.sha256(data).hexdigest()
        self.output.put(name, data)
        return replace(row, sha256_out=digest), source, Written(name=name, size=len(data), sha256=digest), False

    def _do_shard(self, item: Item, tell: Callable[[str], None]) -> _Result:
        """A shard. One that is damaged anywhere is left out as a whole."""
        result = _Result()
        try:
            with self.source.store.fetch(item.name) as file:
                digest = sha256_of(file)
                file.seek(0)
                result.sources.append(Input(name=item.name, size=item.size, tag=item.tag, sha256=digest))
                with contextlib.suppress(_NothingKept), self.output.writing(item.name) as made:
                    self._copy_shard(item, file, made, result, tell)
                    result.outputs.append(Written(name=item.name, size=made.size, sha256=made.sha256))
        except ImageError as error:
            # Nothing of it was put in place, whatever its first samples came to.
            result.rows = [plain_row(item.name, "failed", f"the whole shard: {error.reason}", digest)]
            result.outputs, result.left_out, result.classless = [], 0, 0
        except (OSError, _Unreadable) as error:
            self.source.store.check()
            why = error.strerror if isinstance(error, OSError) else None
            result = _Result([plain_row(item.name, "failed", f"cannot be read: {why or error}")])
        return result

    def _copy_shard(
        self, item: Item, file: BinaryIO, made: HashingFile, result: _Result, tell: Callable[[str], None]
    ) -> None:
        shard = open_shard(file, item.name, columns=self.config.columns, most=self._most)
        where, policy, kept, seen = f"{item.name}/", self.config.format, 0, 0

        def work(sample: Sample) -> tuple[Sample, Outcome]:
            return sample, protect_sample(self.writer, shard, sample, where, self.classes, policy)

        samples = _readable(shard.samples())
        # What writes is closed before its file is, whatever becomes of that.
        with (
            closing(shard.writer(made)) as writer,
            closing(ordered_map(work, samples, workers=self.config.threads, stop=self.stop)) as done,
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
                tell(f"{item.name}, sample {seen}")
        self.stop.check(self._so_far())
        result.notes += shard.notes
        if not kept:
            raise _NothingKept

    # ---------------------------------------------------------------------------------------------------- a dry run
    def plan(self) -> StreamPlan:
        """What would be done, by the first pictures. Writes nothing."""
        self.progress("plan", 0, 1, "trying a few pictures")
        rows, before, after, seconds, pictures = self._try()
        problems = [FileProblem(row.source, row.reason or "") for row in rows if row.is_problem]
        growth = after / before if before else 1.0
        share = before / max(1, self.source.size) if before else 1.0
        classes = Counter(
            (row.key or "?").rpartition("/")[0] or row.key or "?" for row in rows if row.status != "copied"
        )
        return StreamPlan(
            kind=self.source.kind,
            source=self.shown,
            output=self.output.shown,
            tasks=len(self.source.items),
            bytes_in=self.source.size,
            bytes_out=round(self.source.size * growth),
            seconds=seconds / max(share, 1e-9) / self.config.threads if before else 0.0,
            classes=dict(classes.most_common()),
            sampled=pictures,
            settings=self.settings,
            problems=[*problems, *self.source.skipped][:MOST_PROBLEMS],
            warnings=self.config.warnings(),
        )

    def _try(self) -> tuple[list[ManifestRow], int, int, float, int]:
        """Rows, bytes before and after, seconds, and number of the first pictures."""
        rows: list[ManifestRow] = []
        before = after = pictures = 0
        started = time.perf_counter()
        if self.source.kind == "pictures":
            for item in _spread(self.source.items, _TRIED):
                row = plain_row(item.name, "failed", None)
                try:
                    data = self._read(item)
                    row = replace(row, sha256_in=hashlib.sha256(data).hexdigest())
                    class_name = self.classes.in_folder(self.source.layout.class_of[item.name], item.name)
                    encoder = encoder_for(item.name, data, self._names[item.name], self.config.format)
                    copy, row = protect_one(self.writer, data, row, class_name, encoder)
                    before, after = before + len(data), after + (len(copy) or len(data))
                except ClassUnknown as error:
                    row = replace(row, status="skipped", reason=str(error))
                except ImageError as error:
                    row = replace(row, status="failed", reason=error.reason)
                except OSError as error:
                    row = replace(row, reason=f"cannot be read: {error.strerror or error}")
                rows.append(row)
            return rows, before, after, time.perf_counter() - started, len(rows)
        item = self.source.items[0]
        try:
            with self.source.store.open(item.name) as file:
                shard = open_shard(file, item.name, columns=self.config.columns, most=self._most)
                with closing(iter(shard.samples())) as samples:  # type: ignore[type-var]
                    for sample in samples:
                        outcome = protect_sample(
                            self.writer, shard, sample, f"{item.name}/", self.classes, self.config.format
                        )
                        rows += outcome.rows
                        copies = outcome.replaced or {}
                        for held in sample.pictures:
                            size = len(held.data or b"")
                            before += size
                            after += len(copies[held.name].data) if held.name in copies else size
                        pictures += len(sample.pictures)
                        if pictures >= _TRIED:
                            break
        except ImageError as error:
            rows.append(plain_row(item.name, "failed", error.reason))
        except OSError as error:
            rows.append(plain_row(item.name, "failed", f"cannot be read: {error.strerror or error}"))
        return rows, before, after, time.perf_counter() - started, pictures


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    return [items[i * len(items) // count] for i in range(count)] if len(items) > count else list(items)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _is_litter(name: str) -> bool:
    """What desktops leave in any folder."""
    return name.rpartition("/")[2].lower() in (".ds_store", "thumbs.db", "desktop.ini", ".directory")
