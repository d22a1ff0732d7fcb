"""Seconds of a training of the verifier, alone and several at once, and of a whole verification.

The ways to train are compared in turns, within one run: one process with one thread, two such processes beside each other,
one process with two threads, and K networks stacked into one (convolutions in K groups, which is also what
``torch.func.vmap`` makes of them). Stacked trainings do the very same steps: batches, crops and clipping are those of each
network alone, and so is the accuracy, but for rounding.

    python benchmarks/verify_speed.py
    python benchmarks/verify_speed.py --images 3000 --steps 200
"""

from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch
import torch.nn.functional as F
from cifar import DEFAULT_FILE, Cifar
from torch import Tensor, nn

from bitterant.attacks import verify_sets
from bitterant.attacks.training import ProcessExecutor, victim_recipe, victim_seed
from bitterant.imaging import ImageSet
from bitterant.surrogates import (
    Recipe,
    bf16_pays,
    create_surrogate,
    draw_crops,
    epoch_order,
    pad_images,
    predict_logits,
    take_batch,
    train_classifier,
)

VICTIM = "small-cnn"
SIDE = 32


@dataclass(frozen=True)
class Task:
    """One training; with its pictures, so that another process has them."""

    images: Tensor
    labels: Tensor
    recipe: Recipe
    seed: int
    classes: int


def train(task: Task) -> float:
    """Train as a cell of the verifier does; the accuracy on the training pictures."""
    network = create_surrogate(VICTIM, num_classes=task.classes, resolution=SIDE, seed=task.seed)
    return train_classifier(network, task.images, task.labels, task.recipe, seed=task.seed, evals=1).train_accuracy


class Stacked(nn.Module):
    """K small-cnn in one: ``[B, 3 K, R, R]`` to ``[K, B, classes]``."""

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        count = len(members)
        self.layers = nn.Sequential()
        for parts in zip(*(member.features for member in members), strict=True):  # type: ignore[arg-type]
            first = parts[0]
            if isinstance(first, nn.Conv2d):
                sizes = (count * first.in_channels, count * first.out_channels)
                layer = nn.Conv2d(
                    *sizes, first.kernel_size, first.stride, first.padding, groups=count, bias=False  # type: ignore[arg-type]
                )
                layer.weight = nn.Parameter(torch.cat([part.weight.detach() for part in parts]))
            elif isinstance(first, nn.BatchNorm2d):
                layer = nn.BatchNorm2d(count * first.num_features)
            else:
                layer = first
            self.layers.append(layer)
        heads: list[nn.Linear] = [member.head for member in members]  # type: ignore[misc]
        self.weight = nn.Parameter(torch.stack([head.weight.detach() for head in heads]))
        self.bias = nn.Parameter(torch.stack([head.bias.detach() for head in heads]))
        self.count = count

    def forward(self, images: Tensor) -> Tensor:
        features = self.layers(images).mean(dim=(2, 3)).unflatten(1, (self.count, -1)).transpose(0, 1)
        return torch.baddbmm(self.bias[:, None], features, self.weight.transpose(1, 2))

    @torch.no_grad()
    def accuracy(self, images: Tensor, labels: Tensor) -> list[float]:
        """Of each member, in evaluation mode."""
        self.eval()
        hits = torch.zeros(self.count)
        for part, target in zip(images.split(256), labels.split(256), strict=True):
            logits = self(((part.float() / 255 - 0.5) / 0.25).repeat(1, self.count, 1, 1))
            hits += (logits.argmax(2) == target).sum(1)
        return (hits / len(labels)).tolist()


def train_stacked(tasks: Sequence[Task]) -> list[float]:
    """What :func:`train` does, for all tasks at once; one recipe, one set of pictures."""
    recipe, images, labels, count = tasks[0].recipe, tasks[0].images, tasks[0].labels, len(tasks)
    members = [create_surrogate(VICTIM, num_classes=t.classes, resolution=SIDE, seed=t.seed) for t in tasks]
    model = Stacked([member.net for member in members]).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    bf16 = bf16_pays(members[0], torch.device("cpu"))
    generators = [torch.Generator().manual_seed(task.seed) for task in tasks]
    padding = recipe.padding_at(SIDE)
    padded = pad_images(images, padding)
    optimiser = torch.optim.SGD(
        model.parameters(), recipe.lr, recipe.momentum, weight_decay=recipe.weight_decay, nesterov=True
    )
    queues: list[list[Tensor]] = [[] for _ in tasks]
    rise = max(1, round(recipe.warmup * recipe.steps))
    for step in range(recipe.steps):
        batches, targets = [], []
        for queue, generator in zip(queues, generators, strict=True):
            if not queue:
                queue += epoch_order(len(images), recipe.batch_size, generator)[::-1]
            index = queue.pop()
            batches.append(take_batch(padded, index, draw_crops(len(index), padding, recipe.flip, generator), SIDE))
            targets.append(labels[index])
        rate = (step + 1) / rise if step < rise else 0.5 * (
            1 + float(torch.cos(torch.tensor(torch.pi * (step - rise) / max(1, recipe.steps - rise))))
        )
        for group in optimiser.param_groups:
            group["lr"] = recipe.lr * rate
        both = ((torch.cat(batches, 1) - 0.5) / 0.25).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = model(both).float()
        loss = F.cross_entropy(logits.flatten(0, 1), torch.cat(targets), reduction="sum") / len(targets[0])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_each(model, count, recipe.clip_norm)
        optimiser.step()
    return model.accuracy(images, labels)


