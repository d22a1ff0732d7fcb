"""Reading a folder at the working resolution and fitting a method to it, so that a kill costs little.

A run over a folder does it as its first half; :func:`fit_folder` does it alone and saves the bank.
"""

from __future__ import annotations

import json
import logging
import time
from bisect import insort
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from ...errors import ConfigError, FolderError, LabelError, OutputError, ResumeError
from ...imaging.loading import FileProblem, auto_resolution, load_image_set
from ...records.config import Problems, takes
from ...records.files import exclusive, put_in_place, sweep_temporaries_of, write_atomic
from ...records.places import StillThere, sha256_file
from ...records.processes import giving_back
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_file import json_safe, versions
from ...records.run_state import (
    InputList,
    InputRecord,
    RunState,
    StateFiles,
    decisive_inputs,
    explain_inputs,
    explain_settings,
    plan_hash,
)
from ...records.text import read_json, some
from ..bank_file import made_for, open_bank
from ..request import FitFolderConfig, Request, check_bank_place, check_fit, check_source
from ..request.config import FitFolderKeywords
from .inputs import NoiseStore, hash_inputs, hash_paths, list_inputs, patience_with, tell_found
from .report import FitSummary

if TYPE_CHECKING:
    from ...imaging.image_set import ImageSet
    from ...imaging.scan import Entry
    from ...records.threads import Patience
    from ..methods import FitProgress

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittedBank:
    """A bank with what its file does not carry.

    Attributes:
        bank: the perturbations.
        report: the method's own report.
        seconds: how long the fit took.
    """

    bank: NoiseStore
    report: dict[str, Any]
    seconds: float


def read_inputs(
    request: Request,
    *,
    workers: int,
    max_pixels: int,
    limit: float,
    progress: ProgressCallback,
    stop: StopRequest,
    names: Mapping[str, tuple[str, str]] | None = None,
) -> tuple[ImageSet | None, InputList]:
    """Decode and hash everything once; hash it alone where the method looks at no picture, or at a few.

    Args:
        limit: seconds after which a file counts as one that cannot be read.
        names: path below OUT and format of each copy by the picture's path below SRC, where they are known; the figures
            of a fit are about files of these formats.

    Returns:
        The images at the working resolution, a few of them, or ``None``, and every input in the manifest's order.

    Raises:
        FolderError: no picture could be read.
        LabelError: fewer than two classes are left of those that could be read.
        Interrupted: a stop was asked for.
    """
    scan = request.scan

    def tell(done: int, total: int) -> None:
        progress("read", done, total, "reading pictures")
        stop.check("Nothing was written yet.")

    if not request.method.needs_pixels:
        records = hash_inputs(scan, workers=workers, stop=stop, progress=progress, limit=limit)
        sample = _read_sample(
            request, records, workers=workers, max_pixels=max_pixels, tell=tell, patience=patience_with(progress, limit)
        )
        return sample, records

    assert request.resolution is not None
    feature_extractor = request.feature_extractor()
    with giving_back():
        dataset, entries, problems = load_image_set(
            scan,
            request.resolution,
            workers=workers,
            progress=tell,
            max_pixels=max_pixels,
            describe=feature_extractor,
            patience=patience_with(progress, limit),
        )
    if not entries:
        reasons = some((f"{problem.relative}: {problem.reason}" for problem in problems), joint="; ")
        raise FolderError(f"None of the {len(problems)} pictures in {scan.root} could be read ({reasons}).")
    if request.captions is not None:
        told = request.captions
        dataset = replace(dataset, captions=tuple(told[entry.relative] for entry in entries))
    if names is not None and dataset.origins is not None:
        origins = (replace(o, encoder=names[e.relative][1]) for o, e in zip(dataset.origins, entries, strict=True))
        dataset = replace(dataset, origins=tuple(origins))
    left = {entry.class_name for entry in entries}
    if request.method.needs == "labels" and len(left) < 2:
        raise LabelError(
            f"Only the class {entries[0].class_name} of {scan.root} has pictures that can be read. "
            f"The method {request.method.name} needs two classes or more."
        )
    digests: dict[str, str | None] = {
        entry.relative: key.rsplit("/", 1)[-1] for entry, key in zip(entries, dataset.keys, strict=True)
    }
    rest = [*(problem.relative for problem in problems), *scan.captions, *scan.label_maps]
    found = hash_paths(
        [scan.root / name for name in rest],
        len(rest),
        workers=workers,
        stop=stop,
        progress=progress,
        message="reading captions",
        limit=limit,
    )
    digests.update(zip(rest, found, strict=True))
    return dataset, list_inputs(scan, digests, {problem.relative: problem.reason for problem in problems})


