"""One run over a folder, from an opened OUT to the last file in it."""

from __future__ import annotations

import logging
import shutil
import time
from bisect import insort
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from ...errors import BankError, ConfigError, OutputError, ResumeError
from ...imaging.encoding import CopyNames, OutputNames, resolve_output_names
from ...imaging.scan import FolderScan
from ...imaging.visibility import FLIP_MISSING, flip_available
from ...records.config import Fit
from ...records.files import atomic_file, sweep_temporaries, sync_folder, write_atomic
from ...records.manifest import ManifestRow, ManifestWriter, open_manifest
from ...records.on_disk import Names
from ...records.places import StillThere, open_regular, sha256_file
from ...records.processes import giving_back
from ...records.progress import ProgressCallback, StopRequest
from ...records.run_file import RunFile, Shard, Timing, json_safe, versions
from ...records.run_state import InputList, InputRecord, Journal, RunState, plan_hash
from ...records.threads import patient_map
from ..request import Request, WriteConfig
from .fitting import FittedBank, fit_and_keep, fit_warnings, load_fitted, read_inputs
from .inputs import NoiseStore, hash_inputs, make_jobs, patience_with
from .report import RunSummary, write_report
from .session import Session
from .tally import Tally
from .writing import FileWriter, table_warnings

_Store = TypeVar("_Store", bound=NoiseStore)

logger = logging.getLogger(__name__)

#: FLIP takes some ten times as long as the other figures together: it is measured on this many pictures.
FLIP_PICTURES: Final = 32

#: Rows of the manifest that are written together, and seconds that one waits for others at most.
ROWS_AT_ONCE = 64
LONGEST_WAIT = 0.5


