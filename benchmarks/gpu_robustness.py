"""All of CIFAR-10 on one GPU: what cheap steps and adversarial training bring back, beside the published rows.

Each arm (clean, ``texture`` at its default of 12 levels and at 8, ``emn`` at 8) meets each adversary; a victim is
trained from scratch on every pair for a stated number of epochs and tested on all clean test pictures, changed as its
trainer changes the training pictures. Data and augmentation live on the device, in bfloat16 where that pays, channels
last.
``none`` is looked at after every epoch and has a row for its best one, chosen with the test answers; all else is judged
at the end.

Trainings run in order of importance: seed by seed, victims in the order given, then adversaries, then arms. How long
one will take follows from those that are done; what does not fit into ``--minutes`` is left out, one that runs over is
broken off, and both are named. Rows are kept as soon as they are there: the same command with the same ``--work`` (by
default ``$OUT``, where that is set) makes what is missing, within the minutes again. Nothing is downloaded.

On a GPU machine with 16 cores, with the CIFAR-10 file at ``.gpu/cifar10_jpeg.npz``, in the root of the checkout:

    mkdir -p build/types && ln -sfn ../.. build/types/bitterant
    PYTHONPATH=build/types${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1 python3 benchmarks/gpu_robustness.py \\
        --data .gpu/cifar10_jpeg.npz --device cuda --workers 14 --victims resnet9 resnet18 --epochs 10 --minutes 9

``resnet9`` gives the whole table, and what time is left goes to ``resnet18``, the network of the published rows. A
second command that goes on from rows brought back (``cp ROWS/*.jsonl ROWS/*.safetensors $OUT/`` before it) takes
another ``--minutes``. A trial on a CPU:

    python benchmarks/gpu_robustness.py --images 500 --tests 200 --victims small-cnn --epochs 2 --batch-size 64 \\
        --emn-images 300 --emn-rounds 5 --device cpu --workers 1
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from cifar import DEFAULT_FILE, Cifar
from resnet9 import ResNet9
from rows import Row, kept_rows
from torch import Tensor, nn

from bitterant.records.config import strengths_of

if TYPE_CHECKING:
    from bitterant.attacks.adversaries import Adversary
    from bitterant.protect.textures import TextureBank
    from bitterant.surrogates import Objective, Recipe

TEXTURES = {"texture": strengths_of("texture")["balanced"], "texture-8": 8.0}
"""Levels of the arms that are textures: the default, and the budget of the published rows."""

ARMS = ("clean", *TEXTURES, "emn")
ADVERSARIES = (
    "none", "grayscale", "jpeg:10", "projection", "fast-adversarial:8", "blur:1", "cutmix", "fast-adversarial:4",
    "tv:0.1", "destripe:10", "rotate:30",
)  # fmt: skip
"""In order of importance."""

ADVERSARIAL = ("adversarial", "fast-adversarial")
"""Not among the cheap steps: they cost a trainer accuracy on clean pictures, too."""

PUBLISHED = {
    "none": "clean 94-95; EM 24, NTGA 13 [1]",
    "grayscale": "EM 89-93 [2, 3]; NTGA 70 [3]; SEM 31.9 [4]",
    "jpeg:10": "clean 85.4 [3]; EM 79-82 [2, 3]; SEM 81.6 [4]",
    "projection": "EM 64 [5]; SEM 16.0 [4]",
    "fast-adversarial:8": "clean 85.1 [6]; EM 82-85 [1, 3, 6]; SEM 86.0, MI-UE 70.6 [6]",
    "fast-adversarial:4": "clean 89.8; EM 84.3; SEM 29.8; MI-UE 31.8 [6]",
}
PUBLISHED["adversarial:8"] = PUBLISHED["fast-adversarial:8"]
PUBLISHED["adversarial:4"] = PUBLISHED["fast-adversarial:4"]
WORST_PUBLISHED = "lowest of nine methods: NTGA 70-83 [1, 3]"
SOURCES = """\
Published by others, at their own settings: ResNet-18, the original CIFAR-10, mostly 60 to 200 epochs, adversarial
training with 10 steps. Some are taken from a later paper's table. Ours: the JPEG copy of CIFAR-10 (quality 75), fewer
epochs, adversarial training as named. Methods: EM arXiv 2101.04898 (sample-wise), SEM arXiv 2311.13091, NTGA ICML 2021,
MI-UE arXiv 2603.03725. Tables: [1] BridgePure, NeurIPS 2025; [2] arXiv 2301.13838; [3] APBench, arXiv 2308.03258;
[4] arXiv 2605.01718; [5] arXiv 2305.19254; [6] arXiv 2603.03725."""

RESERVE = 8.0
"""Seconds kept back for the table."""

BLOCK = 2000
"""Pictures whose textures a process makes at a time."""


class OutOfTime(Exception):
    """The minutes are over in the middle of a training."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training."""

    setting: str
    victim: str
    arm: str
    adversary: str
    seed: int

    @property
    def id(self) -> str:
        """All that the row depends on."""
        return f"{self.setting}/{self.arm}/{self.victim}/{self.adversary}/{self.seed}"

    @property
    def family(self) -> str:
        """Trainings of one family take equally long."""
        return self.adversary.partition(":")[0]

    def __str__(self) -> str:
        return f"{self.arm} under {self.adversary} ({self.victim}, seed {self.seed})"