def _read_sample(
    request: Request,
    records: Sequence[InputRecord],
    *,
    workers: int,
    max_pixels: int,
    tell: Callable[[int, int], None],
    patience: Patience[Entry],
) -> ImageSet | None:
    """A few pictures of every class, those whose content hashes come first: a sample that no name or order decides.

    ``None`` where the method wants none, or a class has none that can be read: its code is then dealt by the key alone.
    """
    wanted = request.method.sample_a_class(len(request.scan.classes))
    if not wanted:
        return None
    pictures = (record for record in records if record.kind == "image")
    # One picture a content: how often a file was copied does not matter. The first of the same bytes stands for all.
    chosen: dict[str, list[tuple[str, int]]] = {}
    for number, record in enumerate(pictures):
        if record.class_name is None or record.sha256 is None:
            continue
        of_class = chosen.setdefault(record.class_name, [])
        if record.sha256 not in (digest for digest, _ in of_class):
            insort(of_class, (record.sha256, number))
            del of_class[wanted:]
    numbers = (number for of_class in sorted(chosen.values()) for _, number in of_class)
    entries = tuple(request.scan.entries[number] for number in numbers)
    if not entries:
        return None
    dataset, read, _ = load_image_set(
        replace(request.scan, entries=entries),
        auto_resolution(request.scan, "cpu"),
        workers=workers,
        progress=tell,
        max_pixels=max_pixels,
        patience=patience,
    )
    return dataset if {entry.class_name for entry in read} == set(request.scan.classes) else None


def fit_and_keep(
    request: Request,
    dataset: ImageSet | None,
    files: StateFiles,
    *,
    made_for: str,
    progress: ProgressCallback,
    stop: StopRequest,
) -> FittedBank:
    """Fit, with checkpoints, and leave the bank in the state files. ``dataset`` as :func:`read_inputs` gave it;
    ``made_for`` as :meth:`Bank.save` takes it.

    Raises:
        Interrupted: a stop was asked for; the checkpoint is kept.
        OutputError: the bank cannot be written.
    """

    def tell(step: FitProgress) -> None:
        progress("fit", step.fraction, 1.0, step.message or step.stage)
        stop.check("The fit is under way; its checkpoint is kept.")

    started = time.perf_counter()
    progress("fit", 0.0, 1.0, f"fitting {request.method.name}")
    if not request.method.needs_pixels:
        bank = request.method.fit_classes(request.scan.classes, sample=dataset, progress=tell)
    else:
        assert dataset is not None
        bank = request.method.fit(dataset, progress=tell, checkpoint=files.checkpoint)
    fitted = FittedBank(bank, json_safe(bank.report), time.perf_counter() - started)
    body = {"report": fitted.report, "seconds": fitted.seconds}
    write_atomic(files.report, json.dumps(body).encode("ascii"), overwrite=True, private=True)
    # Last: where the bank is, the fit is done.
    bank.save(files.bank, made_for=made_for)
    return fitted


