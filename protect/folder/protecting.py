"""The whole job: protect a folder by fitting a method to it, or with a bank that was fitted before."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from ...errors import BankError, ConfigError, UnknownNameError
from ...imaging.loading import load_image_set
from ...imaging.scan import FolderScan
from ...records.config import Problems, takes
from ...records.on_disk import Table
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.run_state import InputRecord
from ...records.text import some
from ..bank_file import open_bank
from ..request import (
    ApplyConfig,
    ProtectConfig,
    check_bank_place,
    check_fit,
    check_source,
    check_write,
)
from ..request.checks import linked_pictures
from ..request.config import ApplyKeywords, ProtectKeywords
from ..request.places import place_of_records
from ..textures import TextureBank
from .inputs import patience_with, tell_found
from .plan import Plan, foresee_growth, make_plan
from .report import RunSummary
from .run import FolderRun

if TYPE_CHECKING:
    from ..bank import Bank
    from ..clusters import Assigned

#: Pictures in memory at a time while their clusters are looked for.
PART = 256


def assign_pictures(
    bank: Assigned,
    scan: FolderScan,
    records: Sequence[InputRecord],
    config: ApplyConfig,
    *,
    progress: ProgressCallback,
    stop: StopRequest,
) -> Assigned:
    """The bank with a cluster for every picture that can be read. Those that cannot will fail when they are written.

    Raises:
        BankError: the surrogate's weights are not those of the fit.
        SetupError: they are not on this machine.
        Interrupted: a stop was asked for.
    """
    keys = (record.key for record in records if record.kind == "image")  # in the order of the scan, too
    unknown = Table(place="INTEGER")
    for place, key in enumerate(keys):
        if key and bank.key_for(key) is None:
            unknown.append(place)
    if not len(unknown):
        return bank
    from ..clusters import assign, extractor_of, open_space  # loads torch, which applying other banks does not

    space = open_space(bank, device=config.device, weights=config.policy)
    places = unknown.rows()
    for start in range(0, len(unknown), PART):
        part = [scan.entries[place] for (place,) in islice(places, PART)]
        progress("assign", start, len(unknown), "finding the cluster of each picture")
        stop.check("Nothing was written yet.")
        dataset, entries, _ = load_image_set(
            replace(scan, entries=tuple(part)), bank.resolution, workers=config.threads, max_pixels=config.max_pixels,
            with_labels=False, describe=extractor_of(bank, space),
            patience=patience_with(progress, config.max_seconds_per_file),
        )  # fmt: skip
        if entries:
            bank = assign(bank, dataset, space)
    progress("assign", len(unknown), len(unknown), "finding the cluster of each picture")
    return bank


@takes(ApplyConfig)
def apply_folder(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ApplyKeywords],
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
        records: see :func:`protect_folder`.
        resume: see :func:`protect_folder`.
        strict: see :func:`protect_folder`.
        follow_links: see :func:`protect_folder`.
        class_name: for a picture, or a folder without classes: the class of the bank whose noise is put on them; where
            the bank has one class alone, that.
        device: where the surrogate of a bank of clusters runs; other banks need none.
        shard: see :func:`protect_folder`.
        weights: weights of that surrogate, where the fit was given a file.
        allow_download: let that surrogate fetch its weights.
        workers: see :func:`protect_folder`.
        max_pixels: see :func:`protect_folder`.
        max_seconds_per_file: see :func:`protect_folder`.
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
    problems = Problems()
    config = ApplyConfig.collect(options, problems)
    scan = check_source(source, problems, follow_links=config.follow_links)
    loaded, digest = None, ""
    with problems.collecting():
        loaded, digest = _open_bank(bank)
    class_name = None
    with problems.collecting():
        if scan is not None and loaded is not None:
            class_name = _class_for(scan, loaded, config.class_name)
    records = place_of_records(output, config.records, resume=config.resume)
    place = check_write(source, records, problems, create=True, linked=linked_pictures(scan, config))
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
        **({} if class_name is None else {"class": class_name}),
        **config.settings(),
    }

    def assign(bank: Bank | TextureBank, records: Sequence[InputRecord]) -> Bank | TextureBank:
        return assign_pictures(bank, scan, records, config, progress=progress or silent, stop=stop or StopRequest())

    for message in foresee_growth(scan, output, loaded.budget, config):
        (progress or silent)("found", 0, 0, message)
    run = FolderRun(
        command="apply",
        scan=scan,
        output=output,
        options=config,
        settings=settings,
        seed=loaded.seed,
        warnings=[*scan.notes, *config.warnings()],
        progress=progress or silent,
        stop=stop or StopRequest(),
        started=started,
        shard=config.share,
        repeat=config.command(bank),
    )
    if class_name is not None:
        run.key_of = partial(_key_in, class_name)
    with place.holding():
        return run.apply(loaded, resume=config.resume, assign=None if loaded.clusters is None else assign)


def _key_in(class_name: str, record: InputRecord) -> str | None:
    """The key of a picture as if it lay in a class folder."""
    return None if record.key is None else f"{class_name}/{record.key.rpartition('/')[2]}"


def classes_of(bank: Bank | TextureBank) -> tuple[str, ...]:
    """The classes that a bank holds something for; none where it goes by pictures or clusters."""
    if bank.clusters is not None:
        return ()
    if isinstance(bank, TextureBank):
        return bank.classes
    return bank.keys if bank.granularity == "class" else ()


def _class_for(scan: FolderScan, bank: Bank | TextureBank, asked: str | None) -> str | None:
    """The class of the bank that stands for all pictures, or ``None`` where each has its own.

    Pictures without classes and a bank of one class leave no choice.

    Raises:
        BankError: the bank is of several classes, and nothing says which one it is.
        ConfigError: the bank is not of classes, or the pictures have some.
        UnknownNameError: the bank has no such class.
    """
    known = classes_of(bank)
    if asked is None and known and not scan.labelled:
        if len(known) == 1:
            return known[0]
        raise BankError(
            f"What lies in {scan.root} has no class folders, and the bank goes by {len(known)} classes: {some(known)}. "
            "Say which one it is with --class NAME (in Python: class_name=), or put the pictures into class folders."
        )
    if asked is None:
        return None
    if not known:
        raise ConfigError(f"The bank holds nothing by class, so --class {asked} says nothing. Leave it out.")
    if scan.labelled:
        raise ConfigError(
            f"The pictures in {scan.root} lie in class folders, which say their class. Leave --class {asked} out, or "
            "give the pictures of one folder alone."
        )
    if asked not in known:
        raise UnknownNameError("class of the bank", asked, known)
    return asked


def _open_bank(bank: Path | str | Bank | TextureBank) -> tuple[Bank | TextureBank, str]:
    loaded = open_bank(Path(bank)) if isinstance(bank, str | Path) else bank
    return loaded, loaded.digest()


@overload
def protect_folder(
    source: Path | str,
    output: Path | str,
    *,
    dry_run: Literal[False] = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ProtectKeywords],
) -> RunSummary: ...
@overload
def protect_folder(
    source: Path | str,
    output: Path | str,
    *,
    dry_run: Literal[True],
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ProtectKeywords],
) -> Plan: ...
@overload
def protect_folder(
    source: Path | str,
    output: Path | str,
    *,
    dry_run: bool,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ProtectKeywords],
) -> RunSummary | Plan: ...
@takes(ProtectConfig)
def protect_folder(
    source: Path | str,
    output: Path | str,
    *,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[ProtectKeywords],
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
        strength: ``"subtle"``, ``"balanced"`` or ``"strong"``: 8, 12 or 16 levels of 255 with
            textures, 4, 8 or 16 with other methods.
        epsilon: largest change of any channel of any pixel, as a fraction of the full range; wins over ``strength``.
        surrogate: the protector's model; the method's default if left out.
        resolution: working resolution R in pixels, 16 to 1024; ``"auto"`` takes the side that pictures share up to 96,
            else 64 on a CPU and 224 on a GPU.
        format: ``"lossless"`` (JPEG becomes PNG), ``"webp"`` (JPEG becomes lossless WebP, which is smaller) or
            ``"same"`` (JPEG stays JPEG and may exceed the budget; counted).
        metadata: ``"keep"``, ``"private"`` (drop position, serial numbers, thumbnail) or ``"strip"``.
        mark: ``"no-ai"`` writes "Prohibited for AI/ML training" into the copies, as IPTC's XMP property
            ``plus:DataMining``; BMP and PPM files hold none.
        seed: the one seed; 0 if left out. Where it is given and no key file is, the key of textures and of noise from
            captions is made of it, and whoever guesses it can take them off.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
        preset: ``"paper"`` for the hyper-parameters of the paper.
        precision: of networks: ``"float32"``, ``"bfloat16"``, or ``"auto"``: bfloat16 where it is faster and keeps 95 %
            of the gradient's signs. What was chosen, and how many it keeps, stands in the run file under ``fit``.
        weights: file with weights of the surrogate.
        allow_download: whether weights may be fetched from the network.
        coco: a COCO captions file, for methods that read captions. Text files beside the pictures and caption tables
            are found by themselves.
        key_file: for textures and noise from captions, a key file. Without it and a seed a random key is drawn, which
            is nowhere but in the bank: two runs then differ, but one that goes on does not change.
        generator: for noise from captions, the folder of a generator; the embedded one if left out.
        for_resolution: for textures, the side in px at which a trainer will look at the pictures.
        parameters: hyper-parameters of the method by name, such as ``{"clusters": 20}`` for ``uc``.
        records: where manifest, run file and report lie: ``"inside"`` OUT, or ``"beside"`` it in the folder
            ``OUT-records``, so that OUT holds copies, captions and label maps alone. Where OUT is a part of a data set,
            as ``public/train`` is, that folder lies beside the whole: ``public-train-records``. A run that was begun
            goes on where its records are.
        resume: go on with what OUT holds; False starts again and replaces only files that are provably ours.
        strict: skipped files make the exit code 1, too.
        follow_links: read what symbolic links in SRC lead to; they are left aside otherwise.
        dry_run: write nothing and return a plan with measured estimates.
        bank: keep the fitted bank in this file. It takes the protection off, so it may not lie in OUT. If left out, it
            is thrown away at the end.
        shard: ``"2/8"``: read all of SRC, fit to all of it, and write the second of eight shares alone, by the contents
            of the files. Each share has an OUT of its own; :func:`merge_folders` joins them to what a run without
            shares writes.
        workers: threads for reading and writing; the result does not depend on it.
        max_pixels: refuse larger pictures before decoding them.
        max_seconds_per_file: a file that takes longer is given up and counts as failed; waiting for others does not
            count, nor does what is left to do once its copy is being written.
        progress: told about every step; see :class:`ProgressCallback`.
        stop: a flag to stop at the next file; see :func:`interruptible`.

    Raises:
        ConfigError: something is wrong with what was asked for; everything that is wrong is in the message.
        ResumeError: OUT holds other settings, other inputs, or files that are not ours.
        SetupError: OUT, or the folder of the records, cannot be written, or weights or the device are missing.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    source, output = Path(source), Path(output)
    problems = Problems()
    config = ProtectConfig.collect({**options, "dry_run": dry_run}, problems)
    scan = check_source(source, problems, follow_links=config.follow_links)
    request = check_fit(scan, config, problems)
    records = place_of_records(output, config.records, resume=config.resume)
    check_bank_place(config.bank, source, output, problems, records=records)
    place = check_write(source, records, problems, create=not config.dry_run, linked=linked_pictures(scan, config))
    problems.raise_all()
    if request is None:  # the check notes a problem whenever it gives none
        raise ConfigError("The request could not be checked.")
    tell_found(request.scan, progress or silent)
    if config.dry_run:
        return make_plan(request, config, output, workers=config.threads, progress=progress or silent)
    growth = foresee_growth(request.scan, output, request.method.budget, config)
    for message in growth:
        (progress or silent)("found", 0, 0, message)
    run = FolderRun(
        command="protect",
        scan=request.scan,
        output=output,
        options=config,
        settings={**request.settings, **config.settings()},
        seed=request.method.seed,
        warnings=[*request.warnings, *config.warnings()],
        progress=progress or silent,
        stop=stop or StopRequest(),
        started=started,
        shard=config.share,
        repeat=config.command(request.method.name, request.resolution),
    )
    with place.holding():
        return run.protect(request, resume=config.resume, keep=config.bank)