@dataclass(kw_only=True)
class FolderRun:
    """A checked run. Attributes are as in :func:`protect_folder`; ``settings`` decide about the result.

    ``fit`` and ``key_of`` are those of :class:`FileWriter`. ``vet`` looks at the inputs before anything is written and
    says which of them may not be protected. Of a ``shard`` all inputs are read, and its own are written.
    """

    command: Literal["protect", "apply"]
    scan: FolderScan
    output: Path
    options: WriteConfig
    settings: dict[str, Any]
    seed: int
    warnings: list[str]
    progress: ProgressCallback
    stop: StopRequest
    started: float
    repeat: str | None = None
    fit: Fit | None = None
    key_of: Callable[[InputRecord], str | None] = attrgetter("key")
    vet: Callable[[Sequence[InputRecord]], Iterable[InputRecord]] | None = None
    shard: Shard | None = None

    def __post_init__(self) -> None:
        self._folders = StillThere(self.scan.root, self.output)

    def protect(self, request: Request, *, resume: bool, keep: Path | None) -> RunSummary:
        """Fit where that is not done, then write; see :func:`protect_folder`."""
        session = self._open(resume)
        if session.finished is not None:
            return self._already_done(session, keep)
        fitted = load_fitted(session.files) if session.state is not None else None
        self._check_keep(keep, session)
        if fitted is None:
            dataset, records = read_inputs(
                request,
                workers=self.options.threads,
                max_pixels=self.options.max_pixels,
                limit=self.options.max_seconds_per_file,
                progress=self.progress,
                stop=self.stop,
                names=self._names,
            )
            self._look_for_folders(records)
            records = self._begin(session, records, resume)
            fitted = fit_and_keep(
                request,
                dataset,
                session.files,
                made_for=plan_hash(request.settings, records),
                progress=self.progress,
                stop=self.stop,
            )
            del dataset  # the working-resolution set is not needed for writing
        else:
            records = self._unchanged(session)
        return self._write(session, records, fitted, keep)

    def apply(
        self, bank: _Store, *, resume: bool, assign: Callable[[_Store, Sequence[InputRecord]], _Store] | None = None
    ) -> RunSummary:
        """Write with noise that is there; see :func:`apply_folder`. ``assign`` makes it know new pictures."""
        session = self._open(resume)
        if session.finished is not None:
            return self._already_done(session, None)
        records = self._hashed()
        if assign is not None:
            bank = assign(bank, records)
        keys = (self.key_of(record) for record in records if record.kind == "image")
        if not any(key is not None and bank.key_for(key) is not None for key in keys):
            count = sum(record.kind == "image" for record in records)
            which = "the picture" if count == 1 else f"any of the {count} pictures"
            raise BankError(
                f"The bank holds no perturbation for {which} in {self.scan.root}. A class-wise bank needs folders of "
                "the same class names; a sample-wise one the very files it was fitted on."
            )
        records = self._begin(session, records, resume)
        return self._write(session, records, FittedBank(bank, json_safe(bank.report), 0.0), None)

    def _open(self, resume: bool) -> Session:
        sweep_temporaries(self.output)
        session = Session.open(self.output, resume=resume, records=self.options.records)
        session.check_records()
        if session.records.place == "beside":
            sweep_temporaries(session.records.folder)
            self._folders = StillThere(self.scan.root, self.output, session.records.folder)
        session.tell_place(self.options, self.progress)
        if not resume:
            session.prove_ours()  # refuse early; cleared when the new run is sure to begin
            return session
        session.check_settings(self._resumed_by, versions())
        if session.finished is not None:
            session.files.remove()  # what a kill within the clean-up left
        if session.fresh:
            session.check_foreign()
        return session

    def _begin(self, session: Session, records: Sequence[InputRecord], resume: bool) -> Sequence[InputRecord]:
        """Write down what the run is about, or go on with what is written down; returns the inputs it is about."""
        if not resume:
            session.clear()
        if session.state is not None:
            session.check_inputs(records)
            return session.state.inputs
        return session.begin(RunState(self._resumed_by, records, versions())).inputs

    @cached_property
    def _names(self) -> OutputNames:
        """Path below OUT and format of each copy, by the picture's path below SRC."""
        beside = chain(self.scan.captions, self.scan.label_maps)
        return resolve_output_names(self.scan.entries, self.options.format, beside=beside)

    def _hashed(self) -> Sequence[InputRecord]:
        records = hash_inputs(
            self.scan,
            workers=self.options.threads,
            stop=self.stop,
            progress=self.progress,
            limit=self.options.max_seconds_per_file,
        )
        self._look_for_folders(records)
        return records if self.vet is None else InputList(self.vet(records))

    @property
    def _resumed_by(self) -> dict[str, Any]:
        return self.settings if self.shard is None else {**self.settings, "shard": str(self.shard)}

    def _mine(self, records: Iterable[InputRecord]) -> Iterable[InputRecord]:
        """Those that fall to this run's share."""
        shard = self.shard
        return records if shard is None else (record for record in records if shard.holds(record.sha256))

    @property
    def _epsilon(self) -> float:
        return float(self.settings["epsilon"])

    def _look_for_folders(self, records: Sequence[InputRecord]) -> None:
        """Where an input could not be read: is it that one, or is the disk gone?"""
        if any(record.sha256 is None and record.kind != "skipped" for record in records):
            self._folders.check()

    def _unchanged(self, session: Session) -> Sequence[InputRecord]:
        """The inputs as the run began with them, after making sure that they still are so."""
        records = self._hashed()
        session.check_inputs(records if session.state is not None else self._mine(records))
        return session.state.inputs if session.state is not None else ()

    def _already_done(self, session: Session, keep: Path | None) -> RunSummary:
        run_file = session.finished
        if run_file is None:
            raise ResumeError(f"{self.output} holds no finished run.")
        self._unchanged(session)
        session.check_outputs(workers=self.options.threads, stop=self.stop, progress=self.progress)
        if keep is not None and not (keep.exists() and sha256_file(keep) == run_file.bank_sha256):
            there = "that file is not it" if keep.exists() else "it is not there"
            raise ResumeError(
                f"{self.output} is finished and cannot write its bank to {keep} any more; {there}. "
                "Leave the bank out, or start again with --no-resume (in Python: resume=False)."
            )
        tally = Tally(self._epsilon, session.log.rows)
        return self._summary(session, tally, keep, new=0, warnings=run_file.warnings, already_done=True)

    def _check_keep(self, keep: Path | None, session: Session) -> None:
        if keep is None or not keep.exists():
            return
        bank = session.files.bank
        if not (session.state is not None and bank.exists() and sha256_file(bank) == sha256_file(keep)):
            raise ConfigError(
                f"The bank {keep} exists already and is not replaced. Choose another name or move it away."
            )

    def _write(
        self, session: Session, records: Sequence[InputRecord], fitted: FittedBank, keep: Path | None
    ) -> RunSummary:
        session.check_foreign(planned=lambda: Names(self._outputs(records)))
        session.check_outputs(workers=self.options.threads, stop=self.stop, progress=self.progress)
        jobs = make_jobs(self.scan.root, self._mine(records), self._names)
        total = sum(1 for _ in self._mine(records))
        tally = Tally(self._epsilon)
        for row in session.log.rows:
            job = next(jobs, None)
            if job is None or row.source != job.record.relative:
                raise ResumeError(
                    f"{session.manifest} does not belong to this run. "
                    "Start again with --no-resume (in Python: resume=False)."
                )
            tally.add(row)
        resumed, known = tally.count, tally.counts["protected"]
        writer = FileWriter(
            output=self.output,
            bank=fitted.bank,
            metadata=self.options.metadata,
            mark=self.options.mark,
            max_pixels=self.options.max_pixels,
            names=self._copies(records),
            journal=Journal(session.files.journal),
            key_of=self.key_of,
            fit=self.fit,
            flip_for=_sample(records),
            folders=self._folders,
        )
        writing = time.perf_counter()
        # Closed even on a second Ctrl-C, so that no thread goes on writing after the run has ended.
        results = patient_map(
            writer,
            jobs,
            workers=self.options.threads,
            stop=self.stop,
            patience=patience_with(self.progress, self.options.max_seconds_per_file),
            late=writer.late,
        )
        with (
            giving_back(),
            ManifestWriter(session.manifest, session.log.size) as manifest,
            _Ledger(manifest, self.output, self._folders) as ledger,
            closing(writer.decoders),
            closing(results),
        ):
            for row in results:
                ledger.add(row)
                tally.add(row)
                self.progress("write", tally.count, total, row.source)
        if tally.count < total:
            self.stop.check(f"{tally.count} of {total} files are finished and whole.")
        writing = time.perf_counter() - writing
        new = tally.counts["protected"] - known
        return self._finish(session, tally, records, fitted, keep, resumed=resumed, new=new, writing=writing)

    def _copies(self, records: Sequence[InputRecord]) -> CopyNames:
        aside = (record.relative for record in records if record.kind in ("failed", "skipped"))
        return CopyNames(self._names, Names(relative for relative in aside if relative in self._names))

    def _outputs(self, records: Sequence[InputRecord]) -> Iterator[str]:
        jobs = make_jobs(self.scan.root, self._mine(records), self._names)
        return (job.output for job in jobs if job.output is not None)

    def _finish(
        self,
        session: Session,
        tally: Tally,
        records: Sequence[InputRecord],
        fitted: FittedBank,
        keep: Path | None,
        *,
        resumed: int,
        new: int,
        writing: float,
    ) -> RunSummary:
        self.progress("report", 0, 1, "writing the report")
        bank_digest = _keep_bank(session.files.bank, keep)
        rows = open_manifest(session.manifest).rows
        warnings = [
            *self.warnings,
            # What a table names lies in several shares: when these are joined it can be told what is missing.
            *(table_warnings(self.output, tally.tables, rows) if self.shard is None else ()),
            *fit_warnings(fitted.report),
            *tally.warnings(),
        ]
        summary = self._summary(session, tally, keep, new=new, warnings=warnings, resumed=resumed)
        run_file = RunFile(
            command=self.command,
            repeat=self.repeat,
            plan=plan_hash(self.settings, records),
            settings=self.settings,
            seed=self.seed,
            versions=versions(),
            surrogate=_surrogate(fitted.bank),
            counts=summary.counts,
            over_budget=summary.over_budget,
            stealth=tally.figures.stealth(flip_reason=None if flip_available() else FLIP_MISSING),
            fit=fitted.report,
            warnings=summary.warnings,
            timing=Timing(
                total=round(summary.seconds, 3),
                fit=round(fitted.seconds, 3),
                write=round(writing, 3),
                images_per_second=round(summary.images_per_second, 3),
                resumed_rows=resumed,
            ),
            bank_sha256=bank_digest,
            shard=None if self.shard is None else self.shard.model_copy(update={"noise": fitted.bank.digest()}),
        )
        with giving_back():
            write_report(
                session.records, run_file, tally, rows, source=self.scan.root, max_pixels=self.options.max_pixels
            )
        write_atomic(session.run_file, run_file.to_bytes(), overwrite=True)
        session.files.remove()
        self.progress("report", 1, 1, "done")
        return summary

    def _summary(
        self,
        session: Session,
        tally: Tally,
        bank: Path | None,
        *,
        new: int,
        warnings: Sequence[str],
        resumed: int = 0,
        already_done: bool = False,
    ) -> RunSummary:
        return RunSummary.of(
            tally,
            session,
            seconds=time.perf_counter() - self.started,
            new=new,
            bank=bank,
            warnings=list(warnings),
            already_done=already_done,
            resumed_rows=resumed,
            strict=self.options.strict,
        )


