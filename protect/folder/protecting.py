"""The whole job: fit a method to a folder and write the protected copies."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from ...errors import ConfigError
from ...imaging.codec import MAX_PIXELS
from ..records import RunSummary
from ..records.state import StateFiles
from ..request import (
    FitOptions,
    FormatPolicy,
    MetadataPolicy,
    Problems,
    WriteOptions,
    check_bank_place,
    check_fit,
    check_source,
    check_write,
    holding,
)
from .growth import foresee_growth
from .interrupt import StopRequest
from .plan import Plan, make_plan
from .progress import ProgressCallback, silent, tell_found
from .run import FolderRun

if TYPE_CHECKING:
    from ..methods import Method

__all__ = ["protect_folder"]


class _ProtectOptions(TypedDict, total=False):
    method: str | Method
    granularity: Literal["sample", "class", "cluster"] | None
    epsilon: float
    surrogate: str | None
    resolution: int | Literal["auto"]
    format: FormatPolicy
    metadata: MetadataPolicy
    seed: int
    device: str
    preset: Literal["paper"] | None
    precision: Literal["auto", "float32", "bfloat16"]
    weights: Path | str | None
    allow_download: bool
    coco: Path | str | None
    parameters: Mapping[str, Any] | None
    resume: bool
    strict: bool
    follow_links: bool
    bank: Path | str | None
    workers: int | None
    max_pixels: int
    progress: ProgressCallback | None
    stop: StopRequest | None


@overload
def protect_folder(
    source: Path | str, output: Path | str, *, dry_run: Literal[False] = False, **options: Unpack[_ProtectOptions]
) -> RunSummary: ...
@overload
def protect_folder(
    source: Path | str, output: Path | str, *, dry_run: Literal[True], **options: Unpack[_ProtectOptions]
) -> Plan: ...
@overload
def protect_folder(
    source: Path | str, output: Path | str, *, dry_run: bool, **options: Unpack[_ProtectOptions]
) -> RunSummary | Plan: ...
def protect_folder(
    source: Path | str,
    output: Path | str,
    *,
    method: str | Method = "auto",
    granularity: Literal["sample", "class", "cluster"] | None = None,
    epsilon: float = 8 / 255,
    surrogate: str | None = None,
    resolution: int | Literal["auto"] = "auto",
    format: FormatPolicy = "lossless",
    metadata: MetadataPolicy = "keep",
    seed: int = 0,
    device: str = "auto",
    preset: Literal["paper"] | None = None,
    precision: Literal["auto", "float32", "bfloat16"] = "auto",
    weights: Path | str | None = None,
    allow_download: bool = False,
    coco: Path | str | None = None,
    parameters: Mapping[str, Any] | None = None,
    resume: bool = True,
    strict: bool = False,
    follow_links: bool = False,
    dry_run: bool = False,
    bank: Path | str | None = None,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> RunSummary | Plan:
    """Write a copy of an image folder from which a trainer learns little.

    SRC is scanned, decoded to the working resolution, and the method is fitted to all pictures together. Then each file
    is perturbed at its own size, written whole, and read back from disk: only what keeps the budget there counts as
    protected. Files that cannot be read become ``failed`` rows of the manifest and the run goes on. After a kill the
    same call goes on where it stopped, and gives the same bytes where the fit runs on a CPU; on a finished folder it
    does nothing.

    Args:
        source: SRC; one sub-folder for each class, also below ``train`` and ``test``. A single picture does, too, for
            methods that need no others.
        output: OUT; new, empty, or begun by an earlier call. It may not be, contain or lie in SRC.
        method: name of a method, ``"auto"``, or a method object (which then brings its own budget, surrogate and seed).
        granularity: ``"sample"`` or ``"class"``; the method's default if left out.
        epsilon: largest change of any channel of any pixel, as a fraction of the full range.
        surrogate: the protector's model; the method's default if left out.
        resolution: working resolution R in pixels, 16 to 1024; ``"auto"`` takes the side that pictures share up to 96,
            else 64 on a CPU and 224 on a GPU.
        format: ``"lossless"`` (JPEG becomes PNG), ``"webp"`` (JPEG becomes lossless WebP, which is smaller) or
            ``"same"`` (JPEG stays JPEG and may exceed the budget; counted).
        metadata: ``"keep"``, ``"private"`` (drop position, serial numbers, thumbnail) or ``"strip"``.
        seed: the one seed.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        preset: ``"paper"`` for the hyper-parameters of the paper.
        precision: of networks: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where it is faster and keeps 95 %
            of the gradient's signs. What was chosen, and how many it keeps, stands in the run file under ``fit``.
        weights: file with weights of the surrogate.
        allow_download: whether weights may be fetched from the network.
        coco: a COCO captions file, for methods that read captions. Text files beside the pictures and caption tables
            are found by themselves.
        parameters: hyper-parameters of the method by name, such as ``{"clusters": 20}`` for ``uc``.
        resume: go on with what OUT holds; False starts again and replaces only files that are provably ours.
        strict: skipped files make the exit code 1, too.
        follow_links: read what symbolic links in SRC lead to; they are left aside otherwise.
        dry_run: write nothing and return a plan with measured estimates.
        bank: keep the fitted bank in this file. It takes the protection off, so it may not lie in OUT. If left out, it
            is thrown away at the end.
        workers: threads for reading and writing; the result does not depend on it.
        max_pixels: refuse larger pictures before decoding them.
        progress: told about every step; see :class:`ProgressCallback`.
        stop: a flag to stop at the next file; see :func:`interruptible`.

    Raises:
        ConfigError: something is wrong with what was asked for; everything that is wrong is in the message.
        ResumeError: OUT holds other settings, other inputs, or files that are not ours.
        SetupError: OUT cannot be written, or weights or the device are missing.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    source, output = Path(source), Path(output)
    fit_options = FitOptions(
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
    write_options = WriteOptions(format=format, metadata=metadata, max_pixels=max_pixels, workers=workers)
    problems = Problems()
    scan = check_source(source, problems, follow_links=follow_links)
    request = check_fit(scan, fit_options, problems)
    keep = None if bank is None else Path(bank)
    check_bank_place(keep, source, output, problems)
    existed = output.exists()
    linked = [entry.path for entry in scan.entries] if scan is not None and follow_links else []
    threads = check_write(source, output, write_options, problems, create=not dry_run, linked=linked)
    problems.raise_all()
    if request is None:  # the check notes a problem whenever it gives none
        raise ConfigError("The request could not be checked.")
    tell_found(request.scan, progress or silent)
    if dry_run:
        return make_plan(request, write_options, output, workers=threads, progress=progress or silent)
    growth = foresee_growth(request.scan, output, request.method.budget, write_options)
    for message in growth:
        (progress or silent)("found", 0, 0, message)
    run = FolderRun(
        command="protect",
        scan=request.scan,
        output=output,
        options=write_options,
        settings={**request.settings, **write_options.settings()},
        seed=request.method.seed,
        workers=threads,
        strict=strict,
        warnings=[*request.warnings, *write_options.warnings()],
        progress=progress or silent,
        stop=stop or StopRequest(),
        started=started,
    )
    with holding(output, StateFiles(output).lock, existed=existed):
        return run.protect(request, resume=resume, keep=keep)
