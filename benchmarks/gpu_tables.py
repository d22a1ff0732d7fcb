"""The papers' own settings on one GPU, in at most ten minutes: EMN on all of CIFAR-10, what undoes it, BEO and UC.

In order of importance, each row printed and kept as soon as it is there; what no longer fits is named:

1. the speed of the crafting loop: pictures a second of the noise sweep, over the bare forward and backward;
2. ``emn`` sample-wise with ``preset="paper"``: all pictures, ResNet-18, seconds;
3. victims of the published recipe (ResNet-18, batches of 128, cosine) on clean pictures and on these copies: as they
   are, gray, as JPEG 10, and adversarially trained;
4. the speed of the victims' loop over the bare step of the same network, and that step compiled and as a CUDA graph;
5. one round of ``beo`` and one cluster of ``uc``, both with ``preset="paper"``, as far as time allows.

On a GPU machine, with CIFAR-10 as one npz file of JPEG bytes:

    mkdir -p build/types && ln -sfn ../.. build/types/bitterant
    PYTHONPATH=build/types PYTHONUNBUFFERED=1 python3 benchmarks/gpu_tables.py --data CIFAR.npz --device cuda

A trial on a CPU:

    python benchmarks/gpu_tables.py --data CIFAR.npz --device cpu --images 60 --tests 30 --surrogate small-cnn \\
        --victim small-cnn --epochs 1 --rounds 1 --loop-steps 5 --parts speed emn victims loop
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from cifar import DEFAULT_FILE, Cifar
from crafting import protected_by
from torch import nn

from bitterant.errors import BitterantError
from bitterant.imaging import ImageSet
from bitterant.protect import create_method
from bitterant.protect.methods.pgd import pgd_min
from bitterant.surrogates import (
    FrozenSurrogate,
    choose_precision,
    create_surrogate,
    now,
    recipe_for,
    resolve_device,
    train_classifier,
)

PARTS = ("speed", "emn", "victims", "loop", "beo", "uc")
TRAINERS = ("none", "grayscale", "jpeg:10", "adversarial:8")
NEEDED = {"victims": ("kornia", "scipy"), "uc": ("sklearn", "threadpoolctl")}
PUBLISHED = {
    "none": "clean 94-95, EM 20-24 (arXiv 2101.04898, 2301.13838)",
    "grayscale": "clean 92.4, EM 93.0 (arXiv 2301.13838)",
    "jpeg:10": "clean 85.4, EM 81.5 (arXiv 2301.13838)",
    "adversarial:8": "clean 85, EM 83-85 (arXiv 2205.12141, 2603.03725)",
}

AIRBENCH_SECONDS, AIRBENCH_EPOCHS = 3.83, 9.9
"""airbench94 (arXiv 2404.00498, the script without torch.compile): from the pictures in memory to 94 % on an A100. Its
network has 0.28 GFLOP a forward pass, in float16, and learns from batches of 1024."""


class OutOfTime(Exception):
    """The minutes are over in the middle of a part."""


class Run:
    """The pictures, the clock, and where rows go."""

    def __init__(self, args: argparse.Namespace, began: float) -> None:
        self.args, self.device = args, resolve_device(args.device)
        self.deadline = began + 60 * args.minutes
        cifar = Cifar(args.data)
        images, labels = cifar.train(0, args.images)
        self.tests, self.answers = cifar.test(0, args.tests)
        self.labels = labels
        self.dataset = ImageSet.from_tensors(images, labels, classes=cifar.classes)
        self.protected: torch.Tensor | None = None
        self.file = args.work / "gpu_tables.jsonl"

    def tell(self, part: str, **facts: Any) -> None:
        """Print a row and keep it."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        row = {"part": part, "device": name, "images": len(self.dataset), **facts}
        print(json.dumps(row), flush=True)
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")

    def look_at_the_clock(self, *_: object) -> None:
        """Raises:
        OutOfTime: the minutes are over.
        """
        if time.monotonic() > self.deadline:
            raise OutOfTime


def timed(device: torch.device, work: Callable[[], object], repeats: int = 3) -> float:
    """Least seconds of some repeats; the first call, which allocates and chooses kernels, is not among them."""
    work()
    found = []
    for _ in range(repeats):
        begun = now(device)
        work()
        found.append(now(device) - begun)
    return min(found)


