"""What is asked of ``apply`` where SRC or OUT is no folder on this machine, checked as a whole before any work; and
the dry run: what the first pictures tell of the whole.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Unpack, overload

from ...errors import BankError, ConfigError, ImageError
from ...imaging.loading import FileProblem
from ...records.config import Problems, takes
from ...records.manifest import ManifestRow
from ...records.progress import ProgressCallback, StopRequest, silent
from ...records.stores import Item, LocalStore, as_url, is_url, masked, open_store
from ...records.text import spread
from ..bank_file import open_bank
from ..folder.protecting import classes_of
from ..folder.writing import PictureWriter
from ..request.config import StreamConfig, StreamKeywords, read_names
from ..request.places import check_writable
from .pictures import Classes, plain_row
from .run import StreamRunner
from .sources import check_apart, find_source, is_stream
from .summary import MOST_PROBLEMS, StreamPlan, StreamSummary
from .work import Worker

if TYPE_CHECKING:
    from ..bank import Bank
    from ..textures import TextureBank


#: What is put behind OUT's name for the place of the records.
RECORDS_SUFFIX: Final = ".bitterant"
#: Parts of a URL, behind ``//``, from which on there is a folder that can have another beside it.
_LEAST_PARTS: Final = {"hf": 4, "memory": 1}


@overload
def apply_stream(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    dry_run: Literal[False] = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[StreamKeywords],
) -> StreamSummary: ...
@overload
def apply_stream(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    dry_run: bool,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[StreamKeywords],
) -> StreamSummary | StreamPlan: ...
@takes(StreamConfig)
def apply_stream(
    source: Path | str,
    output: Path | str,
    *,
    bank: Path | str | Bank | TextureBank,
    dry_run: bool = False,
    progress: ProgressCallback | None = None,
    stop: StopRequest | None = None,
    **options: Unpack[StreamKeywords],
) -> StreamSummary | StreamPlan:
    """Protect pictures in an object store, in WebDataset's tar shards or in Parquet files, with a bank fitted before.

    One object or shard is read, protected and written at a time; a picture gets the same pixels as in a folder. What
    is in OUT already is never written over. What cannot be protected is left out of OUT and stands in the manifest:
    a picture, or the whole sample of a shard that it belongs to. The same call goes on after a stop or a kill, and does
    what has come to SRC since.

    Args:
        source: SRC: the path or URL of a folder, of a shard, or with patterns, such as ``s3://bucket/photos``,
            ``shards/pictures-{000000..000009}.tar``, ``tables/*.parquet``.
        output: OUT: the path or URL of a folder, new or begun by an earlier call. The records lie beside it, under its
            name with ``.bitterant`` behind.
        bank: textures by class, or perturbations by class or picture; a bank or the file it was saved in.
        dry_run: write nothing and return a plan; of a folder of pictures on this machine that of
            :func:`apply_folder`, which leaves shards in it aside.
        class_from: where the class of a sample stands: ``"path"``, the ending of a member, a field of its ``.json``, or
            a column. Found by itself where left out: ``.cls``, a column of Hugging Face's ``ClassLabel``, ``label``,
            or the folder in the archive.
        classes: text file of class names, of which the first is number 0.
        columns: the only columns, or endings of members, that hold pictures.
        format: see :func:`protect_folder`.
        metadata: see :func:`protect_folder`.
        mark: see :func:`protect_folder`.
        class_name: the class of all pictures.
        records: only for the plan of a folder on this machine; the records of all else lie beside OUT.
        resume: False refuses an OUT that was begun before.
        strict: skipped pictures make the exit code 1, too.
        workers: threads; the result does not depend on it. With ``executor``: tasks at a time.
        max_pixels: refuse larger pictures before decoding them.
        max_seconds_per_file: a picture, or sample of a shard, that takes longer counts as failed.
        follow_links: take what symbolic links to files lead to, as in Hugging Face's cache.
        executor: ``ray`` for a Ray cluster that is started on this machine, ``ray:ADDRESS`` for one that is joined.
            Its machines read SRC and write OUT by themselves, and have to see both.
        device, weights, allow_download: only for banks of clusters, which are applied to folders alone.
        progress: see :func:`protect_folder`.
        stop: see :func:`protect_folder`.

    Raises:
        BankError: the bank is damaged, goes by clusters, or has nothing for the first pictures.
        ConfigError: something is wrong with what was asked for, or SRC holds nothing.
        ResumeError: OUT holds what this run did not write, or SRC is not what it was.
        SetupError: a package is missing, or a place cannot be reached or written.
        Interrupted: ``stop`` was set; the same call goes on.
    """
    started = time.perf_counter()
    problems = Problems()
    elsewhere = is_stream(source, output)
    config = StreamConfig.collect({**options, "dry_run": dry_run}, problems)
    loaded = names = found = out = records = None
    with problems.collecting():
        loaded = open_bank(Path(bank)) if isinstance(bank, str | Path) else bank
        if loaded.clusters is not None:
            raise BankError(
                "This bank goes by clusters: which one a picture belongs to is found by a network, which is done for "
                "folders on this machine alone. Take textures by class: `bitterant code-book` makes them of names."
            )
    with problems.collecting():
        names = read_names(config.classes) if config.classes is not None else []
    with problems.collecting():
        records = open_store(records_place(output))
        out = open_store(output)
    with problems.collecting():
        only = "pictures" if dry_run and not elsewhere else None  # as the run over that folder takes it
        found = find_source(source, follow_links=config.follow_links, only=only)
    if config.asked_place is not None and (elsewhere or not dry_run):
        problems.add(
            ConfigError(
                "--records is for a folder of pictures on this machine. Those of shards and object stores lie beside "
                f"OUT in any case, under its name with {RECORDS_SUFFIX} behind. Leave it out."
            )
        )
    if config.shard is not None and (elsewhere or not dry_run):
        problems.add(
            ConfigError(
                "--shard divides a folder of pictures on this machine. Of shards and object stores give each machine a "
                "part of the objects by a pattern instead, such as 'pictures-{000000..000499}.tar', and the same OUT "
                "in a store, or on a disk one of its own."
            )
        )
    if found is not None and out is not None:
        problems.add(check_apart(found, out))
    if found is not None and found.kind == "pictures" and (config.class_from or config.classes or config.columns):
        problems.add(
            ConfigError(
                "--class-from, --classes and --column are for shards; single pictures have the class of their folder."
            )
        )
    classes = None
    if loaded is not None and names is not None:
        with problems.collecting():
            classes = Classes.of(classes_of(loaded), asked=config.class_name, field=config.class_from, names=names)
    if isinstance(out, LocalStore):
        with problems.collecting():
            check_writable(out.root, create=not dry_run and not problems.found)
    problems.raise_all()
    if loaded is None or found is None or out is None or records is None or classes is None:
        raise ConfigError("The request could not be checked.")  # a problem was noted whenever one is missing
    found = replace(found, known=classes.known)
    (progress or silent)("found", 0, 0, found.describe())
    worker = Worker(
        source=found,
        output=out,
        config=config,
        classes=classes,
        writer=PictureWriter(bank=loaded, metadata=config.metadata, max_pixels=config.max_pixels, mark=config.mark),
        stop=stop or StopRequest(),
        progress=progress or silent,
    )
    settings: dict[str, Any] = {
        "kind": found.kind,
        "method": loaded.method,
        "granularity": loaded.granularity,
        "epsilon": loaded.budget.epsilon,
        "norm": loaded.budget.norm,
        "bank_sha256": loaded.digest(),
        "class": classes.fixed,
        "classes_sha256": hashlib.sha256("\n".join(names or ()).encode()).hexdigest() if names else None,
        **config.settings(),
        "columns": list(config.columns),
    }
    shown = masked(as_url(source))
    if dry_run:
        (progress or silent)("plan", 0, 1, "trying a few pictures")
        plan = make_plan(worker, settings, shown)
        if config.shard is not None:
            plan.warnings.append(f"These are the figures of the whole, not of share {config.shard} alone.")
        return plan
    run = StreamRunner(
        worker=worker,
        records=records,
        settings=settings,
        seed=loaded.seed,
        shown=shown,
        repeat=config.command(bank),
        progress=progress or silent,
        started=started,
    )
    with run.alone():
        return run.run()


def records_place(output: Path | str) -> Path | str:
    """Where the records of OUT lie: beside it.

    Raises:
        ConfigError: OUT is a whole bucket or repository, beside which nothing can lie.
    """
    if not is_url(output):
        path = Path(output)
        if path.name in ("", ".."):
            path = Path(os.path.abspath(output))  # noqa: PTH100 - a name beside it; links are not followed
        return path.with_name(path.name + RECORDS_SUFFIX)
    text = as_url(output).rstrip("/")
    scheme, _, rest = text.partition(":")
    parts = [part for part in rest.split("/") if part]
    least = _LEAST_PARTS.get(scheme.lower(), 2)
    if "?" in text:
        raise ConfigError(f"{masked(text)} has a query behind it, so nothing can lie beside it. Give OUT without one.")
    if scheme.lower() == "hf" and parts[:1] not in (["datasets"], ["spaces"]):
        least -= 1  # a repository of a model says no kind
    if len(parts) < least:
        raise ConfigError(
            f"{masked(text)} is a whole bucket, or repository. Name a folder in it, such as {masked(text)}/protected: "
            "the records of the run go beside that folder, so that it can be published as it is."
        )
    return text + RECORDS_SUFFIX


#: Pictures that are tried.
_TRIED: Final = 8


@dataclass
class _Tried:
    """Rows of the pictures tried, their number, and their bytes before and after."""

    rows: list[ManifestRow] = field(default_factory=list)
    pictures: int = 0
    before: int = 0
    after: int = 0


def make_plan(worker: Worker, settings: dict[str, Any], shown: str) -> StreamPlan:
    """Try a few pictures and extrapolate. Writes nothing.

    Args:
        worker: would do the work.
        settings: everything that decides about the result.
        shown: SRC as people may see it.

    Raises:
        OutputError: SRC is gone.
    """
    source = worker.source
    started = time.perf_counter()
    tried = _try_pictures(worker) if source.kind == "pictures" else _try_shard(worker, source.items[0])
    seconds = time.perf_counter() - started
    size = source.size
    known = [row.key for row in tried.rows if row.key is not None]
    classes = Counter(key.rpartition("/")[0] or key for key in known)
    problems = [FileProblem(row.source, row.reason or "") for row in tried.rows if row.is_problem]
    return StreamPlan(
        kind=source.kind,
        source=shown,
        output=worker.output.shown,
        tasks=len(source.items),
        bytes_in=size,
        bytes_out=round(size * tried.after / tried.before) if tried.before else size,
        seconds=seconds * size / tried.before / worker.config.threads if tried.before else 0.0,
        classes=dict(classes.most_common()),
        sampled=tried.pictures,
        settings=settings,
        problems=[*problems, *source.unread, *source.skipped][:MOST_PROBLEMS],
        warnings=worker.config.warnings(),
    )


def _try_pictures(worker: Worker) -> _Tried:
    tried = _Tried()
    for item in spread(worker.source.items, _TRIED):
        made = worker.make(item)
        tried.rows.append(made.row)
        tried.pictures += 1
        tried.before += item.size
        tried.after += item.size if made.data is None else len(made.data)
    return tried


def _try_shard(worker: Worker, item: Item) -> _Tried:
    tried = _Tried()
    try:
        with worker.source.store.open(item.name) as file:
            shard = worker.open_shard(file, item.name)
            for sample in shard.samples():
                outcome = worker.protect(shard, item.name, sample)
                tried.rows += outcome.rows
                for held in sample.pictures:
                    copy = (outcome.replaced or {}).get(held.name)
                    tried.pictures += 1
                    tried.before += len(held.data or b"")
                    tried.after += len(held.data or b"") if copy is None else len(copy.data)
                if tried.pictures >= _TRIED:
                    break
    except ImageError as error:
        tried.rows.append(plain_row(item.name, "failed", error.reason))
    except OSError as error:
        worker.source.store.check()
        tried.rows.append(plain_row(item.name, "failed", f"cannot be read: {error.strerror or error}"))
    return tried
