"""CIFAR-10 as PNG folders, protected through the folder run, attacked by two victims, plain and after cheap transforms.

Arms: clean, random noise (sample-wise), EMN class-wise, EMN sample-wise; three protection seeds, two victim seeds.
Victims train on the decoded PNG files as long as ``bitterant verify`` would train them, and are tested on 2,000 clean
test images (JPEG and grayscale are applied to training and test images of every arm). Finished rows are kept in the
output file (JSON lines), so that an interrupted run goes on.

    python benchmarks/emn_cifar.py --images 1000
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rows import Row, finish

ARMS = ("clean", "noise", "emn-class", "emn-sample")
ADVERSARIES = ("none", "jpeg", "grayscale")


@dataclass(frozen=True)
class Job:
    data: Path
    work: Path
    images: int
    tests: int
    arm: str
    protection_seed: int
    victim: str
    victim_seed: int
    adversary: str

    @property
    def id(self) -> str:
        return f"{self.images}/{self.arm}/{self.protection_seed}/{self.victim}/{self.victim_seed}/{self.adversary}"


def folders(job: Job) -> tuple[Path, Path]:
    source = job.work / f"cifar-{job.images}"
    return source, source if job.arm == "clean" else job.work / f"cifar-{job.images}-{job.arm}-{job.protection_seed}"


def protect(job: Job) -> str:
    """Make the folder of an arm; returns what the run says."""
    import torch
    from cifar import Cifar

    from bitterant.protect import protect_folder

    torch.set_num_threads(1)
    cifar = Cifar(job.data)
    source, target = folders(job)
    cifar.write_folder(source, *cifar.train(0, job.images))
    if job.arm == "clean":
        return ""
    method = "noise" if job.arm == "noise" else "emn"
    granularity = "class" if job.arm == "emn-class" else "sample"
    run = protect_folder(source, target, method=method, granularity=granularity, seed=job.protection_seed, device="cpu")  # type: ignore[call-overload]
    return f"{target.name}: {json.dumps(run.to_json()['counts'])}, over budget {run.over_budget}, {run.seconds:.1f} s"


def attack(job: Job) -> Row:
    import torch
    from cifar import Cifar

    from bitterant.attacks.adversaries import create_adversary
    from bitterant.attacks.training.victims import fit_recipe
    from bitterant.imaging import load_image_set, scan_folder
    from bitterant.surrogates import create_surrogate, recipe_for, train_classifier

    torch.set_num_threads(1)
    cifar = Cifar(job.data)
    dataset, _, problems = load_image_set(scan_folder(folders(job)[1]), 32)
    assert not problems
    tests, test_labels = cifar.test(0, job.tests)
    adversary = create_adversary(job.adversary)

    def seen(images: torch.Tensor) -> torch.Tensor:
        rows = adversary.transform(images.numpy())
        return torch.from_numpy(np.ascontiguousarray(rows))

    order = sorted(cifar.classes)  # the folder sorts class names; the npz has its own order
    relabel = torch.tensor([order.index(name) for name in cifar.classes])
    model = create_surrogate(job.victim, num_classes=10, resolution=32, seed=900_000 + job.victim_seed)
    assert dataset.labels is not None
    result = train_classifier(
        model,
        seen(dataset.images),
        dataset.labels,
        fit_recipe(recipe_for(job.victim), len(dataset)),
        seed=job.victim_seed,
        test_images=seen(tests),
        test_labels=relabel[test_labels],
        evals=1,
    )
    accuracy = float((result.predictions == relabel[test_labels]).float().mean())
    return {"id": job.id, "accuracy": round(accuracy, 4), "train_accuracy": round(result.train_accuracy, 4),
            "steps": result.steps, "seconds": round(result.seconds, 1)}  # fmt: skip


def jobs_of(args: argparse.Namespace) -> list[Job]:
    jobs = []
    for arm in ARMS:
        for seed in range(1 if arm == "clean" else args.protection_seeds):
            for victim in args.victims:
                for victim_seed in range(args.victim_seeds):
                    for adversary in ADVERSARIES:
                        if adversary != "none" and (arm == "noise" or victim != args.victims[0]):
                            continue
                        jobs.append(Job(args.data, args.work, args.images, args.tests, arm, seed, victim, victim_seed,
                                        adversary))  # fmt: skip
    return jobs


def main() -> None:
    from cifar import DEFAULT_FILE

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--work", type=Path, default=Path("build/cifar"))
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--tests", type=int, default=2000)
    parser.add_argument("--protection-seeds", type=int, default=3)
    parser.add_argument("--victim-seeds", type=int, default=2)
    parser.add_argument("--victims", nargs="*", default=["small-cnn", "convmixer"])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    out = args.out or args.work / "emn_cifar.jsonl"

    jobs = jobs_of(args)
    with multiprocessing.get_context("spawn").Pool(args.workers) as pool:
        sources = {folders(j)[1]: j for j in jobs}
        protect(jobs[0])  # the originals first
        for line in pool.imap(protect, [j for j in sources.values() if j.arm != "clean"]):
            print(line, flush=True)
    rows = finish(attack, jobs, out, workers=args.workers)
    print(
        f"\n{args.images} images, test accuracy on {args.tests} clean images: mean (min-max) over protection x victim"
    )
    print("| arm | " + " | ".join([*args.victims, *(f"{args.victims[0]}, {a}" for a in ADVERSARIES[1:])]) + " |")
    print("|---|" + "---|" * (len(args.victims) + len(ADVERSARIES) - 1))
    columns = [(v, "none") for v in args.victims] + [(args.victims[0], a) for a in ADVERSARIES[1:]]
    for arm in ARMS:
        cells = []
        for victim, adversary in columns:
            values = [
                rows[j.id]["accuracy"] for j in jobs if (j.arm, j.victim, j.adversary) == (arm, victim, adversary)
            ]
            cells.append(f"{np.mean(values):.3f} ({min(values):.3f}-{max(values):.3f})" if values else "not run")
        print(f"| {arm} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
