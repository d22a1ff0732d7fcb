"""Feed damaged files to everything in bitterant that reads one, and keep whatever breaks it.

    python benchmarks/fuzz.py --inputs 1000000 --seed 0 --out /tmp/fuzz-found

Inputs are worked on in a child process under limits. A failure is: the child dies; one input takes more than 5 seconds
of CPU, or more than 512 MiB above what the child had; an error that is none of ours (``errors.py``), or that hides a
slip in our own code; a picture that was written and reads back as another. The input is kept in OUT/failures, with what
happened beside it. The same command goes on where it stopped. Needs Linux.

``--guided TARGET`` lets atheris choose the inputs of one target by what code they reach (pip install atheris).
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import io
import json
import logging
import mmap
import os
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import fuzz_corpus as corpus
import numpy as np

from bitterant.errors import BitterantError, BudgetExceeded, ImageError
from bitterant.records.processes import giving_back

CPU_SECONDS: Final = 5.0
MEMORY_KIB: Final = 512 << 10
_ADDRESS_SPACE: Final = 3 << 30  # above what the child has: stops what would take the machine with it
_PER_CHILD: Final = 4000
_KEPT_A_KIND: Final = 3
#: Larger pictures are decoded, but not written again: encoders take long for good reason.
_WRITTEN_PIXELS: Final = 1 << 18


class Wrong(Exception):
    """A promise was broken without an error: what it is stands in the message."""


@dataclass(frozen=True)
class Target:
    """Something that reads files.

    Attributes:
        read: told the bytes and a folder to put them in; raises what the reader raises.
        sound: the files that are damaged.
        damage: how.
    """

    read: Callable[[bytes, Path], object]
    sound: tuple[bytes, ...]
    damage: corpus.Mutator


# ---------------------------------------------------------------------------------------------- what reads files
def read_picture(data: bytes, folder: Path) -> None:
    """What ``protect`` does with a file up to its pixels."""
    from bitterant.imaging.codec import decode, read_header
    from bitterant.imaging.formats import describe_unknown, sniff_format
    from bitterant.imaging.label_maps import find_label_maps

    if sniff_format(data[:32]) is None:
        describe_unknown(data[:32])
    path = folder / "labels" / "picture_mask.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    find_label_maps({"labels/picture_mask.png": path, "pictures/a.png": path})
    header = None
    with contextlib.suppress(BitterantError):
        header = read_header(path)
    picture = decode(path)
    if header is None or (header.width, header.height) != (picture.width, picture.height):
        raise Wrong(f"the header differs from the picture: {header}, {picture.width} x {picture.height}")


def write_picture(data: bytes, folder: Path) -> None:
    """The metadata of a damaged file, carried into every format, and read back."""
    from bitterant.imaging.codec import decode
    from bitterant.imaging.encoding import encode
    from bitterant.imaging.metadata import add_mark, apply_metadata_policy, has_mark

    before = decode(data)
    if before.width * before.height > _WRITTEN_PIXELS:
        return
    for policy in ("keep", "private", "strip"):
        metadata = apply_metadata_policy(before.metadata, policy)
        if zlib.crc32(data) & 1:
            metadata = add_mark(metadata, "no-ai")
        meant = type(before)(
            before.pixels, before.alpha, bit_depth=before.bit_depth, metadata=metadata, white=before.white
        )
        for fmt in ("PNG", "WEBP", "TIFF", "BMP", "PPM", "JPEG"):
            try:
                written = encode(meant, format=fmt)
            except BitterantError:
                continue  # this format does not hold such a picture
            try:
                after = decode(written)
            except BitterantError as error:
                raise Wrong(f"its copy as {fmt} under {policy} cannot be read: {error}") from error
            if fmt != "JPEG" and not np.array_equal(np.broadcast_to(before.pixels, after.pixels.shape), after.pixels):
                raise Wrong(f"its copy as {fmt} under {policy} has other pixels")
            if zlib.crc32(data) & 1 and fmt in ("PNG", "WEBP", "TIFF") and not has_mark(after.metadata, "no-ai"):
                raise Wrong(f"its copy as {fmt} under {policy} lost the mark")


def read_exif(data: bytes, folder: Path) -> None:
    """An EXIF block, taken apart and put together again."""
    from bitterant.imaging.exif import Directory, build_exif, parse_exif

    def content(directory: Directory | None) -> dict[int, object]:
        if directory is None:
            return {}
        below = {number: content(child) for number, child in directory.children.items()}
        tags = {number: (tag.kind, tag.count, tag.data) for number, tag in directory.tags.items()}
        return {**tags, **{number: found for number, found in below.items() if found}}

    directory = parse_exif(data)
    built = None if directory is None else build_exif(directory)
    if built is not None and content(parse_exif(built)) != content(directory):
        raise Wrong("an EXIF block that was put together reads back as another")


def read_xmp(data: bytes, folder: Path) -> None:
    """An XMP packet: cleaned, cut down to its rights, and marked."""
    from bitterant.imaging.xmp import clean_xmp, forbid_training, forbids_training, keep_rights, xmp_orientation

    xmp_orientation(data)
    cleaned = clean_xmp(data)
    keep_rights(cleaned)
    if xmp_orientation(cleaned) is not None:
        raise Wrong("a cleaned packet still gives an orientation")
    if not forbids_training(forbid_training(cleaned)):
        raise Wrong("a marked packet does not bear the mark")


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    def call(data: bytes, folder: Path) -> object:
        path = folder / name
        path.write_bytes(data)
        return read(path)

    return call


def _read_bank(path: Path) -> None:
    from bitterant.protect import load_bank

    bank = load_bank(path)
    bank.digest()
    keys: list[str] = list(getattr(bank, "keys", None) or bank.classes)  # type: ignore[union-attr]
    picture = np.full((24, 32, 3), 120, np.uint8)
    found = bank.apply(picture, bank.key_for(f"{keys[0]}/{'0' * 64}") or keys[0])
    if np.abs(found.astype(int) - 120).max() > bank.budget.levels + 1e-6:
        raise Wrong("a bank that was read breaks its budget")


def _read_bundle(path: Path) -> None:
    from bitterant.protect.zero_contact import NoiseBundle

    bundle = NoiseBundle.load(path)
    levels = [bundle.levels_of(name) for name in bundle.tensor_of]
    if max(float(np.abs(level).max()) for level in levels) > bundle.info.epsilon_levels + 1e-6:
        raise Wrong("a bundle that was read breaks its bound")
    bundle.verify(max_epsilon=16)


def _read_request(data: bytes, folder: Path) -> None:
    from bitterant.protect.zero_contact import NoiseRequest

    request = NoiseRequest.from_bytes(data)
    if NoiseRequest.from_bytes(request.to_bytes()) != request:
        raise Wrong("a request that was written reads back as another")


def _read_map(path: Path) -> None:
    from bitterant.protect.zero_contact import RequestMap

    RequestMap.read(path).to_bytes()


def _read_manifest(path: Path) -> None:
    from bitterant.protect.folder.tally import Figures
    from bitterant.records.manifest import count_statuses, read_manifest

    rows = read_manifest(path).rows
    count_statuses(rows)
    figures = Figures()
    for number, row in enumerate(rows):
        figures.add(number, row)
        row.to_line()
    figures.ranked()
    figures.stealth()


def _read_state(path: Path) -> None:
    from bitterant.records.run_file import read_run_file
    from bitterant.records.run_state import Journal, RunState, explain_settings, plan_hash

    Journal(path).read()
    with contextlib.suppress(BitterantError):
        run_file = read_run_file(path)
        if run_file is not None:
            run_file.to_bytes()
    state = RunState.read(path)
    if state is not None:
        plan_hash(state.settings, state.inputs)
        explain_settings(state.settings, {"epsilon": 0.1})


def _read_report(path: Path) -> None:
    from bitterant.attacks.report.compare import compare_reports, render_comparison

    render_comparison(compare_reports([path, path]))


def _table(name: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> None:
        from bitterant.imaging.captions import PictureNames, read_table
        from bitterant.imaging.tables import visit_names

        path = folder / name
        path.write_bytes(data)
        read_table(path, "", PictureNames(["a.png", "b/c.png"]), None)
        visit_names(name, data, lambda row, value: value)
        changed = visit_names(name, data, lambda row, value: f"{value}.png")
        seen: list[str] = []
        visit_names(name, changed, lambda row, value: seen.append(value) or value)  # type: ignore[func-returns-value]
        if not all(value.endswith(".png") for value in seen):
            raise Wrong("a table that was written reads back with other names")

    return read


def _read_captions(path: Path) -> None:
    from bitterant.imaging.captions import PictureNames, read_class_names, read_coco, read_sidecar

    for read in (read_sidecar, read_class_names, lambda path: read_coco(path, PictureNames(["a.png", "b/a.png"]))):
        with contextlib.suppress(BitterantError):
            read(path)


def _read_config(path: Path) -> None:
    import typer

    from bitterant.cli.app import app

    group = typer.main.get_command(app)
    for command in ("protect", "verify"):
        try:
            found = group.commands[command]  # type: ignore[attr-defined]
            found.make_context(command, ["SRC", "OUT", "--config", str(path)])
        except Exception as error:
            if not hasattr(error, "format_message"):  # click's own, or its copy in typer
                raise
            error.format_message()  # type: ignore[attr-defined]


# ---------------------------------------------------------------------------------------------- sound files
def _banks(folder: Path) -> tuple[bytes, ...]:
    import torch

    from bitterant.imaging import Budget
    from bitterant.protect import TextureBank
    from bitterant.protect.bank import Bank
    from bitterant.protect.cluster_index import ClusterIndex

    levels = torch.arange(2 * 3 * 4 * 4).reshape(2, 3, 4, 4).remainder(9).to(torch.int16)
    index = ClusterIndex(np.ones((2, 3), np.float32), 8).knowing(["cats/" + "0" * 64], [1])
    made = [
        Bank("emn", "class", Budget(8 / 255), levels, ("cats", "dogs")),
        Bank("uc", "cluster", Budget(8 / 255), levels, ("cluster-0", "cluster-1"), "resnet18", "0" * 64, 3, {}, index),
        TextureBank.of_classes(("cats", "dogs", "emus"), bytes(range(16))),
    ]
    for number, bank in enumerate(made):
        bank.save(folder / f"{number}.bank")
    return tuple((folder / f"{number}.bank").read_bytes() for number in range(len(made)))


def _bundles(folder: Path) -> tuple[bytes, ...]:
    from bitterant.protect.zero_contact.bundle import BundleInfo, TensorPlan, write_bundle

    made = []
    kinds: tuple[tuple[Any, str, dict[str, str]], ...] = (
        ("native", "c/cats", {"0" * 16: "cats"}), ("final", f"d/{'1' * 16}", {}),
    )  # fmt: skip
    for stage, name, shared in kinds:
        info = BundleInfo(
            stage=stage, epsilon_levels=8, native_size=8, generator_id="g", generator_sha256="0" * 64,
            text_encoder="t", text_norm="n", z_mode="class", prompt_mode="fixed", resize="stretch", count=1,
            prompts_sha256="0" * 64,
        )  # fmt: skip
        path = folder / f"{stage}.noise.safetensors"
        write_bundle(path, info, [TensorPlan(name, 8, 8)], [np.full((3, 8, 8), 4.0, np.float32)], shared)
        made.append(path.read_bytes())
    return tuple(made)


def _parquet() -> bytes:
    import pyarrow
    from pyarrow import parquet

    buffer = io.BytesIO()
    columns = {"file_name": ["a.png", "b/c.png"], "text": ["a cat", None], "other_file_names": [["a.png"], []]}
    parquet.write_table(pyarrow.table(columns), buffer)
    return buffer.getvalue()


def _written(state: Any) -> bytes:
    """The state of a run, as it lies on the disk."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "plan"
        state.write(path, overwrite=False)
        return path.read_bytes()


