"""What OUT holds: nothing, a run under way, or a finished one; and which of its files are provably ours."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from ...errors import OutputError, ResumeError
from ...imaging.page import is_own_page
from ...records.files import atomic_file
from ...records.manifest import ManifestLog, ManifestRow, ManifestWriter, open_manifest
from ...records.on_disk import Names, Table, as_blob
from ...records.places import open_regular, sha256_file
from ...records.progress import ProgressCallback, StopRequest
from ...records.run_file import (
    REPORT_NAME,
    RecordsPlace,
    RunFile,
    RunRecords,
    read_run_file,
    records_beside,
    records_of,
    where_looked,
)
from ...records.run_state import (
    InputRecord,
    Journal,
    RunState,
    StateFiles,
    decisive_inputs,
    explain_inputs,
    explain_settings,
)
from ...records.text import counted, some
from ..request.config import RecordsConfig
from ..request.places import (
    foreign_records,
    place_of_records,
    records_problem,
    remove_empty_folders,
    survey_output,
)
from .inputs import hash_paths

_START_AGAIN = (
    "Give another output folder, or start again with --no-resume (in Python: resume=False), "
    "which replaces only files that bitterant itself wrote there."
)


@dataclass
class Session:
    """One output folder and what it held when the run began.

    Attributes:
        records: where the records of the run lie, or are to lie.
        earlier: where those lie that were there; another place where a run starts over and is to keep its own there.
        files: where the state of a run under way lies.
        log: the manifest so far.
        state: of a run under way, else ``None``.
        finished: the run file of a finished run, else ``None``.
    """

    records: RunRecords
    earlier: RunRecords
    files: StateFiles
    log: ManifestLog
    state: RunState | None
    finished: RunFile | None

    @classmethod
    def open(cls, output: Path, *, resume: bool, records: RecordsPlace = "inside") -> Session:
        """Look at OUT.

        Args:
            output: OUT.
            resume: whether to go on with what is there; otherwise only the manifest is read, for its proofs.
            records: where the records are to lie; those that are there stay where they are, unless a run starts over.

        Raises:
            ResumeError: its run files are damaged, or something else has their names.
        """
        files, known = StateFiles(output), records_of(output)
        kept = place_of_records(output, records, resume=resume)
        _check_own_names(chain(RunRecords.at(output, "inside").files, known.files, files.kept, [files.lock]))
        log = open_manifest(known.manifest)
        if not resume:
            return cls(kept, known, files, log, None, None)
        # The run file is written last and removed before a new run begins: with one the run is finished, even where a
        # kill left some of its state behind.
        finished = read_run_file(known.run_file)
        return cls(kept, known, files, log, None if finished is not None else RunState.read(files.plan), finished)

    @property
    def output(self) -> Path:
        """OUT."""
        return self.records.output

    @property
    def fresh(self) -> bool:
        """Whether no run has begun here."""
        return self.state is None and self.finished is None and not self.log.rows

    @property
    def missing(self) -> str:
        """What to say of OUT where no run has begun here."""
        return f"holds no run of bitterant: no records of one lie in {where_looked(self.output)}"

    @property
    def manifest(self) -> Path:
        """Path of the manifest."""
        return self.records.manifest

    @property
    def run_file(self) -> Path:
        """Path of the run file."""
        return self.records.run_file

    @property
    def report(self) -> Path:
        """Path of the report for people."""
        return self.records.report

    def begin(self, state: RunState) -> RunState:
        """Write down what a new run is about, and where it keeps its records: an empty manifest says so, in case
        another place is asked for when it goes on. Returns what was written.

        Raises:
            ConfigError, OutputError: it cannot be written.
        """
        state.write(self.files.plan, overwrite=False)
        ManifestWriter(self.manifest).close()
        return RunState.read(self.files.plan) or state

    def check_records(self) -> None:
        """Refuse a place for the records that holds something else, and files in OUT that look as if records lay there
        while they lie beside it: they would be published.

        Raises:
            ResumeError: a file in OUT is in the way.
            FolderError, OutputError: see :func:`~bitterant.protect.request.places.records_problem`.
        """
        problem = records_problem(self.records)
        if problem is not None:
            raise problem
        if self.records.place == "inside":
            return
        if self.earlier.place == "inside" and self.earlier.are_there:  # a run starts over, and moves its records
            if self.records.are_there and not _same(self.earlier.manifest, self.records.manifest):
                raise foreign_records(self.records)
            return
        for path in RunRecords.at(self.output, "inside").files:
            if os.path.lexists(path):
                raise ResumeError(
                    f"{path} is in the way: the records of this folder are to lie in {self.records.folder}, and what "
                    "lies in it would be published with it. Move it away."
                )

    def tell_place(self, config: RecordsConfig, progress: ProgressCallback) -> None:
        """Say where the records stay, where somebody asked for another place than that in which the run was begun."""
        if config.asked_place in (None, self.records.place):
            return
        other = RunRecords.at(self.output, config.records)
        progress(
            "found",
            0,
            0,
            f"The records lie in {self.records.folder}, where this run was begun, and stay there. When it is finished, "
            f"the three files may be moved to {other.folder}: they are found in both places.",
        )

    def check_settings(self, settings: Mapping[str, Any], versions: Mapping[str, str]) -> None:
        """Refuse to go on with other settings, or under way with other versions, than the run began with.

        Raises:
            ResumeError: says what differs and what to do.
        """
        if self.state is not None:
            earlier = {**self.state.settings, "versions": self.state.versions}
            differences = explain_settings(earlier, {**settings, "versions": versions})
        elif self.finished is not None:
            differences = explain_settings(self.finished.resumed_by, settings)
        elif self.log.rows:
            raise ResumeError(f"{self.output} holds a manifest without its run file. {_START_AGAIN}")
        else:
            return
        if differences:
            what = "an unfinished run" if self.state is not None else "a finished run"
            raise ResumeError(
                f"{self.output} holds {what} with other settings: {'; '.join(differences)}. "
                f"Use the earlier settings to go on with it. {_START_AGAIN}"
            )

    def check_inputs(self, records: Iterable[InputRecord]) -> None:
        """Refuse to go on when SRC is not what it was when the run began. Skipped files may come and go.

        Args:
            records: as they are now: every input of a run under way, those of its share of a finished one.

        Raises:
            ResumeError: says what is new, gone or changed, and what to do.
        """
        if self.state is not None:
            settings, earlier = self.state.settings, decisive_inputs(self.state.inputs)
        elif self.finished is not None:
            settings = self.finished.resumed_by
            # A picture that the bank holds nothing for is skipped, too, but it was read.
            read = (row for row in self.log.rows if row.status != "skipped" or row.sha256_in is not None)
            earlier = ((row.source, row.sha256_in) for row in read)
        else:
            return
        differences = explain_inputs(earlier, decisive_inputs(records))
        if differences:
            given = {"bank_sha256", "bundle_sha256"} & settings.keys()  # made before, and not of these pictures
            why = "" if given else "Perturbations are fitted to all pictures together. "
            raise ResumeError(
                f"The source folder is not what it was when {self.output} was begun: {'; '.join(differences)}. "
                f"{why}{_START_AGAIN}"
            )

    def check_outputs(self, *, workers: int, stop: StopRequest, progress: ProgressCallback) -> None:
        """Make sure that what the manifest says was written is still there, byte for byte.

        Raises:
            ResumeError: names what is missing or changed.
        """

        def written() -> Iterator[ManifestRow]:
            return (row for row in self.log.rows if row.output is not None)

        digests = hash_paths(
            (self.output / str(row.output) for row in written()),
            sum(1 for _ in written()),
            workers=workers,
            stop=stop,
            progress=progress,
            message="checking finished files",
        )
        pairs = zip(written(), digests, strict=True)
        wrong = Names(str(row.output) for row, digest in pairs if digest != row.sha256_out)
        if wrong:
            raise ResumeError(
                f"{counted(len(wrong), 'file')} of the manifest, now missing or changed in {self.output}: "
                f"{some(wrong)}. {_START_AGAIN}"
            )

    def check_foreign(self, planned: Callable[[], Container[str]] = tuple) -> None:
        """Refuse files in OUT that are not of this run: they would be published as if they were protected.

        Args:
            planned: gives the outputs of the run under way, asked where OUT holds anything. What lies there is
                compared with what would be written, later.

        Raises:
            ResumeError: names the files.
        """
        there = survey_output(self.output)
        first = next(there, None)
        if first is not None:
            known = planned()
            self._refuse(Names(name for name in chain([first], there) if name not in known))

    def prove_ours(self) -> Names:
        """Names of all files in OUT, each proved by its sha256 to be written by bitterant.

        Raises:
            ResumeError: a file is not, so nothing may be replaced.
        """
        noted = Table(name="BLOB", sha256="TEXT")
        rows = ((row.output, row.sha256_out) for row in self.log.rows)
        for name, digest in chain(Journal(self.files.journal).read(), rows):
            if name and digest:
                noted.append(as_blob(name), digest)
        noted.ask("CREATE INDEX by_name ON rows (name)")
        ours, foreign = Names(), Names()
        for name in survey_output(self.output):
            path = self.output / name
            known = {digest for (digest,) in noted.ask("SELECT sha256 FROM rows WHERE name = ?", as_blob(name))}
            proved = bool(known) and not path.is_symlink() and sha256_file(path) in known
            (ours if proved else foreign).append(name)
        self._refuse(foreign)
        return ours

    def clear(self) -> None:
        """Remove the earlier run: pictures first and the manifest last, so that a kill leaves the proofs in place.

        Raises:
            ResumeError: a file is not ours.
            OutputError: a file cannot be removed.
        """
        self._take_in()
        try:
            for name in self.prove_ours():
                path = self.output / name
                path.unlink()
                remove_empty_folders(path.parent, self.output)
            for path in (self.earlier.report, self.earlier.run_file):
                path.unlink(missing_ok=True)
            self.files.remove()
            self.earlier.manifest.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{error.filename} cannot be removed: {error.strerror}.") from error
        self.log, self.state, self.finished = ManifestLog(), None, None

    def _take_in(self) -> None:
        """Bring the proofs into OUT and remove the records beside it, while the pictures are there by which these are
        known: otherwise a kill could leave records that tell of nothing in OUT, and nobody would know whose they are.

        Raises:
            OutputError: a file cannot be written or removed.
        """
        inside = RunRecords.at(self.output, "inside")
        try:
            if self.earlier.place == "beside":
                with open_regular(self.earlier.manifest) as file, atomic_file(inside.manifest, overwrite=False) as copy:
                    shutil.copyfileobj(file, copy)
                self.earlier, self.log = inside, open_manifest(inside.manifest)
            if self.records.place == "inside" and os.path.lexists(inside.run_file):
                return  # the run kept its records in OUT and will again: what lies beside it is somebody's copy
            # By these very proofs: another folder may have copies of the same names. A kill may have left them, too.
            for records in [found for found in records_beside(self.output) if _same(found.manifest, inside.manifest)]:
                for path in (records.report, records.run_file, records.manifest):
                    path.unlink(missing_ok=True)
                if records.folder != self.records.folder:
                    remove_empty_folders(records.folder, records.folder)
        except OSError as error:
            raise OutputError(f"{error.filename} cannot be read or removed: {error.strerror}.") from error

    def _refuse(self, foreign: Names) -> None:
        if foreign:
            first = foreign.table.ask("SELECT name FROM rows ORDER BY name LIMIT 3")
            names = some((os.fsdecode(name) for (name,) in first), total=len(foreign))
            looked = f"No records of a run lie in {where_looked(self.output)}. " if self.fresh else ""
            raise ResumeError(
                f"{self.output} holds {counted(len(foreign), 'file')} that bitterant did not write: {names}. "
                f"{looked}Nothing of that is touched. Give an empty or new output folder, or move it away."
            )


def _same(one: Path, other: Path) -> bool:
    """Whether two files are there and hold the same bytes."""
    return one.is_file() and other.is_file() and sha256_file(one) == sha256_file(other)


def _check_own_names(paths: Iterable[Path]) -> None:
    """Refuse what has the name of a file of ours and is none. A link would lead our writing elsewhere, a pipe would
    never end, and a page of the user's would be lost at the end of the run.

    Raises:
        ResumeError: names it.
    """
    for path in paths:
        try:
            ours = stat.S_ISREG(path.lstat().st_mode) and (path.name != REPORT_NAME or is_own_page(path))
        except OSError:  # not there, or not to be read, which is told where it is
            continue
        if not ours:
            raise ResumeError(
                f"{path} is not the file that bitterant writes under this name. It is left alone: move it away, or "
                "give another output folder."
            )
