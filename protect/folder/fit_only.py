"""The optimisation alone: fit a method to a folder and save the bank."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import ConfigError, OutputError, ResumeError
from ...imaging.atomic import put_in_place, sweep_temporaries_of, write_atomic
from ...imaging.codec import MAX_PIXELS
from ...imaging.loading import FileProblem, sha256_file
from ...imaging.places import StillThere
from ..bank_file import made_for
from ..records import FitSummary
from ..records.run_file import versions
from ..records.state import (
    InputRecord,
    RunState,
    StateFiles,
    decisive_inputs,
    explain_inputs,
    explain_settings,
    plan_hash,
)
from ..request import (
    FitOptions,
    Problems,
    Request,
    WriteOptions,
    check_bank_place,
    check_fit,
    check_source,
    exclusive,
)
from .fitting import doubts, fit_and_keep, load_fitted, read_inputs
from .inputs import hash_inputs
from .interrupt import StopRequest
from .progress import ProgressCallback, silent, tell_found

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["fit_folder"]


def fit_folder(
    source: Path | str,
    bank_path: Path | str,
    *,
    method: str | Method = "auto",
    granularity: Literal["sample", "class", "cluster"] | None = None,
    epsilon: float = 8 / 255,
    surrogate: str | None = None,
    resolution: int | Literal["auto"] = "auto",
    seed: int = 0,
    device: str = "auto",
    preset: Literal["paper"] | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    weights: Path | str | None = None,
    allow_download: bool = False,
    coco: Path | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    resume: bool = True,
    follow_links: bool = False,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> FitSummary:
    """The optimisation alone: fit a method to a folder and save the bank.

    Args:
        source: SRC.
        bank_path: the bank file to write; may not lie in SRC. One that is there is left as it is: if it was made for
            this very request there is nothing to do, and otherwise that is an error. Keep it private.
        method: as all others, see :func:`protect_folder`.
        granularity: see there.
        epsilon: see there.
        surrogate: see there.
        resolution: see there.
        seed: see there.
        device: see there.
        preset: see there.
        precision: see there.
        weights: see there.
        allow_download: see there.
        coco: see there.
        parameters: see there.
        resume: go on with a fit that was interrupted; False starts again.
        follow_links: see there.
        workers: see there.
        max_pixels: see there.
        progress: see there.
        stop: see there.

    Raises:
        ConfigError: as :func:`protect_folder`; also where another bank exists already.
        ResumeError: an interrupted fit beside the bank file had other settings or other inputs.
        SetupError: the bank cannot be written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    source, bank_path = Path(source), Path(bank_path)
    options = FitOptions(
        method=method,
        granularity=granularity,
        epsilon=epsilon,
        surrogate=surrogate,
        resolution=resolution,
        seed=seed,
        device=device,
        preset=preset,
        precision=precision,
        weights=None if weights is None else Path(weights),
        allow_download=allow_download,
        coco=None if coco is None else Path(coco),
        parameters=parameters or {},
    )
    problems = Problems()
    scan = check_source(source, problems, follow_links=follow_links)
    request = check_fit(scan, options, problems)
    threads = WriteOptions(max_pixels=max_pixels, workers=workers).check(problems)
    if bank_path.is_file() and not resume:
        problems.add(_exists_already(bank_path))
    check_bank_place(bank_path, source, None, problems, create=True)
    problems.raise_all()
    if request is None:  # the check notes a problem whenever it gives none
        raise ConfigError("The request could not be checked.")
    tell_found(request.scan, progress or silent)
    return _fit_to_bank(
        request,
        bank_path,
        resume=resume,
        workers=threads,
        max_pixels=max_pixels,
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
        _check_same(state, now, None, bank_path)
        if bank_path.exists():
            if state is None:
                return _already_done(request, bank_path, workers=workers, progress=progress, stop=stop, started=started)
            if not _is_fitted(state, bank_path):
                raise _exists_already(bank_path)
            # An earlier call was killed when all that was left to do was to remove its state.
            _check_same(state, now, hash_inputs(request.scan, workers=workers, stop=stop, progress=progress), bank_path)
        else:
            there = StillThere(request.scan.root)
            dataset, inputs = read_inputs(request, workers=workers, max_pixels=max_pixels, progress=progress, stop=stop)
            if any(record.sha256 is None and record.kind != "skipped" for record in inputs):
                there.check()
            _check_same(state, now, inputs, bank_path)
            if state is None:
                files.remove()
                state = RunState(now, inputs, versions())
                write_atomic(files.plan, state.to_bytes(), overwrite=False, private=True)
            fitted = load_fitted(files) or fit_and_keep(
                request,
                dataset,
                files,
                made_for=plan_hash(request.settings, decisive_inputs(inputs)),
                progress=progress,
                stop=stop,
            )
            done = {"bank": sha256_file(files.bank), "report": fitted.report, "seconds": fitted.seconds}
            state = replace(state, fitted=done)
            write_atomic(files.plan, state.to_bytes(), overwrite=True, private=True)
            _take_over(files.bank, bank_path)
        files.remove()
    return _summary(bank_path, state, request.warnings, time.perf_counter() - started)


def _summary(bank: Path, state: RunState, warnings: Sequence[str], seconds: float) -> FitSummary:
    report = dict((state.fitted or {}).get("report", {}))
    return FitSummary(
        bank=bank,
        images=sum(record.kind == "image" for record in state.inputs),
        seconds=seconds,
        problems=[
            FileProblem(record.relative, record.reason or "") for record in state.inputs if record.kind == "failed"
        ],
        warnings=[*warnings, *doubts(report)],
        report=report,
    )


def _already_done(
    request: Request,
    bank_path: Path,
    *,
    workers: int,
    progress: ProgressCallback,
    stop: StopRequest,
    started: float,
) -> FitSummary:
    """What an earlier call made of the same request.

    Raises:
        ConfigError: the bank was made for other settings or other pictures, or says nothing of what for.
    """
    inputs = hash_inputs(request.scan, workers=workers, stop=stop, progress=progress)
    if made_for(bank_path) != plan_hash(request.settings, decisive_inputs(inputs)):
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
        differences = explain_inputs(state.decisive, decisive_inputs(inputs))
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