def _texts() -> dict[str, tuple[bytes, ...]]:
    from bitterant.attacks.schema import RULE_VERSION, SCHEMA_VERSION
    from bitterant.protect.zero_contact.request import MappedPicture, RequestMap
    from bitterant.records.manifest import ManifestRow
    from bitterant.records.run_file import RunFile, Stealth, Timing
    from bitterant.records.run_state import InputRecord, RunState

    digest = "0" * 64
    row = ManifestRow("a/1.jpg", "a/1.png", digest, digest, "protected", None, 3, 2, "RGB", "PNG", 8, 33.1, 0.98, 1, 2)
    failed = ManifestRow("a/2.jpg", None, None, None, "failed", "damaged: \u2028")
    settings: dict[str, Any] = {"epsilon": 8 / 255, "method": "emn", "parameters": {"steps": 3}}
    state = RunState(settings, (InputRecord("a/1.jpg", "image", digest, "a"),), {"torch": "2"}, {"bank": digest})
    run = RunFile(
        command="protect", plan=digest, settings=settings, seed=0, versions={}, counts={"protected": 1}, over_budget=0,
        stealth=Stealth(), timing=Timing(total=1),
    )  # fmt: skip
    asked = RequestMap({"0" * 16: MappedPicture("a/1.jpg", digest, 3, 2, "class")}, digest)
    report = {"schema_version": SCHEMA_VERSION, "plan": {"rule": {"version": RULE_VERSION}}}

    lines = [{"id": f"{n:016x}", "prompt": "a cat", "class_id": 1, "z_seed": 2, "w": 3, "h": 2} for n in range(3)]
    return {
        "manifest": (row.to_line() * 2 + failed.to_line(),),
        "state": (_written(state), run.to_bytes(), json.dumps(["a/1.png", digest]).encode()),
        "map": (asked.to_bytes(),),
        "request": ("\n".join(json.dumps(line) for line in lines).encode(),),
        "report": (json.dumps(report).encode(),),
    }


