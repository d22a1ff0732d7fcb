"""How many classes a code book carries: how well a network reads the codes, where there is nothing else to read.

Pictures get made-up classes, drawn at random, so that what they show says nothing about them. They are protected with a
code book of so many classes; a victim is trained on the copies and tested on copies of pictures that it never saw. What
it scores above chance is read from the textures alone. Each adversary is what the trainer does to both. A book that is
read badly is a weak shortcut: the network learns the pictures instead.

    python benchmarks/texture_capacity.py --classes 2 10 50 100 200
    python benchmarks/texture_capacity.py --photos CLOTHING/train --resolution 64 112 --classes 10 50 100
    python benchmarks/texture_capacity.py --classes 4 --images 120 --tests 60 --adversaries none --scale 0.05
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from cifar import DEFAULT_FILE, Cifar

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.training import create_victim, victim_recipe
from bitterant.imaging.codec import decode
from bitterant.imaging.perturb import add_delta, squash
from bitterant.imaging.picture import Picture
from bitterant.protect import TextureBank
from bitterant.records.processes import tune_allocator
from bitterant.surrogates import train_classifier


def protected(pictures: list[Picture], labels: list[int], bank: TextureBank, side: int) -> np.ndarray:
    """uint8 ``[N, 3, side, side]``: each picture with a texture of its class, at the victim's resolution."""
    copies = []
    for number, (picture, label) in enumerate(zip(pictures, labels, strict=True)):
        levels = bank.levels_on(picture, f"{bank.classes[label]}/{number}")
        copies.append(squash(add_delta(picture, levels, bank.budget), side))
    return np.ascontiguousarray(np.stack(copies).transpose(0, 3, 1, 2))


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--photos", type=Path, default=None, help="a folder of photos, any depth, instead of CIFAR-10")
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 10, 50, 100, 200])
    parser.add_argument("--resolution", type=int, nargs="+", default=None, help="of the victim; default 32, or 64")
    parser.add_argument("--images", type=int, default=3000, help="pictures to train on; all but the tests at most")
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--adversaries", nargs="+", default=["none", "jpeg:10", "down-up:0.5"])
    parser.add_argument("--victim", default="small-cnn")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of training steps")
    args = parser.parse_args(words)
    tune_allocator()
    if args.photos is None:
        cifar = Cifar(args.data)
        images = torch.cat([cifar.train(0, args.images)[0], cifar.test(0, args.tests)[0]])
        pictures = [Picture(image) for image in images.permute(0, 2, 3, 1).numpy()]
    else:
        files = sorted(path for path in args.photos.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        some = np.random.default_rng(0).permutation(len(files))[: args.images + args.tests]
        pictures = [decode(files[number]) for number in some]
    count = len(pictures) - args.tests
    if count < 1:
        parser.error(f"there are {len(pictures)} pictures, and {args.tests} are to be tests")
    sides = args.resolution or [32 if args.photos is None else 64]
    print(f"{count} pictures to train on, {args.tests} tests, {args.victim}, {args.seeds} seeds: per cent read right")
    print(f"| side | classes | chance | {' | '.join(args.adversaries)} |")
    print("|---|---|---|" + "---|" * len(args.adversaries))
    for side in sides:
        for classes in args.classes:
            row = []
            labels = np.random.default_rng(classes).integers(0, classes, len(pictures))
            labels[:classes] = np.arange(classes)  # every class occurs
            bank = TextureBank.of_classes([f"{number:04d}" for number in range(classes)], bytes(range(16)))
            copies = protected(pictures, labels.tolist(), bank, side)
            for name in args.adversaries:
                seen = copies if name == "none" else create_adversary(name).transform(copies)
                tensors, targets = torch.from_numpy(np.asarray(seen)), torch.from_numpy(labels)
                found = []
                for seed in range(args.seeds):
                    result = train_classifier(
                        create_victim(args.victim, num_classes=classes, resolution=side, seed=seed),
                        tensors[:count], targets[:count], victim_recipe(args.victim, count, scale=args.scale),
                        seed=seed, test_images=tensors[count:], test_labels=targets[count:], evals=1,
                    )  # fmt: skip
                    found.append(100 * (result.curve[-1].test_accuracy or 0.0))
                row.append(f"{np.mean(found):.1f} ({min(found):.1f}-{max(found):.1f})")
            print(f"| {side} | {classes} | {100 / classes:.1f} | {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
