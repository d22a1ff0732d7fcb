"""All methods on CIFAR-10: what a trainer learns from protected pictures alone, and from mixes with clean ones.

For every seed: a subset of CIFAR-10, perturbations fitted to all of it by each method, and victims that train on it. In
a mix a share of the pictures is protected and the rest clean, one version a picture for ever; it is compared, at equal
optimiser steps, with the clean rest alone, with all pictures clean, and with a share of random noise. The marginal
value ("worth") is what the share adds to the clean rest, over what clean ones would add: 1 is as good as clean, 0 adds
nothing, less does harm. Where clean ones add less than two points it is undefined.

    python benchmarks/cifar_methods.py --images 3000 --shares 0.2 0.5 0.8 --seeds 3
    python benchmarks/cifar_methods.py --images 3000 --arms t2ue-class t2ue-sample --generator GENERATOR
    python benchmarks/cifar_methods.py --images 1000 --seeds 1 --arms noise beo beo-paper --surrogate small-cnn

All of CIFAR-10 with ``resnet18`` as surrogate and victim, on a GPU (bf16), and a trial on a CPU:

    python benchmarks/cifar_methods.py --images 50000 --tests 10000 --seeds 1 --surrogate resnet18 --victims resnet18 \\
        --epochs 24 --device cuda --workers 1
    python benchmarks/cifar_methods.py --images 100 --tests 100 --seeds 1 --surrogate small-cnn --victims resnet18 \\
        --epochs 1 --rounds 1 --shares 0.5
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from cifar import DEFAULT_FILE, Cifar
from rows import Row, finish

FITTED = {
    "noise": ("noise", "sample"),
    "emn-class": ("emn", "class"),
    "emn-sample": ("emn", "sample"),
    "uc": ("uc", "cluster"),
    "beo": ("beo", "sample"),
    "t2ue-class": ("t2ue", "class"),
    "t2ue-sample": ("t2ue", "sample"),
    "uc-paper": ("uc", "cluster"),
    "beo-paper": ("beo", "sample"),
}
"""Method and granularity of each arm; ``-paper`` stands for ``preset="paper"``, which takes hours on a CPU."""
TRAINED = ("emn", "uc", "beo")
"""Methods that train a surrogate and go in rounds; t2ue comes with a generator that was trained before."""

LEAST_GAP = 0.02
COMMON = ("data", "work", "images", "tests", "epsilon", "surrogate", "device", "epochs", "rounds", "generator")


@lru_cache
def weights_of(generator: Path) -> str:
    """Eight digits that tell its weights from others."""
    from bitterant.protect.methods.t2ue.source import generator_folder

    return generator_folder(generator)[1][:8]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One fit, or with a victim one training: on a part of the pictures (``kept``), a share of them protected."""

    data: Path
    work: Path
    images: int
    tests: int
    epsilon: float
    surrogate: str | None
    device: str
    epochs: float | None
    rounds: int | None
    generator: Path | None
    arm: str
    seed: int
    victim: str = ""
    share: float = 1.0
    kept: float = 1.0

    @property
    def fitted(self) -> str:
        """The fit that this depends on."""
        rounds = "" if self.rounds is None else f"-{self.rounds}"
        arm = f"{self.arm}-{weights_of(self.generator)}" if self.generator and self.arm.startswith("t2ue") else self.arm
        return f"{self.images}{rounds}-{self.epsilon:g}-{self.surrogate or 'default'}-{self.device}-{arm}-{self.seed}"

    @property
    def id(self) -> str:
        if not self.victim:
            return self.fitted
        length = "default" if self.epochs is None else f"{self.epochs:g}"
        return f"{self.fitted}/{self.share:g}/{self.kept:g}/{self.victim}/{length}/{self.tests}"


def craft(job: Job) -> Row:
    import torch
    from crafting import protected_by

    from bitterant.imaging import Budget, ImageSet
    from bitterant.protect import create_method
    from bitterant.records.processes import tune_allocator

    tune_allocator()
    if job.device == "cpu":
        torch.set_num_threads(1)
    method, granularity = FITTED[job.arm]
    cifar = Cifar(job.data)
    images, labels = cifar.train(job.seed, job.images)
    dataset = ImageSet.from_tensors(images, labels, classes=cifar.classes)
    options: dict[str, Any] = {"preset": "paper"} if job.arm.endswith("-paper") else {}
    if job.surrogate is not None and method in TRAINED:
        # Without weights a network's features put nothing together: `uc` keeps its own, and takes ours for the labels.
        options["label_surrogate" if method == "uc" else "surrogate"] = job.surrogate
    if job.rounds is not None and method in TRAINED:
        options["rounds"] = job.rounds
        options |= {"estimate_images": 0} if method == "beo" else {"attempts": 0}
    if job.generator is not None and method == "t2ue":
        options["generator"] = str(job.generator)
    budget = Budget.from_levels(job.epsilon)
    maker = create_method(method, granularity=granularity, seed=job.seed, device=job.device, budget=budget, **options)  # type: ignore[arg-type]
    begun = time.perf_counter()
    bank = maker.fit(dataset)
    seconds = time.perf_counter() - begun
    np.save(job.work / f"{job.fitted}.npy", protected_by(bank, dataset).numpy())
    return {"id": job.id, "craft_seconds": round(seconds, 1)}