_CSV: Final = ('file_name,text\na.png,"a cat, sitting"\nb/c.png,"[""x""]"\n', "\ufefffile_name;text\r\na.png;a\r\n")
_JSONL: Final = '{"file_name": "a.png", "text": "a cat"}\n{"file_names": ["a.png", "b/c.png"], "text": ["x", "y"]}\n'
_COCO: Final = '{"images": [{"id": 1, "file_name": "a.png"}], "annotations": [{"image_id": 1, "caption": "a cat"}]}'
_TOML: Final = (
    '[protect]\nmethod = "emn"\nepsilon = 8\nseed = 3\nformat = "webp"\nstrict = true\nmax-pixels = 1000\n'
    '[protect.parameters]\n[verify]\nadversary = ["jpeg:10", "mix:0.5"]\nseeds = 3\nepsilon = 8.5\n'
)


def make_targets(more: Path | None = None) -> dict[str, Target]:
    """Everything that reads files, with sound files for each.

    Args:
        more: a folder of further sound files, in one folder a target: ``more/report/any-name``.
    """
    with tempfile.TemporaryDirectory() as place:
        banks, bundles = _banks(Path(place)), _bundles(Path(place))
    pictures, texts = tuple(corpus.pictures().values()), _texts()
    exif = (
        corpus.exif_block(),
        corpus.exif_block()[6:],
        b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    )
    tables = {"csv": tuple(text.encode() for text in _CSV), "jsonl": (_JSONL.encode(),), "parquet": (_parquet(),)}
    edit = {"csv": corpus.damage_text, "jsonl": corpus.damage_lines, "parquet": corpus.damage_bytes}
    names = (b"0 cats\n1 dogs, hounds\n", b'{"a": "cats"}', b'["cats"]', b"a caption\n")
    targets = {
        "picture": Target(read_picture, pictures, corpus.damage_picture),
        "metadata": Target(write_picture, pictures, corpus.damage_picture),
        "exif": Target(read_exif, exif, lambda rng, data, others: corpus.damage_picture(rng, data, others)),
        "xmp": Target(read_xmp, (corpus.XMP,), corpus.damage_text),
        "bank": Target(_in_file("bank", _read_bank), banks, corpus.damage_tensors),
        "bundle": Target(_in_file("x.noise.safetensors", _read_bundle), bundles, corpus.damage_tensors),
        "request": Target(_read_request, texts["request"], corpus.damage_lines),
        "map": Target(_in_file("map.json", _read_map), texts["map"], corpus.damage_json),
        "manifest": Target(_in_file("manifest.jsonl", _read_manifest), texts["manifest"], corpus.damage_lines),
        "state": Target(_in_file("state.json", _read_state), texts["state"], corpus.damage_json),
        "report": Target(_in_file("report.json", _read_report), texts["report"], corpus.damage_json),
        "captions": Target(_in_file("names.json", _read_captions), (*names, _COCO.encode()), corpus.damage_json),
        "config": Target(_in_file("config.toml", _read_config), (_TOML.encode(),), corpus.damage_text),
        **{
            f"table-{kind}": Target(_table(f"metadata.{kind}"), sound, edit[kind]) for kind, sound in tables.items()
        },
    }  # fmt: skip
    for name, target in targets.items():
        found = sorted((more / name).iterdir()) if more is not None and (more / name).is_dir() else []
        if found:
            sound = tuple(path.read_bytes() for path in found)
            targets[name] = Target(target.read, (*target.sound, *sound), target.damage)
    return targets