def speed(run: Run) -> None:
    """The noise sweep over the bare forward and input gradient of the same frozen network on the same batches."""
    args, device, size = run.args, run.device, min(512, len(run.dataset))
    model = create_surrogate(args.surrogate, num_classes=10, resolution=32, seed=0).to(device)
    images, labels = (run.dataset.images[:size].to(device).float() / 255), run.labels[:size].to(device)
    chosen = choose_precision(model, device, resolution=32)
    for bf16 in sorted({False, chosen.bf16}):
        frozen = FrozenSurrogate(model, bf16=bf16)

        def sweep(frozen: FrozenSurrogate = frozen) -> None:
            pgd_min(
                frozen, images, labels, torch.zeros_like(images), epsilon=8 / 255, step_size=0.8 / 255, steps=args.steps
            )

        def bare(frozen: FrozenSurrogate = frozen) -> None:
            leaf = images.clone().requires_grad_(True)
            for _ in range(args.steps):
                torch.autograd.grad(F.cross_entropy(frozen(leaf), labels, reduction="sum"), leaf)

        ours, floor = timed(device, sweep), timed(device, bare)
        run.tell(
            "speed", surrogate=args.surrogate, precision="bfloat16" if bf16 else "float32",
            sign_agreement=chosen.agreement, images_a_second=round(size * args.steps / ours),
            over_bare=round(ours / floor, 3),
        )  # fmt: skip


def loop(run: Run) -> None:
    """The victims' loop over the bare training step of the same network; and that step, compiled or as a CUDA graph."""
    for name in dict.fromkeys(("small-cnn", run.args.victim)):
        run.tell("loop", victim=name, **loop_of(run, name))


def loop_of(run: Run, name: str) -> dict[str, Any]:
    device, count = run.device, min(2048, len(run.dataset))
    images, labels = run.dataset.images[:count], run.labels[:count]
    recipe = replace(recipe_for(name), steps=run.args.loop_steps, batch_size=min(128, count))
    batch = images[: recipe.batch_size].to(device, memory_format=torch.channels_last).float() / 255
    target = labels[: recipe.batch_size].to(device)

    def fresh() -> nn.Module:
        model = create_surrogate(name, num_classes=10, resolution=32, seed=0).train()
        return model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    bf16 = choose_precision(fresh(), device, resolution=32).bf16

    def bare(kind: str = "") -> float:
        model = fresh()
        forward: Any = model
        if kind == "compiled":
            forward = torch.compile(model)
        elif kind == "graph":
            with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=False):
                forward = torch.cuda.make_graphed_callables(model, (batch.clone(),))
        optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

        def train() -> None:
            for _ in range(recipe.steps):
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16, cache_enabled=not kind):
                    loss = F.cross_entropy(forward(batch).float(), target)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()

        return timed(device, train, 2)

    def ours() -> None:
        train_classifier(fresh(), images, labels, recipe, seed=0, evals=1, device=device)

    floor = bare()
    seconds = timed(device, ours, 2)
    facts: dict[str, Any] = {
        "precision": "bfloat16" if bf16 else "float32",
        "bare_images_a_second": round(recipe.steps * recipe.batch_size / floor),
        "images_a_second": round(recipe.steps * recipe.batch_size / seconds),
        "over_bare": round(seconds / floor, 3),
    }
    if name == "small-cnn":
        facts["airbench94_on_an_a100"] = round(AIRBENCH_EPOCHS * 50_000 / AIRBENCH_SECONDS)
    for kind in ("graph", "compiled") if device.type == "cuda" else ():
        run.look_at_the_clock()
        try:
            facts[f"{kind}_over_bare"] = round(bare(kind) / floor, 3)
        except Exception as error:  # whatever this machine lacks for it
            facts[f"{kind}_over_bare"] = f"{type(error).__name__}: {error}"[:200]
    return facts


def emn(run: Run) -> None:
    """Sample-wise noise by the paper's preset."""
    args = run.args
    more = {} if args.surrogate == "resnet18-plain" else {"surrogate": args.surrogate}
    method = create_method(
        "emn", preset="paper", granularity="sample", device=str(run.device), sample_rounds=args.rounds, **more
    )  # type: ignore[arg-type]
    begun = now(run.device)
    bank = method.fit(run.dataset, progress=run.look_at_the_clock)
    seconds = now(run.device) - begun
    run.protected = protected_by(bank, run.dataset)
    rounds = bank.report["rounds"]
    run.tell(
        "emn", seconds=round(seconds, 1), rounds=len(rounds), error=rounds[-1]["error"], surrogate=bank.surrogate,
        image_steps_a_second=round(len(rounds) * 20 * len(run.dataset) / seconds),
    )  # fmt: skip


