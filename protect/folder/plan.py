"""The dry run: what a run would do, how long it takes, how much memory, and how large OUT will be.

All of it is measured on a few pictures and costs little of the run: how many are looked at is a matter of their pixels,
and what is done to every pixel (adding, encoding, decoding again) is done to an excerpt of a large one. Photos grow
several times when they are written without loss, which people want to hear before hours of work.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from ...errors import ConfigError, FolderError, ImageError, ResumeError
from ...imaging.codec import decode, read_header
from ...imaging.decoders import PIXELS_IN_FLIGHT
from ...imaging.encoding import encode, output_name, resolve_output_names
from ...imaging.formats import format_of_file
from ...imaging.loading import FileProblem, load_image_set
from ...imaging.perturb import Budget, add_delta, measure_change
from ...imaging.picture import Picture
from ...imaging.scan import Entry, FolderScan
from ...imaging.visibility import measure_visibility
from ...records.manifest import image_key
from ...records.on_disk import Table
from ...records.places import sha256_file
from ...records.progress import ProgressCallback
from ...records.text import counted, spread
from ...records.text import size as in_words
from ...records.threads import ordered_map
from ..request import Request, WriteConfig
from ..request.places import existing_parent
from .session import Session

if TYPE_CHECKING:
    from ...imaging.image_set import ImageSet

_Item = TypeVar("_Item")

#: What a picture of the rehearsal gets, in 8-bit levels.
_Noise = Callable[[Picture, Entry], np.ndarray]

#: Bytes in SRC below which nobody minds how they grow, and the trial would take longer than the run.
WORTH_TELLING: Final = 50_000_000
#: Growth that is told.
_MUCH: Final = 1.8
#: Pictures that are tried for it.
_TRIED: Final = 3

#: Most pictures, and most pixels of them together, that are decoded to measure reading, and writing.
_READ_SAMPLE, _READ_PIXELS = 64, 200_000_000
_WRITE_SAMPLE, _WRITE_PIXELS = 12, 50_000_000
#: Side in px of an excerpt: squares from the middle of each part of a grid.
_EXCERPT: Final = 768
_EXCERPT_PARTS: Final = 3
#: Side in px of random noise: about as fine as a fitted one.
_NOISE_SIDE: Final = 64

#: Copies of a picture's pixels alive at once while it is written: before, protected, after, encoder, measuring.
_COPIES: Final = 6
#: Bytes of a value in the bank: int16. Saving takes as much again for the int8 copy and the bytes of the file, twice.
_BANK_BYTES: Final = 2


@dataclass(frozen=True)
class PlannedSeconds:
    """Estimated seconds of each stage."""

    read: float
    fit: float
    write: float

    @property
    def total(self) -> float:
        """All together."""
        return self.read + self.fit + self.write


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What :func:`protect_folder` would do.

    Attributes:
        source: SRC.
        output: OUT; nothing was written there.
        images: number of pictures.
        captions: caption files and label maps to be copied.
        skipped: files that are neither.
        by_class: pictures a class; empty in a flat folder.
        by_format: pictures a file format, by their first bytes.
        bytes_in: size of the pictures.
        bytes_out: estimated size of the protected pictures.
        settings: everything that decides about the result, resolved: method, granularity, epsilon, resolution, ...
        workers: threads.
        seconds: estimated from a measured sample.
        peak_bytes: estimated largest memory use.
        sampled: how many pictures were measured.
        problems: pictures of the sample that cannot be read.
        warnings: what the user should know.
        schedule: how long the surrogate is trained where that is bounded, for people; empty where nothing is to say.
    """

    source: Path
    output: Path
    images: int
    captions: int
    skipped: int
    by_class: dict[str, int]
    by_format: dict[str, int]
    bytes_in: int
    bytes_out: int
    settings: dict[str, Any]
    workers: int
    seconds: PlannedSeconds
    peak_bytes: int
    sampled: int
    problems: list[FileProblem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    schedule: str = ""

    @property
    def method(self) -> str:
        """Name of the method."""
        return str(self.settings["method"])

    @property
    def resolution(self) -> int | None:
        """Working resolution in pixels; ``None`` where the method has none."""
        found = self.settings["resolution"]
        return None if found is None else int(found)

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, for ``--json``."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "source": str(self.source),
            "output": str(self.output),
            "seconds": {
                **{k: round(v, 1) for k, v in asdict(self.seconds).items()},
                "total": round(self.seconds.total, 1),
            },
            "problems": [{"source": problem.relative, "reason": problem.reason} for problem in self.problems],
        }


