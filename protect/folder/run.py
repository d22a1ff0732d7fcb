"""One run over a folder, from an opened OUT to the last file in it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from ...errors import BankError, ConfigError, OutputError, ResumeError
from ...imaging.allocator import giving_back
from ...imaging.budget import FLOAT32_SLACK
from ...imaging.encoding import resolve_output_names
from ...imaging.formats import is_picture_name
from ...imaging.loading import FileProblem, sha256_file
from ...imaging.scan import FolderScan
from ...imaging.visibility import FLIP_MISSING, Sight, flip_available, tell_sights
from ...records.files import sweep_temporaries, sync_folder, write_atomic
from ...records.manifest import ManifestRow, ManifestWriter, count_statuses
from ...records.places import StillThere
from ...records.progress import ProgressCallback, StopRequest
from ...records.run_file import RunFile, Timing, json_safe, measure_stealth, versions
from ...records.run_state import InputRecord, Journal, RunState, decisive_inputs, plan_hash
from ...records.shared_options import Fit
from ...records.text import counted
from ..request import Request, WriteConfig
from .fitting import FittedBank, doubts, fit_and_keep, load_fitted, read_inputs
from .inputs import NoiseStore, hash_inputs, make_jobs, ordered_map
from .report import RunSummary, write_report
from .session import Session
from .writing import UNMARKED, FileWriter, table_warnings

_Store = TypeVar("_Store", bound=NoiseStore)

logger = logging.getLogger(__name__)

#: FLIP takes some ten times as long as the other figures together: it is measured on this many pictures.
FLIP_PICTURES: Final = 32

#: Share of the budget that the root mean square of a change must reach, or the picture is called hardly protected.
FAINT: Final = 1 / 8

#: Rows of the manifest that are written together, and seconds that one waits for others at most.
ROWS_AT_ONCE = 64
LONGEST_WAIT = 0.5


@dataclass(kw_only=True)
class FolderRun:
    """A checked run. Attributes are as in :func:`protect_folder`; ``settings`` decide about the result.

    ``fit`` and ``key_of`` are those of :class:`FileWriter`. ``vet`` looks at the inputs before anything is written and
    says which of them may not be protected.
    """

    command: Literal["protect", "apply"]
    scan: FolderScan
    output: Path
    options: WriteConfig
    settings: dict[str, Any]
    seed: int
    workers: int
    strict: bool
    warnings: list[str]
    progress: ProgressCallback
    stop: StopRequest
    started: float
    fit: Fit | None = None
    key_of: Callable[[InputRecord], str | None] = attrgetter("key")
    vet: Callable[[tuple[InputRecord, ...]], tuple[InputRecord, ...]] | None = None

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
                workers=self.workers,
                max_pixels=self.options.max_pixels,
                progress=self.progress,
                stop=self.stop,
                encoders={source: encoder for source, (_, encoder) in self._names.items()},
            )
            self._look_for_folders(records)
            records = self._begin(session, records, resume)
            fitted = fit_and_keep(
                request,
                dataset,
                session.files,
                made_for=plan_hash(request.settings, decisive_inputs(records)),
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
        keys = [self.key_of(record) for record in records if record.kind == "image"]
        if not any(key is not None and bank.key_for(key) is not None for key in keys):
            which = "the picture" if len(keys) == 1 else f"any of the {len(keys)} pictures"
            raise BankError(
                f"The bank holds no perturbation for {which} in {self.scan.root}. A class-wise bank needs folders of "
                "the same class names; a sample-wise one the very files it was fitted on."
            )
        records = self._begin(session, records, resume)
        return self._write(session, records, FittedBank(bank, json_safe(bank.report), 0.0), None)

    def _open(self, resume: bool) -> Session:
        sweep_temporaries(self.output)
        session = Session.open(self.output, resume=resume)
        if not resume:
            session.prove_ours()  # refuse early; cleared when the new run is sure to begin
            return session
        session.check_settings(self.settings, versions())
        if session.finished is not None:
            session.files.remove()  # what a kill within the clean-up left
        if session.fresh:
            session.check_foreign()
        return session

    def _begin(self, session: Session, records: tuple[InputRecord, ...], resume: bool) -> tuple[InputRecord, ...]:
        """Write down what the run is about, or go on with what is written down; returns the inputs it is about."""
        if not resume:
            session.clear()
        if session.state is not None:
            session.check_inputs(records)
            return session.state.inputs
        state = RunState(self.settings, records, versions())
        write_atomic(session.files.plan, state.to_bytes(), overwrite=False, private=True)
        return records

    @cached_property
    def _names(self) -> dict[str, tuple[str, str]]:
        """Path below OUT and format of each copy, by the picture's path below SRC."""
        return resolve_output_names(
            self.scan.entries, self.options.format, beside=[*self.scan.captions, *self.scan.label_maps]
        )

    def _hashed(self) -> tuple[InputRecord, ...]:
        records = hash_inputs(self.scan, workers=self.workers, stop=self.stop, progress=self.progress)
        self._look_for_folders(records)
        return records if self.vet is None else self.vet(records)

    def _look_for_folders(self, records: Sequence[InputRecord]) -> None:
        """Where an input could not be read: is it that one, or is the disk gone?"""
        if any(record.sha256 is None and record.kind != "skipped" for record in records):
            self._folders.check()

    def _unchanged(self, session: Session) -> tuple[InputRecord, ...]:
        """The inputs as the run began with them, after making sure that they still are so."""
        session.check_inputs(self._hashed())
        return session.state.inputs if session.state is not None else ()

    def _already_done(self, session: Session, keep: Path | None) -> RunSummary:
        run_file = session.finished
        if run_file is None:
            raise ResumeError(f"{self.output} holds no finished run.")
        self._unchanged(session)
        session.check_outputs(workers=self.workers, stop=self.stop, progress=self.progress)
        if keep is not None and not (keep.exists() and sha256_file(keep) == run_file.bank_sha256):
            raise ResumeError(
                f"{self.output} is finished and its bank was not kept in {keep}; it cannot be written any more. "
                "Leave the bank out, or start again with --no-resume (in Python: resume=False)."
            )
        return self._summary(session, session.log.rows, keep, new=0, warnings=run_file.warnings, already_done=True)

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
        names = self._names
        jobs = make_jobs(self.scan.root, records, names)
        session.check_foreign(planned={job.output for job in jobs if job.output is not None})
        session.check_outputs(workers=self.workers, stop=self.stop, progress=self.progress)
        rows = list(session.log.rows)
        if [row.source for row in rows] != [job.record.relative for job in jobs[: len(rows)]]:
            raise ResumeError(
                f"{session.manifest} does not belong to this run. "
                "Start again with --no-resume (in Python: resume=False)."
            )
        resumed = len(rows)
        writer = FileWriter(
            output=self.output,
            bank=fitted.bank,
            metadata=self.options.metadata,
            mark=self.options.mark,
            max_pixels=self.options.max_pixels,
            names={
                job.record.relative: job.output for job in jobs if job.encoder is not None and job.output is not None
            },
            journal=Journal(session.files.journal),
            key_of=self.key_of,
            fit=self.fit,
            flip_for=_sample(records),
            folders=self._folders,
        )
        writing = time.perf_counter()
        # Closed even on a second Ctrl-C, so that no thread goes on writing after the run has ended.
        results = ordered_map(writer, jobs[resumed:], workers=self.workers, stop=self.stop)
        with (
            giving_back(),
            ManifestWriter(session.manifest, session.log.size) as manifest,
            _Ledger(manifest, self.output, self._folders) as ledger,
            closing(results),
        ):
            for row in results:
                ledger.add(row)
                rows.append(row)
                self.progress("write", len(rows), len(jobs), row.source)
        if len(rows) < len(jobs):
            self.stop.check(f"{len(rows)} of {len(jobs)} files are finished and whole.")
        writing = time.perf_counter() - writing
        return self._finish(session, rows, records, fitted, keep, resumed=resumed, writing=writing)

    def _finish(
        self,
        session: Session,
        rows: Sequence[ManifestRow],
        records: Sequence[InputRecord],
        fitted: FittedBank,
        keep: Path | None,
        *,
        resumed: int,
        writing: float,
    ) -> RunSummary:
        self.progress("report", 0, 1, "writing the report")
        bank_digest = _keep_bank(session.files.bank, keep)
        new = sum(row.status == "protected" for row in rows[resumed:])
        stealth = measure_stealth(rows, flip_reason=None if flip_available() else FLIP_MISSING)
        warnings = [
            *self.warnings,
            *table_warnings(self.output, rows),
            *doubts(fitted.report),
            *_sights(rows, float(self.settings["epsilon"]) * 255),
            *_losses(rows),
            *_unmarked(rows),
        ]
        summary = self._summary(session, rows, keep, new=new, warnings=warnings, resumed=resumed)
        run_file = RunFile(
            command=self.command,
            plan=plan_hash(self.settings, decisive_inputs(records)),
            settings=self.settings,
            seed=self.seed,
            versions=versions(),
            surrogate=_surrogate(fitted.bank),
            counts=summary.counts,
            over_budget=summary.over_budget,
            stealth=stealth,
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
        )
        with giving_back():
            write_report(session.report, run_file, rows, source=self.scan.root, max_pixels=self.options.max_pixels)
        write_atomic(session.run_file, run_file.to_bytes(), overwrite=True)
        session.files.remove()
        self.progress("report", 1, 1, "done")
        return summary

    def _summary(
        self,
        session: Session,
        rows: Sequence[ManifestRow],
        bank: Path | None,
        *,
        new: int,
        warnings: Sequence[str],
        resumed: int = 0,
        already_done: bool = False,
    ) -> RunSummary:
        seconds = time.perf_counter() - self.started
        limit = float(self.settings["epsilon"]) * 255 + FLOAT32_SLACK
        return RunSummary(
            counts=count_statuses(rows),
            over_budget=sum(row.linf_levels is not None and row.linf_levels > limit for row in rows),
            seconds=seconds,
            images_per_second=new / seconds if seconds > 0 else 0.0,
            report=session.report,
            run_file=session.run_file,
            manifest=session.manifest,
            bank=bank,
            problems=[FileProblem(row.source, row.reason or "") for row in rows if row.is_problem],
            warnings=list(warnings),
            already_done=already_done,
            resumed_rows=resumed,
            strict=self.strict,
            unprotected=sum(row.is_problem and is_picture_name(row.source) for row in rows),
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


def _sights(rows: Sequence[ManifestRow], levels: float) -> list[str]:
    """What the user must know of how it looks, and of pictures that took little of the noise."""
    told = tell_sights(
        [
            Sight(row.source, row.ciede_patches, row.ciede_flat)
            for row in rows
            if row.status == "protected" and row.ciede_patches is not None
        ]
    )
    if told:
        told[-1] += " Look at the report before you publish; --strength subtle shows less."
    faint = [row.source for row in rows if row.status == "protected" and _size(row) < FAINT * levels]
    if faint:
        some = f"{', '.join(faint[:3])}{', ...' if len(faint) > 3 else ''}"
        told.append(
            f"{counted(len(faint), 'picture')} could take little or nothing of the noise, being plain, gray, "
            f"transparent, black or white: {some}. A trainer learns from them nearly as from the originals."
        )
    return told


def _size(row: ManifestRow) -> float:
    """Root mean square of the change on disk, in 8-bit levels."""
    return 0.0 if row.psnr is None else 255.0 * 10 ** (-row.psnr / 20)


def _losses(rows: Sequence[ManifestRow]) -> list[str]:
    """What the user must know of what JPEG took away again."""
    kept = sorted(row.kept for row in rows if row.kept is not None)
    if not kept:
        return []
    middle = kept[(len(kept) - 1) // 2]
    return [
        f"JPEG left {100 * middle:.0f} % of the change on the median picture and {100 * kept[0]:.0f} % on the worst of "
        f"{len(kept)}. What that means for the protection, `bitterant verify` tells."
    ]


def _unmarked(rows: Sequence[ManifestRow]) -> list[str]:
    """What the user must know of copies that could not be marked."""
    bare = [row for row in rows if row.reason is not None and UNMARKED in row.reason]
    if not bare:
        return []
    formats = " and ".join(sorted({row.format or "" for row in bare}))
    return [
        f"{counted(len(bare), 'copy bears', 'copies bear')} no mark, since {formats} files hold none: {bare[0].source}"
        f"{', ...' if len(bare) > 1 else ''}. Convert them to PNG first to have them marked."
    ]


def _sample(records: Sequence[InputRecord]) -> frozenset[str]:
    """Some pictures, by the smallest hashes of their bytes: neither order nor workers nor what is nice decides."""
    digests = {record.sha256 for record in records if record.kind == "image" and record.sha256 is not None}
    return frozenset(sorted(digests)[:FLIP_PICTURES])


def _keep_bank(bank: Path, keep: Path | None) -> str | None:
    if keep is None:
        return None
    try:
        data = bank.read_bytes()
    except OSError as error:
        raise OutputError(f"{bank} cannot be read: {error.strerror}.") from error
    digest = hashlib.sha256(data).hexdigest()
    if not keep.exists():
        write_atomic(keep, data, overwrite=False, private=True)
    return digest


def _surrogate(bank: NoiseStore) -> dict[str, str]:
    return {"name": bank.surrogate, "sha256": bank.surrogate_sha256} if bank.surrogate else {}