#: Share of the inputs that each target gets, where it is not 1.
WEIGHTS: Final = {"picture": 8, "metadata": 4, "bank": 2, "bundle": 2, "xmp": 2}


def make_input(targets: Mapping[str, Target], seed: int, number: int) -> tuple[str, bytes]:
    """The damaged file of this number, and the name of its target. Nothing else decides."""
    rng = random.Random(f"{seed}/{number}")
    names = list(targets)
    name = rng.choices(names, [WEIGHTS.get(name, 1) for name in names])[0]
    target = targets[name]
    data = rng.choice(target.sound)
    for _ in range(rng.choice((1, 1, 1, 2))):
        data = target.damage(rng, data, target.sound)
    return name, data


# ---------------------------------------------------------------------------------------------- one input, under limits
def judge(target: Target, data: bytes, folder: Path) -> tuple[str, str] | None:
    """What a reader did wrong with some bytes: its kind in a few words, and all there is to know; else ``None``."""
    try:
        target.read(data, folder)
    except BudgetExceeded as error:
        return f"BudgetExceeded at {_place(error)}", _trace(error)
    except BitterantError as error:
        slip = _slip(error) if isinstance(error, ImageError) else None  # other readers catch such on purpose
        return None if slip is None else (f"hidden {type(slip).__name__} at {_place(slip)}", _trace(error))
    except Wrong as error:
        return f"Wrong: {str(error).partition(':')[0]:.80}", _trace(error)
    except Exception as error:
        return f"{type(error).__name__} at {_place(error)}", _trace(error)
    return None