class _Ledger:
    """Puts rows into the manifest, small files many at a time: to bring each to the disk takes longer than to write it.

    A kill loses the rows that wait. Their files are whole and noted in the journal, and are taken as they are when the
    run goes on.
    """

    def __init__(self, manifest: ManifestWriter, output: Path, folders: StillThere) -> None:
        self._manifest, self._output, self._folders = manifest, output, folders
        self._waiting: list[ManifestRow] = []
        self._since = time.monotonic()

    def add(self, row: ManifestRow) -> None:
        self._waiting.append(row)
        if len(self._waiting) >= ROWS_AT_ONCE or time.monotonic() - self._since > LONGEST_WAIT:
            self.flush()

    def flush(self) -> None:
        """The names of the files first: a row must not outlive its file in a power cut. And only where OUT is still the
        folder of this manifest: files would be written to another of its name just as well."""
        self._folders.check()
        for folder in {(self._output / row.output).parent for row in self._waiting if row.output is not None}:
            sync_folder(folder)
        self._manifest.append(self._waiting)
        self._waiting, self._since = [], time.monotonic()

    def __enter__(self) -> _Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()


def _sample(records: Iterable[InputRecord]) -> frozenset[str]:
    """Some pictures, by the smallest hashes of their bytes: neither order nor workers nor what is nice decides."""
    chosen: list[str] = []
    for record in records:
        digest = record.sha256
        if record.kind == "image" and digest is not None and digest not in chosen:
            insort(chosen, digest)
            del chosen[FLIP_PICTURES:]
    return frozenset(chosen)


def _keep_bank(bank: Path, keep: Path | None) -> str | None:
    """Copy the bank, which may be larger than the memory; its sha256."""
    if keep is None:
        return None
    try:
        digest = sha256_file(bank)
        if not keep.exists():
            with open_regular(bank) as file, atomic_file(keep, overwrite=False, private=True) as copy:
                shutil.copyfileobj(file, copy)
    except OSError as error:
        raise OutputError(f"{bank} cannot be read: {error.strerror}.") from error
    return digest


def _surrogate(bank: NoiseStore) -> dict[str, str]:
    return {"name": bank.surrogate, "sha256": bank.surrogate_sha256} if bank.surrogate else {}