_PLAIN = (
    "images",
    "captions",
    "skipped",
    "by_class",
    "by_format",
    "bytes_in",
    "bytes_out",
    "settings",
    "workers",
    "peak_bytes",
    "sampled",
    "warnings",
    "schedule",
)


def make_plan(
    request: Request, options: WriteConfig, output: Path, *, workers: int, progress: ProgressCallback
) -> Plan:
    """Measure a sample and extrapolate. Writes nothing.

    Args:
        request: what to fit, checked.
        options: how pictures are written.
        output: OUT.
        workers: threads.
        progress: told about the stages.

    Raises:
        FolderError: no picture of the sample can be read.
    """
    scan = request.scan
    total = len(scan.entries)
    progress("plan", 0, 3, "reading")
    if request.resolution is not None:
        dataset, readable, problems, read_each = _measure_reading(request, options, workers)
        progress("plan", 1, 3, "the first steps of the fit")
        estimate = request.method.estimate(dataset, total)
        seconds, peak, schedule = estimate.seconds, estimate.peak_bytes, estimate.schedule
        noise = _random_noise(request.resolution, request.method.budget)
        picked = _within(spread(readable, _WRITE_SAMPLE), _WRITE_PIXELS)
    else:
        picked = readable = _within(_pick(scan.entries, _WRITE_SAMPLE), _WRITE_PIXELS)
        problems, read_each = [], _measure_hashing(picked)
        (seconds, noise), peak, schedule = _measure_names(request), 0, ""
    progress("plan", 2, 3, "writing")
    rehearsal = _rehearse(picked, noise, request.method.budget, options, workers)
    if request.resolution is None:
        problems = rehearsal.problems
        if len(problems) == len(picked):
            raise _nothing_readable(scan, problems)
        readable = picked[len(problems) :]
    # As read, and once more in the order of the keys.
    set_bytes = 2 * total * 3 * (request.resolution or 0) ** 2
    rows = {"class": len(scan.classes), "cluster": min(total, 64)}.get(request.method.granularity, total)
    bank_bytes = rows * 3 * (request.resolution or 0) ** 2 * _BANK_BYTES
    in_flight = max(rehearsal.largest, min(workers * rehearsal.largest, 3 * PIXELS_IN_FLIGHT))
    bytes_out = round(scan.total_bytes * rehearsal.growth)
    return Plan(
        source=scan.root,
        output=output,
        images=total,
        captions=len(scan.captions) + len(scan.label_maps),
        skipped=len(scan.skipped),
        by_class=dict(Counter(entry.class_name for entry in scan.entries if entry.class_name is not None)),
        by_format=dict(Counter(format_of_file(entry.path) or "unknown" for entry in scan.entries).most_common()),
        bytes_in=scan.total_bytes,
        bytes_out=bytes_out,
        settings={**request.settings, **options.settings()},
        workers=workers,
        seconds=PlannedSeconds(read_each * total, seconds, rehearsal.seconds_each * total),
        peak_bytes=_memory_in_use()
        + max(
            set_bytes + peak + bank_bytes,  # while fitting
            set_bytes + bank_bytes * 3,  # while saving
            bank_bytes + in_flight * _COPIES,  # while writing
        ),
        sampled=len(readable) + len(problems),
        problems=problems,
        warnings=[*request.warnings, *_output_warnings(output, bytes_out)],
        schedule=schedule,
    )