def _slip(error: BaseException) -> BaseException | None:
    """A mistake of our own code that one of our errors was made of: damaged files raise other things there."""
    cause = error.__cause__
    while cause is not None:
        slip = isinstance(cause, TypeError | AttributeError | NameError | AssertionError)
        if slip and not _is_foreign(traceback.extract_tb(cause.__traceback__)[-1].filename):
            return cause
        cause = cause.__cause__
    return None


def _is_foreign(filename: str) -> bool:
    """Whether a file belongs to Python or to a package of others."""
    return any(part in filename for part in ("site-packages", "dist-packages", f"{os.sep}lib{os.sep}python", "<frozen"))


def _place(error: BaseException) -> str:
    """The line of ours in which an error came up."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not _is_foreign(frame.filename) and Path(frame.filename).name != "fuzz.py"]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.name}"


def _trace(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-12:])


@dataclass
class Progress:
    """How far a run is.

    Attributes:
        seed: of the inputs.
        done: inputs worked on.
        by_target: of each target.
        failures: how often each kind came up.
        seconds: of CPU, all inputs together.
        slowest: CPU seconds and number of the input that took longest.
    """

    seed: int
    done: int = 0
    by_target: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    slowest: tuple[float, int] = (0.0, -1)


def work(targets: Mapping[str, Target], seed: int, numbers: range, shared: mmap.mmap, tell: int, trace: int) -> None:
    """Read inputs one after another, in a process of its own. Never returns.

    Args:
        targets: see :func:`make_targets`.
        seed: see :func:`make_input`.
        numbers: which inputs.
        shared: told the number of the one that is worked on.
        tell: a descriptor that failures and counts are written to, as lines of JSON.
        trace: a descriptor for what a fatal signal interrupted.
    """
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + _ADDRESS_SPACE
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libtiff talks to it
    faulthandler.enable(trace)
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    faulthandler.register(signal.SIGPROF, trace, all_threads=False, chain=True)
    counts: Counter[str] = Counter()
    number = numbers.start
    slowest = (0.0, -1)
    with (
        tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as place,
        os.fdopen(tell, "w", encoding="utf-8") as out,
        giving_back(),  # what the parent freed and kept would hide as much that an input takes
    ):
        folder = Path(place)
        # A fork begins with its parent's peak, below which nothing would be seen to grow.
        Path("/proc/self/clear_refs").write_text("5")
        base = _peak_kib()
        begun = time.process_time()
        for number in numbers:
            struct.pack_into("<q", shared, 0, number)
            name, data = make_input(targets, seed, number)
            before = time.process_time()
            signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
            found = judge(targets[name], data, folder)
            signal.setitimer(signal.ITIMER_PROF, 0)
            slowest = max(slowest, (round(time.process_time() - before, 3), number))
            counts[name] += 1
            grown = _peak_kib() - base
            if found is None and grown > MEMORY_KIB:
                found = f"memory in {name}", f"{grown >> 10} MiB"
            if found is not None:
                print(json.dumps({"number": number, "kind": found[0], "text": found[1]}), file=out, flush=True)
            if grown > MEMORY_KIB:
                break
        end = {"counts": counts, "slowest": slowest, "seconds": time.process_time() - begun, "next": number + 1}
        print(json.dumps(end), file=out, flush=True)
    os._exit(0)


def _peak_kib() -> int:
    """The most memory that this process has held since its peak was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def _child(targets: Mapping[str, Target], seed: int, numbers: range) -> Iterator[dict[str, Any]]:
    """Messages of one child; the last one says how far it came, even where it died."""
    shared = mmap.mmap(-1, 8)
    struct.pack_into("<q", shared, 0, numbers.start)
    ears, mouth = os.pipe()
    with tempfile.TemporaryFile() as trace:
        child = os.fork()
        if child == 0:
            try:
                os.close(ears)
                work(targets, seed, numbers, shared, mouth, trace.fileno())
            finally:
                os._exit(70)
        os.close(mouth)
        ended = False
        try:
            with os.fdopen(ears, encoding="utf-8") as lines:
                for line in lines:
                    message = json.loads(line)
                    ended = "next" in message
                    yield message
        except BaseException:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if not ended:
            (number,) = struct.unpack_from("<q", shared, 0)
            trace.seek(0)
            text = trace.read().decode("utf-8", "replace")
            kind = f"more than {CPU_SECONDS:g} s" if code == -signal.SIGPROF else f"died with {code}"
            name = make_input(targets, seed, number)[0]
            yield {"number": number, "kind": f"{kind} in {name}", "text": text}
            counts = Counter(make_input(targets, seed, done)[0] for done in range(numbers.start, number + 1))
            yield {"counts": counts, "slowest": (0, -1), "seconds": 0, "next": number + 1}


