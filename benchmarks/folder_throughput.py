"""Photos a second of a run over a folder whose noise is there already, against Pillow's decoding and encoding alone.

Both sides use the same number of threads and the same files, in one run. Pillow reads a file, decodes it and saves it
as PNG with its defaults; a second line gives Pillow at the compression level of the copies. ``apply_folder`` also
hashes, adds the noise, writes each file whole and synced, reads it back, compares every value with the budget, and
measures how visible the change is. The dry run is timed beside them. Each run has a process of its own, so that its
largest resident memory is its own, with that of the processes that decode large files; what the imports alone take is
printed, too. ``--memory-only`` leaves out what is done to pixels, so that what a hundred thousand files cost in memory
is known in minutes.

    python benchmarks/folder_throughput.py --small 100 1000 10000 --photos 30
    python benchmarks/folder_throughput.py --small --photos 4 --method noise --workers 2
    python benchmarks/folder_throughput.py --small 1000 10000 100000 --photos 0 --memory-only
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from process_tree import cpu_seconds, watching

PARTS = ("nothing", "pillow", "pillow-level", "apply", "dry-run")
MEMORY_PARTS = ("nothing", "apply-without-pixels")
#: Of the PNG encoder of the copies.
LEVEL = 4


@dataclass(frozen=True)
class Folder:
    """Pictures of one size in two classes."""

    name: str
    count: int
    width: int
    height: int
    suffix: str


def draw(seed: int, width: int, height: int) -> Image.Image:
    """Something like a photo: shapes of all sizes, and the noise of a sensor."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), np.float32)
    for step in (max(2, width // 15), max(2, width // 60), 6):
        coarse = rng.integers(0, 256, (height // step + 2, width // step + 2, 3), dtype=np.uint8)
        total += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.float32)
    grain = rng.standard_normal((height, width, 1), dtype=np.float32) * 2
    return Image.fromarray(np.clip(total / 3 + grain, 0, 255).astype(np.uint8))


def make(folder: Folder, root: Path) -> Path:
    """The pictures on disk; photos are a few, written again and again with another comment each."""
    place = root / folder.name
    if place.exists():
        return place
    drawn = [
        draw(seed, folder.width, folder.height) for seed in range(min(folder.count, 3 if folder.width > 999 else 50))
    ]
    for index in range(folder.count):
        target = place / f"class{index % 2}" / f"{index:05}.{folder.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = drawn[index % len(drawn)]
        if folder.suffix == "jpg":
            picture.save(target, quality=92, comment=str(index).encode())
        else:
            pixels = np.array(picture)
            pixels[0, 0] = index % 256, index // 256 % 256, 128
            Image.fromarray(pixels).save(target)
    return place


def files_in(source: Path) -> Iterator[Path]:
    yield from sorted(path for path in source.rglob("*") if path.is_file())


def pillow(source: Path, workers: int, **options: Any) -> None:
    def one(path: Path) -> None:
        with Image.open(path) as picture:
            picture.load()
            picture.save(io.BytesIO(), "PNG", **options)

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(one, files_in(source)):
            pass


def part(name: str, source: Path, work: Path, method: str, workers: int) -> None:
    """One part, timed; one JSON object on stdout."""
    from bitterant.protect import apply_folder, protect_folder
    from bitterant.records.processes import tune_allocator

    tune_allocator()
    output = work / "out"
    shutil.rmtree(output, ignore_errors=True)
    begun, used = time.perf_counter(), cpu_seconds()
    with watching(os.getpid()) as seen:
        if name == "pillow":
            pillow(source, workers)
        elif name == "pillow-level":
            pillow(source, workers, compress_level=LEVEL)
        elif name == "apply":
            apply_folder(source, output, bank=work / "bank", workers=workers)
        elif name == "apply-without-pixels":
            without_pixels()
            apply_folder(source, output, bank=work / "bank", workers=workers)
        elif name == "dry-run":
            protect_folder(source, output, method=method, device="cpu", workers=workers, dry_run=True)
    seconds = time.perf_counter() - begun
    gc.collect()  # ends the processes that decoded photos, whose time counts only then
    peak = max(seen.peak, peak_bytes())
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds() - used, "peak": peak}))


