"""Joining the shares of a run: out of several OUT, each with its part of the files, becomes the one of a whole run.

Shares belong together where their run files tell of one plan, which is a hash over the settings and all inputs, and of
the same noise. That none is missing is proved by the rows: their inputs must have that very hash.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from heapq import merge
from itertools import pairwise, product
from pathlib import Path

from ...errors import ConfigError, FolderError, OutputError, ResumeError
from ...imaging.visibility import FLIP_MISSING, flip_available
from ...records.files import atomic_file, exclusive, sweep_temporaries, sync_folder, write_atomic
from ...records.manifest import ManifestRow, count_statuses, open_manifest
from ...records.on_disk import Names
from ...records.places import lies_in, read_regular, sha256_file
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_file import RecordsPlace, RunFile, RunRecords, Shard, Timing, records_of
from ...records.run_state import InputRecord, StateFiles, explain_settings, plan_hash
from ...records.threads import ordered_map
from ..request.checks import OutputPlace
from ..request.config import RecordsConfig, default_workers
from ..request.places import place_of_records
from .report import RunSummary, write_report
from .session import Session
from .tally import Tally
from .writing import table_warnings

#: A row, and the number of the share that it stands in.
_Placed = tuple[int, ManifestRow]


@dataclass(frozen=True)
class _Share:
    """A finished share of a run."""

    session: Session
    run: RunFile
    shard: Shard


def merge_folders(
    outputs: Sequence[Path | str],
    destination: Path | str,
    *,
    records: RecordsPlace | None = None,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Join the finished shares of a run (``shard="1/3"`` and so on) to the output folder of a run without shares.

    The files, the rows of the manifest but for their seconds, and the plan in the run file are those that such a run
    would have written. The report shows no pictures, since the originals are not at hand. Files are compared with the
    manifests while they are copied, and appear whole or not at all. Nothing is ever replaced; after a kill the same
    call goes on, and on a finished DEST it does nothing.

    Args:
        outputs: OUT of every share, in any order. They are not changed.
        destination: DEST; new, empty, or begun by an earlier call. It may not be, contain or lie in one of them.
        records: where those of DEST lie, wherever the shares have theirs: ``"inside"`` it (so if left out), or
            ``"beside"`` it in the folder ``DEST-records``. What was begun goes on where its records are.
        workers: threads; by machine if left out.
        progress: told about every file.
        stop: a flag to stop at the next file.

    Raises:
        ConfigError: no folders, or one given twice.
        FolderError: a folder is missing, DEST or its records overlap one, or hold other things.
        ResumeError: a folder is unfinished or no share; shares are missing, twice there, or not of one run; files in
            them are not what their manifests say.
        OutputError: DEST cannot be written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    folders, destination = [Path(output) for output in outputs], Path(destination)
    progress, stop = progress or silent, stop or StopRequest()
    config = RecordsConfig.of({} if records is None else {"records": records})
    place = OutputPlace.of(place_of_records(destination, config.records, resume=True))
    _check_places(folders, place.records)
    with ExitStack() as stack:
        for folder in folders:
            if os.access(folder, os.W_OK):  # what nobody can write to needs no lock
                stack.enter_context(exclusive(StateFiles(folder).lock))
        merging = _Merging(
            _one_run([_finished(folder) for folder in folders]),
            destination,
            config,
            workers or default_workers(),
            progress,
            stop,
            started,
        )
        merging.check_rows()
        place.check_writable(create=True)
        stack.enter_context(place.holding())
        return merging.run()


def _check_places(folders: Sequence[Path], whole: RunRecords) -> None:
    destination = whole.output
    if not folders:
        raise ConfigError("Which folders? Name the output folder of every share, and the new folder last.")
    for number, folder in enumerate(folders):
        if not folder.is_dir():
            raise FolderError(f"{folder} is no folder. Name the output folders of the shares, and the new folder last.")
        if any(folder.samefile(other) for other in folders[:number]):
            raise ConfigError(f"{folder} is named twice.")
        for read, written in product({folder, records_of(folder).folder}, {destination, whole.folder}):
            if lies_in(written, read) or lies_in(read, written):
                raise FolderError(f"{written} is, contains or lies in {read}. Choose another folder for the whole.")
    if os.path.lexists(destination) and not destination.is_dir():
        raise FolderError(f"{destination} is no folder. Choose another name.")


def _finished(folder: Path) -> _Share:
    """A share with its run file.

    Raises:
        ResumeError: it is none, or unfinished.
    """
    session = Session.open(folder, resume=True)
    run = session.finished
    if run is None:
        what = session.missing if session.fresh else "is unfinished: run the same command as before again"
        raise ResumeError(f"{folder} {what}. Only finished shares can be joined.")
    if run.shard is None:
        raise ResumeError(f"{folder} holds a whole run, not a share of one (--shard): there is nothing to join.")
    if count_statuses(session.log.rows) != run.counts:
        raise ResumeError(f"{session.manifest} is not the one that {session.run_file} tells of. Nothing was written.")
    return _Share(session, run, run.shard)


def _one_run(shares: Sequence[_Share]) -> list[_Share]:
    """The shares by their numbers.

    Raises:
        ResumeError: they are not all shares of one run.
    """
    first = shares[0]
    for other in shares[1:]:
        before, now = _facts(first), _facts(other)
        if before != now:
            differences = explain_settings(before, now)
            raise ResumeError(
                f"{first.session.output} and {other.session.output} are not shares of one run: "
                f"{'; '.join(differences)}. Protect with the same settings, the same pictures and the same number of "
                "shares."
            )
    by_number: dict[int, _Share] = {}
    for share in shares:
        twice = by_number.setdefault(share.shard.number, share)
        if twice is not share:
            raise ResumeError(
                f"{twice.session.output} and {share.session.output} are both the share {share.shard}. Name one of them."
            )
    missing = [f"{number}/{first.shard.of}" for number in range(1, first.shard.of + 1) if number not in by_number]
    if missing:
        raise ResumeError(
            f"The {'share' if len(missing) == 1 else 'shares'} {', '.join(missing[:8])}{', ...' * (len(missing) > 8)} "
            f"of the run {'is' if len(missing) == 1 else 'are'} missing. Name the output folders of all shares."
        )
    return [by_number[number] for number in sorted(by_number)]


def _facts(share: _Share) -> dict[str, object]:
    """What all shares of one run have in common."""
    run = share.run
    return {
        "command": run.command,
        **run.settings,
        "number of shares": share.shard.of,
        "versions": run.versions,
        "inputs and settings": run.plan,
        "noise": share.shard.noise,
    }


@dataclass
class _Merging:
    """The work, once it is known that the shares belong together."""

    shares: list[_Share]
    destination: Path
    config: RecordsConfig
    workers: int
    progress: ProgressCallback
    stop: StopRequest
    started: float

    @property
    def _whole(self) -> RunFile:
        return self.shares[0].run

    def _rows(self) -> Iterator[_Placed]:
        """All rows in the order of one manifest."""

        def placed(number: int, share: _Share) -> Iterator[_Placed]:
            return ((number, row) for row in share.session.log.rows)

        streams = (placed(number, share) for number, share in enumerate(self.shares))
        return merge(*streams, key=lambda item: os.fsencode(item[1].source))

    def check_rows(self) -> None:
        """Make sure that the rows are those of all inputs, each once.

        Raises:
            ResumeError: they are not.
        """
        for (_, one), (_, other) in pairwise(self._rows()):
            if one.source == other.source:
                raise ResumeError(f"{one.source} stands in the manifests of two shares. Nothing was written.")
        if plan_hash(self._whole.settings, _Inputs(self._rows)) != self._whole.plan:
            raise ResumeError(
                "The manifests of the shares do not hold the inputs that their run files tell of. Nothing was written. "
                "Protect the shares again whose manifest was changed."
            )

    def run(self) -> RunSummary:
        """Copy, and write down what was copied.

        Raises: see :func:`merge_folders`.
        """
        sweep_temporaries(self.destination)
        session = Session.open(self.destination, resume=True, records=self.config.records)
        session.check_records()
        session.tell_place(self.config, self.progress)
        if session.records.place == "beside":
            sweep_temporaries(session.records.folder)
        total = sum(len(share.session.log.rows) for share in self.shares)
        if session.state is not None or (session.finished is not None and session.finished.plan != self._whole.plan):
            raise FolderError(f"{self.destination} holds another run. Give a new or empty folder.")
        if session.log.rows and not self._begun(session):
            raise FolderError(f"{self.destination} holds the manifest of another run. Give a new or empty folder.")
        if session.finished is not None:
            session.check_outputs(workers=self.workers, stop=self.stop, progress=self.progress)
            tally = Tally(float(self._whole.settings["epsilon"]), session.log.rows)
            return self._summary(session, tally, session.finished.warnings, already_done=True)
        session.check_foreign(lambda: Names(row.output for _, row in self._rows() if row.output is not None))
        tally = Tally(float(self._whole.settings["epsilon"]))
        parts = [Tally(float(self._whole.settings["epsilon"])) for _ in self.shares]
        folders: set[Path] = set()
        copies = ordered_map(self._copy, self._rows(), workers=self.workers, stop=self.stop)
        with atomic_file(session.manifest, overwrite=True) as manifest, closing(copies):
            for (number, row), new in copies:
                if new is not None:
                    folders.add(new.parent)
                manifest.write(row.to_line())
                tally.add(row)
                parts[number].add(row)
                self.progress("write", tally.count, total, row.source)
            if tally.count < total:
                self.stop.check(f"{tally.count} of {total} files are copied and whole.")
            for folder in folders:
                sync_folder(folder)
        return self._finish(session, tally, parts)

    def _begun(self, session: Session) -> bool:
        """Whether DEST has the manifest that an earlier call wrote."""
        ours = (row for _, row in self._rows())
        return all(row == next(ours, None) for row in session.log.rows) and next(ours, None) is None

    def _copy(self, item: _Placed) -> tuple[_Placed, Path | None]:
        """Bring the file of a row to DEST; its path there where it was not there before."""
        number, row = item
        if row.output is None:
            return item, None
        source, target = self.shares[number].session.output / row.output, self.destination / row.output
        if os.path.lexists(target):
            if target.is_symlink() or not target.is_file() or sha256_file(target) != row.sha256_out:
                raise FolderError(f"{target} is in the way and no file of these shares. Move it away.")
            return item, None
        try:
            data = read_regular(source)
        except OSError as error:
            raise OutputError(f"{source} cannot be read: {error.strerror or error}.") from error
        if hashlib.sha256(data).hexdigest() != row.sha256_out:
            raise ResumeError(f"{source} was changed since it was protected. Put it back, or protect the share again.")
        write_atomic(target, data, overwrite=False, lasting=False)
        return item, target

    def _finish(self, session: Session, tally: Tally, parts: Sequence[Tally]) -> RunSummary:
        rows = open_manifest(session.manifest).rows
        of_parts = {text for part in parts for text in part.warnings()}
        told = dict.fromkeys(text for share in self.shares for text in share.run.warnings if text not in of_parts)
        warnings = [*told, *table_warnings(self.destination, tally.tables, rows), *tally.warnings()]
        summary = self._summary(session, tally, warnings)
        timings = [share.run.timing for share in self.shares]
        total = sum(timing.total for timing in timings)
        banks = {share.run.bank_sha256 for share in self.shares}
        run_file = self._whole.model_copy(
            update={
                "counts": summary.counts,
                "over_budget": summary.over_budget,
                "stealth": tally.figures.stealth(flip_reason=None if flip_available() else FLIP_MISSING),
                "warnings": warnings,
                "timing": Timing(
                    total=round(total, 3),
                    fit=round(sum(timing.fit for timing in timings), 3),
                    write=round(sum(timing.write for timing in timings), 3),
                    images_per_second=round(summary.counts["protected"] / total, 3) if total else 0.0,
                ),
                "bank_sha256": banks.pop() if len(banks) == 1 else None,
                "shard": None,
            }
        )
        write_report(session.records, run_file, tally, rows, source=None, max_pixels=0)
        write_atomic(session.run_file, run_file.to_bytes(), overwrite=False)
        return summary

    def _summary(
        self, session: Session, tally: Tally, warnings: Sequence[str], *, already_done: bool = False
    ) -> RunSummary:
        seconds = time.perf_counter() - self.started
        return RunSummary.of(tally, session, seconds=seconds, new=0, warnings=list(warnings), already_done=already_done)


class _Inputs(Iterable[InputRecord]):
    """The inputs that rows tell of, gone through again and again."""

    def __init__(self, rows: Callable[[], Iterator[_Placed]]) -> None:
        self._rows = rows

    def __iter__(self) -> Iterator[InputRecord]:
        for _, row in self._rows():
            # A picture that the bank holds nothing for is skipped, too, but it was read.
            aside = row.status == "skipped" and row.sha256_in is None
            yield InputRecord(row.source, "skipped" if aside else "image", row.sha256_in)