def train(job: Job) -> Row:
    import torch

    from bitterant.attacks.training import fit_recipe
    from bitterant.records.processes import tune_allocator
    from bitterant.surrogates import create_surrogate, recipe_for, train_classifier

    tune_allocator()
    if job.device == "cpu":
        torch.set_num_threads(1)
    cifar = Cifar(job.data)
    images, labels = cifar.train(job.seed, job.images)
    tests, answers = cifar.test(job.seed, job.tests)
    # The same order for all: larger shares hold the smaller ones, and all arms cover the same pictures.
    order = torch.randperm(job.images, generator=torch.Generator().manual_seed(77_000 + job.seed))
    covered, rest = order[: round(job.share * job.images)], order[round((1 - job.kept) * job.images) :]
    if job.arm != "clean":
        images[covered] = torch.from_numpy(np.load(job.work / f"{job.fitted}.npy"))[covered]
    if job.kept < 1:
        images, labels = images[rest], labels[rest]
    # Equal steps in every arm: those of the whole set, also for a part of it.
    recipe = fit_recipe(recipe_for(job.victim), job.images)
    if job.epochs is not None:
        recipe = replace(recipe, batch_size=128, steps=max(1, round(job.epochs * job.images / 128)))
    recipe = replace(recipe, batch_size=min(recipe.batch_size, len(images)))
    model = create_surrogate(job.victim, num_classes=10, resolution=32, seed=900_000 + job.seed)
    result = train_classifier(
        model, images, labels, recipe, seed=job.seed, test_images=tests, test_labels=answers, evals=1,
        device=job.device,
    )  # fmt: skip
    accuracy = float((result.predictions == answers).float().mean())
    return {
        "id": job.id,
        "accuracy": round(accuracy, 4),
        "train_accuracy": round(result.train_accuracy, 4),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
    }


def against(values: list[float], others: list[float]) -> str:
    """Differences in points, seed by seed."""
    return said([100 * (a - b) for a, b in zip(values, others, strict=True)], 1)


def said(values: list[float], digits: int = 3) -> str:
    mean, least, most = (f"{value:.{digits}f}" for value in (np.mean(values), min(values), max(values)))
    return f"{mean} ({least} to {most})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--work", type=Path, default=Path("build/cifar-methods"))
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--shares", type=float, nargs="*", default=[], help="protected shares of mixes")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--surrogate", default=None, help="default: each method's own")
    parser.add_argument("--victims", nargs="*", default=["small-cnn"])
    parser.add_argument("--epochs", type=float, default=None, help="of a victim; default: as `bitterant verify`")
    parser.add_argument("--rounds", type=int, default=None, help="of all methods, for a trial; default: their own")
    parser.add_argument("--generator", type=Path, default=None, help="of t2ue; default: the one that comes with it")
    usual = [arm for arm in FITTED if not arm.endswith("-paper")]
    parser.add_argument("--arms", nargs="*", choices=[*FITTED], default=usual)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    if not all(0 < share < 1 for share in args.shares):
        parser.error("shares lie between 0 and 1")
    args.work.mkdir(parents=True, exist_ok=True)
    seeds = range(args.seeds)
    common: dict[str, Any] = {field: getattr(args, field) for field in COMMON}

    def job(arm: str, seed: int, victim: str = "", *, share: float = 1.0, kept: float = 1.0) -> Job:
        return Job(arm=arm, seed=seed, victim=victim, share=share, kept=kept, **common)

    fits = [job(arm, seed) for seed in seeds for arm in args.arms]
    made = finish(craft, fits, args.work / "crafted.jsonl", workers=args.workers)
    trainings: list[Job] = []
    for seed in seeds:
        for victim in args.victims:
            trainings.append(job("clean", seed, victim))
            for share in args.shares:
                trainings.append(job("clean", seed, victim, kept=1 - share))
            for arm in args.arms:
                trainings += [job(arm, seed, victim, share=share) for share in (1.0, *args.shares)]
    rows = finish(train, trainings, args.work / "victims.jsonl", workers=args.workers)

    def accuracies(arm: str, victim: str, *, share: float = 1.0, kept: float = 1.0) -> list[float]:
        return [rows[job(arm, seed, victim, share=share, kept=kept).id]["accuracy"] for seed in seeds]

    for arm in args.arms:
        seconds = [made[job(arm, seed).id]["craft_seconds"] for seed in seeds]
        print(f"{arm}: fitted in {said(seconds, 1)} s on {args.device}")
    for victim in args.victims:
        clean = accuracies("clean", victim)
        parts = {share: accuracies("clean", victim, kept=1 - share) for share in args.shares}
        print(f"\n{args.images} CIFAR-10 images, epsilon {args.epsilon:g}, {victim}, {args.seeds} seeds: accuracy on "
              f"{args.tests} clean images, mean (least to most)")  # fmt: skip
        heads = ["arm", "all", *(f"share {s:g} | against rest | worth" for s in args.shares)]
        print(f"| {' | '.join(heads)} |")
        print("|---|---|" + "---|" * (3 * len(args.shares)))
        cells = [f"{said(clean)} | {against(clean, parts[share])} | 1" for share in args.shares]
        print(f"| {' | '.join(['clean', said(clean), *cells])} |")
        if args.shares:
            rest = " | ".join(f"{said(parts[share])} | 0 | 0" for share in args.shares)
            print(f"| clean rest alone | | {rest} |")
        for arm in args.arms:
            cells = []
            for share in args.shares:
                mixed = accuracies(arm, victim, share=share)
                gap = np.mean(clean) - np.mean(parts[share])
                worth = f"{(np.mean(mixed) - np.mean(parts[share])) / gap:.2f}" if gap > LEAST_GAP else "undefined"
                cells.append(f"{said(mixed)} | {against(mixed, parts[share])} | {worth}")
            print(f"| {' | '.join([arm, said(accuracies(arm, victim)), *cells])} |")


if __name__ == "__main__":
    main()
