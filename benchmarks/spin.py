"""What threads of OpenMP that wait cost beside other work: the effect of ``GOMP_SPINCOUNT``.

A thread that is done with its part of a step spins for the others. Where other processes want its core, the spinning
takes time from those it waits for; ``cli/boundary.py`` therefore sets a short spin. Here a process trains ``small-cnn``
on drawn pictures, on two threads with and without the setting and on one, beside 0 and 2 busy processes, and prints
seconds of the steps and ratios to an idle machine with the setting as it is by default.

    python benchmarks/spin.py
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

SHORT = "2000"
"""As ``prepare_torch`` sets it."""

_TRAIN = """
import sys, time
import torch
from bitterant.surrogates import Recipe, create_surrogate, train_classifier
steps = int(sys.argv[1])
images = torch.randint(0, 256, (512, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
labels = torch.arange(512) % 10
def train(count):
    network = create_surrogate("small-cnn", num_classes=10, resolution=32, seed=0)
    begun = time.perf_counter()
    train_classifier(network, images, labels, Recipe(steps=count, batch_size=64), seed=0, evals=1)
    return time.perf_counter() - begun
train(3)  # the first steps also allocate
print(train(steps))
"""

WAYS = {"two threads": (2, None), f"two threads, GOMP_SPINCOUNT={SHORT}": (2, SHORT), "one thread": (1, None)}
"""Threads, and the setting where there is one."""


@contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that only compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(steps: int, threads: int, spin: str | None) -> float:
    """Of so many steps, in a process of its own."""
    told = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    told["OMP_NUM_THREADS"] = str(threads)
    if spin is not None:
        told["GOMP_SPINCOUNT"] = spin
    words = [sys.executable, "-c", _TRAIN, str(steps)]
    done = subprocess.run(words, env=told, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2], metavar="PROCESSES")
    parser.add_argument("--rounds", type=int, default=3, help="the least and the most of so many are shown")
    args = parser.parse_args(words)
    print(f"{args.steps} steps of 64, load before: {os.getloadavg()[0]:.1f}")
    print("| way | busy processes | seconds | times the first row |\n|---|---|---|---|")
    first = None
    for count in args.busy:
        with busy(count):
            for name, (threads, spin) in WAYS.items():
                found = sorted(seconds(args.steps, threads, spin) for _ in range(args.rounds))
                first = first or found[0]
                told = f"{found[0]:.2f} - {found[-1]:.2f}"
                print(f"| {name} | {count} | {told} | {found[0] / first:.2f} |", flush=True)


if __name__ == "__main__":
    main()
