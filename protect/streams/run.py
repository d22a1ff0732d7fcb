"""The run over a place: task by task, each written whole, checked, and noted as done.

What is noted lies in the *records*, a place beside OUT: for each task its rows of the manifest, and last of all its
receipt. A run that goes on does what has no receipt. What a kill left in OUT without one is made again and compared,
since the same picture gets the same bytes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Any, Final

from ...errors import BankError, OutputError, ResumeError
from ...imaging.loading import FileProblem
from ...imaging.perturb import FLOAT32_SLACK
from ...records.cluster import RayConnection
from ...records.config import cluster_address
from ...records.files import exclusive
from ...records.manifest import ManifestRow
from ...records.processes import giving_back
from ...records.progress import ProgressCallback
from ...records.run_file import versions
from ...records.run_state import explain_settings
from ...records.stores import Item, LocalStore, Store
from ...records.text import counted, some
from ...records.threads import ordered_map
from ..folder.writing import UNMARKED, tell_unmarked
from ..request.places import check_writable
from .cluster import Here, done_by_cluster
from .pictures import LABEL_MAP
from .sources import Task
from .summary import MOST_PROBLEMS, Input, Receipt, StreamRun, StreamSummary, Tally, receipt_of
from .work import Result, Worker

_RUN: Final = "run.json"
_LOCK: Final = "lock"
_RECEIPTS: Final = "done"
_MANIFEST: Final = "manifest"
#: Of a receipt or a run file.
_LARGEST_RECORD: Final = 1 << 28


@dataclass
class _Met:
    """Rows of one kind: how many, the first, and in which file formats."""

    count: int = 0
    first: str = ""
    formats: set[str] = field(default_factory=set)

    def add(self, row: ManifestRow) -> None:
        self.count += 1
        self.first = self.first or row.source
        self.formats.add(row.format or "")


@dataclass(kw_only=True)
class StreamRunner:
    """A checked run: ``settings`` decide about the result, ``shown`` is SRC as people may see it, ``repeat``
    the command that asks for the same, and ``started`` is when the request came."""

    worker: Worker
    records: Store
    settings: dict[str, Any]
    seed: int
    shown: str
    repeat: str
    progress: ProgressCallback
    started: float
    tally: Tally = field(default_factory=Tally)
    problems: list[FileProblem] = field(default_factory=list)
    problem_count: int = 0
    warnings: list[str] = field(default_factory=list)
    maps: _Met = field(default_factory=_Met)
    bare: _Met = field(default_factory=_Met)

    def __post_init__(self) -> None:
        self.source, self.output, self.config = self.worker.source, self.worker.output, self.worker.config
        self.classes, self.stop = self.worker.classes, self.worker.stop

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep a second run on this machine out, and take away what a killed one left half-written."""
        if not isinstance(self.records, LocalStore):
            yield
            return
        check_writable(self.records.root, create=True, what="folder of the records")
        with exclusive(self.records.root / _LOCK):
            self._sweep()
            yield

    def _sweep(self) -> None:
        for store in (self.records, self.output):
            if isinstance(store, LocalStore):
                store.sweep()

    def run(self) -> StreamSummary:
        """Do what is left to do."""
        self._vet_folders()
        earlier = self._begin()
        done = self._undamaged(self._receipts()) if earlier else {}
        written = self._check_done(done)
        self.tally = Tally()
        for receipt in done.values():
            self.tally.add(receipt)
        resumed, protected_before = self.tally.tasks, self.tally.counts["protected"]
        known = {source.name for receipt in done.values() for source in receipt.sources}
        tasks = self._pending(known)
        if done and tasks and self.source.kind == "pictures":
            self.source = replace(self.source, settled=self._settled(done))
            self.worker = replace(self.worker, source=self.source)
        total = sum(len(task.items) for task in tasks)
        finished = 0
        with closing(self._done(tasks, total)) as results:
            for task, result in results:
                self._vet(result)
                self._note(task, result)
                finished += len(task.items)
                self.progress("write", finished, total, task.items[-1].name)
                written |= {made.name: made.size for made in result.outputs}
        self._tell_earlier(done)
        for problem in (*self.source.unread, *self.source.skipped):
            self._tell(problem)
        self.tally.counts["failed"] += len(self.source.unread)
        self._check_strangers(written)
        return self._finish(resumed, self.tally.counts["protected"] - protected_before)

    def _done(self, tasks: Sequence[Task], total: int) -> Generator[tuple[Task, Result]]:
        """Tasks and what they came to: one after the other, or on a cluster as they are done."""
        if self.config.executor is not None and tasks:
            here = Here.of(self.records, _RUN, self.records.read(_RUN, _LARGEST_RECORD))
            with RayConnection(cluster_address(self.config.executor), workers=self.config.workers) as cluster:
                self.progress("write", 0, total, f"by {cluster.name}")
                yield from done_by_cluster(cluster, self.worker, here, tasks, self.stop, self._so_far)
            self._sweep()  # what a machine that was lost left half-written
            return
        finished = 0
        for task in tasks:
            self.stop.check(self._so_far())

            def tell(share: float, message: str, base: int = finished, size: int = len(task.items)) -> None:
                self.progress("write", base + size * share, total, message)

            with giving_back():
                result = self.worker.do(task, tell, self._so_far())
            yield task, result
            finished += len(task.items)

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

    def _undamaged(self, done: dict[str, Receipt]) -> dict[str, Receipt]:
        """Those that count: a shard of which nothing is in OUT, and that is another one now, is done anew."""
        if self.source.kind == "pictures":
            return done
        now = {item.name: item for item in self.source.items}

        def mended(receipt: Receipt) -> bool:
            return not receipt.outputs and any(
                (item := now.get(old.name)) is not None and self._differs(item, old) for old in receipt.sources
            )

        return {name: receipt for name, receipt in done.items() if not mended(receipt)}

    def _differs(self, item: Item, old: Input) -> bool:
        """Whether an object is not what was read. Another time of change alone does not make it another one."""
        if item.size != old.size:
            return True
        return item.tag != old.tag and _digest(self.source.store, item.name) != old.sha256

    def _settled(self, done: dict[str, Receipt]) -> dict[str, str]:
        """What the copies of single pictures that are done are called, by the names of these."""
        captions = {item.name for item in self.source.captions}
        rows = (row for row in self._rows(done) if row.source not in captions)
        return {row.source: row.output for row in rows if row.output is not None}

    def _tell_earlier(self, done: dict[str, Receipt]) -> None:
        """Name again what earlier runs left out, and this one does not try again."""
        lacking = (name for name, found in done.items() if found.counts.get("failed") or found.counts.get("skipped"))
        for row in self._rows(lacking):
            again = self.source.kind == "pictures" and row.status == "failed" and row.sha256_in is None
            if row.is_problem and not again:
                self._tell(FileProblem(row.source, row.reason or ""))

    def _rows(self, tasks: Iterable[str]) -> Iterator[ManifestRow]:
        """Of the manifest, those of tasks that are done.

        Raises:
            OutputError: they cannot be read.
        """

        def read(name: str) -> list[ManifestRow]:
            record = f"{_MANIFEST}/{name}.jsonl"
            try:
                lines = self.records.read(record, _LARGEST_RECORD).splitlines()
                return [ManifestRow.from_line(line) for line in lines]
            except (OSError, ValueError) as error:
                why = (error.strerror if isinstance(error, OSError) else None) or error
                raise OutputError(f"{self.records.where(record)} cannot be read: {why}.") from None

        yield from chain.from_iterable(ordered_map(read, sorted(tasks), workers=self.config.threads))

    def _check_done(self, done: dict[str, Receipt]) -> dict[str, int]:
        """Make sure that what is done is still so, in SRC and in OUT; returns the names and sizes in OUT.

        Raises:
            ResumeError: names what is missing or changed.
        """
        now = {item.name: item for item in (*self.source.items, *self.source.captions)}
        before = {source.name: source for receipt in done.values() for source in receipt.sources}
        changed = [
            name for name, old in before.items() if (item := now.get(name)) is not None and self._differs(item, old)
        ]
        if changed:
            raise ResumeError(
                f"{counted(len(changed), 'object')} in {self.shown} changed since {changed[0]} and the others were "
                f"done: {some(changed)}. Give another output place for what is there now."
                if len(changed) > 1
                else f"{changed[0]} in {self.shown} changed since it was done. Give another output place."
            )
        outputs = {made.name: made for receipt in done.values() for made in receipt.outputs}
        there = {item.name: item.size for item in self.output.listing()} if outputs else {}
        wrong = [name for name, made in outputs.items() if there.get(name) != made.size]
        if isinstance(self.output, LocalStore) and not wrong:
            # Elsewhere to read all of it again would cost as much as it took to write.
            wrong = [name for name, made in outputs.items() if _digest(self.output, name) != made.sha256]
        if wrong:
            raise ResumeError(
                f"{counted(len(wrong), 'object')} that earlier runs wrote to {self.output.shown}, now missing or "
                f"changed: {some(wrong)}. Give another output place, or put back what was there."
            )
        return {name: made.size for name, made in outputs.items()}

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
            found = f"lie in {some(sorted(folders))}" if folders else "lie in no class folders"
            raise BankError(
                f"The bank has nothing for any of the pictures in {self.shown}: they {found}, and it knows "
                f"{some(sorted(self.classes.known))}. --class NAME gives all of them one class."
            )

    def _vet(self, result: Result) -> None:
        """Refuse to go on where the samples of the very first shard all lack a class: something was asked for wrongly.

        Of single pictures the folders were looked at before.

        Raises:
            BankError: they do.
        """
        if self.source.kind != "pictures" and self.tally.tasks == 0 and result.classless and not result.outputs:
            first = next(row for row in result.rows if row.status == "skipped")
            raise BankError(
                f"The bank has nothing for any of the first {counted(len(result.rows), 'picture')}. {first.source}: "
                f"{(first.reason or '').removesuffix('; not copied')}. The bank knows "
                f"{some(sorted(self.classes.known))}."
            )

    def _note(self, task: Task, result: Result) -> None:
        """Write down that a task is done: its rows, then its receipt."""
        name = task.name
        unread = [row for row in result.rows if row.status == "failed" and row.sha256_in is None]
        receipt = receipt_of(
            name,
            # What could not be read is not done: the next run tries it again, and counts it then.
            [row for row in result.rows if row not in unread] if self.source.kind == "pictures" else result.rows,
            result.sources,
            result.outputs,
            limit=self.worker.writer.budget.levels + FLOAT32_SLACK,
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
            if row.status == "copied" and row.reason == LABEL_MAP:
                self.maps.add(row)
            if row.status == "protected" and row.reason is not None and UNMARKED in row.reason:
                self.bare.add(row)
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
                f"{counted(len(strangers), 'object')} in {self.output.shown} that no finished task accounts for, so "
                f"perhaps not protected, unless another run is writing there: {some(sorted(strangers))}."
            )

    def _tell_maps(self) -> list[str]:
        if not self.maps.count:
            return []
        return [
            f"{counted(self.maps.count, 'label map')}, such as {self.maps.first}, with numbers instead of a picture: "
            "copied without any change, so not protected. Pictures of yours need another name, and another name of "
            "their folder."
        ]

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
            repeat=self.repeat,
        )

    def _finish(self, resumed: int, protected: int) -> StreamSummary:
        unmarked = tell_unmarked(self.bare.count, self.bare.first, self.bare.formats)
        self.warnings += [*self.config.warnings(), *self._tell_maps(), *unmarked]
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


def _digest(store: Store, name: str) -> str:
    """sha256 of an object; empty where it cannot be read."""
    try:
        return store.digest(name)
    except OSError:
        return ""


def _is_litter(name: str) -> bool:
    """What desktops leave in any folder."""
    return name.rpartition("/")[2].lower() in (".ds_store", "thumbs.db", "desktop.ini", ".directory")
