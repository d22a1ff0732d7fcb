"""A CLIP trained from scratch on captioned pictures: does noise made of the captions alone keep it from learning?

No set of captioned photographs is at hand, so it is composed: four CIFAR-10 pictures make a mosaic of 64 px, described
by five sentences that name the four things in changing order and words. Mosaics to test on are made of other pictures.
The generator gets one caption a mosaic and no picture. Clean, random noise and protected pictures are trained on with
equal settings and seeds.

    python benchmarks/t2ue_retrieval.py --mosaics 2000 --seeds 3
    python benchmarks/t2ue_retrieval.py --mosaics 12000 --victim scratch:RN50 --device cuda
    python benchmarks/t2ue_retrieval.py --mosaics 1250 --save mosaics      # as a folder, for ``bitterant t2ue verify``
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from cifar import DEFAULT_FILE, Cifar
from PIL import Image

from bitterant.attacks.retrieval import ARM_NAMES, CaptionedSet, ClipRecipe, RetrievalReport, retrieval_trial
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import create_method
from bitterant.records.processes import tune_allocator

_FORMS = (
    "a photo of {}, {}, {} and {}.", "{} next to {}, with {} and {}", "four pictures: {}, {}, {}, {}",
    "{} and {} beside {} and {}.", "there are {}, {}, {} and {} in this picture",
)  # fmt: skip


def mosaics(cifar: Cifar, count: int, *, part: str, seed: int) -> CaptionedSet:
    """Mosaics of different CIFAR pictures each."""
    images, labels = (cifar.train if part == "train" else cifar.test)(seed, 4 * count)
    tiles = images.view(count, 2, 2, 3, 32, 32).permute(0, 3, 1, 4, 2, 5).reshape(count, 3, 64, 64).contiguous()
    rng = np.random.default_rng([seed, part == "test"])
    captions = []
    for row in labels.view(count, 4).tolist():
        names = [f"{'an' if cifar.classes[label][0] in 'aeiou' else 'a'} {cifar.classes[label]}" for label in row]
        captions.append(tuple(form.format(*rng.permutation(names)) for form in _FORMS))
    return CaptionedSet(tiles, tuple(captions), tuple(f"{part}-{seed}-{row}" for row in range(count)))


def save(pairs: CaptionedSet, folder: Path) -> None:
    """A folder of PNG files with text files beside them."""
    folder.mkdir(parents=True)
    for row, (picture, captions) in enumerate(zip(pairs.images, pairs.captions, strict=True)):
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save(folder / f"{row:05d}.png")
        (folder / f"{row:05d}.txt").write_text("\n".join(captions) + "\n", encoding="utf-8")


def protected(pairs: CaptionedSet, *, epsilon: float, seed: int, generator: Path | None) -> torch.Tensor:
    """Noise of each mosaic's first caption."""
    dataset = ImageSet(pairs.images, None, (), pairs.keys, captions=tuple(several[0] for several in pairs.captions))
    method = create_method("t2ue", budget=Budget.from_levels(epsilon), seed=seed,
                           generator=None if generator is None else str(generator))  # fmt: skip
    from crafting import protected_by

    return protected_by(method.fit(dataset), dataset)


def table(report: RetrievalReport) -> str:
    lines = [
        "| pictures | image to text: Hit@1 / 5 / 10 | median rank | text to image: Hit@1 / 5 / 10 | median rank |",
        "|---|---|---|---|---|",
    ]
    for arm in report.arms():
        cells = []
        for way in ("image_to_text", "text_to_image"):
            hits = [report.mean(arm, way, k) for k in (1, 5, 10)]
            cells.append(" / ".join(f"{100 * mean:.1f} ± {100 * spread:.1f}" for mean, spread in hits))
            cells.append(f"{report.rank(arm, way):.0f}")
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    forth, back = (
        " / ".join(f"{100 * chance[k]:.1f}" for k in (1, 5, 10))
        for chance in (report.chance_image_to_text, report.chance_text_to_image)
    )
    lines.append(f"| guessing | {forth} | {report.chance_ranks[0]} | {back} | {report.chance_ranks[1]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--mosaics", type=int, default=2000)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, default=8.0)
    parser.add_argument("--victim", default="clip-small")
    parser.add_argument("--generator", type=Path, default=None, help="default: the embedded one")
    parser.add_argument("--arms", nargs="*", default=[*ARM_NAMES])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, default=None, help="keep all figures here")
    parser.add_argument("--save", type=Path, default=None, help="write the mosaics to a new folder and stop")
    args = parser.parse_args()
    tune_allocator()
    cifar = Cifar(args.data)
    train = mosaics(cifar, args.mosaics, part="train", seed=0)
    if args.save is not None:
        save(train, args.save)
        return
    test = mosaics(cifar, args.tests, part="test", seed=0)
    begun = time.perf_counter()
    noisy = protected(train, epsilon=args.epsilon, seed=0, generator=args.generator)
    print(f"noise for {args.mosaics} captions in {time.perf_counter() - begun:.0f} s; an example: "
          f"{train.captions[0][0]!r}", flush=True)  # fmt: skip
    begun = time.perf_counter()
    report = retrieval_trial(
        train, noisy, test, victim=args.victim, recipe=ClipRecipe(epochs=args.epochs), seeds=args.seeds,
        arms=args.arms, device=torch.device(args.device), noise_levels=args.epsilon,
    )  # fmt: skip
    for row in report.scores:
        print(f"  {row.arm}, seed {row.seed}: loss {row.loss:.2f}, Hit@10 {row.image_to_text[10]:.3f} "
              f"{row.text_to_image[10]:.3f}")  # fmt: skip
    print(f"\n{args.victim} on {args.mosaics} mosaics, {args.epochs} epochs, {args.seeds} seeds, epsilon "
          f"{args.epsilon:g}; {args.tests} clean mosaics with five captions each, in %, mean ± standard deviation "
          f"({time.perf_counter() - begun:.0f} s)\n")  # fmt: skip
    print(table(report))
    for warning in report.warnings:
        print(warning)
    if args.json is not None:
        args.json.write_text(json.dumps(report.to_json(), indent=1))


if __name__ == "__main__":
    main()
