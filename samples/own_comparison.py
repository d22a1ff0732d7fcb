"""A method and an adversary of your own, measured beside ``texture``: ``python samples/own_comparison.py``.

The method shifts all pictures of a class by one colour. The adversary removes the mean colour of every picture, which
is exactly what the method relies on. The pictures are drawn, so that the script runs anywhere in some minutes.
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
class Tint(Method):
    """One colour for each class, the same on every pixel of every picture of it."""

    name = "tint"
    needs = "labels"
    granularities = ("class",)

    def _fit(self, dataset: ImageSet, context: Any) -> Tensor:
        # One row for each class, [K, 3, R, R]. The base class brings it within the budget and checks it.
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(0, 2, (len(dataset.classes), 3, 1, 1), generator=generator) * 2.0 - 1.0
        side = dataset.resolution
        return (signs * self.budget.epsilon).expand(-1, 3, side, side)


# --8<-- [end:method]


# --8<-- [start:adversary]
@register_adversary
class Centre(Adversary):
    """Gives every picture the same mean colour."""

    prefix = "centre"
    tier = "transforms"
    source = "this script"
    description = "the mean colour of every picture moved to mid-grey"

    def transform(self, images: np.ndarray) -> np.ndarray:
        # uint8 [N, 3, R, R] in and out; it is applied to the training pictures of every arm and to the test pictures.
        shift = 128.0 - images.mean(axis=(2, 3), keepdims=True)
        return (images + shift).round().clip(0, 255).astype(np.uint8)


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
    for name in ("noise", "tint", "texture"):
        report = verify_sets(
            train,
            protect(train, name),
            test,
            preset="smoke",  # one seed: figures without a grade
            victims=["small-cnn"],
            adversaries=["centre", "grayscale"],
            cells=cells,  # trainings on the clean pictures are shared by the three
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
