"""What a tint of blue adds to the textures: the same pictures with and without it, against steps that a trainer takes.

CIFAR-10 is protected by the method ``texture`` with each share of colour; a victim is trained on each copy, after each
adversary, and tested on clean pictures. Unlike ``robustness.py`` this trains on clean pictures only where ``clean`` is
among the copies, and writes down each training as soon as it is there, so that a run that was stopped goes on. Printed
are the accuracy at the end, and in brackets that at the best of ten moments, told by the test answers: early stopping.

    python benchmarks/texture_colour.py --copies 0 1 --victims convmixer small-cnn --adversaries none tv:0.1 jpeg:10
    python benchmarks/texture_colour.py --copies clean 0 0.5 1 --images 120 --tests 60 --scale 0.05 --adversaries none
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cifar import DEFAULT_FILE, Cifar
from rows import Row, finish
from torch import Tensor

from bitterant.attacks.adversaries import create_adversary
from bitterant.attacks.adversaries.learning import PlainTraining, TrainingJob
from bitterant.attacks.training import victim_recipe
from bitterant.attacks.training.victims import victim_seed
from bitterant.imaging import Budget, ImageSet
from bitterant.protect.methods.texture import Texture
from bitterant.records.processes import tune_allocator

LEVELS = 8.0
"""A pixel may move by: the budget at which tints were chosen."""

ADVERSARIES = ("none", "tv:0.1", "grayscale", "jpeg:10", "down-up:0.5", "bit-depth:2", "projection", "mixup", "nlm:12")


@dataclass(frozen=True)
class Training:
    """A copy of the pictures (a share of colour, or ``clean``), what the trainer does, and with which network."""

    copy: str
    adversary: str
    victim: str
    data: Path
    images: int
    tests: int
    scale: float
    seed: int

    @property
    def id(self) -> str:
        about = f"{self.images} {self.tests} {self.scale:g} {self.seed}"
        return f"{self.copy} {self.adversary} {self.victim} {about} {LEVELS:g}"


@lru_cache(maxsize=1)
def pictures(data: Path, images: int, tests: int) -> tuple[ImageSet, Tensor, Tensor]:
    """The pictures to be protected, and the tests."""
    cifar = Cifar(data)
    train, labels = cifar.train(0, images)
    return ImageSet.from_tensors(train, labels, classes=cifar.classes), *cifar.test(0, tests)


@lru_cache(maxsize=4)
def copies(copy: str, data: Path, images: int, tests: int) -> np.ndarray:
    """uint8 ``[N, 3, 32, 32]``, protected with this share of colour."""
    clean, *_ = pictures(data, images, tests)
    if copy == "clean":
        return clean.images.numpy()
    bank = Texture(colour=float(copy), seed=0, budget=Budget.from_levels(LEVELS)).fit(clean)
    return bank.apply_set(clean.images, clean.keys).numpy()


@dataclass(frozen=True)
class Staged:
    """What an adversary works on, as far as those that use no clean pictures ask."""

    labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    protected: np.ndarray
    test: np.ndarray
    seed: int = 0

    def pictures(self, which: str) -> np.ndarray:
        return {"protected": self.protected, "test": self.test}[which]


def train(training: Training) -> Row:
    """Train and test, on one thread."""
    torch.set_num_threads(1)
    which = (training.data, training.images, training.tests)
    clean, tests, test_labels = pictures(*which)
    labels = clean.labels
    assert labels is not None
    adversary = create_adversary(training.adversary)
    staged: Any = Staged(
        labels.numpy(), test_labels.numpy(), clean.classes, copies(training.copy, *which), tests.numpy()
    )
    composed, _ = adversary.compose("protected", staged)
    tested = adversary.compose_test("protected", staged)
    job = TrainingJob(
        arm="protected",
        victim=training.victim,
        classes=len(clean.classes),
        images=torch.from_numpy(np.ascontiguousarray(adversary.transform(composed))),
        labels=labels,
        test_images=torch.from_numpy(np.ascontiguousarray(adversary.transform(tested))),
        test_labels=test_labels,
        clean_subset_images=None,
        clean_subset_labels=None,
        recipe=victim_recipe(training.victim, len(labels), scale=training.scale),
        seed=victim_seed(0, training.seed),
        evals=10,
        device="cpu",
    )
    result = (adversary.learner() or PlainTraining())(job)
    curve = [point.test_accuracy or 0.0 for point in result.curve]
    return {"id": training.id, "end": curve[-1], "best": max(curve), "curve": curve}


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--copies", nargs="+", default=["0", "1"], help="shares of colour, or 'clean'")
    parser.add_argument("--adversaries", nargs="+", default=list(ADVERSARIES))
    parser.add_argument("--victims", nargs="+", default=["convmixer", "small-cnn"])
    parser.add_argument("--images", type=int, default=3000)
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the victim")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of training steps")
    parser.add_argument("--rows", type=Path, default=Path("build/texture_colour.jsonl"), help="of what was trained")
    args = parser.parse_args(words)
    tune_allocator()
    rest = args.data, args.images, args.tests, args.scale
    trainings = {
        (victim, adversary, copy): [Training(copy, adversary, victim, *rest, seed) for seed in args.seeds]
        for victim in args.victims
        for adversary in args.adversaries
        for copy in args.copies
    }
    rows = finish(train, [each for group in trainings.values() for each in group], args.rows, workers=1)
    print(
        f"{args.images} pictures, {args.tests} tests, {len(args.seeds)} victim seeds: per cent at the end (at the best)"
    )
    print(f"| victim | trainer | {' | '.join(args.copies)} |")
    print("|---|---|" + "---|" * len(args.copies))
    for victim in args.victims:
        for adversary in args.adversaries:
            found = [[rows[each.id] for each in trainings[victim, adversary, copy]] for copy in args.copies]
            cells = (" ".join(f"{100 * row['end']:.1f} ({100 * row['best']:.1f})" for row in group) for group in found)
            print(f"| {victim} | {adversary} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
