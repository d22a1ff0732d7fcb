"""The whole job: protect a folder by fitting a method to it, or with a bank that was fitted before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

from ...errors import ConfigError
from ...imaging.codec import MAX_PIXELS
from ...imaging.loading import load_image_set
from ...imaging.metadata import Mark
from ...imaging.scan import FolderScan
from ...records.locks import holding
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_state import InputRecord, StateFiles
from ..bank_file import open_bank
from ..clusters import Assigned, assign, open_space, view_of
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
)
from ..textures import TextureBank
from .inputs import tell_found
from .plan import Plan, foresee_growth, make_plan
from .report import RunSummary
from .run import FolderRun

if TYPE_CHECKING:
    from ..bank import Bank
    from ..methods import Method

#: Pictures in memory at a time while their clusters are looked for.
PART = 256


def assign_pictures(
    bank: Assigned,
    scan: FolderScan,
    records: Sequence[InputRecord],
    *,
    weights: Path | None,
    allow_download: bool,
    device: str,
    workers: int,
    max_pixels: int,
    progress: ProgressCallback,
    stop: StopRequest,
) -> Assigned:
    """The bank with a cluster for every picture that can be read. Those that cannot will fail when they are written.

    Raises:
        BankError: the surrogate's weights are not those of the fit.
        SetupError: they are not on this machine.
        Interrupted: a stop was asked for.
    """
    keys = {record.relative: record.key for record in records if record.kind == "image"}
    unknown = [entry for entry in scan.entries if (key := keys.get(entry.relative)) and bank.key_for(key) is None]
    if not unknown:
        return bank
    space = open_space(bank, weights=weights, allow_download=allow_download, device=device)
    for start in range(0, len(unknown), PART):
        part = unknown[start : start + PART]
        progress("assign", start, len(unknown), "finding the cluster of each picture")
        stop.check("Nothing was written yet.")
        dataset, entries, _ = load_image_set(
            replace(scan, entries=tuple(part)), bank.resolution, workers=workers, max_pixels=max_pixels,
            with_labels=False, describe=view_of(bank, space),
        )  # fmt: skip
        if entries:
            bank = assign(bank, dataset, space)
    progress("assign", len(unknown), len(unknown), "finding the cluster of each picture")
    return bank


def apply_folder(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    format: FormatPolicy = "lossless",
    metadata: MetadataPolicy = "keep",
    mark: Mark | None = None,
    resume: bool = True,
    strict: bool = False,
    follow_links: bool = False,
    device: str = "auto",
    weights: Path | str | None = None,
    allow_download: bool = False,
    workers: int | None = None,
    max_pixels: int = MAX_PIXELS,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
) -> RunSummary:
    """Protect a folder with a bank fitted before, without any optimisation.

    A class-wise bank protects any picture of its classes, new ones too, and so does one of textures, for which torch is
    not needed. A bank of clusters, of either kind, protects any picture: one forward pass of its surrogate finds the
    cluster. A sample-wise bank protects only the pictures it was fitted on; others are skipped, listed as problems, and
    not copied to OUT.

    Args:
        source: SRC.
        output: OUT; see :func:`protect_folder`.
        bank: a bank or the file it was saved in.
        format: see :func:`protect_folder`.
        metadata: see :func:`protect_folder`.
        mark: see :func:`protect_folder`.
        resume: see :func:`protect_folder`.
        strict: see :func:`protect_folder`.
        follow_links: see :func:`protect_folder`.
        device: where the surrogate of a bank of clusters runs; other banks need none.
        weights: weights of that surrogate, where the fit was given a file.
        allow_download: let that surrogate fetch its weights.
        workers: see :func:`protect_folder`.
        max_pixels: see :func:`protect_folder`.
        progress: see :func:`protect_folder`.
        stop: see :func:`protect_folder`.

    Raises:
        BankError: the bank is damaged, or holds nothing for any picture in SRC.
        ConfigError: as :func:`protect_folder`.
        ResumeError: as :func:`protect_folder`.
        SetupError: OUT cannot be written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    source, output = Path(source), Path(output)
    options = WriteOptions(format=format, metadata=metadata, max_pixels=max_pixels, workers=workers, mark=mark)
    problems = Problems()
    scan = check_source(source, problems, follow_links=follow_links)
    loaded, digest = None, ""
    with problems.collecting():
        loaded, digest = _open_bank(bank)
    existed = output.exists()
    linked = [entry.path for entry in scan.entries] if scan is not None and follow_links else []
    threads = check_write(source, output, options, problems, create=True, linked=linked)
    problems.raise_all()
    if scan is None or loaded is None:  # a problem was noted whenever one is missing
        raise ConfigError("The request could not be checked.")
    tell_found(scan, progress or silent)
    settings: dict[str, Any] = {
        "method": loaded.method,
        "granularity": loaded.granularity,
        "epsilon": loaded.budget.epsilon,
        "norm": loaded.budget.norm,
        "resolution": loaded.resolution or None,
        "seed": loaded.seed,
        "bank_sha256": digest,
        **options.settings(),
    }

    def assign(bank: Bank | TextureBank, records: Sequence[InputRecord]) -> Bank | TextureBank:
        return assign_pictures(
            bank,
            scan,
            records,
            weights=None if weights is None else Path(weights),
            allow_download=allow_download,
            device=device,
            workers=threads,
            max_pixels=max_pixels,
            progress=progress or silent,
            stop=stop or StopRequest(),
        )

    for message in foresee_growth(scan, output, loaded.budget, options):
        (progress or silent)("found", 0, 0, message)
    run = FolderRun(
        command="apply",
        scan=scan,
        output=output,
        options=options,
        settings=settings,
        seed=loaded.seed,
        workers=threads,
        strict=strict,
        warnings=[*scan.notes, *options.warnings()],
        progress=progress or silent,
        stop=stop or StopRequest(),
        started=started,
    )
    with holding(output, StateFiles(output).lock, existed=existed):
        return run.apply(loaded, resume=resume, assign=None if loaded.clusters is None else assign)


def _open_bank(bank: Path | str | Bank | TextureBank) -> tuple[Bank | TextureBank, str]:
    loaded = open_bank(Path(bank)) if isinstance(bank, str | Path) else bank
    return loaded, loaded.digest()


class _ProtectOptions(TypedDict, total=False):
    method: str | Method
    granularity: Literal["sample", "class", "cluster"] | None
    epsilon: float
    surrogate: str | None
    resolution: int | Literal["auto"]
    format: FormatPolicy
    metadata: MetadataPolicy
    mark: Mark | None
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
    mark: Mark | None = None,
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
        mark: ``"no-ai"`` writes "Prohibited for AI/ML training" into the copies, as IPTC's XMP property
            ``plus:DataMining``; BMP and PPM files hold none.
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
    write_options = WriteOptions(format=format, metadata=metadata, max_pixels=max_pixels, workers=workers, mark=mark)
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
