"""Every adversary of a preset against every method, on CIFAR-10 folders: the large table of docs/results.md.

Each method protects the same folder of PNG files through ``protect_folder``, with its default settings; each copy goes
through ``verify_folder``. Trainings are kept in one folder, so that clean pictures are trained on once for all methods
and a run that was stopped goes on.

    python benchmarks/standard_table.py --images 3000
    python benchmarks/standard_table.py --images 3000 --max-minutes 30
    python benchmarks/standard_table.py --images 3000 --tests 1000 --without ueraser
    python benchmarks/standard_table.py --images 100 --tests 100 --preset smoke
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from cifar import DEFAULT_FILE, Cifar

from bitterant.attacks import verify_folder
from bitterant.attacks.config import PRESETS
from bitterant.attacks.schema import Condition, Estimate, VerificationReport
from bitterant.protect import protect_folder
from bitterant.records.processes import tune_allocator

METHODS: dict[str, dict[str, Any]] = {
    "texture": {"method": "texture"},
    "emn-class": {"method": "emn", "granularity": "class"},
    "emn-sample": {"method": "emn", "granularity": "sample"},
    "uc": {"method": "uc"},
    "beo": {"method": "beo"},
    "t2ue-sample": {"method": "t2ue", "granularity": "sample"},
    "t2ue-class": {"method": "t2ue", "granularity": "class"},
    "noise": {"method": "noise"},
}


def said(value: Estimate) -> str:
    """In per cent, with the interval."""
    return f"{100 * value.estimate:.0f} ({100 * value.low:.0f}-{100 * value.high:.0f})"


def ceiling(condition: Condition) -> str:
    """What clean pictures give under this adversary; in a mix, what the clean part alone gives."""
    arm = condition.arms.get("part" if condition.metric == "mv" else "clean")
    return "" if arm is None else said(arm.accuracy)


def table(reports: dict[str, VerificationReport]) -> str:
    """A row an adversary and victim, a column a method: accuracy on clean test pictures in per cent (95 %).

    A mark says that a gate failed, so that the figure counts neither for nor against the protection.
    """
    lines = ["| tier | adversary | victim | clean | " + " | ".join(reports) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(reports))
    found: dict[str, dict[str, Condition]] = {}
    for name, report in reports.items():
        for condition in report.conditions:
            found.setdefault(condition.id, {})[name] = condition
    for conditions in found.values():
        first = next(iter(conditions.values()))
        known = next((c for c in conditions.values() if c.clean is not None), first)
        cells = []
        for name in reports:
            condition = conditions.get(name)
            arm = None if condition is None else condition.treated
            mark = "" if condition is None or condition.status == "ok" else " °"
            cells.append("not tested" if arm is None else said(arm.accuracy) + mark)
        lines.append(f"| {first.tier} | {first.adversary} | {first.victim} | {ceiling(known)} | {' | '.join(cells)} |")
    lines.append("")
    lines.append("| method | weakest tier tested | grades | headline |")
    lines.append("|---|---|---|---|")
    for name, report in reports.items():
        grades = ", ".join(f"{tier.tier} {tier.grade}" for tier in report.verdict.tiers)
        lines.append(f"| {name} | {report.verdict.weakest} | {grades} | {report.verdict.headline} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--work", type=Path, default=Path("build/standard-table"))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--preset", default="standard")
    parser.add_argument("--methods", nargs="*", choices=[*METHODS], default=[*METHODS])
    parser.add_argument("--adversaries", nargs="*", default=None, help="instead of the preset's")
    parser.add_argument("--without", nargs="*", default=[], help="adversaries of the preset to leave out")
    parser.add_argument("--victims", nargs="*", default=None, help="instead of the preset's")
    parser.add_argument("--seeds", type=int, default=None, help="trainings of each cell, instead of the preset's")
    parser.add_argument("--seed", type=int, default=0, help="of the subset and of everything else")
    parser.add_argument("--max-minutes", type=float, default=None, help="of each method's verification")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    tune_allocator()
    adversaries = args.adversaries
    if args.without:
        listed = adversaries or PRESETS[args.preset].adversaries
        if unknown := set(args.without).difference(listed):
            parser.error(f"--without {' '.join(sorted(unknown))}: not among {' '.join(listed)}")
        adversaries = [name for name in listed if name not in args.without]
    cifar = Cifar(args.data)
    work = args.work / f"{args.images}-{args.seed}"
    clean = cifar.write_folder(work / "clean", *cifar.train(args.seed, args.images))
    test = cifar.write_folder(work / f"test-{args.tests}", *cifar.test(args.seed, args.tests))
    reports: dict[str, VerificationReport] = {}
    for name in args.methods:
        begun = time.perf_counter()
        copies = work / name
        protect_folder(clean, copies, seed=args.seed, device=args.device, **METHODS[name])
        made = time.perf_counter()
        reports[name] = verify_folder(
            clean, copies, test=test, report=work / f"{name}-report", cells=args.work / "cells", preset=args.preset,
            victims=args.victims, adversaries=adversaries, seeds=args.seeds, seed=args.seed,
            max_minutes=args.max_minutes, device=args.device,
        )  # fmt: skip
        spent = time.perf_counter()
        print(f"{name}: protected in {made - begun:.0f} s, verified in {(spent - made) / 60:.1f} min, "
              f"plan {reports[name].plan_hash[:12]}", flush=True)  # fmt: skip
        print(reports[name].verdict.headline, flush=True)
    print(f"\n{args.images} CIFAR-10 images (JPEG copy), {args.tests} clean tests, preset {args.preset}: accuracy in "
          "per cent with 95 % interval; in mixes, `clean` is the clean part alone; ° does not count, a gate "
          "failed")  # fmt: skip
    print(table(reports))


if __name__ == "__main__":
    main()