@torch.no_grad()
def clip_each(model: nn.Module, count: int, most: float) -> None:
    """Clip the gradient of each member by its own norm."""
    gradients = [p.grad.reshape(count, -1) for p in model.parameters() if p.grad is not None]
    norms = torch.stack([g.norm(dim=1) for g in gradients]).norm(dim=0)
    scale = (most / (norms + 1e-6)).clamp(max=1.0)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parts = parameter.grad.view(count, -1)
            parts.mul_(scale[:, None])


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def compare(images: Tensor, labels: Tensor, classes: int, *, steps: int, rounds: int, stacks: Sequence[int]) -> None:
    """Print seconds a training, in turns; the figure of a round is divided by that of one process in it."""
    recipe = replace(victim_recipe(VICTIM, len(images)), steps=steps)
    numbers = itertools.count()

    def tasks(count: int) -> list[Task]:
        return [Task(images, labels, recipe, victim_seed(0, next(numbers)), classes) for _ in range(count)]

    pool = ProcessExecutor(2)
    try:
        short = [replace(task, recipe=replace(recipe, steps=2)) for task in tasks(4)]
        list(pool.run(train, short))  # both are there before the clock starts
        torch.set_num_threads(1)
        train(short[0])

        def two_threads() -> None:
            torch.set_num_threads(2)
            try:
                train(tasks(1)[0])
            finally:
                torch.set_num_threads(1)

        ways: dict[str, tuple[int, Callable[[], object]]] = {
            "one process, one thread": (1, lambda: train(tasks(1)[0])),
            "two processes, one thread each": (4, lambda: list(pool.run(train, tasks(4)))),
            "one process, two threads": (1, two_threads),
        }
        for count in stacks:
            ways[f"one process, one thread, {count} stacked"] = (count, lambda k=count: train_stacked(tasks(k)))
        measured: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, (count, work) in ways.items():
                measured[name].append(seconds(work) / count)
    finally:
        pool.close()
    base = measured["one process, one thread"]
    print(f"\n{VICTIM}, {len(images)} images, {steps} steps of {recipe.batch_size}, median (least - most) of {rounds}")
    print("| way | seconds a training | trainings in the time of one |")
    print("|---|---|---|")
    for name, times in measured.items():
        ratios = sorted(one / each for one, each in zip(base, times, strict=True))
        spread = f"{median(ratios):.2f} ({ratios[0]:.2f} - {ratios[-1]:.2f})"
        print(f"| {name} | {median(times):.2f} | {spread} |", flush=True)
    for count in stacks[:1]:
        pair = tasks(count)
        alone = ", ".join(f"{train(task):.3f}" for task in pair)
        stacked = ", ".join(f"{value:.3f}" for value in train_stacked(pair))
        print(f"training accuracy of the same seeds: alone {alone}; stacked {stacked}")


def noisy(images: Tensor, levels: int = 8) -> Tensor:
    """The cheapest protection: random noise of one sign for each picture, channel and pixel."""
    signs = torch.randint(0, 2, images.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return (images.to(torch.int16) + levels * signs).clamp(0, 255).to(torch.uint8)


def whole(images: ImageSet, test: ImageSet, preset: str, workers: int | None) -> None:
    """Print the wall time of a verification, and seconds a cell by what is trained."""
    protected = ImageSet(noisy(images.images), images.labels, images.classes, images.keys)
    report = verify_sets(images, protected, test, preset=preset, epsilon=8 / 255, workers=workers)
    print(f"\n--preset {preset}, {len(images)} images, {len(test)} to test on, random noise in the place of protection")
    total = sum(cell.seconds for cell in report.cells)
    print(
        f"{report.wall_seconds:.0f} s of wall time with {report.environment.workers} processes, {len(report.cells)} cells, "
        f"{total / len(report.cells):.2f} s a cell, {report.wall_seconds / len(report.cells):.2f} s of wall time a cell"
    )
    print("| victim | adversary | cells | seconds a cell |")
    print("|---|---|---|---|")
    groups: dict[tuple[str, str], list[float]] = {}
    for cell in report.cells:
        groups.setdefault((cell.victim, cell.adversary), []).append(cell.seconds)
    for (victim, adversary), times in groups.items():
        print(f"| {victim} | {adversary} | {len(times)} | {sum(times) / len(times):.2f} |")
    print(report.verdict.headline)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--test-images", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=100, help="of the trainings that are compared; the verifier's: 400")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--stacks", type=int, nargs="*", default=[2, 4])
    parser.add_argument("--preset", default="quick", help="of the whole verification; none leaves it out")
    parser.add_argument("--workers", type=int)
    args = parser.parse_args()
    cifar = Cifar(DEFAULT_FILE)
    images, labels = cifar.train(0, args.images)
    if args.rounds:
        compare(images, labels, 10, steps=args.steps, rounds=args.rounds, stacks=args.stacks)
    if args.preset != "none":
        test_images, test_labels = cifar.test(0, args.test_images)
        whole(
            ImageSet.from_tensors(images, labels, classes=cifar.classes),
            ImageSet.from_tensors(test_images, test_labels, classes=cifar.classes),
            args.preset,
            args.workers,
        )


if __name__ == "__main__":
    main()
