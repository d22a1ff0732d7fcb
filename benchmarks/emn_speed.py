"""How fast is the noise sweep, and against what?

Three tables, all ratios within this one run (absolute times of a shared machine mean little):

1. our sweep against the bare forward + input gradient of the same frozen model on the same batches: what projection,
   indexing and the loss cost on top;
2. our sweep against a plain one (float32, contiguous, batch norm not folded, batches of 512: how the paper's public
   code is organised), and each lever alone;
3. with ``--schedule``: the paper's schedule and ours on the same images and surrogate, to a victim's accuracy.

    python benchmarks/emn_speed.py
    python benchmarks/emn_speed.py --schedule --images 1000
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from cifar import DEFAULT_FILE, Cifar
from torch import Tensor, nn

from bitterant.imaging import ImageSet
from bitterant.protect import create_method
from bitterant.protect.methods.pgd import pgd_min
from bitterant.records.processes import tune_allocator
from bitterant.surrogates import (
    FrozenSurrogate,
    Surrogate,
    choose_precision,
    create_surrogate,
    recipe_for,
    supports_bf16,
    train_classifier,
)

EPSILON = 8 / 255


class Unfolded(FrozenSurrogate):
    """The frozen copy without folding; precision and memory layout to choose."""

    def __init__(self, model: nn.Module, *, bf16: bool, channels_last: bool) -> None:
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.format = torch.channels_last if channels_last else torch.contiguous_format
        self.model = copy.deepcopy(model).eval().to(self.dtype).to(memory_format=self.format)  # type: ignore[call-overload]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        return self.model(images.to(self.dtype).contiguous(memory_format=self.format)).float()


def bare(frozen: FrozenSurrogate, images: Tensor, labels: Tensor, steps: int, batch: int) -> None:
    """Nothing but forward and input gradient."""
    for part, own in zip(images.split(batch), labels.split(batch), strict=True):
        leaf = part.clone().requires_grad_(True)
        for _ in range(steps):
            torch.autograd.grad(F.cross_entropy(frozen(leaf), own, reduction="sum"), leaf)


def sweep(frozen: FrozenSurrogate, images: Tensor, labels: Tensor, steps: int, batch: int) -> None:
    """One noise sweep as the method makes it, without skipping."""
    for part, own in zip(images.split(batch), labels.split(batch), strict=True):
        pgd_min(frozen, part, own, torch.zeros_like(part), epsilon=EPSILON, step_size=EPSILON / 10, steps=steps)


def seconds(work: Callable[[], None]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def spread(values: list[float]) -> str:
    return f"{min(values):.2f} / {float(np.median(values)):.2f} / {max(values):.2f}"


def table_of_levers(model: Surrogate, images: Tensor, labels: Tensor, steps: int, repeats: int) -> None:
    bf16 = choose_precision(model, torch.device("cpu"), resolution=images.shape[-1]).bf16
    ours = FrozenSurrogate(model, bf16=bf16)
    rows: dict[str, Callable[[], None]] = {
        "ours": lambda: sweep(ours, images, labels, steps, 128),
        "bare forward + input gradient, same model": lambda: bare(ours, images, labels, steps, 128),
        "ours in batches of 512": lambda: sweep(ours, images, labels, steps, 512),
    }
    if bf16:
        full = FrozenSurrogate(model)
        rows["ours in float32"] = lambda: sweep(full, images, labels, steps, 128)
    unfolded = Unfolded(model, bf16=bf16, channels_last=True)
    rows["ours without folding"] = lambda: sweep(unfolded, images, labels, steps, 128)
    rigid = Unfolded(model, bf16=bf16, channels_last=False)
    rows["ours, not folded, contiguous"] = lambda: sweep(rigid, images, labels, steps, 128)
    plain = Unfolded(model, bf16=False, channels_last=False)
    rows["plain: float32, contiguous, not folded, batches of 512"] = lambda: sweep(plain, images, labels, steps, 512)
    for work in rows.values():
        work()  # first passes allocate and choose kernels
    times: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(repeats):
        for name, work in rows.items():
            times[name].append(seconds(work))
    count = len(images)
    print(f"{count} images, {steps} steps, {torch.get_num_threads()} threads; seconds min / median / max of {repeats}")
    for name, values in times.items():
        ratio = [t / o for t, o in zip(values, times["ours"], strict=True)]
        rate = count * steps / float(np.median(values))
        print(f"  {name:58s} {spread(values)}  {rate:8.0f} image-steps/s  x {spread(ratio)} of ours")
    over = [o / b for o, b in zip(times["ours"], times["bare forward + input gradient, same model"], strict=True)]
    print(f"sweep over bare forward + input gradient: {spread(over)} (target <= 1.15)")


def table_of_schedules(cifar: Cifar, count: int, surrogate: str, seeds: int) -> None:
    images, labels = cifar.train(0, count)
    tests, test_labels = cifar.test(0, 2000)
    dataset = ImageSet.from_tensors(images, labels, classes=cifar.classes)
    schedules = {
        "paper, sample-wise": ("sample", {"preset": "paper", "sample_rounds": 12}),
        "ours, class-wise": ("class", {}),
        "ours, sample-wise": ("sample", {}),
        "ours, class-wise, no self-check": ("class", {"attempts": 0}),
    }
    for name, (granularity, options) in schedules.items():
        for seed in range(seeds):
            method = create_method(
                "emn", granularity=granularity, seed=seed, surrogate=surrogate, device="cpu", **options
            )  # type: ignore[arg-type]
            begun = time.perf_counter()
            bank = method.fit(dataset)
            craft = time.perf_counter() - begun
            levels = torch.stack([torch.from_numpy(bank.levels_for(bank.key_for(k) or "")) for k in dataset.keys])
            protected = (images + levels.permute(0, 3, 1, 2)).clamp(0, 255).to(torch.uint8)
            model = create_surrogate("small-cnn", num_classes=10, resolution=32, seed=900_000 + seed)
            result = train_classifier(model, protected, labels, recipe_for("small-cnn"), seed=seed,
                                      test_images=tests, test_labels=test_labels, evals=1)  # fmt: skip
            accuracy = float((result.predictions == test_labels).float().mean())
            print(f"  {name:34s} seed {seed}: craft {craft:6.1f} s, victim accuracy {accuracy:.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE)
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--surrogate", default="small-cnn")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--schedule", action="store_true")
    parser.add_argument("--default-allocator", action="store_true", help="leave the C allocator as it is")
    args = parser.parse_args()
    tuned = False if args.default_allocator else tune_allocator()
    if args.threads:
        torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, bfloat16 {supports_bf16(torch.device('cpu'))}, allocator tuned: {tuned}")
    cifar = Cifar(args.data)
    if args.schedule:
        table_of_schedules(cifar, args.images, args.surrogate, args.seeds)
        return
    raw, labels = cifar.train(0, args.images)
    model = create_surrogate(args.surrogate, num_classes=10, resolution=32, seed=0)
    train_classifier(model, raw, labels, recipe_for(args.surrogate, steps=20), seed=0)
    images = raw.float() / 255
    table_of_levers(model, images, labels, args.steps, args.repeats)


if __name__ == "__main__":
    main()
