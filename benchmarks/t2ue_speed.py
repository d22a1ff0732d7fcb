"""Seconds of T2UE: noise a picture for the small and the paper's generator, and a training step against its parts.

A step is compared, in the same run and in turns, with the bare forward and backward of the generator on as many rows:
what is left over is the learner, the surrogate, the optimisers and the pictures.

    python benchmarks/t2ue_speed.py
    python benchmarks/t2ue_speed.py --device cuda --batch-size 128
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from statistics import median

import torch

from bitterant.protect.methods.t2ue import CaptionPairs, SSANoiseGenerator, TextEmbedder, TrainRecipe, train_t2ue
from bitterant.protect.methods.t2ue.generator_training import new_generator
from bitterant.protect.methods.t2ue.pipeline import move
from bitterant.records.processes import tune_allocator
from bitterant.surrogates.image_text import Conse


def seconds(work: Callable[[], object], device: torch.device) -> float:
    begun = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - begun


@torch.no_grad()
def forward(net: SSANoiseGenerator, z: torch.Tensor, text: torch.Tensor) -> None:
    net(z, text)


def both(net: SSANoiseGenerator, z: torch.Tensor, text: torch.Tensor) -> None:
    net(z, text).delta.square().sum().backward()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="*", default=[32, 64, 256])
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    tune_allocator()
    device = torch.device(args.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    conse = Conse(side=96)
    embedder = TextEmbedder.of(conse.texts)
    print(f"{args.device}, one thread" if device.type == "cpu" else args.device)
    print("| generator | parameters | seconds a noise | bare forward + backward a row |")
    print("|---|---|---|---|")
    bare: dict[int, float] = {}
    for side in args.sizes:
        net = new_generator(side, embedder, seed=0)
        move(net, device)
        rows = 4 if side > 64 and device.type == "cpu" else args.batch_size
        z = torch.stack([net.draw(seed) for seed in range(rows)]).to(device)
        text = torch.randn(rows, net.text_dim, device=device)

        made = median(seconds(partial(forward, net.eval(), z, text), device) for _ in range(args.rounds)) / rows
        bare[side] = median(seconds(partial(both, net.train(), z, text), device) for _ in range(args.rounds)) / rows
        size = sum(p.numel() for p in net.parameters()) / 1e6
        print(f"| {side} px | {size:.2f} M | {made:.4f} | {bare[side]:.4f} |", flush=True)
    pairs = CaptionPairs(
        tuple(f"a photo of thing {row}." for row in range(2 * args.batch_size)),
        torch.randint(0, 256, (64, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    )
    base = TrainRecipe(steps=2 * args.rounds, batch_size=args.batch_size)
    recipes = {
        "both (default)": base,
        "learner alone": replace(base, surrogate_weight=0.0),
        "surrogate alone, as in the paper": replace(base, learner_weight=0.0),
    }
    print("\n| training, 64 px | seconds a step | of that bare forward + backward of the generator |")
    print("|---|---|---|")
    for name, recipe in recipes.items():
        net, times = new_generator(64, embedder, seed=0), [0.0]

        def tell(_: object, times: list[float] = times) -> None:
            times.append(time.perf_counter())

        train_t2ue(pairs, conse, net, embedder, recipe, device=device, progress=tell)
        steps = [after - before for before, after in pairwise(times[1:])]
        each = median(steps)
        print(f"| {name} | {each:.3f} | {bare.get(64, 0.0) * args.batch_size / each:.2f} |", flush=True)


if __name__ == "__main__":
    main()
