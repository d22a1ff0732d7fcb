"""A method and an adversary of your own, measured beside ``texture``: ``python samples/own_comparison.py``.

The method adds upright or level stripes, whose direction and period are the class. The adversary takes the mean of
every row and of every column out of each picture, and with them all that such stripes are. The pictures are drawn, so
that the script runs anywhere in some minutes.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import bitterant
from bitterant import Budget, ImageSet
from bitterant.attacks import Adversary, register_adversary, verify_sets
from bitterant.cli.demo_pictures import write_pictures
from bitterant.imaging import load_image_set, scan_folder
from bitterant.protect import Method, create_method, register_method

RESOLUTION = 32


# --8<-- [start:method]
@register_method
class Stripes(Method):
    """Level or upright stripes: the direction and the period are the class."""

    name = "stripes"
    needs = "labels"
    granularities = ("class",)

    def _fit(self, dataset: ImageSet, context: Any) -> Tensor:
        # One row for each class, [K, 3, R, R]. The base class brings it within the budget and checks it.
        side = dataset.resolution
        place = (torch.arange(side) + 0.5) / side
        rows = []
        for number in range(len(dataset.classes)):
            wave = torch.sin(2 * torch.pi * (2 + number // 2) * place).sign().expand(side, side)
            rows.append(wave if number % 2 else wave.T)
        return (torch.stack(rows)[:, None] * self.budget.epsilon).expand(-1, 3, side, side)


# --8<-- [end:method]


# --8<-- [start:adversary]
@register_adversary
class TakeMeans(Adversary):
    """Takes the mean of every row and of every column out of each picture."""

    prefix = "means"
    tier = "transforms"
    source = "this script"
    description = "the mean of every row and column taken out"

    def transform(self, images: np.ndarray) -> np.ndarray:
        # uint8 [N, 3, R, R] in and out; it is applied to the training pictures of every arm and to the test pictures.
        levels = images.astype(np.float32)
        levels -= levels.mean(axis=2, keepdims=True)
        levels -= levels.mean(axis=3, keepdims=True)
        return (levels + 128.0).round().clip(0, 255).astype(np.uint8)


# --8<-- [end:adversary]


# --8<-- [start:compare]
def protect(data: ImageSet, name: str) -> ImageSet:
    """The same pictures, labels and keys with the perturbations of a method."""
    bank = create_method(name, budget=Budget(8 / 255), seed=0).fit(data)
    images = [
        bank.apply(image.permute(1, 2, 0).numpy(), key) for image, key in zip(data.images, data.keys, strict=True)
    ]
    return ImageSet.from_tensors(np.stack(images), data.labels, classes=data.classes, keys=data.keys)


def compare(train: ImageSet, test: ImageSet, cells: Path) -> None:
    """Accuracy on clean test pictures, for each method and adversary."""
    for name in ("stripes", "texture"):
        report = verify_sets(
            train,
            protect(train, name),
            test,
            preset="smoke",  # one seed: figures without a grade
            victims=["small-cnn"],
            adversaries=["means"],
            cells=cells,  # trainings on the clean pictures are shared by the two
            workers=1,  # other processes do not know an adversary that is registered here
        )
        for condition in report.conditions:
            clean, protected = (condition.arms[arm].accuracy.estimate for arm in ("clean", "protected"))
            print(f"{name:<8} {condition.adversary:<10} clean {clean:4.0%}   protected {protected:4.0%}")


# --8<-- [end:compare]


def main() -> None:
    print("bitterant", bitterant.__version__)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_pictures(work / "train", per_class=60, seed=0)
        write_pictures(work / "test", per_class=30, seed=1)
        train, _, _ = load_image_set(scan_folder(work / "train"), RESOLUTION)
        test, _, _ = load_image_set(scan_folder(work / "test"), RESOLUTION)
        compare(train, test, work / "cells")


if __name__ == "__main__":
    main()
