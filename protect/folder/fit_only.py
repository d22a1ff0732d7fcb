"""The optimisation alone: fit a method to a folder and save the bank."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...errors import ConfigError, OutputError, ResumeError
from ...imaging.atomic import sweep_temporaries, write_atomic
from ...imaging.codec import MAX_PIXELS
from ...imaging.loading import FileProblem
from ..records import FitSummary
from ..records.run_file import versions
from ..records.state import InputRecord, RunState, StateFiles, explain_inputs, explain_settings
from ..request import (
    FitOptions,
    Problems,
    Request,
    WriteOptions,
    check_bank_place,
    check_fit,
    check_source,
    check_writable,
    exclusive,
)
from .fitting import fit_and_keep, load_fitted, read_inputs
from .interrupt import StopRequest
from .progress import ProgressCallback, silent

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["fit_folder"]


def fit_folder(
    source: Path | str,
    bank_path: Path | str,
    *,
    method: str | Method = "auto",
    granularity: Literal["sample", "class"] | None = None,
    epsilon: float = 8 / 255,
    surrogate: str | None = None,
    resolution: int | Literal["auto"] = "auto",
    seed: int = 0,
    device: str = "auto",
    preset: Literal["paper"] | None = None,
    weights: Path | str | None = None,
    allow_download: bool = False,
    resume: bool = True,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> FitSummary:
    """The optimisation alone: fit a method to a folder and save the bank.

    Args:
        source: SRC.
        bank_path: the bank file to write; may not exist and may not lie in SRC. Keep it private.
        method: as all others, see :func:`protect_folder`.
        granularity: see there.
        epsilon: see there.
        surrogate: see there.
        resolution: see there.
        seed: see there.
        device: see there.
        preset: see there.
        weights: see there.
        allow_download: see there.
        resume: go on with a fit that was interrupted; False starts again.
        workers: see there.
        max_pixels: see there.
        progress: see there.
        stop: see there.

    Raises:
        ConfigError: as :func:`protect_folder`; also where the bank file exists already.
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
        weights=None if weights is None else Path(weights),
        allow_download=allow_download,
    )
    problems = Problems()
    scan = check_source(source, problems)
    request = check_fit(scan, options, problems)
    threads = WriteOptions(max_pixels=max_pixels, workers=workers).check(problems)
    check_bank_place(bank_path, source, None, problems)
    if bank_path.exists():
        problems.add(
            ConfigError(f"{bank_path} exists already and is not replaced. Choose another name or move it away.")
        )
    with problems.collecting():
        check_writable(bank_path.parent, create=not problems.found)
    problems.raise_all()
    if request is None:  # the check notes a problem whenever it gives none
        raise ConfigError("The request could not be checked.")
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
    files = StateFiles(bank_path.parent, f"{bank_path.name}.")
    with exclusive(files.lock):
        sweep_temporaries(bank_path.parent)
        state = RunState.read(files.plan) if resume else None
        now = {**request.settings, "max_pixels": max_pixels}
        _check_same(state, now, None, bank_path)
        dataset, inputs = read_inputs(request, workers=workers, max_pixels=max_pixels, progress=progress, stop=stop)
        _check_same(state, now, inputs, bank_path)
        if state is None:
            files.remove()
            write_atomic(files.plan, RunState(now, inputs, versions()).to_bytes(), overwrite=False)
        fitted = load_fitted(files) or fit_and_keep(request, dataset, files, progress=progress, stop=stop)
        _take_over(files.bank, bank_path)
        files.remove()
    problems = [FileProblem(record.relative, record.reason or "") for record in inputs if record.kind == "failed"]
    return FitSummary(
        bank=bank_path,
        images=len(dataset),
        seconds=time.perf_counter() - started,
        problems=problems,
        warnings=list(request.warnings),
        report=fitted.report,
    )


def _check_same(
    state: RunState | None, settings: Mapping[str, Any], inputs: Sequence[InputRecord] | None, bank: Path
) -> None:
    if state is None:
        return
    if inputs is None:
        before = {**state.settings, "versions": state.versions}
        differences = explain_settings(before, {**settings, "versions": versions()})
    else:
        pairs = [(record.relative, record.sha256) for record in state.inputs]
        differences = explain_inputs(pairs, [(record.relative, record.sha256) for record in inputs])
    if differences:
        raise ResumeError(
            f"An interrupted fit for {bank} was begun otherwise: {'; '.join(differences)}. "
            "Go on as it was begun, or start again with --no-resume (in Python: resume=False)."
        )


def _take_over(bank: Path, target: Path) -> None:
    try:
        bank.replace(target)
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}.") from error
