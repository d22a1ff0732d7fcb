"""What do more processes gain in error minimisation, and are the banks the same?

One fit of random pictures by one process and by several, on one thread each, or on a GPU each. Three figures:

- the parallel share of one process's CPU time, which is what passes through the frozen surrogate cost, and the limit
  1 / (1 - share) that Amdahl's law sets to any number of processes;
- the speed-up and efficiency by the wall clock, for a machine that does nothing else;
- the same by the CPU time of the leader, who is at work whenever anybody is: for a machine that does.

    python benchmarks/several_processes.py --granularity class --classes 10
    python benchmarks/several_processes.py --granularity sample --images 2000
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from bitterant.imaging import ImageSet
from bitterant.protect import ErrorMinimizing
from bitterant.protect.methods import stages
from bitterant.protect.methods.ranks import several_processes

__all__ = ["main"]


def main() -> None:
    """Measure, and print three lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--granularity", choices=("class", "sample"), default="class")
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--surrogate", default="small-cnn")
    parser.add_argument("--rounds", type=int, default=2, help="of each stage")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--one", action="store_true", help="be one of the processes that are measured")
    args = parser.parse_args()
    if args.one:
        _be_one(args)
        return
    alone, together = (_measured(args, count) for count in (1, args.processes))
    share = alone["parallel"] / alone["cpu"]
    print(f"{args.granularity}-wise, {args.classes} classes, {args.images} pictures of {args.resolution} px, ", end="")
    print(f"{args.surrogate}, {args.device}: banks {'equal' if alone['bank'] == together['bank'] else 'DIFFER'}")
    print(f"parallel share {share:.0%} of {alone['cpu']:.1f} s; at most {1 / (1 - share):.1f} times as fast")
    for name, clock in (("wall", "wall"), ("leader's CPU", "cpu")):
        gain = alone[clock] / together[clock]
        print(f"{args.processes} processes by {name}: {gain:.2f} times as fast, efficiency {gain / args.processes:.0%}")


def _measured(args: argparse.Namespace, count: int) -> dict[str, Any]:
    """What the leader of so many processes says."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(count):
        launch = {
            "TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": str(rank),
            "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1",
        }  # fmt: skip
        command = [sys.executable, *sys.argv, "--one"]
        started.append(subprocess.Popen(command, env={**os.environ, **launch}, stdout=subprocess.PIPE, text=True))
    try:
        told = [process.communicate()[0] for process in started]
    finally:
        for process in started:
            process.kill()
    if any(process.returncode for process in started):
        raise SystemExit("A process failed.")
    return json.loads(told[0])


def _be_one(args: argparse.Namespace) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(args.images, 3, args.resolution, args.resolution, generator=generator)
    dataset = ImageSet.from_tensors(images, torch.arange(args.images) % args.classes)
    rounds: dict[str, Any] = {"rounds": args.rounds, "sample_rounds": args.rounds, "stop_error": 0.0, "attempts": 0}
    method = ErrorMinimizing(
        granularity=args.granularity, surrogate=args.surrogate, device=args.device, precision="float32", **rounds
    )
    timed = _Timed()
    for name in ("gradient_sums", "pgd_min", "count_wrong"):
        setattr(stages, name, timed(getattr(stages, name)))
    with several_processes() as leads:
        if not leads:
            return
        wall, cpu = time.perf_counter(), time.process_time()
        bank = method.fit(dataset)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    digest = hashlib.sha256(bank.levels.numpy().tobytes()).hexdigest()
    print(json.dumps({"wall": wall, "cpu": cpu, "parallel": timed.seconds, "bank": digest}))


class _Timed:
    """Adds up the CPU time of what is called through it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*words: Any, **options: Any) -> Any:
            begun = time.process_time()
            try:
                return work(*words, **options)
            finally:
                self.seconds += time.process_time() - begun

        return timed


if __name__ == "__main__":
    main()
