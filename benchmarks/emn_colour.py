"""What a bound on slow colours costs error-minimizing noise, and what it does to looks.

For each bound: ``emn`` per class at one working resolution, a victim from scratch on the protected photos tested on
clean ones, and CIEDE2000 of the protected photos at their own size. The bound 255 binds nothing.

    python benchmarks/emn_colour.py TRAIN TEST --images 1000 --tints 255 2 1 0
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from crafting import protected_by

from bitterant.attacks.training import fit_recipe
from bitterant.imaging import Budget, ImageSet, add_delta, decode, load_image_set, measure_visibility, scan_folder
from bitterant.protect import Bank, create_method
from bitterant.protect.methods.written import TintBound
from bitterant.surrogates import create_surrogate, recipe_for, train_classifier


def accuracy(images: torch.Tensor, data: ImageSet, test: ImageSet, victim: str, seed: int) -> float:
    assert data.labels is not None
    assert test.labels is not None
    model = create_surrogate(victim, num_classes=len(data.classes), resolution=data.resolution, seed=900_000 + seed)
    result = train_classifier(
        model, images, data.labels, fit_recipe(recipe_for(victim), len(images)), seed=seed,
        test_images=test.images, test_labels=test.labels, evals=1,
    )  # fmt: skip
    return float((result.predictions == test.labels).float().mean())


def looks(bank: Bank, paths: list[tuple[Path, str]]) -> str:
    """Medians over photos, at their own size."""
    found, casts = [], []
    for path, key in paths:
        before = decode(path)
        after = add_delta(before, bank.levels_for(key), bank.budget)
        seen = measure_visibility(before, after, with_flip=True)
        found.append([seen.ciede, seen.ciede_p95, seen.ciede_patches, float("nan") if seen.flip is None else seen.flip])
        moved = (after.pixels.astype(float) - before.pixels).mean(axis=(0, 1))
        casts.append(np.ptp(moved) if moved.size > 1 else 0.0)
    values = np.median(found, axis=0)
    names = ("CIEDE2000", "95th percentile", "patches", "FLIP")
    shown = ", ".join(f"{name} {value:.3f}" for name, value in zip(names, values, strict=True))
    return f"{shown}, colour cast of the frame {np.median(casts):.2f} levels"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, metavar="TRAIN")
    parser.add_argument("test", type=Path, metavar="TEST")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--looked-at", type=int, default=200, help="photos on which looks are measured")
    parser.add_argument("--tints", type=float, nargs="+", default=[255.0, 2.0, 1.0, 0.0])
    parser.add_argument("--cosines", type=int, default=None, help="how many frequencies count as slow")
    parser.add_argument("--granularity", choices=["class", "sample"], default="class")
    parser.add_argument("--victims", nargs="+", default=["small-cnn"])
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--clean", action="store_true", help="train on the clean photos too")
    args = parser.parse_args()
    data, entries, _ = load_image_set(scan_folder(args.train), args.resolution)
    test, _, _ = load_image_set(scan_folder(args.test), args.resolution)
    pick = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.images].sort().values
    data, entries = data.select(pick), [entries[i] for i in pick.tolist()]
    step = max(1, len(data) // args.looked_at)
    paths = [(entry.path, key) for entry, key in zip(entries, data.keys, strict=True)][::step]
    print(f"{len(data)} photos, epsilon {args.epsilon:g}, looks on {len(paths)} of them", flush=True)

    def judge(name: str, images: torch.Tensor, note: str) -> None:
        for victim in args.victims:
            scores = [accuracy(images, data, test, victim, seed) for seed in range(args.seeds)]
            print(f"{name}: {victim} {np.mean(scores):.3f} ({min(scores):.3f} - {max(scores):.3f})", flush=True)
        print(f"  {note}", flush=True)

    if args.cosines:
        TintBound.__init__.__kwdefaults__["cosines"] = args.cosines  # type: ignore[index]
    if args.clean:
        judge("clean", data.images, "")
    for tint in args.tints:
        begun = time.perf_counter()
        method = create_method(
            "emn", budget=Budget.from_levels(args.epsilon), granularity=args.granularity, seed=0, tint=tint
        )
        bank = method.fit(data)
        seconds = time.perf_counter() - begun
        made = bank.report["self_check"]["attempts_made"]
        note = f"{looks(bank, paths)}; fitted in {seconds:.0f} s, {made} attempts"
        judge(f"tint {tint:g}", protected_by(bank, data), note)


if __name__ == "__main__":
    main()
