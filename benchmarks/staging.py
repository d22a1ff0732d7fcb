"""Seconds until the pictures of a preset's transforms are made, with one thread and with several, in turns in one run.

Staged are the adversaries that change pictures once before training, and nothing else. The last row is what the sum
makes for 110,000 pictures under each of them: 50,000 to train on in two arms, and 10,000 to test on.

    python benchmarks/staging.py
    python benchmarks/staging.py --images 50000 --repeats 1
    python benchmarks/staging.py --workers 1 4 16
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
import torch
from cifar import DEFAULT_FILE, Cifar
from numpy.typing import NDArray

from bitterant.attacks.adversaries import Adversary, create_adversary
from bitterant.attacks.adversaries.registry import changes_only_pictures
from bitterant.attacks.adversaries.transforms import block_workers
from bitterant.attacks.config import preset_named
from bitterant.records.processes import available_cpus

PICTURES = 2 * 50_000 + 10_000
"""Pictures under one adversary: two arms of CIFAR-10, and its test part."""


def transforms_of(preset: str) -> list[Adversary]:
    """Those adversaries of a preset that do no more than change the pictures once."""
    made = [create_adversary(name) for name in preset_named(preset).adversaries]
    return [adversary for adversary in made if changes_only_pictures(type(adversary))]


def measure(
    adversary: Adversary, images: NDArray[np.uint8], workers: Sequence[int], repeats: int
) -> tuple[list[float], list[float]]:
    """Median seconds for each number of threads, and median seconds of processor time.

    Raises:
        SystemExit: the pictures depend on the number of threads.
    """
    seconds: list[list[float]] = [[] for _ in workers]
    cpu: list[list[float]] = [[] for _ in workers]
    first: NDArray[np.uint8] | None = None
    for _ in range(repeats):
        for times, used, count in zip(seconds, cpu, workers, strict=True):
            torch.set_num_threads(count)
            wall, process = time.perf_counter(), time.process_time()
            changed = adversary.transform(images)
            times.append(time.perf_counter() - wall)
            used.append(time.process_time() - process)
            first = changed if first is None else first
            if not np.array_equal(first, changed):
                raise SystemExit(f"{adversary.name}: other pictures with {count} threads")
    return [median(times) for times in seconds], [median(used) for used in cpu]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--adversaries", nargs="+", default=None, metavar="NAME", help="instead of a preset's")
    parser.add_argument("--workers", type=int, nargs="+", default=None, help="threads; default 1 and one for each CPU")
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args(words)
    workers = args.workers or sorted({1, available_cpus()})
    images = Cifar(args.data).train(0, args.images)[0].numpy()
    chosen = [create_adversary(name) for name in args.adversaries or ()] or transforms_of(args.preset)
    before = torch.get_num_threads()
    try:
        sums = np.zeros(2 * len(workers))
        print(f"{len(images)} pictures of {images.shape[-1]} px, medians of {args.repeats}")
        print(
            "| condition |",
            *(f"{what}: {count} |" for what in ("seconds, threads", "CPU seconds, threads") for count in workers),
        )
        print("|" + "---|" * (2 * len(workers) + 1))
        for adversary in chosen:
            adversary.transform(images[:8])  # what is loaded on the first call does not count
            seconds, cpu = measure(adversary, images, workers, args.repeats)
            sums += [*seconds, *cpu]
            print(f"| {adversary.name} |", *(f"{value:.3f} |" for value in (*seconds, *cpu)), flush=True)
        print("| sum |", *(f"{value:.2f} |" for value in sums))
        print(f"| {PICTURES:,} pictures each |", *(f"{value * PICTURES / len(images):.0f} |" for value in sums))
        for count, value in zip(workers[1:], sums[1 : len(workers)], strict=True):
            torch.set_num_threads(count)
            print(f"{block_workers()} threads: {sums[0] / value:.2f} times as fast as {workers[0]}")
    finally:
        torch.set_num_threads(before)


if __name__ == "__main__":
    main()