def peak_bytes() -> int:
    """Largest resident memory of this process. What ``getrusage`` says is never less than what its parent had."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:  # not Linux
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak * (1 if sys.platform == "darwin" else 1024)
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))


def without_pixels() -> None:
    """Let a run note rows as ever, and write no picture; the report has none to show."""
    from bitterant.protect.folder import run, writing
    from bitterant.records.manifest import ManifestRow

    def row(writer: Any, job: Any, attempt: Any = None) -> ManifestRow:
        seen = int(job.record.sha256[:4], 16) / 65536
        return ManifestRow(
            job.record.relative, job.output, job.record.sha256, job.record.sha256, "protected", None, 32, 32, "RGB",
            "PNG", 8.0, round(34 + seen, 3), round(0.9 + seen / 20, 5), round(1 + seen, 3), round(2 + seen, 3),
            round(seen, 3), round(seen, 3), None, None, job.record.key, 0.001,
        )  # fmt: skip

    writing.FileWriter.__call__ = row  # type: ignore[method-assign]
    run.write_report = lambda *args, **options: None  # type: ignore[assignment]


def measure_memory(folder: Folder, work: Path, workers: int) -> None:
    """Largest resident memory alone, of a run that does nothing to pixels."""
    from bitterant.protect import TextureBank

    source = make_links(folder, work)
    (work / "bank").unlink(missing_ok=True)
    TextureBank.of_classes(["class0", "class1"], bytes(range(16))).save(work / "bank")
    found = {name: run_part(name, source, work, "texture", workers) for name in MEMORY_PARTS}
    peaks = [found[name]["peak"] / 2**20 for name in MEMORY_PARTS]
    print(f"{folder.count} files: {peaks[1]:.1f} MiB, the imports {peaks[0]:.1f} MiB", flush=True)


def make_links(folder: Folder, root: Path) -> Path:
    """Many names of few files: what is done to pixels does not matter."""
    place = root / f"links-{folder.count}"
    if place.exists():
        return place
    for index in range(folder.count):
        first = place / f"class{index % 2}" / f"{index - index % 10000 + index % 2:06}.png"
        target = first.with_name(f"{index:06}.png")
        if target == first:
            first.parent.mkdir(parents=True, exist_ok=True)
            draw(index, folder.width, folder.height).save(first)
        else:
            os.link(first, target)
    return place


def run_part(name: str, source: Path, work: Path, method: str, workers: int) -> dict[str, float]:
    """One part in a process of its own."""
    words = [sys.executable, __file__, "--part", name, "--source", str(source), "--work", str(work)]
    words += ["--method", method, "--workers", str(workers)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Folder, work: Path, method: str, workers: int) -> None:
    """All parts of one folder, each in its own process."""
    from bitterant.protect import fit_folder

    source = make(folder, work)
    (work / "bank").unlink(missing_ok=True)
    fit_folder(source, work / "bank", method=method, device="cpu", workers=workers)
    found = {name: run_part(name, source, work, method, workers) for name in PARTS}
    base, run = found["pillow"], found["apply"]
    size = f"{folder.width} x {folder.height} {folder.suffix}"
    for name in PARTS[1:]:
        row = found[name]
        speed = folder.count / row["seconds"] if name != "dry-run" else 0.0
        pace = "" if not speed else f"{speed:.1f} a second" if speed >= 1 else f"{1 / speed:.1f} s each"
        share = row["seconds"] / run["seconds"] if name == "dry-run" else base["seconds"] / row["seconds"]
        share_cpu = row["cpu"] / run["cpu"] if name == "dry-run" else base["cpu"] / row["cpu"]
        print(
            f"| {folder.count} of {size} | {name} | {row['seconds']:.1f} | {row['cpu']:.1f} | {pace} | "
            f"{share:.2f} | {share_cpu:.2f} | {row['peak'] / 2**20:.0f} ({found['nothing']['peak'] / 2**20:.0f}) |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", type=int, nargs="*", default=[100, 1000, 10000], help="numbers of files of 32 px")
    parser.add_argument("--photos", type=int, default=6, help="number of photos of 24 megapixels")
    parser.add_argument("--side", type=int, default=6000, help="width of a photo in px; its height is two thirds")
    parser.add_argument("--method", default="texture")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("build/folder-throughput"))
    parser.add_argument("--memory-only", action="store_true", help="nothing is done to pixels")
    parser.add_argument("--part", choices=(*PARTS, *MEMORY_PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part(args.part, args.source, args.work, args.method, args.workers)
        return
    args.work.mkdir(parents=True, exist_ok=True)
    if args.memory_only:
        for count in args.small:
            measure_memory(Folder(f"small-{count}", count, 32, 32, "png"), args.work, args.workers)
        return
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{args.method}, {args.workers} threads, {os.cpu_count()} cores, load {load} before the run.")
    print("Ratios: of Pillow's time to the part's (the larger, the faster); of the dry run's to the whole run's.\n")
    print("| folder | part | seconds | CPU seconds | pace | ratio | ratio of CPU | peak MiB (of imports) |")
    print("|---|---|---|---|---|---|---|---|")
    folders = [Folder(f"small-{count}", count, 32, 32, "png") for count in args.small]
    if args.photos:
        folders.append(Folder(f"photos-{args.photos}", args.photos, args.side, args.side * 2 // 3, "jpg"))
    for folder in folders:
        measure(folder, args.work, args.method, args.workers)


if __name__ == "__main__":
    main()
