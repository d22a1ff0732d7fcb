"""Seconds to the same effect: the public schedule of Bayes-error ascent against ours, in one run.

Effect: the held-out estimate of the Bayes error, by fresh networks. The public schedule (a fresh surrogate for every
step) runs for ``--rounds`` rounds; ours gets more rounds until its estimate is as high.

    python benchmarks/beo_speed.py --images 500 --rounds 5
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from cifar import DEFAULT_FILE, Cifar

from bitterant.imaging import ImageSet
from bitterant.protect import BayesErrorAscent
from bitterant.surrogates.allocator import tune_allocator


def fit(dataset: ImageSet, args: argparse.Namespace, **options: Any) -> tuple[float, dict[str, Any]]:
    """Seconds of the ascent alone, and the three estimates."""
    begun = time.perf_counter()
    bank = BayesErrorAscent(surrogate=args.surrogate, device=args.device, estimate_images=0, **options).fit(dataset)
    seconds = time.perf_counter() - begun
    del bank
    report = BayesErrorAscent(surrogate=args.surrogate, device=args.device, **options).fit(dataset).report
    return seconds, report["estimated_bayes_error"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--surrogate", default="small-cnn")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    tune_allocator()
    cifar = Cifar(args.data)
    dataset = ImageSet.from_tensors(*cifar.train(0, args.images), classes=cifar.classes)
    seconds, found = fit(dataset, args, preset="paper", rounds=args.rounds)
    goal = found["protected"]["estimate"]
    print(f"{args.images} CIFAR-10 images, {args.surrogate}; clean {found['clean']}, noise {found['noise']}")
    print(f"public schedule, {args.rounds} rounds: {seconds:.1f} s, estimate {goal:.3f}", flush=True)
    for rounds in (2, 5, 10, 20, 30):
        own, found = fit(dataset, args, rounds=rounds)
        reached = found["protected"]["estimate"]
        print(f"ours, {rounds} rounds: {own:.1f} s, estimate {reached:.3f}", flush=True)
        if reached >= goal:
            print(f"same effect in {own / seconds:.2f} of the time")
            return
    print("ours did not reach the estimate of the public schedule")


if __name__ == "__main__":
    main()