# ---------------------------------------------------------------------- pictures, made by processes beside the training
@dataclass(frozen=True)
class Shown:
    """The pictures of one arm, as adversaries ask for them (``AttackData``)."""

    train: np.ndarray
    test: np.ndarray
    labels: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]
    seed: int

    def pictures(self, which: Literal["clean", "protected", "noise", "test"]) -> np.ndarray:
        return self.test if which == "test" else self.train

    def features(self, which: Literal["clean", "test"], surrogate: str) -> np.ndarray:
        raise NotImplementedError

    def covered(self, share: float) -> np.ndarray:
        raise NotImplementedError

    def protected_again(self, rows: np.ndarray) -> tuple[np.ndarray | None, str]:
        raise NotImplementedError


def changed(folder: Path, arm: str, name: str, classes: tuple[str, ...], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """What a trainer makes of the training pictures of an arm, and of the test pictures."""
    from bitterant.attacks.adversaries import create_adversary

    adversary = create_adversary(name)
    pictures, tests, labels, answers = (np.load(folder / f"{part}.npy") for part in (arm, "test", "labels", "answers"))
    shown = Shown(pictures, tests, labels, answers, classes, seed)
    train, _ = adversary.compose("protected", shown)
    test = adversary.compose_test("protected", shown) if adversary.tests_by_arm else shown.test
    return adversary.transform(train), adversary.transform(test)


def textured(bank: TextureBank, images: np.ndarray, keys: tuple[str, ...]) -> np.ndarray:
    """uint8 ``[B, 3, R, R]`` with the texture of each."""
    rows = [
        bank.apply(np.ascontiguousarray(image.transpose(1, 2, 0)), key).transpose(2, 0, 1)
        for image, key in zip(images, keys, strict=True)
    ]
    return np.stack(rows)


class Pool:
    """Some processes; with one worker, this one, when a result is asked for."""

    def __init__(self, workers: int) -> None:
        # Spawned, not forked: this process holds a GPU.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(workers, mp_context=context) if workers > 1 else None

    def submit(self, work: Callable[..., Any], *args: Any) -> Callable[[], Any]:
        """Begin; what comes back waits for the result."""
        if self._pool is None:
            return lambda: work(*args)
        future: Future[Any] = self._pool.submit(work, *args)
        return future.result

    def close(self) -> None:
        """Drop what has not begun."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


class Pictures:
    """The pictures of every cell: clean ones from the file, protected by each arm, changed by each adversary."""

    def __init__(self, args: argparse.Namespace, seed: int, folder: Path, pool: Pool) -> None:
        from bitterant.imaging import ImageSet

        cifar = Cifar(args.data)
        self._args, self._seed, self._folder, self._pool = args, seed, folder, pool
        images, self.labels = cifar.train(seed, args.images)
        tests, self.answers = cifar.test(seed, args.tests)
        self.classes = cifar.classes
        self._dataset = ImageSet.from_tensors(images, self.labels, classes=cifar.classes)
        self._waiting: dict[tuple[str, str], Callable[[], Any]] = {}
        for name, values in (
            ("clean", images),
            ("test", tests),
            ("labels", self.labels),
            ("answers", self.answers),
        ):
            np.save(folder / f"{name}.npy", values.numpy())

    def protect(self, arms: Iterable[str]) -> None:
        """Make the arms: textures by the processes, while this one crafts ``emn`` on the device."""
        begun = time.perf_counter()
        blocks = {arm: self._textures(levels) for arm, levels in TEXTURES.items() if arm in arms}
        if "emn" in arms:
            from crafting import protected_by

            bank = self._emn()
            np.save(self._folder / "emn.npy", protected_by(bank, self._dataset).numpy())
            print(f"emn: there after {time.perf_counter() - begun:.1f} s", flush=True)
        for arm, waiting in blocks.items():
            made = np.concatenate([block() for block in waiting])
            most = int(np.abs(made.astype(np.int16) - self._dataset.images.numpy()).max())
            if most > TEXTURES[arm]:
                raise SystemExit(f"{arm}: over budget: {most} levels")
            np.save(self._folder / f"{arm}.npy", made)
            print(f"{arm}: there after {time.perf_counter() - begun:.1f} s", flush=True)

    def _textures(self, levels: float) -> list[Callable[[], np.ndarray]]:
        from bitterant.imaging import Budget
        from bitterant.protect import create_method

        method = create_method("texture", seed=self._seed, budget=Budget.from_levels(levels), device="cpu")
        bank, dataset = method.fit(self._dataset), self._dataset
        return [
            self._pool.submit(textured, bank, dataset.images[rows].numpy(), dataset.keys[rows])
            for rows in (slice(start, start + BLOCK) for start in range(0, len(dataset), BLOCK))
        ]

    def _emn(self) -> Any:
        """A pattern a class, fitted to some of the pictures. Kept, so that a later command protects alike."""
        from bitterant.imaging import Budget
        from bitterant.protect import create_method, load_bank

        args = self._args
        kept = args.work / f"{emn_setting(args)}-{args.epsilon:g}-{args.images}-{self._seed}.safetensors"
        if not kept.exists():
            method = create_method(
                "emn", seed=self._seed, budget=Budget.from_levels(args.epsilon), device=args.device,
                surrogate=args.emn_surrogate, rounds=args.emn_rounds, attempts=args.emn_attempts,
            )  # fmt: skip
            method.fit(self._dataset.select(range(min(args.emn_images, args.images)))).save(kept)
        return load_bank(kept)

    def order(self, cells: Iterable[Cell]) -> None:
        """Have the pictures of these cells changed, in this order."""
        for cell in cells:
            if (cell.arm, cell.adversary) not in self._waiting:
                job = (self._folder, cell.arm, cell.adversary, self.classes, self._seed)
                self._waiting[cell.arm, cell.adversary] = self._pool.submit(changed, *job)

    def of(self, cell: Cell) -> tuple[Tensor, Tensor]:
        """Training and test pictures of an ordered cell; waits for them."""
        train, test = self._waiting[cell.arm, cell.adversary]()
        return torch.from_numpy(train), torch.from_numpy(test)


# ---------------------------------------------------------------------- training
def objective_of(adversary: Adversary) -> Objective | None:
    """What its trainings minimise.

    Raises:
        SystemExit: it does something else than to change pictures or the objective.
    """
    from bitterant.attacks.adversaries.learning import PlainTraining

    learner = adversary.learner()
    plain = adversary.fit == "network" and adversary.readout == "final" and adversary.metric == "rho"
    owns = adversary.leaks or adversary.clean_share or adversary.clean_pictures or adversary.network
    if not plain or owns or adversary.tier == "relabel" or not isinstance(learner, PlainTraining | None):
        raise SystemExit(f"{adversary.name} is not among those that this script can run.")
    return None if learner is None else learner.objective


def recipe_of(victim: str, args: argparse.Namespace) -> Recipe:
    """The project's recipe for so many epochs; the rate of SGD is 0.1 at batches of 128 and grows with them."""
    from bitterant.surrogates import recipe_for

    recipe = recipe_for(victim)
    batch = min(args.batch_size, args.images)
    rate = recipe.lr * batch / 128 if recipe.optimiser == "sgd" else recipe.lr
    steps = max(1, round(args.epochs * args.images / batch))
    return replace(recipe, batch_size=batch, lr=rate, steps=steps)


def train(cell: Cell, pictures: Pictures, args: argparse.Namespace, deadline: float) -> Row:
    """The row of a cell.

    Raises:
        OutOfTime: it would not be done by ``deadline`` of :func:`time.monotonic`.
    """
    from bitterant.attacks.adversaries import create_adversary
    from bitterant.surrogates import create_surrogate, train_classifier

    begun = time.monotonic()
    images, tests = pictures.of(cell)
    waited = time.monotonic() - begun
    objective = objective_of(create_adversary(cell.adversary))
    device = torch.device(args.device)
    seed = 900_000 + cell.seed
    model: nn.Module
    if cell.victim == "resnet9":
        model = ResNet9(len(pictures.classes), seed)
    else:
        model = create_surrogate(
            cell.victim, num_classes=len(pictures.classes), resolution=int(images.shape[-1]), seed=seed
        )

    def look_at_the_clock() -> None:
        if time.monotonic() > deadline:
            raise OutOfTime

    result = train_classifier(
        model, images.to(device), pictures.labels, recipe_of(cell.victim, args), seed=cell.seed,
        test_images=tests.to(device), test_labels=pictures.answers, device=device, objective=objective,
        evals=max(1, round(args.epochs)) if cell.adversary == "none" else 1, after_step=look_at_the_clock,
    )  # fmt: skip

    def share(predictions: Tensor | None) -> float:
        assert predictions is not None
        return round(float((predictions == pictures.answers).float().mean()), 4)

    return {
        "id": cell.id,
        "arm": cell.arm,
        "adversary": cell.adversary,
        "victim": cell.victim,
        "seed": cell.seed,
        "accuracy": share(result.predictions),
        "best": share(result.peak_predictions),
        "train_accuracy": round(result.train_accuracy, 4),
        "finite": result.finite,
        "steps": result.steps,
        "seconds": round(result.seconds, 2),
        "waited": round(waited, 2),
        "device": device_name(device),
    }


def predicted(cell: Cell, cells: Iterable[Cell], rows: dict[str, Row], device: str) -> float | None:
    """Seconds that a training will take, from those of the same victim on the same device; ``None`` where there are
    none. The few per cent on top are for what varies; others of another kind vary more."""
    from bitterant.attacks.adversaries import create_adversary

    done = [(other, rows[other.id]) for other in cells if other.id in rows and other.victim == cell.victim]
    alike = [(other, row["seconds"]) for other, row in done if row["device"] == device]
    if same := [seconds for other, seconds in alike if other.family == cell.family]:
        return 1.05 * statistics.median(same)
    units = [seconds / create_adversary(other.adversary).cost for other, seconds in alike]
    return 1.2 * statistics.median(units) * create_adversary(cell.adversary).cost if units else None


# ---------------------------------------------------------------------- what was asked for, and what came out
def emn_setting(args: argparse.Namespace) -> str:
    """Names how ``emn`` was crafted."""
    return f"emn-{args.emn_surrogate}-{args.emn_images}-{args.emn_rounds}-{args.emn_attempts}"


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def cells_of(args: argparse.Namespace) -> list[Cell]:
    """All cells in order of importance."""
    size = f"{args.images}-{args.tests}-{args.epochs:g}-{args.batch_size}-{args.device}"
    crafted = {
        "emn": f"-{args.epsilon:g}-{emn_setting(args)}",
        **{arm: f"-{levels:g}" for arm, levels in TEXTURES.items()},
    }
    settings = {arm: size + crafted.get(arm, "") for arm in args.arms}
    return [
        Cell(setting=settings[arm], victim=victim, arm=arm, adversary=adversary, seed=seed)
        for seed in range(args.seeds)
        for victim in args.victims
        for adversary in args.adversaries
        for arm in args.arms
    ]


def said(values: list[float]) -> str:
    if not values:
        return "not run"
    mean = f"{100 * statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({100 * min(values):.1f}-{100 * max(values):.1f})"


def table(args: argparse.Namespace, cells: list[Cell], rows: dict[str, Row]) -> str:
    """A row a victim and adversary, a column an arm; the worst rows below those of each victim."""
    lines = [
        f"| victim | trainer | {' | '.join(args.arms)} | published by others |",
        "|---|---|---|" + "---|" * len(args.arms),
    ]

    def line(victim: str, trainer: str, values: Iterable[list[float]], published: str) -> None:
        lines.append(f"| {victim} | {trainer} | {' | '.join(said(each) for each in values)} | {published} |")

    for victim in args.victims:

        def values(arm: str, adversary: str, key: str = "accuracy", victim: str = victim) -> list[float]:
            wanted = [cell for cell in cells if (cell.victim, cell.arm, cell.adversary) == (victim, arm, adversary)]
            return [rows[cell.id][key] for cell in wanted if cell.id in rows]

        for name in args.adversaries:
            line(victim, name, [values(arm, name) for arm in args.arms], PUBLISHED.get(name, "-"))
            if name == "none":
                line(victim, "none, best epoch", [values(arm, name, "best") for arm in args.arms], "-")
        cheap = [name for name in args.adversaries if name.partition(":")[0] not in ADVERSARIAL]

        def worst(arm: str, cheap: list[str] = cheap, values: Callable[..., list[float]] = values) -> str:
            if arm == "clean":  # it would only be the best row over again
                return "-"
            ran = [found for found in (values(arm, name, "best") for name in cheap) if found]
            worst = said(max(ran, key=statistics.mean, default=[]))
            return worst if len(ran) in (0, len(cheap)) else f"{worst}, of {len(ran)} of {len(cheap)}"

        found = [worst(arm) for arm in args.arms]
        lines.append(f"| {victim} | **worst cheap step** | {' | '.join(found)} | {WORST_PUBLISHED} |")
    return "\n".join(lines)


def told(args: argparse.Namespace, cells: list[Cell], rows: dict[str, Row], missing: dict[str, str]) -> str:
    """The table with what it stands for."""
    devices = sorted({rows[cell.id]["device"] for cell in cells if cell.id in rows}) or ["no device yet"]
    crafted = (
        f"emn: a pattern a class, fitted to {min(args.emn_images, args.images):,} of the pictures with "
        f"{args.emn_surrogate} in at most {args.emn_rounds} rounds."
    )
    parts = [
        f"{args.images:,} CIFAR-10 pictures (JPEG copy), {args.tests:,} clean tests, epsilon {args.epsilon:g}, "
        f"{', '.join(f'{arm} {levels:g}' for arm, levels in TEXTURES.items())}, "
        f"{args.epochs:g} epochs in batches of {args.batch_size}, {args.seeds} seed{'s' * (args.seeds > 1)}, on "
        f"{', '.join(devices)}: accuracy on clean test pictures in per cent. fast-adversarial:N: one signed step "
        "within N levels from a random start.",
        *([crafted] if "emn" in args.arms else []),
        table(args, cells, rows),
    ]
    if broken := [str(cell) for cell in cells if cell.id in rows and not rows[cell.id]["finite"]]:
        parts.append("The loss was not finite: " + "; ".join(broken) + ".")
    if left := [f"{cell}: {missing.get(cell.id, 'not reached')}" for cell in cells if cell.id not in rows]:
        parts.append(f"Not run within {args.minutes:g} minutes:\n" + "\n".join(f"- {each}" for each in left))
    return "\n\n".join([*parts, SOURCES])


def run(args: argparse.Namespace, cells: list[Cell], deadline: float) -> tuple[dict[str, Row], dict[str, str]]:
    """The rows of all cells that fitted, and why others were left out."""
    file = args.work / "rows.jsonl"
    rows = kept_rows(file)
    missing: dict[str, str] = {}
    name = device_name(torch.device(args.device))
    pool = Pool(args.workers)
    try:
        for seed in range(args.seeds):
            todo = [cell for cell in cells if cell.seed == seed and cell.id not in rows]
            if not todo or time.monotonic() > deadline:
                continue
            with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
                pictures = Pictures(args, seed, Path(folder), pool)
                pictures.order(cell for cell in todo if cell.arm == "clean")
                pictures.protect({cell.arm for cell in todo})
                pictures.order(todo)
                for cell in todo:
                    left, needed = deadline - time.monotonic(), predicted(cell, cells, rows, name)
                    if left < (needed or 0.0):
                        missing[cell.id] = "no time is left"
                        if left > 0:
                            missing[cell.id] = f"would take some {needed:.0f} s, {left:.0f} s are left"
                        continue
                    try:
                        row = train(cell, pictures, args, deadline)
                    except OutOfTime:
                        missing[cell.id] = f"broken off after {left:.0f} s"
                        continue
                    rows[cell.id] = row
                    with file.open("a") as handle:
                        handle.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
    finally:
        pool.close()
    return rows, missing


def parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DEFAULT_FILE, help="CIFAR-10 as one npz file of JPEG bytes")
    parser.add_argument("--work", type=Path, default=Path(os.environ.get("OUT") or "build/gpu-robustness"))
    parser.add_argument("--minutes", type=float, default=9.0, help="for everything, from the start of the script")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--tests", type=int, default=10_000)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--adversaries", nargs="+", default=list(ADVERSARIES), help="the most important first")
    parser.add_argument(
        "--victims", nargs="+", default=["resnet9"], help="resnet9, or names of `bitterant list victims`"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=float, default=10.0)
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--epsilon", type=float, default=8.0, help="of emn, in levels")
    parser.add_argument("--emn-images", type=int, default=5000, help="that its patterns are fitted to")
    parser.add_argument("--emn-rounds", type=int, default=30, help="at most, of an attempt")
    parser.add_argument("--emn-attempts", type=int, default=1, help="0: without the self-check")
    parser.add_argument("--emn-surrogate", default="small-cnn")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes that prepare pictures")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> None:
    began = time.monotonic()
    args = parsed(words)

    from bitterant.attacks.adversaries import create_adversary
    from bitterant.attacks.training import check_victim
    from bitterant.surrogates import resolve_device

    args.device = str(resolve_device(args.device))
    args.adversaries = [create_adversary(name).name for name in args.adversaries]
    for name in args.adversaries:
        objective_of(create_adversary(name))
    for victim in args.victims:
        if victim != "resnet9":
            check_victim(victim)
    if args.device.startswith("cuda"):
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes to come: each has one core
    args.work.mkdir(parents=True, exist_ok=True)
    cells = cells_of(args)
    rows, missing = run(args, cells, began + 60 * args.minutes - RESERVE)
    text = told(args, cells, rows, missing)
    (args.work / "table.md").write_text(text + "\n")
    print(f"\n{text}\n\n{(time.monotonic() - began) / 60:.1f} minutes", flush=True)


if __name__ == "__main__":
    from bitterant.records.processes import tune_allocator

    tune_allocator()
    main()
