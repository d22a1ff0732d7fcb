"""Protecting a folder with a bank that was fitted before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ConfigError
from ...imaging.codec import MAX_PIXELS
from ..bank_file import open_bank
from ..records import RunSummary
from ..records.state import InputRecord, StateFiles
from ..request import FormatPolicy, MetadataPolicy, Problems, WriteOptions, check_source, check_write, holding
from ..textures import TextureBank
from .growth import foresee_growth
from .interrupt import StopRequest
from .progress import ProgressCallback, silent, tell_found
from .run import FolderRun

if TYPE_CHECKING:
    from ..bank import Bank

__all__ = ["apply_folder"]


def apply_folder(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    format: FormatPolicy = "lossless",
    metadata: MetadataPolicy = "keep",
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
    options = WriteOptions(format=format, metadata=metadata, max_pixels=max_pixels, workers=workers)
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
        from .assigning import assign_pictures

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