def warm_up(targets: Mapping[str, Target]) -> None:
    """Load what the targets need, so that no child has to."""
    with tempfile.TemporaryDirectory() as folder:
        for target in targets.values():
            judge(target, target.sound[0], Path(folder))


def run(
    targets: Mapping[str, Target], inputs: int, seed: int, out: Path, *, say: Callable[[str], object] = print
) -> Progress:
    """Work on inputs up to this number, and go on where an earlier run with the same seed and OUT stopped."""
    (out / "failures").mkdir(parents=True, exist_ok=True)
    place = out / f"progress-{seed}.json"
    progress = Progress(**json.loads(place.read_text())) if place.exists() else Progress(seed)
    warm_up(targets)
    told = time.monotonic()
    while progress.done < inputs:
        numbers = range(progress.done, min(inputs, progress.done + _PER_CHILD))
        for message in _child(targets, seed, numbers):
            if "next" not in message:
                _keep(targets, seed, message, progress, out, say)
                continue
            progress.done = message["next"]
            progress.by_target = dict(Counter(progress.by_target) + Counter(message["counts"]))
            progress.seconds += message["seconds"]
            progress.slowest = max(tuple(progress.slowest), tuple(message["slowest"]))
        fresh = place.with_suffix(".new")
        fresh.write_text(json.dumps(asdict(progress)))
        fresh.replace(place)
        if time.monotonic() - told > 60:
            told = time.monotonic()
            say(f"{progress.done} inputs, {sum(progress.failures.values())} failures, {progress.seconds:.0f} s of CPU")
    return progress