def _pick(items: Sequence[Entry], count: int) -> list[Entry]:
    """At most ``count`` items in their order: the first of each class, be it ever so small, and the others spread."""
    firsts: dict[str | None, int] = {}
    for place, item in enumerate(items):
        firsts.setdefault(item.class_name, place)
    chosen = set(spread(list(firsts.values()), count))
    others = (place for place in range(len(items)) if place not in chosen)
    wanted = set(spread(range(len(items) - len(chosen)), count - len(chosen)))
    chosen |= {place for number, place in enumerate(others) if number in wanted}
    return [items[place] for place in sorted(chosen)]


def _within(items: Sequence[Entry], pixels: int) -> list[Entry]:
    """As many of the items, in their order, as have no more pixels together; one at least. They are taken from all
    over, so that a folder of large photos is met in all its parts. What cannot be read counts nothing."""
    left = pixels
    chosen = set()
    for number in _scattered(len(items)):
        try:
            header = read_header(items[number].path)
            needed = header.width * header.height
        except ImageError:
            needed = 0
        if needed > left and chosen:
            break
        chosen.add(number)
        left -= needed
    return [items[number] for number in sorted(chosen)]


def _scattered(count: int) -> Iterator[int]:
    """0..count - 1 in an order whose every beginning is spread over the whole: by bits, the last one first."""
    bits = max(1, (count - 1).bit_length())
    yield from (n for n in (int(f"{k:0{bits}b}"[::-1], 2) for k in range(1 << bits)) if n < count)


def _measure_reading(
    request: Request, options: WriteConfig, workers: int
) -> tuple[ImageSet, list[Entry], list[FileProblem], float]:
    """Read a sample: the set, its entries, what could not be read, and seconds a picture."""
    scan, feature_extractor = request.scan, request.feature_extractor()
    resolution = request.resolution
    assert resolution is not None

    def load(entries: Sequence[Entry], workers: int = 0) -> tuple[ImageSet, list[Entry], list[FileProblem]]:
        part = replace(scan, entries=tuple(entries))
        dataset, found, bad = load_image_set(
            part, resolution, workers=workers, max_pixels=options.max_pixels, describe=feature_extractor
        )
        if request.captions is not None and found:
            told = request.captions
            dataset = replace(dataset, captions=tuple(told[entry.relative] for entry in found))
        return dataset, found, bad

    sample = _within(_pick(scan.entries, _READ_SAMPLE), _READ_PIXELS)
    load(_within(sample, 0))  # so that imports and caches are not taken for reading speed
    started = time.perf_counter()
    dataset, readable, problems = load(sample, workers)
    seconds = time.perf_counter() - started
    if not readable:
        raise _nothing_readable(scan, problems)
    missing = request.method.needs == "labels" and len({entry.class_name for entry in readable}) < 2
    another = _readable_of_another_class(scan, sample, readable[0].class_name, load) if missing else None
    if another is not None:  # a method that needs two classes cannot be measured on one
        dataset, readable, _ = load([*readable, another])
    return dataset, readable, problems, seconds / len(sample)


def _nothing_readable(scan: FolderScan, problems: Sequence[FileProblem]) -> FolderError:
    return FolderError(
        f"None of {counted(len(problems), 'picture')} tried in {scan.root} could be read "
        f"({problems[0].relative}: {problems[0].reason})."
    )


def _measure_hashing(entries: Sequence[Entry]) -> float:
    """Seconds a picture where a method reads no pixel."""
    started = time.perf_counter()
    for entry in entries:
        with contextlib.suppress(OSError):
            sha256_file(entry.path)
    return (time.perf_counter() - started) / len(entries)


