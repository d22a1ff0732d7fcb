"""What one cheap step brings back: each method against a list of adversaries, over protection seeds and victim seeds.

Each method protects the same folder once for every protection seed through ``protect_folder``; each copy goes through
``verify_folder``, once for each victim, so that every victim meets every adversary. Trainings are kept in one folder:
the clean ones are done once for all, and a run that was stopped goes on. Printed are the accuracies on clean test
pictures, mean (least to most) over all seeds, and for each method the worst mean: what the best of the listed steps
brings a trainer.

    python benchmarks/robustness.py --methods texture --images 3000
    python benchmarks/robustness.py --methods texture emn-class --photos CLOTHING/train --tests-from CLOTHING/test \\
        --resolution 64 112
    python benchmarks/robustness.py --methods uc texture-cluster --photos CLOTHING/train --tests-from CLOTHING/test \\
        --resolution 64 --adversaries jpeg:10 grayscale
    python benchmarks/robustness.py --methods texture --images 150 --tests 100 --protection-seeds 1 --victim-seeds 1 \\
        --victims small-cnn --adversaries jpeg:10

What was made on another machine is put together by ``--only-reports``, which trains nothing and reads the reports that
lie under ``--work``:

    python benchmarks/robustness.py --only-reports --work REPORTS
"""

from __future__ import annotations

import argparse
import re
import statistics
import time
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Literal

from cifar import DEFAULT_FILE, Cifar
from standard_table import METHODS as OF_CLASSES

from bitterant.attacks import verify_folder
from bitterant.attacks.report.compare import read_report
from bitterant.attacks.schema import Condition, VerificationReport
from bitterant.protect import protect_folder
from bitterant.records.config import strengths_of
from bitterant.records.processes import tune_allocator

METHODS = {**OF_CLASSES, "texture-cluster": {"method": "texture", "granularity": "cluster"}}

CHEAP = (
    "early-stop", "grayscale", "jpeg:10", "jpeg:30", "jpeg:75", "webp:30", "blur:1", "median", "down-up:0.5",
    "bit-depth:2", "projection", "cutout", "mixup", "cutmix", "nlm:12", "tv:0.1",
)  # fmt: skip
"""What costs a trainer next to nothing, and needs neither clean pictures nor weights."""


def accuracies(reports: Iterable[VerificationReport], condition: str, arm: str) -> list[float]:
    """Of every training of an arm: one a victim seed in each report."""
    found: list[float] = []
    for report in reports:
        for each in report.conditions:
            if each.id == condition and arm in each.arms:
                found += each.arms[arm].accuracies  # type: ignore[index]
    return found


def said(values: list[float]) -> str:
    if not values:
        return "not run"
    return f"{100 * statistics.mean(values):.1f} ({100 * min(values):.1f}-{100 * max(values):.1f})"


def table(reports: dict[str, list[VerificationReport]]) -> str:
    """A row a victim and adversary, a column a method; the worst means below."""
    conditions = {
        condition.id: condition for group in reports.values() for report in group for condition in report.conditions
    }
    lines = ["| victim | adversary | clean | " + " | ".join(reports) + " |", "|---|---|---|" + "---|" * len(reports)]
    worst: dict[str, tuple[float, str]] = {}
    for name, condition in conditions.items():
        # The clean pictures are the same for every protection seed and method: the trainings of one report count.
        each = (accuracies([report], name, "clean") for group in reports.values() for report in group)
        clean = next(filter(None, each), [])
        row = []
        for method, group in reports.items():
            values = accuracies(group, name, "protected")
            row.append(said(values))
            if values:
                found = (statistics.mean(values), f"{condition.adversary}, {condition.victim}")
                worst[method] = max(worst.get(method, found), found)
        lines.append(f"| {condition.victim} | {condition.adversary} | {said(clean)} | {' | '.join(row)} |")
    for method, (value, where) in worst.items():
        lines.append(f"\n{method}: worst mean {100 * value:.1f} % ({where})")
    return "\n".join(lines)