def _keep(
    targets: Mapping[str, Target], seed: int, message: Mapping[str, Any], progress: Progress, out: Path,
    say: Callable[[str], object],
) -> None:  # fmt: skip
    kind = message["kind"]
    progress.failures[kind] = progress.failures.get(kind, 0) + 1
    if progress.failures[kind] > _KEPT_A_KIND:
        return
    name, data = make_input(targets, seed, message["number"])
    stem = out / "failures" / f"{name}-{seed}-{message['number']}"
    stem.with_suffix(".bin").write_bytes(data)
    stem.with_suffix(".txt").write_text(f"{kind}\n{message['text']}", encoding="utf-8", errors="backslashreplace")
    say(f"FAILURE {kind}: {stem}.bin")


def table(progress: Progress) -> str:
    """What a run came to."""
    rows = [f"| {name} | {count} |" for name, count in sorted(progress.by_target.items())]
    kinds = [f"| {kind} | {count} |" for kind, count in sorted(progress.failures.items())] or ["| none | 0 |"]
    slowest = f"slowest {progress.slowest[0]:.2f} s (input {progress.slowest[1]})"
    end = f"{progress.done} inputs, seed {progress.seed}, {progress.seconds:.0f} s of CPU, {slowest}"
    return "\n".join(
        ["| target | inputs |", "|---|---|", *rows, "", "| failure | times |", "|---|---|", *kinds, "", end]
    )


def guided(name: str, more: Path | None, words: list[str]) -> None:
    """Let atheris look for inputs of one target. Never returns; ``words`` are libFuzzer's own options."""
    try:
        atheris: Any = importlib.import_module("atheris")
    except ImportError:
        raise SystemExit("--guided needs atheris: pip install atheris") from None
    with atheris.instrument_imports(include=["bitterant"]):
        for module in ("imaging.codec", "imaging.encoding", "imaging.xmp", "protect.zero_contact", "records.manifest"):
            importlib.import_module(f"bitterant.{module}")
    target = make_targets(more)[name]
    folder = Path(tempfile.mkdtemp(prefix="bitterant-fuzz-"))
    seeds = folder / "corpus"
    seeds.mkdir()
    for number, data in enumerate(target.sound):
        (seeds / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        found = judge(target, data, folder)
        if found is not None:
            raise Wrong("\n".join(found))

    atheris.Setup([sys.argv[0], f"-timeout={CPU_SECONDS:.0f}", "-rss_limit_mb=2048", *words, str(seeds)], one)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz-found"), help="progress and failures")
    parser.add_argument("--more", type=Path, help="further sound files, in one folder a target")
    parser.add_argument("--only", help="names of targets, with commas between them")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="read one input here, with its traceback")
    parser.add_argument("--guided", metavar="TARGET", help="let atheris choose the inputs")
    parser.add_argument("words", nargs="*", help="libFuzzer's options with --guided, after --")
    args = parser.parse_args()
    if args.guided:
        guided(args.guided, args.more, args.words)
    targets = make_targets(args.more)
    if args.only:
        targets = {name: targets[name] for name in args.only.split(",")}
    if args.show is not None:
        name, data = make_input(targets, args.seed, args.show)
        with tempfile.TemporaryDirectory() as place:
            print(name, len(data), judge(targets[name], data, Path(place)) or "no failure")
        return
    progress = run(targets, args.inputs, args.seed, args.out, say=lambda text: print(text, flush=True))
    print(table(progress))
    raise SystemExit(1 if progress.failures else 0)


if __name__ == "__main__":
    main()