def _measure_names(request: Request) -> tuple[float, _Noise]:
    """What a fit from the names of the classes costs, and what it puts on a picture."""
    started = time.perf_counter()
    bank = request.method.fit_classes(request.scan.classes)
    seconds = time.perf_counter() - started

    def levels(picture: Picture, entry: Entry) -> np.ndarray:
        digest = hashlib.sha256(os.fsencode(entry.relative)).hexdigest()  # in the place of the content's
        return bank.levels_on(picture, image_key(entry.class_name, digest))

    return seconds, levels


def _random_noise(resolution: int, budget: Budget) -> _Noise:
    levels = _random_levels(resolution, budget)
    return lambda picture, entry: levels


def _random_levels(side: int, budget: Budget) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(-1, 1, (side, side, 3)) * budget.whole_levels
    return np.rint(noise).astype(np.float32)


def _readable_of_another_class(
    scan: FolderScan, tried: Sequence[Entry], known: str | None, load: Callable[[Sequence[Entry]], tuple[Any, ...]]
) -> Entry | None:
    """A picture that can be read, of another class than the one known; ``None`` where there is none."""
    names = {entry.relative for entry in tried}
    rest = (entry for entry in scan.entries if entry.class_name != known and entry.relative not in names)
    return next((entry for entry in rest if load([entry])[1]), None)


@dataclass(frozen=True)
class _Rehearsal:
    """What writing takes.

    Attributes:
        growth: bytes written for a byte read.
        seconds_each: of wall clock, for a picture of the folder.
        largest: bytes of the pixels of the largest picture met.
        problems: pictures that cannot be read.
    """

    growth: float
    seconds_each: float
    largest: int
    problems: list[FileProblem]


@dataclass(frozen=True)
class _Tried:
    before: int
    after: float
    seconds: float
    pixel_bytes: int


def _rehearse(entries: list[Entry], noise: _Noise, budget: Budget, options: WriteConfig, workers: int) -> _Rehearsal:
    """Do all that writing does, into memory; of large pictures, most of it to an excerpt."""
    problems: list[FileProblem] = []
    names = resolve_output_names(entries, options.format)

    def rehearse(entry: Entry) -> _Tried | None:
        clock = time.perf_counter
        try:
            begun = clock()
            whole = decode(entry.path, max_pixels=options.max_pixels, name=entry.relative)
            decoded = clock()
            before, times = _excerpt(whole)
            begun_part = clock()
            data = encode(add_delta(before, noise(before, entry), budget), format=names[entry.relative][1])
            after = decode(data, max_pixels=options.max_pixels)
            written = clock()
            measure_change(before, after)
            measure_visibility(before, after)
            # What is measured is a sample of a large picture, too.
            seconds = decoded - begun + times * (written - begun_part) + clock() - written
        except ImageError as error:
            problems.append(FileProblem(entry.relative, error.reason))
            return None
        except ConfigError:
            return None
        return _Tried(entry.size, times * len(data), seconds, whole.pixels.nbytes)

    done = [result for result in ordered_map(rehearse, entries, workers=workers) if result is not None]
    if not done:
        return _Rehearsal(1.0, 0.0, 0, problems)
    return _Rehearsal(
        growth=sum(item.after for item in done) / max(1, sum(item.before for item in done)),
        # Threads under way at once wait for each other, so that each is as slow as they are many.
        seconds_each=sum(item.seconds for item in done) / len(done) / min(workers, len(done)),
        largest=max(item.pixel_bytes for item in done),
        problems=problems,
    )


def _excerpt(picture: Picture) -> tuple[Picture, float]:
    """Some of a large picture's pixels, and how many times as many it has; the whole of a small one.

    They are the middles of the parts of a grid, put together: sky, ground and what is between, each with its grain.
    """
    rows, columns = _bands(picture.height), _bands(picture.width)
    if len(rows) == picture.height and len(columns) == picture.width:
        return picture, 1.0
    pixels = picture.pixels[rows][:, columns]
    part = picture.of_pixels(pixels)
    alpha = None if picture.alpha is None else picture.alpha[rows][:, columns]
    times = picture.height * picture.width / (len(rows) * len(columns))
    return replace(part, alpha=alpha, source=picture.source), times


