"""Does every protection seed work? A user gets one.

For each data subset and protection seed: fit EMN with default settings on CIFAR-10 images, put the perturbation on,
train a fresh victim of each architecture on the result, and test it on clean images. Finished rows are kept in the
output file (JSON lines), so that an interrupted run goes on. Two processes, one thread each.

    python benchmarks/emn_reliability.py --granularity class --images 1000 --subsets 0 1 2 --seeds 10
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import time
from pathlib import Path

import numpy as np


def one(job: tuple[Path, str, int, int, int, int, tuple[str, ...]]) -> dict[str, object]:
    import torch
    from cifar import Cifar
    from crafting import protected_by

    from bitterant.imaging import ImageSet
    from bitterant.protect.methods import create_method
    from bitterant.surrogates import create_surrogate, recipe_for, train_classifier

    torch.set_num_threads(1)
    file, granularity, subset, seed, count, tests, victims = job
    cifar = Cifar(file)
    images, labels = cifar.train(subset, count)
    test_images, test_labels = cifar.test(subset, tests)
    row: dict[str, object] = {"granularity": granularity, "subset": subset, "seed": seed, "images": count}
    row["tests"] = tests
    begun = time.perf_counter()
    if granularity in ("class", "sample"):
        dataset = ImageSet.from_tensors(images, labels, classes=cifar.classes)
        bank = create_method("emn", granularity=granularity, seed=seed, device="cpu").fit(dataset)  # type: ignore[arg-type]
        protected = protected_by(bank, dataset)
        check = bank.report["self_check"]
        row["attempts"] = check["attempts_made"]
        row["self_check_residual"] = check["results"][check["chosen_attempt"]]["residual"]
    else:
        protected = images
    row["craft_seconds"] = round(time.perf_counter() - begun, 1)
    for victim in victims:
        model = create_surrogate(victim, num_classes=10, resolution=32, seed=900_000 + seed)
        result = train_classifier(
            model, protected, labels, recipe_for(victim), seed=seed, test_images=test_images, test_labels=test_labels,
            evals=1,
        )  # fmt: skip
        row[victim] = round(float((result.predictions == test_labels).float().mean()), 4)
        row[f"{victim}_train"] = round(result.train_accuracy, 4)
    return row


def main() -> None:
    from cifar import DEFAULT_FILE

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--granularity", choices=["class", "sample", "clean"], default="class")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--subsets", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--victims", nargs="*", default=["small-cnn", "convmixer"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("emn_reliability.jsonl"))
    args = parser.parse_args()

    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    if any(r.get("tests", args.tests) != args.tests or any(v not in r for v in args.victims) for r in rows):
        raise SystemExit(f"{args.out} holds rows of other --tests or --victims. Name another file.")
    done = {(r["granularity"], r["subset"], r["seed"], r["images"]) for r in rows}
    jobs = [
        (args.data, args.granularity, subset, seed, args.images, args.tests, tuple(args.victims))
        for seed in range(args.seeds)
        for subset in args.subsets
        if (args.granularity, subset, seed, args.images) not in done
    ]
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        for row in pool.imap(one, jobs):
            rows.append(row)
            with args.out.open("a") as out:
                out.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
    mine = [r for r in rows if r["granularity"] == args.granularity and r["images"] == args.images]
    for victim in args.victims:
        values = np.array([r[victim] for r in mine])
        print(f"{args.granularity} {victim}: n={len(values)} mean {values.mean():.3f} min {values.min():.3f} "
              f"max {values.max():.3f}")  # fmt: skip
    seconds = [r["craft_seconds"] for r in mine]
    print(f"craft seconds: median {np.median(seconds):.1f}, max {max(seconds):.1f}")


if __name__ == "__main__":
    main()