def victims(run: Run) -> None:
    """Victims of the published recipe on clean pictures and on the copies, under each trainer."""
    from bitterant.attacks.adversaries import create_adversary
    from bitterant.attacks.training.victims import published_recipe

    args, device = run.args, run.device
    recipe = published_recipe("emn", len(run.dataset), epochs=args.epochs)
    for name in TRAINERS:
        adversary = create_adversary(name)
        learner = adversary.learner()
        objective = getattr(learner, "objective", None)
        for arm, pictures in (("clean", run.dataset.images), ("emn", run.protected)):
            if pictures is None:
                continue
            train = torch.from_numpy(adversary.transform(pictures.numpy()))
            tests = torch.from_numpy(adversary.transform(run.tests.numpy()))
            model = create_surrogate(args.victim, num_classes=10, resolution=32, seed=900_000)
            length = replace(recipe, steps=max(1, recipe.steps // (args.shorter if objective else 1)))
            result = train_classifier(
                model, train.to(device), run.labels, length, seed=0, test_images=tests, test_labels=run.answers,
                evals=1, device=device, objective=objective, after_step=run.look_at_the_clock,
            )  # fmt: skip
            assert result.predictions is not None
            run.tell(
                "victims", trainer=name, arm=arm, victim=args.victim, steps=result.steps,
                accuracy=round(float((result.predictions == run.answers).float().mean()), 4),
                seconds=round(result.seconds, 1),
                images_a_second=round(result.steps * length.batch_size / result.seconds), published=PUBLISHED[name],
            )  # fmt: skip


def beo(run: Run) -> None:
    """One round of the public code's schedule: a fresh network, then one step with all pictures against all."""
    more = {} if run.args.surrogate == "resnet18-plain" else {"surrogate": run.args.surrogate}
    epochs = 30 if run.device.type == "cuda" else 1
    method = create_method(
        "beo", preset="paper", device=str(run.device), rounds=1, first_epochs=epochs, estimate_images=0, **more
    )  # type: ignore[arg-type]
    begun = now(run.device)
    bank = method.fit(run.dataset, progress=run.look_at_the_clock)
    run.tell("beo", seconds_a_round=round(now(run.device) - begun, 1), estimate=bank.report["final_estimate_in_sample"])


def uc(run: Run) -> None:
    """One cluster's epoch of the public code's schedule, through a ResNet-50 of random weights at 32 px: its speed."""
    few = run.dataset.select(range(min(len(run.dataset), 5000)))
    name = "resnet50" if run.device.type == "cuda" else run.args.surrogate
    method = create_method(
        "uc", preset="paper", surrogate=name, device=str(run.device), rounds=1, clusters=2,
        width=64 if run.device.type == "cuda" else 4,
    )  # fmt: skip
    begun = now(run.device)
    method.fit(few, progress=run.look_at_the_clock)
    seconds = now(run.device) - begun
    run.tell("uc", seconds=round(seconds, 1), surrogate=name, images_a_second=round(2 * len(few) / seconds))


WORK: dict[str, Callable[[Run], None]] = {
    "speed": speed, "emn": emn, "victims": victims, "loop": loop, "beo": beo, "uc": uc,
}  # fmt: skip


def parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--work", type=Path, default=Path(os.environ.get("OUT") or "build/gpu-tables"))
    parser.add_argument("--minutes", type=float, default=9.5, help="for everything")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--surrogate", default="resnet18-plain")
    parser.add_argument("--victim", default="resnet18")
    parser.add_argument("--rounds", type=int, default=10, help="of emn at most; the authors' log has ten")
    parser.add_argument("--steps", type=int, default=20, help="of a sweep whose speed is measured")
    parser.add_argument("--loop-steps", type=int, default=200, help="of a victim's training whose speed is measured")
    parser.add_argument("--epochs", type=float, default=8.0, help="of a victim; the papers' are 30 to 60")
    parser.add_argument("--shorter", type=int, default=2, help="adversarial training takes so many times fewer epochs")
    parser.add_argument("--device", default="auto")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    began = time.monotonic()
    args = parsed(words)
    needed = {package for part in args.parts for package in NEEDED.get(part, ())}
    if missing := sorted(name for name in needed if importlib.util.find_spec(name) is None):
        raise SystemExit(
            f"Not installed, and needed by these parts: {', '.join(missing)}. Leave them out with --parts."
        )
    args.work.mkdir(parents=True, exist_ok=True)
    run = Run(args, began)
    if run.device.type == "cuda":
        torch.backends.cudnn.benchmark = True
    for part in args.parts:
        left = run.deadline - time.monotonic()
        try:
            run.look_at_the_clock()
            WORK[part](run)
        except BitterantError as error:  # such as a network that cannot tell so few pictures apart: the others go on
            run.tell(part, failed=str(error))
        except OutOfTime:
            print(f"{part}: not done within the {args.minutes:g} minutes; {max(0.0, left):.0f} s were left", flush=True)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    from bitterant.records.processes import tune_allocator

    tune_allocator()
    main()
