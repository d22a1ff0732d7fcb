"""Does bfloat16 keep the signs of the input gradient, with fresh weights and with trained ones?

Prints a table: each network at 32 px, as it begins and after a training on CIFAR-10, and for the trained one also on
its own pictures and labels, where a loss that has nearly vanished leaves little to agree on. What ``--precision auto``
asks for is 95 % on drawn pictures (``choose_precision``).

    python benchmarks/precision.py
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 python benchmarks/precision.py
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from cifar import DEFAULT_FILE, Cifar
from torch import Tensor, nn

from bitterant.records.processes import tune_allocator
from bitterant.surrogates import FrozenSurrogate, class_losses, create_surrogate, recipe_for, train_classifier
from bitterant.surrogates.arithmetic import LEAST_AGREEMENT, sign_agreement

NETWORKS = ("small-cnn", "resnet18", "resnet18-plain", "efficientnet-lite0")
CPU = torch.device("cpu")
SIDE = 32


def agreement_on(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of the signs of the input gradient that bfloat16 keeps, on these pictures, uint8 ``[B, 3, R, R]``."""
    signs = []
    for bf16 in (False, True):
        leaf = (images.float() / 255).requires_grad_(True)
        logits = FrozenSurrogate(model, bf16=bf16)(leaf)
        (gradient,) = torch.autograd.grad(class_losses(logits, labels).sum(), leaf)
        signs.append(gradient.sign())
    counted = signs[0] != 0
    return float((signs[0] == signs[1])[counted].float().mean()) if bool(counted.any()) else 1.0


def row(name: str, images: Tensor, labels: Tensor, *, classes: int, steps: int, seed: int) -> str:
    """One line of the table, for a network that is trained in float32."""
    model = create_surrogate(name, num_classes=classes, resolution=SIDE, seed=seed)
    before = sign_agreement(model, CPU, SIDE)
    recipe = replace(recipe_for(name), steps=steps, batch_size=min(64, len(images)), precision="float32")
    learned = train_classifier(model, images, labels, recipe, seed=seed, evals=1).train_accuracy
    after = sign_agreement(model, CPU, SIDE)
    own = agreement_on(model, images[:64], labels[:64])
    changed = " *" if (before >= LEAST_AGREEMENT) != (after >= LEAST_AGREEMENT) else ""
    shares = f"{100 * before:.1f} | {100 * after:.1f}{changed} | {100 * own:.1f} | {100 * learned:.0f}"
    return f"| `{name}` | {seed} | {shares} |"


def main(words: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as an npz file of JPEG bytes")
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), metavar="NAME")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--steps", type=int, default=100, help="of 64 pictures")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    args = parser.parse_args(words)
    tune_allocator()
    cifar = Cifar(args.data)
    images, labels = cifar.train(0, args.images)
    machine = torch.backends.cpu.get_cpu_capability()
    print(f"{machine}, {args.images} pictures, {args.steps} steps, per cent of the signs")
    print("| network | seed | fresh | trained | trained, on its own pictures | right on them |")
    print("|---|---|---|---|---|---|")
    for name in args.networks:
        for seed in args.seeds:
            print(row(name, images, labels, classes=len(cifar.classes), steps=args.steps, seed=seed), flush=True)


if __name__ == "__main__":
    main()
