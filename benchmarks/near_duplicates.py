"""How often gate G5 takes different pictures for near-duplicates, and how many changed copies it finds, on CIFAR-10.

The two parts of CIFAR-10 do share pictures (3.3 % of the test part, arXiv 1902.00423), so what is found between subsets
is not all false: ``--save`` writes the pairs one below the other, to be looked at. Pairs of two classes are false.
For the rates of changed copies some training pictures are changed and looked up among all of them.

    python benchmarks/near_duplicates.py
    python benchmarks/near_duplicates.py --train 10000 --test 5000 --save pairs.png
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from cifar import DEFAULT_FILE, Cifar
from numpy.typing import NDArray
from PIL import Image

from bitterant.attacks.data.perceptual import CONFIRMED, near_duplicates

Pixels = NDArray[np.uint8]
Change = Callable[[Image.Image], Image.Image]


def jpeg(quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        return Image.open(buffer).convert("RGB")

    return change


def cut(share: float, rng: np.random.Generator) -> Change:
    """A crop at a random place, back at full size."""

    def change(image: Image.Image) -> Image.Image:
        size = image.width * share
        left, top = rng.uniform(0, image.width - size, 2)
        return image.resize(image.size, Image.Resampling.BILINEAR, box=(left, top, left + size, top + size))

    return change


def halved(image: Image.Image) -> Image.Image:
    width, height = image.size
    return image.resize((width // 2, height // 2), Image.Resampling.BILINEAR).resize(image.size)


def applied(change: Change, pictures: Pixels) -> Pixels:
    made = [change(Image.fromarray(np.ascontiguousarray(picture.transpose(1, 2, 0)))) for picture in pictures]
    return np.stack([np.asarray(image).transpose(2, 0, 1) for image in made])


def changes(pictures: Pixels) -> dict[str, Pixels]:
    rng = np.random.default_rng(0)
    noise = rng.integers(-8, 9, pictures.shape)
    return {
        "mirrored": pictures[..., ::-1],
        "brighter, less contrast": (pictures * 0.9 + 20).astype(np.uint8),
        "noise of 8 levels": np.clip(pictures + noise, 0, 255).astype(np.uint8),
        "JPEG 50": applied(jpeg(50), pictures),
        "JPEG 10": applied(jpeg(10), pictures),
        "half the size": applied(halved, pictures),
        "0.9 cut out": applied(cut(0.9, rng), pictures),
        "0.8 cut out": applied(cut(0.8, rng), pictures),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--train", type=int, default=3000)
    parser.add_argument("--test", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=400, help="training pictures that are changed and looked up")
    parser.add_argument("--subset", type=int, default=0)
    parser.add_argument("--save", type=Path, help="PNG of the pairs, test pictures above")
    args = parser.parse_args()
    cifar = Cifar(args.data)
    (train, train_labels), (test, test_labels) = (
        (images.numpy(), labels.numpy())
        for images, labels in (cifar.train(args.subset, args.train), cifar.test(args.subset, args.test))
    )
    begun = time.process_time()
    found = near_duplicates(train, test)
    seconds = time.process_time() - begun
    other = sum(train_labels[row] != test_labels[tested] for tested, (row, _) in found.items())
    print(
        f"{args.test} test against {args.train} training pictures, from a correlation of {CONFIRMED} on: {len(found)} "
        f"found ({100 * len(found) / args.test:.2f} %), {other} of them of another class; {seconds:.1f} s"
    )
    if args.save and found:
        pairs = [np.concatenate([test[tested], train[row]], axis=1) for tested, (row, _) in found.items()]
        Image.fromarray(np.concatenate(pairs, axis=2).transpose(1, 2, 0)).save(args.save)
    for name, copies in changes(train[: args.copies]).items():
        again = near_duplicates(train, copies)
        print(f"{name}: {100 * sum(row == again.get(row, (-1,))[0] for row in range(len(copies))) / len(copies):.0f} %")


if __name__ == "__main__":
    main()