def finished(work: Path) -> dict[str, list[VerificationReport]]:
    """The reports under ``work``, by the folder of their method and setting.

    What several reports of one copy, victim and resolution hold, as they do the naive trainer, counts once: where it
    was trained most often.
    """
    reports = {file: read_report(file) for file in sorted(work.rglob("report.json"))}

    def trainings(condition: Condition) -> int:
        return max((len(arm.accuracies) for arm in condition.arms.values()), default=0)

    best: dict[tuple[Path, str, str], tuple[int, Path]] = {}
    for file, report in reports.items():
        copy = re.sub("-[0-9a-f]{8}$", "", file.parent.name)  # names of before had no list
        for each in report.conditions:
            place = file.parent.parent, copy, each.id
            if place not in best or trainings(each) > best[place][0]:
                best[place] = trainings(each), file
    chosen = {(file, name) for (_, _, name), (_, file) in best.items()}
    found: dict[str, list[VerificationReport]] = {}
    for file, report in reports.items():
        kept = [each for each in report.conditions if (file, each.id) in chosen]
        found.setdefault(file.parent.parent.name, []).append(report.model_copy(update={"conditions": kept}))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--photos", type=Path, default=None, help="class folders of photos instead of CIFAR-10")
    parser.add_argument("--tests-from", type=Path, default=None, help="class folders of test photos, with --photos")
    parser.add_argument("--work", type=Path, default=Path("build/robustness"))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--methods", nargs="*", choices=[*METHODS], default=["texture", "emn-class"])
    parser.add_argument("--adversaries", nargs="*", default=list(CHEAP))
    parser.add_argument("--victims", nargs="*", default=["small-cnn", "convmixer"])
    parser.add_argument("--resolution", nargs="*", type=int, default=None, help="of the victims; default: their own")
    parser.add_argument("--protection-seeds", type=int, default=3)
    parser.add_argument("--victim-seeds", type=int, default=2)
    parser.add_argument("--epsilon", type=float, default=None, help="in levels; default: each method's own")
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=NUMBER", help="hyper-parameters of the methods")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=None, help="processes that train; default: one a CPU, one a GPU")
    parser.add_argument("--only-reports", action="store_true", help="print the table of the reports under --work")
    args = parser.parse_args()
    if args.only_reports:
        print(table(finished(args.work)))
        return
    if (args.photos is None) != (args.tests_from is None):
        parser.error("--photos and --tests-from go together")
    tune_allocator()
    chosen = {name: float(value) for name, value in (pair.split("=", 1) for pair in args.set)}
    if args.photos is None:
        cifar = Cifar(args.data)
        work = args.work / f"cifar-{args.images}"
        clean = cifar.write_folder(work / "clean", *cifar.train(0, args.images))
        test = cifar.write_folder(work / f"test-{args.tests}", *cifar.test(0, args.tests))
        what = f"{args.images} CIFAR-10 images (JPEG copy), {args.tests} clean tests"
    else:
        work, clean, test = args.work / args.photos.resolve().parent.name, args.photos, args.tests_from
        what = f"photos in {args.photos.resolve().parent.name}"
    # Another list of adversaries is another report; the trainings that both need are shared.
    listed = sha256(repr((args.adversaries, args.victim_seeds)).encode()).hexdigest()[:8]
    sides: list[int | Literal["auto"]] = args.resolution or ["auto"]
    for resolution in sides:
        reports: dict[str, list[VerificationReport]] = {name: [] for name in args.methods}
        for number in range(args.protection_seeds):
            for name in args.methods:
                usual = strengths_of(METHODS[name]["method"])["balanced"]
                levels = usual if args.epsilon is None else args.epsilon
                setting = "-".join([name, f"{levels:g}", *args.set])
                copies = work / f"{setting}-{number}"
                begun = time.perf_counter()
                protect_folder(
                    clean, copies, seed=number, epsilon=levels / 255, device=args.device, parameters=chosen,
                    **METHODS[name],
                )  # fmt: skip
                print(f"{name}, seed {number}: protected in {time.perf_counter() - begun:.1f} s", flush=True)
                for victim in args.victims:
                    begun = time.perf_counter()
                    report = verify_folder(
                        clean, copies, test=test, cells=args.work / "cells", victims=[victim], preset="quick",
                        report=work / "reports" / setting / f"{number}-{victim}-{resolution}-{listed}",
                        adversaries=args.adversaries, seeds=args.victim_seeds, resolution=resolution,
                        device=args.device, workers=args.workers,
                    )  # fmt: skip
                    reports[name].append(report)
                    grades = ", ".join(f"{tier.tier} {tier.grade}" for tier in report.verdict.tiers)
                    print(f"  {victim}: {(time.perf_counter() - begun) / 60:.1f} min; {grades}", flush=True)
        epsilon = f"epsilon {args.epsilon:g}" if args.epsilon is not None else "each method's own epsilon"
        print(f"\n{what}, victims at {resolution} px, {epsilon}, {args.protection_seeds} protection x "
              f"{args.victim_seeds} victim seeds: accuracy in per cent, mean (least-most)")  # fmt: skip
        print(table(reports), flush=True)


if __name__ == "__main__":
    main()
