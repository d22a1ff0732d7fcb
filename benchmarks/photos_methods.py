"""Photos in class folders: what do the objectives of ``uc`` and text alone leave to trainers, next to EMN?

``uc`` sees no labels, ``t2ue`` sees the names of the classes and no picture, ``emn`` sees pictures and labels. Victims
from scratch then train under the true classes, under superclasses (pairs of classes put together by name) and under a
random regrouping, three seeds each, and are tested on clean photos; so do a linear probe and nearest neighbours on the
features of ``uc``'s surrogate. Clusters are found at 224 px, everything else happens at one working resolution, in
memory.

    python benchmarks/photos_methods.py TRAIN TEST --epsilon 8
    python benchmarks/photos_methods.py TRAIN TEST --arms noise t2ue-class t2ue-sample --victims small-cnn
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from crafting import protected_by

from bitterant.attacks.training import fit_recipe
from bitterant.imaging import Budget, load_image_set, scan_folder
from bitterant.protect import create_method
from bitterant.records.processes import tune_allocator
from bitterant.surrogates import create_surrogate, recipe_for, train_classifier
from bitterant.surrogates.probes import probe

ARMS = ["noise", "emn", "uc-labels", "uc-labels-20", "uc-joint", "uc-features"]


@torch.no_grad()
def features(images: torch.Tensor) -> np.ndarray:
    """Of ``efficientnet-lite0``, the surrogate of ``uc``."""
    trunk = create_surrogate("efficientnet-lite0", num_classes=2, resolution=images.shape[-1], seed=0).trunk().eval()
    return torch.cat([trunk(part.float() / 255) for part in images.split(64)]).numpy()


def relabellings(classes: int, seed: int) -> dict[str, torch.Tensor]:
    order = torch.randperm(classes, generator=torch.Generator().manual_seed(seed))
    regroup = torch.empty(classes, dtype=torch.int64)
    regroup[order] = torch.arange(classes) % 3
    return {"classes": torch.arange(classes), "superclasses": torch.arange(classes) // 2, "random 3 groups": regroup}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", type=Path, metavar="TRAIN")
    parser.add_argument("test", type=Path, metavar="TEST")
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--victims", nargs="*", default=["small-cnn", "linear", "neighbours"])
    parser.add_argument("--tasks", nargs="*", default=None, help="which labels to train on; default: all three kinds")
    parser.add_argument("--generator", type=Path, default=None, help="of t2ue; default: the one that comes with it")
    parser.add_argument("--fit-seed", type=int, default=0, help="of every arm's fit")
    parser.add_argument("--images", type=int, default=0, help="at most so many training photos; 0: all")
    parser.add_argument(
        "--arms", nargs="*", default=ARMS, help="METHOD, METHOD-GRANULARITY, uc-OBJECTIVE, or uc-OBJECTIVE-CLUSTERS"
    )
    args = parser.parse_args()
    tune_allocator()
    look = create_method("uc").feature_extractor(args.resolution)
    data, _, _ = load_image_set(scan_folder(args.train), args.resolution, describe=look)
    test, _, _ = load_image_set(scan_folder(args.test), args.resolution)
    if args.images:
        pick = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))[: args.images].sort().values
        data = data.select(pick)
    assert data.labels is not None
    assert test.labels is not None
    budget = Budget.from_levels(args.epsilon)
    versions = {"clean": data.images}
    for arm in args.arms:
        name, objective, clusters = (*arm.split("-"), "", "")[:3]
        options: dict[str, object] = {"objective" if name == "uc" else "granularity": objective} if objective else {}
        if clusters:
            options["clusters"] = int(clusters)
        if name == "t2ue" and args.generator is not None:
            options["generator"] = str(args.generator)
        begun = time.perf_counter()
        bank = create_method(name, budget=budget, seed=args.fit_seed, **options).fit(data)  # type: ignore[arg-type]
        print(f"{arm}: fitted in {time.perf_counter() - begun:.0f} s", flush=True)
        if "clusters" in bank.report:
            print(f"  {bank.report['clusters']}", flush=True)
        versions[arm] = protected_by(bank, data)
    seen = (
        {arm: features(images) for arm, images in versions.items()}
        if {"linear", "neighbours"} & {*args.victims}
        else {}
    )
    seen_test = features(test.images) if seen else np.zeros((0, 0), np.float32)
    maps = {
        name: mapping
        for name, mapping in relabellings(len(data.classes), seed=0).items()
        if args.tasks is None or name in args.tasks
    }
    print(f"{len(data)} photos, epsilon {args.epsilon:g}, {args.seeds} seeds: mean (least - most)")
    for task, mapping in maps.items():
        labels, answers = mapping[data.labels], mapping[test.labels]
        majority = float(torch.bincount(answers).max()) / len(answers)
        print(f"{task}: most frequent class {majority:.3f} of the test photos", flush=True)
        for victim in args.victims:
            for arm, images in versions.items():
                found = []
                for seed in range(args.seeds):
                    if victim in ("linear", "neighbours"):
                        _, predicted = probe(victim, seen[arm], labels.numpy(), seen_test, seed=seed)
                        found.append(float((predicted == answers.numpy()).mean()))
                        continue
                    model = create_surrogate(victim, num_classes=int(mapping.max()) + 1, resolution=args.resolution,
                                             seed=900_000 + seed)  # fmt: skip
                    result = train_classifier(
                        model, images, labels, fit_recipe(recipe_for(victim), len(images)), seed=seed,
                        test_images=test.images, test_labels=answers, evals=1,
                    )  # fmt: skip
                    found.append(float((result.predictions == answers).float().mean()))
                print(
                    f"  {victim:12s} {arm:12s} {np.mean(found):.3f} ({min(found):.3f} - {max(found):.3f})", flush=True
                )


if __name__ == "__main__":
    main()
