"""Seconds to the same effect: the public code's schedule of Bayes-error ascent against ours, in one run.

Effect is the held-out estimate of the Bayes error by fresh networks, the same ones for both. The public schedule (a
fresh surrogate for every step) makes ``--rounds`` rounds; ours goes on until its estimate is as high, or its rounds are
over. Estimating is not timed. Both have the same surrogate and the same pictures.

    python benchmarks/beo_speed.py
    python benchmarks/beo_speed.py --images 1000 --rounds 60 --surrogate resnet18
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from cifar import DEFAULT_FILE, Cifar

from bitterant.imaging import ImageSet
from bitterant.protect import BayesErrorAscent
from bitterant.protect.methods.base import FitContext
from bitterant.protect.methods.beo.cross_fit import CrossFittedError, Interval, random_noise
from bitterant.protect.methods.beo.method import BeoFit
from bitterant.protect.methods.checkpoint import Checkpoint
from bitterant.records.processes import tune_allocator


def run(
    dataset: ImageSet, held_out: CrossFittedError, every: int, **options: Any
) -> Iterator[tuple[int, float, Interval]]:
    """Rounds made, seconds of the fit so far, and what was reached, every few rounds."""
    recipe = BayesErrorAscent(**options).recipe
    begun = time.perf_counter()
    fit = BeoFit(recipe, dataset.to(recipe.device), FitContext(None, Checkpoint(None, "")))
    seconds = time.perf_counter() - begun
    while fit.made < recipe.rounds:
        begun = time.perf_counter()
        for _ in fit.advance():
            pass
        if recipe.device.type == "cuda":
            torch.cuda.synchronize()
        seconds += time.perf_counter() - begun
        if fit.made % every == 0 or fit.made == recipe.rounds:
            levels = recipe.budget.quantise(fit.copies.delta.float().cpu())
            yield fit.made, seconds, held_out(lambda index, levels=levels: levels[index] / 255.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=40, help="of the public schedule")
    parser.add_argument("--every", type=int, default=5, help="rounds between two estimates")
    parser.add_argument("--surrogate", default="small-cnn")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto")
    args = parser.parse_args()
    tune_allocator()
    cifar = Cifar(args.data)
    dataset = ImageSet.from_tensors(*cifar.train(0, args.images), classes=cifar.classes)
    options = {"surrogate": args.surrogate, "seed": args.seed, "device": args.device}
    paper = BayesErrorAscent(preset="paper", rounds=args.rounds, **options)
    held_out = CrossFittedError(dataset, paper.budget, seed=args.seed, device=paper.device, max_images=2000, steps=300)
    noise = held_out(random_noise(dataset, paper.budget, held_out.index, args.seed + 1))
    print(f"{args.images} CIFAR-10 images, {args.surrogate} on {paper.device}, {torch.get_num_threads()} threads")
    print(f"clean {held_out(None).to_json()}")
    print(f"noise {noise.to_json()}", flush=True)

    spent, goal = 0.0, noise
    for made, spent, goal in run(dataset, held_out, args.every, preset="paper", rounds=args.rounds, **options):
        print(f"public schedule, round {made}: {spent:.1f} s, {goal.to_json()}", flush=True)
    if goal.estimate <= noise.high:
        print("the public schedule did nothing yet that random noise does not do: give it more --rounds")
        return
    for made, seconds, reached in run(dataset, held_out, 1, **options):
        print(f"ours, round {made}: {seconds:.1f} s, {reached.to_json()}", flush=True)
        if reached.estimate >= goal.estimate:
            print(f"as high an estimate in {seconds / spent:.2f} of the time")
            return
    print("ours did not reach the estimate of the public schedule")


if __name__ == "__main__":
    main()
