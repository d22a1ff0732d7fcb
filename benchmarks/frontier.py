"""Strength against visibility: what each method leaves a trainer at each budget, and how much of it can be seen.

Each method protects CIFAR-10 images at every budget; the copies go through ``verify_folder`` with adversaries, and the
best that any of them brings the trainer is the worst case. What the eye sees is measured on photographs at
their own size, a sample of class folders protected with the same method and budget: CIEDE2000, FLIP and SSIM, medians.
Trainings are kept in one folder; a run that was stopped goes on.

    python benchmarks/frontier.py --photos PHOTOS --epsilons 4 8 12 16
    python benchmarks/frontier.py --photos PHOTOS --epsilons 4 8 --methods texture,colour=0.5 texture,colour=1
    python benchmarks/frontier.py --photos PHOTOS --methods texture --epsilons 8 --images 150 --tests 100 \\
        --adversaries grayscale --sample 20
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import robustness
from cifar import DEFAULT_FILE, Cifar

from bitterant.attacks import verify_folder
from bitterant.errors import ConfigError
from bitterant.protect import protect_folder
from bitterant.protect.request.config import parse_parameters
from bitterant.records.processes import tune_allocator
from bitterant.records.run_file import read_run_file

ADVERSARIES = ("early-stop", "grayscale", "jpeg:10", "tv:0.1", "projection", "down-up:0.5")


def sample_photos(photos: Path, count: int, folder: Path) -> Path:
    """Copies of ``count`` photographs, as many of each class folder as it comes to; a folder that is there is left."""
    if not folder.exists():
        classes = sorted(path for path in photos.iterdir() if path.is_dir() and not path.name.startswith("."))
        for each in classes:
            taken = sorted(path for path in each.iterdir() if path.is_file())[: max(1, count // len(classes))]
            (folder / each.name).mkdir(parents=True)
            for path in taken:
                shutil.copyfile(path, folder / each.name / path.name)
    return folder


def keywords(name: str) -> dict[str, Any]:
    """What ``protect_folder`` is told for ``method`` or ``method,hyper-parameter=number``.

    Raises:
        ConfigError: a hyper-parameter without a number.
    """
    method, *settings = name.split(",")
    return {**robustness.METHODS[method], "parameters": parse_parameters(settings)}


def method_named(name: str) -> str:
    """``name``, where it is one that :func:`keywords` takes."""
    if name.split(",")[0] not in robustness.METHODS:
        raise argparse.ArgumentTypeError(f"there is no {name!r}; there are {', '.join(robustness.METHODS)}")
    try:
        keywords(name)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return name


def looks(photos: Path, out: Path, method: str, epsilon: float) -> str:
    """``CIEDE2000 | of its pixels the 95th percentile | FLIP | SSIM``, medians over the photographs."""
    summary = protect_folder(photos, out, epsilon=epsilon / 255, **keywords(method))
    run = read_run_file(summary.run_file)
    assert run is not None
    stealth = run.stealth
    figures = (stealth.ciede, stealth.ciede_p95, stealth.flip, stealth.ssim)
    return " | ".join("not measured" if each is None else f"{each.median:.3g}" for each in figures)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--photos", type=Path, required=True, help="class folders of photographs to look at")
    parser.add_argument("--sample", type=int, default=200, help="photographs that are looked at")
    parser.add_argument("--work", type=Path, default=Path("build/frontier"))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--methods", nargs="*", type=method_named, default=["texture", "emn-class"])
    parser.add_argument("--epsilons", nargs="*", type=float, default=[4.0, 8.0, 12.0, 16.0], help="levels of 255")
    parser.add_argument("--adversaries", nargs="*", default=list(ADVERSARIES))
    parser.add_argument("--victims", nargs="*", default=["small-cnn"])
    parser.add_argument("--seeds", type=int, default=1, help="of the victims")
    args = parser.parse_args(arguments)
    tune_allocator()
    cifar = Cifar(args.data)
    clean = cifar.write_folder(args.work / f"clean-{args.images}", *cifar.train(0, args.images))
    test = cifar.write_folder(args.work / f"test-{args.tests}", *cifar.test(0, args.tests))
    photos = sample_photos(args.photos, args.sample, args.work / f"photos-{args.sample}")
    print(f"{args.images} CIFAR-10 images, {args.tests} clean tests, {args.seeds} victim seeds; looks on photographs")
    print("| method | epsilon | none | worst | by | CIEDE2000 | 95th percentile | FLIP | SSIM |\n" + "|---" * 9 + "|")
    for method in args.methods:
        for epsilon in args.epsilons:
            name = f"{method}-{epsilon:g}"
            copies = args.work / f"{name}-{args.images}"
            protect_folder(clean, copies, seed=0, epsilon=epsilon / 255, **keywords(method))
            report = verify_folder(
                clean, copies, test=test, cells=args.work / "cells", victims=args.victims, preset="quick",
                report=args.work / f"{name}-{args.images}-report", adversaries=args.adversaries, seeds=args.seeds,
            )  # fmt: skip
            means = [
                (statistics.mean(arm.accuracies), f"{condition.adversary}, {condition.victim}", condition.adversary)
                for condition in report.conditions
                if (arm := condition.arms.get("protected")) is not None and arm.accuracies
            ]
            naive = max(value for value, _, adversary in means if adversary == "none")
            worst, by, _ = max(means)
            seen = looks(photos, args.work / f"{name}-looks-{args.sample}", method, epsilon)
            print(
                f"| {method} | {epsilon:g} | {100 * naive:.1f} | {100 * worst:.1f} | {by} | {seen} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
