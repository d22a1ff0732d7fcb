"""Seconds to the same effect: the paper's schedule of Unlearnable Clusters against ours, in one run.

Effect: the share of pictures that are nearest to the centre they were sent to, in the features both use. The paper's
schedule (a generator a cluster, every cluster over all pictures, one after the other) runs for ``--epochs`` epochs a
cluster, its 50 unless told otherwise; ours (pixels, all clusters in one batch) gets more rounds until it has the same
share.

    python benchmarks/uc_speed.py PICTURES
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch

from bitterant.imaging import Budget, ImageSet, load_image_set, scan_folder
from bitterant.protect import UnlearnableClusters
from bitterant.records.processes import tune_allocator


def fit(dataset: ImageSet, args: argparse.Namespace, **options: Any) -> tuple[float, dict[str, Any]]:
    method = UnlearnableClusters(
        surrogate=args.surrogate, clusters=args.clusters, budget=Budget.from_levels(args.epsilon),
        objective="features", device=args.device, **options,
    )  # fmt: skip
    begun = time.perf_counter()
    report = method.fit(dataset).report["clusters"]
    return time.perf_counter() - begun, report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pictures", type=Path, metavar="PICTURES")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--resolution", type=int, default=32)
    parser.add_argument("--clusters", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=4, help="of the paper's schedule")
    parser.add_argument("--epsilon", type=float, default=16.0)
    parser.add_argument("--surrogate", default="efficientnet-lite0")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    tune_allocator()
    dataset, _, _ = load_image_set(scan_folder(args.pictures), args.resolution, with_labels=False)
    pick = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0))[: args.images]
    dataset = dataset.select(pick.sort().values)
    seconds, report = fit(dataset, args, preset="paper", rounds=args.epochs, batch_size=args.batch_size)
    goal = report["protected"]["on_target"]
    print(f"{len(dataset)} pictures, {args.clusters} clusters, {args.surrogate}, epsilon {args.epsilon:g}")
    print(f"paper, {args.epochs} epochs a cluster: {seconds:.1f} s, on target {goal:.3f}", flush=True)
    noise, clean = report["noise"]["on_target"], report["clean"]["on_target"]
    print(f"random noise: on target {noise:.3f}; clean: {clean:.3f}", flush=True)
    # Two standard deviations of a share among so many pictures.
    if goal <= noise + 2 * (goal * (1 - goal) / report["images"]) ** 0.5:
        print("the paper's schedule did nothing yet that random noise does not do: give it more --epochs")
        return
    for rounds in (1, 2, 4, 8, 16, 32):
        own, report = fit(dataset, args, rounds=rounds)
        reached = report["protected"]["on_target"]
        print(f"ours, {rounds} rounds: {own:.1f} s, on target {reached:.3f}", flush=True)
        if reached >= goal:
            print(f"same effect in {own / seconds:.2f} of the time")
            return
    print("ours did not reach the paper's share")


if __name__ == "__main__":
    main()