def _bands(size: int) -> np.ndarray:
    if size <= _EXCERPT:
        return np.arange(size)
    band = _EXCERPT // _EXCERPT_PARTS
    starts = [((2 * i + 1) * size - _EXCERPT) // (2 * _EXCERPT_PARTS) for i in range(_EXCERPT_PARTS)]
    return np.concatenate([np.arange(start, start + band) for start in starts])


def _memory_in_use() -> int:
    """Largest resident memory of this process so far, in bytes; 0 where the system does not say."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _output_warnings(output: Path, bytes_out: int) -> list[str]:
    warnings = []
    free = shutil.disk_usage(existing_parent(output)).free
    if free < bytes_out * 1.05:
        warnings.append(
            f"The disk of {output} has {free / 1e9:.1f} GB free; about {bytes_out / 1e9:.1f} GB are needed."
        )
    if output.is_dir():
        try:
            session = Session.open(output, resume=True)
            if session.fresh:
                session.check_foreign()
            elif session.finished is not None:
                warnings.append(f"{output} holds a finished run.")
            else:
                warnings.append(f"{output} holds an unfinished run with {counted(len(session.log.rows), 'file')} done.")
        except ResumeError as error:
            warnings.append(str(error))
    return warnings


def foresee_growth(scan: FolderScan, output: Path, budget: Budget, options: WriteConfig) -> list[str]:
    """What people should know of the size of OUT; nothing where it is about that of SRC, or small.

    Excerpts of a few pictures are written into memory, with random noise.

    Args:
        scan: what lies in SRC.
        output: OUT.
        budget: how far pixels move.
        options: how pictures are written.
    """
    if scan.total_bytes < WORTH_TELLING:
        return []
    changing, grown = Table(place="INTEGER", encoder="TEXT"), 0
    for place, entry in enumerate(scan.entries):
        fmt = format_of_file(entry.path)
        encoder = output_name(entry.relative, fmt or "PNG", options.format)[1]
        if encoder != fmt:
            changing.append(place, encoder)
            grown += entry.size
    tried = [changing.row(number) for number in _middles(len(changing), min(_TRIED, len(changing)))]
    growth = _measure_growth([(scan.entries[place], encoder) for place, encoder in tried], budget, options)
    if growth is None:
        return []
    size = scan.total_bytes + (growth - 1) * grown
    told = []
    if size > _MUCH * scan.total_bytes:
        smaller = "" if options.format == "webp" else " --format webp is lossless, too, and smaller."
        told.append(
            f"The protected copies will take about {in_words(size)}, the originals take {in_words(scan.total_bytes)}: "
            f"{counted(len(changing), 'picture is', 'pictures are')} written without loss.{smaller}"
        )
    with contextlib.suppress(OSError):  # some disks do not say
        free = shutil.disk_usage(existing_parent(output)).free
        if free < size:
            told.append(f"The disk of {output} has {in_words(free)} free, and about {in_words(size)} are needed.")
    return told


def _measure_growth(entries: Iterable[tuple[Entry, str]], budget: Budget, options: WriteConfig) -> float | None:
    """Bytes written for a byte read, of pictures and their encoders; ``None`` where none of them can be read."""
    noise = _random_levels(_NOISE_SIDE, budget)
    before = after = 0.0
    for entry, encoder in entries:
        try:
            picture = decode(entry.path, max_pixels=options.max_pixels, name=entry.relative)
            part, times = _excerpt(picture)
            after += times * len(encode(add_delta(part, noise, budget), format=encoder))
            before += entry.size
        except (ImageError, ConfigError):
            continue
    return after / before if before else None


def _middles(total: int, count: int) -> list[int]:
    """The middle place of each of so many equal parts."""
    return [(2 * i + 1) * total // (2 * count) for i in range(count)]