def load_fitted(files: StateFiles) -> FittedBank | None:
    """The fit of an interrupted run, or ``None`` where it was not done.

    Raises:
        BankError: the bank is damaged.
        ResumeError: its report is missing or damaged.
    """
    if not files.bank.exists():
        return None
    try:
        body = read_json(files.report)
        report, seconds = dict(body["report"]), float(body["seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ResumeError(
            f"{files.report} is missing or damaged ({error}). Start again with --no-resume (in Python: resume=False)."
        ) from error
    return FittedBank(open_bank(files.bank), report, seconds)


def fit_warnings(report: Mapping[str, Any]) -> list[str]:
    """What the user must know of a fit that did not reach what it aimed at."""
    check = report.get("self_check")
    if not isinstance(check, Mapping):
        return []
    results, chosen, target = check.get("results"), check.get("chosen_attempt"), check.get("target_residual")
    found = [row for row in results or () if isinstance(row, Mapping) and row.get("attempt") == chosen]
    if not found or target is None:
        return []
    residual = float(found[-1].get("residual", 0.0))
    if not found[-1].get("conclusive", True):
        return ["The self-check could not tell: a small model does not learn from the originals either."]
    if residual <= target:
        return []
    return [
        f"The self-check aimed at {target:.0%} and found that a small model still learns {residual:.0%} of what the "
        f"originals teach, after {check.get('attempts_made')} attempts. `bitterant verify` says more; another --seed "
        "or --strength strong may do better."
    ]


@takes(FitFolderConfig)
def fit_folder(
    source: Path | str,
    bank_path: Path | str,
    *,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[FitFolderKeywords],
) -> FitSummary:
    """The optimisation alone: fit a method to a folder and save the bank.

    Args:
        source: SRC.
        bank_path: the bank file to write; may not lie in SRC. One that is there is left as it is: if it was made for
            this very request there is nothing to do, and otherwise that is an error. Keep it private.
        resume: go on with a fit that was interrupted; False starts again.
        progress: see :func:`protect_folder`.
        stop: see there.
        options: the method, its options, and how files are read, see there.

    Raises:
        ConfigError: as :func:`protect_folder`; also where another bank exists already.
        ResumeError: an interrupted fit beside the bank file had other settings or other inputs.
        SetupError: the bank cannot be written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    source, bank_path = Path(source), Path(bank_path)
    problems = Problems()
    config = FitFolderConfig.collect(options, problems)
    scan = check_source(source, problems, follow_links=config.follow_links)
    request = check_fit(scan, config, problems)
    if bank_path.is_file() and not config.resume:
        problems.add(_exists_already(bank_path))
    check_bank_place(bank_path, source, None, problems, create=True)
    problems.raise_all()
    if request is None:  # the check notes a problem whenever it gives none
        raise ConfigError("The request could not be checked.")
    tell_found(request.scan, progress or silent)
    return _fit_to_bank(
        request,
        bank_path,
        resume=config.resume,
        workers=config.threads,
        max_pixels=config.max_pixels,
        limit=config.max_seconds_per_file,
        progress=progress or silent,
        stop=stop or StopRequest(),
        started=started,
    )


def _fit_to_bank(
    request: Request,
    bank_path: Path,
    *,
    resume: bool,
    workers: int,
    max_pixels: int,
    limit: float,
    progress: ProgressCallback,
    stop: StopRequest,
    started: float,
) -> FitSummary:
    files = _files(bank_path)
    with exclusive(files.lock):
        for path in files.kept:
            sweep_temporaries_of(path)
        state = RunState.read(files.plan) if resume else None
        now = {**request.settings, "max_pixels": max_pixels}
        hashed = partial(hash_inputs, request.scan, workers=workers, stop=stop, progress=progress, limit=limit)
        _check_same(state, now, None, bank_path)
        if bank_path.exists():
            if state is None:
                return _already_done(request, bank_path, hashed(), started=started)
            if not _is_fitted(state, bank_path):
                raise _exists_already(bank_path)
            # An earlier call was killed when all that was left to do was to remove its state.
            _check_same(state, now, hashed(), bank_path)
        else:
            there = StillThere(request.scan.root)
            dataset, inputs = read_inputs(
                request, workers=workers, max_pixels=max_pixels, limit=limit, progress=progress, stop=stop
            )
            if any(record.sha256 is None and record.kind != "skipped" for record in inputs):
                there.check()
            _check_same(state, now, inputs, bank_path)
            if state is None:
                files.remove()
                state = RunState(now, inputs, versions())
                state.write(files.plan, overwrite=False)
            fitted = load_fitted(files) or fit_and_keep(
                request,
                dataset,
                files,
                made_for=plan_hash(request.settings, inputs),
                progress=progress,
                stop=stop,
            )
            done = {"bank": sha256_file(files.bank), "report": fitted.report, "seconds": fitted.seconds}
            state = replace(state, fitted=done)
            state.write(files.plan, overwrite=True)
            _take_over(files.bank, bank_path)
        summary = _summary(bank_path, state, request.warnings, time.perf_counter() - started)
        files.remove()
    return summary


def _summary(bank: Path, state: RunState, warnings: Sequence[str], seconds: float) -> FitSummary:
    report = dict((state.fitted or {}).get("report", {}))
    return FitSummary(
        bank=bank,
        images=sum(record.kind == "image" for record in state.inputs),
        seconds=seconds,
        problems=[
            FileProblem(record.relative, record.reason or "") for record in state.inputs if record.kind == "failed"
        ],
        warnings=[*warnings, *fit_warnings(report)],
        report=report,
    )


def _already_done(
    request: Request,
    bank_path: Path,
    inputs: InputList,
    *,
    started: float,
) -> FitSummary:
    """What an earlier call made of the same request.

    Raises:
        ConfigError: the bank was made for other settings or other pictures, or says nothing of what for.
    """
    if made_for(bank_path) != plan_hash(request.settings, inputs):
        raise _exists_already(bank_path)
    state = RunState(request.settings, inputs, versions())
    summary = _summary(bank_path, state, request.warnings, time.perf_counter() - started)
    return replace(summary, already_done=True)


def _files(bank: Path) -> StateFiles:
    """Where the state of a fit lies: beside its bank, under the bank's name."""
    return StateFiles(bank.parent, f"{bank.name}.")


def _is_fitted(state: RunState, bank: Path) -> bool:
    return state.fitted is not None and state.fitted.get("bank") == sha256_file(bank)


def _exists_already(bank: Path) -> ConfigError:
    return ConfigError(f"{bank} exists already and is not replaced. Choose another name or move it away.")


def _check_same(
    state: RunState | None, settings: Mapping[str, Any], inputs: Sequence[InputRecord] | None, bank: Path
) -> None:
    if state is None:
        return
    if inputs is None:
        before = {**state.settings, "versions": state.versions}
        differences = explain_settings(before, {**settings, "versions": versions()})
    else:
        differences = explain_inputs(decisive_inputs(state.inputs), decisive_inputs(inputs))
    if differences:
        raise ResumeError(
            f"An interrupted fit for {bank} was begun otherwise: {'; '.join(differences)}. "
            "Go on as it was begun, or start again with --no-resume (in Python: resume=False)."
        )


def _take_over(bank: Path, target: Path) -> None:
    try:
        put_in_place(bank, target, overwrite=False)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error
