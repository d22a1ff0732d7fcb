"""Seconds of a training of the verifier, alone and several at once, and of a whole verification.

The ways to train are compared in turns, within one run: one process with one thread, two such processes beside each
other, one process with two threads, and K networks stacked into one (convolutions in K groups, which is also what
``torch.func.vmap`` makes of them). Stacked trainings do the very same steps: batches, crops and clipping are those of
each network alone, and so is the accuracy, but for rounding.

    python benchmarks/verify_speed.py
    python benchmarks/verify_speed.py --images 3000 --steps 200
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import median

import torch
from cifar import DEFAULT_FILE, Cifar
from stacked import VICTIM, Task, train, train_stacked
from torch import Tensor

from bitterant.attacks import verify_sets
from bitterant.attacks.training import victim_recipe, victim_seed
from bitterant.attacks.training.executor import ProcessExecutor
from bitterant.imaging import ImageSet


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(images: Tensor, labels: Tensor, classes: int, *, steps: int, rounds: int, stacks: Sequence[int]) -> None:
    """Print seconds a training, in turns; the figure of a round is divided by that of one process in it."""
    recipe = replace(victim_recipe(VICTIM, len(images)), steps=steps)
    numbers = itertools.count()

    def tasks(count: int) -> list[Task]:
        return [Task(images, labels, recipe, victim_seed(0, next(numbers)), classes) for _ in range(count)]

    pool = ProcessExecutor(2)
    try:
        short = [replace(task, recipe=replace(recipe, steps=2)) for task in tasks(4)]
        list(pool.run(train, short))  # both are there before the clock starts
        torch.set_num_threads(1)
        train(short[0])

        def two_threads() -> None:
            torch.set_num_threads(2)
            try:
                train(tasks(1)[0])
            finally:
                torch.set_num_threads(1)

        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "one process, one thread": (1, lambda: train(tasks(1)[0])),
            "two processes, one thread each": (4, lambda: list(pool.run(train, tasks(4)))),
            "one process, two threads": (1, two_threads),
        }
        for count in stacks:
            ways[f"one process, one thread, {count} stacked"] = (count, lambda k=count: train_stacked(tasks(k)))
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (count, work) in ways.items():
                measured[name].append(seconds(work) / count)
    finally:
        pool.close()
    base = measured["one process, one thread"]
    print(f"\n{VICTIM}, {len(images)} images, {steps} steps of {recipe.batch_size}, median (least - most) of {rounds}")
    print("| way | seconds a training | trainings in the time of one |")
    print("|---|---|---|")
    for name, times in measured.items():
        ratios = sorted(one / each for one, each in zip(base, times, strict=True))
        spread = f"{median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        print(f"| {name} | {median(times):.2f} | {spread} |", flush=True)
    for count in stacks[:1]:
        pair = tasks(count)
        alone = ", ".join(f"{train(task):.3f}" for task in pair)
        stacked = ", ".join(f"{value:.3f}" for value in train_stacked(pair))
        print(f"training accuracy of the same seeds: alone {alone}; stacked {stacked}")


def noisy(images: Tensor, levels: int = 8) -> Tensor:
    """The cheapest protection: random noise of one sign for each picture, channel and pixel."""
    signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return (images.to(torch.int16) + levels * signs).clamp(0, 255).to(torch.uint8)


def whole(images: ImageSet, test: ImageSet, preset: str, workers: int | None) -> None:
    """Print the wall time of a verification, and seconds a cell by what is trained."""
    protected = ImageSet(noisy(images.images), images.labels, images.classes, images.keys)
    report = verify_sets(images, protected, test, preset=preset, epsilon=8 / 255, workers=workers)
    print(f"\n--preset {preset}, {len(images)} images, {len(test)} to test on, random noise in the place of protection")
    total = sum(cell.seconds for cell in report.cells)
    count, wall = len(report.cells), report.wall_seconds
    print(f"{wall:.0f} s of wall time with {report.environment.workers} processes, {count} cells")
    print(f"{total / count:.2f} s a cell as measured in its process, {wall / count:.2f} s of wall time a cell")
    print("| victim | adversary | cells | seconds a cell |")
    print("|---|---|---|---|")
    groups: dict[tuple[str, str], list[float]] = {}
    for cell in report.cells:
        groups.setdefault((cell.victim, cell.adversary), []).append(cell.seconds)
    for (victim, adversary), times in groups.items():
        print(f"| {victim} | {adversary} | {len(times)} | {sum(times) / len(times):.2f} |")
    print(report.verdict.headline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument(
        "--steps", type=int, default=100, help="of the trainings that are compared; the verifier's: 400"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stacks", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--preset", default="quick", help="of the whole verification; none leaves it out")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    cifar = Cifar(DEFAULT_FILE)
    images, labels = cifar.train(0, args.images)
    if args.rounds:
        compare(images, labels, 10, steps=args.steps, rounds=args.rounds, stacks=args.stacks)
    if args.preset != "none":
        test_images, test_labels = cifar.test(0, args.test_images)
        whole(
            ImageSet.from_tensors(images, labels, classes=cifar.classes),
            ImageSet.from_tensors(test_images, test_labels, classes=cifar.classes),
            args.preset,
            args.workers,
        )


if __name__ == "__main__":
    main()
