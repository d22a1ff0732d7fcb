"""Bayes-error ascent ("Towards Provably Unlearnable Examples via Bayes Error Optimisation", AAAI 2026, arXiv
2511.08191).

Perturbations move images towards those of other classes in the features of a surrogate, so that the classes overlap:
what is raised is a plug-in estimate of the error that the best possible classifier of the perturbed images makes.

Read in order: the hyper-parameters; one fit, rounds of training and ascent in turn, with the estimates at the end; and
the method, which says what a fit will cost.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, InstanceOf
from torch import Tensor

from ....errors import ConfigError, FitError, LabelError
from ....imaging import Budget, ImageSet
from ....records.config import checked
from ....surrogates import (
    ChosenPrecision,
    FrozenSurrogate,
    Surrogate,
    choose_precision,
    create_surrogate,
    now,
)
from ...bank import Bank
from ..base import FitContext, FitEstimate, Method
from ..checkpoint import State, part_of, run_resumable
from ..recipe import CraftingRecipe, StepSize, tenth_of_the_budget
from ..registry import register_method
from ..surrogate_training import SurrogateTrainer, crop_padding
from ..written import ResizeOperator
from .ascent import BANK_SIZE, BATCH, EXACT_LIMIT, Ascent, Copies, Stepper, join, round_into_ball, worst_uncertainty
from .cross_fit import NETWORK, CrossFittedError, random_noise
from .posterior import Kind, Scale

UNDERFIT = 0.3
"""A surrogate whose uncertainty about the clean images (a leave-one-out error, in [0, 1]) is above this cannot tell the
classes apart: there is nothing to raise. A prototype that began at .70 did nothing at all.
"""

CLEAN_TARGET = 0.1
"""The first training goes on until the uncertainty is at most this, or its cap is reached."""

BATCH_SIZE = 128
_PEAK, _FLOOR = 0.1, 0.02
_PAPER_DECAY = 0.01  # of AdamW, torch's default
MOST_STEPS = 4000
"""Of the planned first training, whatever the size of the folder."""
LEAST_CAP = 1500
"""Steps that a first training may at least take while it is underfit: small folders need steps, not epochs."""
ROUND_STEPS = 200
"""Of the continued training in a round, at most: a cost that grows with the folder would be paid in every round."""


@dataclass(frozen=True)
class Training:
    """The plan of one training from scratch, in blocks that are each saved and each a pure function of their number.

    Attributes:
        blocks: planned.
        most: blocks at most, as long as the surrogate is underfit.
        steps: optimiser steps of a block.
    """

    blocks: int
    most: int
    steps: int


def _usual_step(told: Mapping[str, Any]) -> float:
    return min(1e-3, told["budget"].epsilon) if told["ascent"] == "adam" else tenth_of_the_budget(told)


def _more_than_a_level(rms: float) -> ConfigError | None:
    if rms * 255 >= 1:
        return None
    return ConfigError(
        f"rms {rms} is under one level of 255: such a perturbation would be rounded away. "
        "It is a fraction of the full range; 4 levels are 4/255 = 0.0157."
    )


def _digest(clean: ImageSet | None) -> str | None:
    if clean is None:
        return None
    digest = hashlib.sha256("\n".join((*clean.classes, *clean.keys)).encode())
    digest.update(clean.images.cpu().numpy().tobytes())
    if clean.labels is not None:
        digest.update(clean.labels.cpu().numpy().tobytes())
    return digest.hexdigest()


class BeoRecipe(CraftingRecipe):
    """Hyper-parameters of Bayes-error ascent, and what is built from them."""

    seed_places = (10007, 101, 10007)  # round, stage, block

    kind: Kind = "max"
    """``max``: raise one minus the largest posterior, whose optimum is ambiguity. ``true``: one minus that of the own
    label."""
    sigma: float = Field(default=0.3, gt=0)
    """Bandwidth of the kernel, in units of the scaled features; usual values lie between .1 and 1."""
    scaling: Scale = "unit"
    """Features of length 1 (``unit``), or all divided by the largest value; in the paper preset ``global``."""
    ascent: Literal["sign", "adam"] = "sign"
    """Of the perturbations; in the paper preset ``adam``."""
    step_size: StepSize = Field(default_factory=_usual_step)
    """In units of the full range; default epsilon / 10, for ``adam`` 1e-3."""
    rounds: int = Field(default=30, ge=1)
    """T; in the paper preset 200."""
    inner_steps: int = Field(default=2, ge=1)
    """Ascent steps of every image in a round; in the paper preset 1."""
    first_epochs: int = Field(default=30, ge=1)
    """Epochs of a training from scratch (by default prolonged, without crops and flips, while the surrogate is
    underfit)."""
    epochs: int = Field(default=2, ge=1)
    """Of the continued training in a round."""
    restart_every: int = Field(default=0, ge=0)
    """Rounds between trainings from scratch, 0 for never; in the paper preset 1."""
    estimate_images: int = Field(default=2000, ge=0)
    """How many images the report's estimates are made on; 0 leaves them out."""
    estimate_steps: int = Field(default=300, ge=1)
    """Training steps of each of the six small networks for them."""
    rms: Annotated[float | None, checked(_more_than_a_level)] = None
    """A second bound beside the budget, an L2 ball: the root mean square of each perturbation at the working
    resolution, as a fraction of the full range, after rounding too; at least 1/255."""
    clean_bank: InstanceOf[ImageSet] | None = None
    """Known clean images of the same classes from other sources, at the same resolution. The surrogate learns them too
    and they join the references, so that the Bayes error of the mix is raised."""

    def settings(self) -> dict[str, Any]:
        """What decides about the result; of a clean bank, its digest."""
        return {**super().settings(), "clean_bank": _digest(self.clean_bank)}

    def starts_anew(self, number: int) -> bool:
        """Whether a fresh surrogate is trained from scratch at the start of this round."""
        return number == 0 or (self.restart_every > 0 and number % self.restart_every == 0)

    def trainer(self, points: ImageSet, number: int) -> SurrogateTrainer:
        """A fresh surrogate for this round; another draw of its weights in each."""
        assert points.labels is not None
        model = create_surrogate(
            self.surrogate,
            num_classes=len(points.classes),
            resolution=points.resolution,
            seed=self.derived_seed(number, 0, 0),
            weights=self.weights,
        )
        return SurrogateTrainer(
            model, points.images, points.labels, batch_size=BATCH_SIZE, augment=not self.paper, lr=_PEAK,
            clip_norm=math.inf if self.paper else 5.0, precision=self.precision,
        )  # fmt: skip

    def training(self, count: int) -> Training:
        """The plan of a training from scratch on ``count`` images."""
        epoch = -(-count // BATCH_SIZE)
        if self.paper:
            return Training(blocks=self.first_epochs, most=self.first_epochs, steps=epoch)
        planned = min(self.first_epochs * epoch, MOST_STEPS)
        steps = max(10, -(-planned // 10))
        blocks = -(-planned // steps)
        return Training(blocks=blocks, most=max(3 * blocks, -(-LEAST_CAP // steps)), steps=steps)

    def learning_rate(self, block: int, plan: Training) -> float:
        """That of a block: a half cosine from .1 over the planned ones; ours ends at .02 and stays there."""
        falling = _PEAK * 0.5 * (1 + math.cos(math.pi * min(block, plan.blocks) / plan.blocks))
        return falling if self.paper else max(falling, _FLOOR)

    def round_steps(self, count: int) -> int:
        """Optimiser steps of the continued training in one round on ``count`` images."""
        return min(self.epochs * -(-count // BATCH_SIZE), ROUND_STEPS)

    def schedule(self, count: int) -> str:
        """For people: how long the surrogate is trained on ``count`` images, and where that is cut short."""
        plan = self.training(count)
        steps = plan.blocks * plan.steps
        first = f"{steps:,} steps ({self.first_epochs} epochs"
        if self.paper:
            return f"{first}) from scratch in every round"
        epoch = -(-count // BATCH_SIZE)
        cut = f" would be {self.first_epochs * epoch:,}" if self.first_epochs * epoch > MOST_STEPS else ""
        often = "first" if not self.restart_every else f"from scratch every {self.restart_every} rounds"
        more = f"{first}{cut}) {often}, up to {plan.most * plan.steps:,} in all while the surrogate is underfit"
        cut = f" would be {self.epochs * epoch:,}" if self.epochs * epoch > ROUND_STEPS else ""
        return f"{more}, and {self.round_steps(count):,} ({self.epochs} epochs{cut}) in every other round"

    @property
    def round_rate(self) -> float:
        """Learning rate of the continued training."""
        return _FLOOR

    def padding(self, resolution: int) -> int:
        """Of the random crops that gradients are taken through, in px; the paper takes none."""
        return 0 if self.paper else crop_padding(resolution)

    def stepper(self, copies: Copies) -> Stepper:
        """What moves the perturbations."""
        decay = _PAPER_DECAY if self.paper and self.ascent == "adam" else 0.0
        return Stepper(copies, self.budget, size=self.step_size, adam=self.ascent == "adam", decay=decay, rms=self.rms)

    def start(self, points: ImageSet, own: int) -> Copies:
        """The images without any perturbation yet; the paper's is kept in single precision."""
        resize = None if self.paper else ResizeOperator.of(points)
        return Copies.start(points, own, resize, kind=torch.float32 if self.paper else torch.float16)

    @property
    def most_exact(self) -> int | None:
        """Images that are compared all with all; in the paper any number."""
        return None if self.paper else EXACT_LIMIT

    def members(self, model: Surrogate, resolution: int) -> tuple[list[FrozenSurrogate], dict[str, ChosenPrecision]]:
        """The networks of a surrogate, frozen and giving features, and what each is computed in."""
        frozen: list[FrozenSurrogate] = []
        chosen: dict[str, ChosenPrecision] = {}
        for member in model.members:
            found = choose_precision(member, self.device, resolution=resolution, asked=self.precision)
            chosen[member.name] = found
            frozen.append(FrozenSurrogate(member, bf16=found.bf16, features=True))
        return frozen, chosen


BeoRecipe.presets = {
    "fast": BeoRecipe(preset="fast", rounds=10, first_epochs=15, estimate_images=0),
    "paper": BeoRecipe(
        preset="paper", surrogate="resnet18-plain", precision="float32", scaling="global", ascent="adam", rounds=200,
        inner_steps=1, restart_every=1,
    ),
}  # fmt: skip


ARMS = ("clean", "noise", "protected")
"""What the Bayes error is estimated of at the end: untouched, with random noise of the same budget, and protected."""

_TRAINED, _ASCENDED = 0.2, 0.85  # shares of the progress bar
_CAUTION = (
    "The estimate is about these pictures in the features of small networks. It bounds nothing that a trainer reaches "
    "on clean pictures: bitterant verify measures that."
)


class BeoFit:
    """One fit: rounds of training and ascent, then the estimates. A piece of work is a training block, the ascent of a
    round, or an estimate.

    Args:
        recipe: hyper-parameters.
        dataset: images with labels, on the device of computation, two or more of every class.
        context: where to report and to keep state.
    """

    def __init__(self, recipe: BeoRecipe, dataset: ImageSet, context: FitContext) -> None:
        self.recipe, self.dataset, self.context = recipe, dataset, context
        self.copies = recipe.start(join(dataset, recipe.clean_bank), len(dataset))
        self.stepper = recipe.stepper(self.copies)
        self.made, self.blocks, self.ready = 0, 0, False
        self.log: list[dict[str, Any]] = []
        self.trainings: list[dict[str, Any]] = []
        self.found: dict[str, dict[str, Any]] = {}
        self._trainer: SurrogateTrainer | None = None

    def run(self) -> Tensor:
        """All rounds that are left, then the estimates. Returns ``[N, 3, R, R]`` in units of the full range.

        Raises:
            ConfigError: the surrogate is underfit.
            FitError: it gives features that are not numbers.
        """
        run_resumable(self, self.context.checkpoint)
        self._conclude()
        if self.recipe.rms is None:
            return self.copies.delta
        if not bool(self.copies.delta.isfinite().all()):
            raise FitError("The fit of beo broke down: it gave numbers that are not finite. Nothing was saved.")
        everything = torch.arange(self.copies.own, device=self.copies.delta.device)
        return torch.cat([self._whole_levels(part).half() for part in everything.split(BATCH)])

    def pieces(self) -> Iterator[bool]:
        """All that is left."""
        while self.made < self.recipe.rounds:
            yield from self.advance()
        yield True
        yield from self._measure()

    @property
    def trainer(self) -> SurrogateTrainer:
        """The present surrogate."""
        if self._trainer is None:
            self._trainer = self.recipe.trainer(self.copies.points, 0)
        return self._trainer

    def advance(self) -> Iterator[bool]:
        """One round: the surrogate learns the copies as they are, then the copies step up its Bayes error."""
        recipe, copies = self.recipe, self.copies
        if recipe.starts_anew(self.made):
            if not self.ready:
                yield from self._train_anew()
        elif not self._frozen_body:
            self.trainer.set_learning_rate(recipe.round_rate)
            steps = recipe.round_steps(len(copies.points))
            self.trainer.steps(steps, copies.delta_of, self._generator(1, 0), lambda share: self._tell_round(share / 2))
        ascent = Ascent(
            copies, self._members(), self.stepper,
            sigma=recipe.sigma, kind=recipe.kind, scale=recipe.scaling,
            padding=recipe.padding(copies.points.resolution), most=recipe.most_exact,
            generator=self._generator(2, 0),
        )  # fmt: skip
        estimate = 0.0
        for inner in range(recipe.inner_steps):
            total = torch.zeros((), device=copies.delta.device)
            for moved, errors in ascent.step():
                total += errors.sum()
                self._tell_round(0.5 + 0.5 * (inner + moved / copies.own) / recipe.inner_steps)
            if total.device.type != "cpu" and inner + 1 < recipe.inner_steps:
                continue  # a device is asked once a round
            estimate = float(total) / copies.own
            if not math.isfinite(estimate):
                raise FitError(
                    f"The surrogate {recipe.surrogate} broke down in round {self.made + 1}: some of its features are "
                    "not numbers. Nothing was saved. Use another surrogate, or another --seed."
                )
        self.log.append({"round": self.made, "estimate": round(estimate, 4)})
        self.made, self.blocks, self.ready = self.made + 1, 0, False
        yield False

    # ------------------------------------------------------------------ the surrogate
    @property
    def _frozen_body(self) -> bool:
        """Whether training would change nothing that the estimator sees."""
        return all(member.head_only for member in self.trainer.model.members)

    def _members(self) -> list[FrozenSurrogate]:
        frozen, chosen = self.recipe.members(self.trainer.model, self.copies.points.resolution)
        for name, precision in chosen.items():
            self.context.computed_in(name, precision)
        return frozen

    def _train_anew(self) -> Iterator[bool]:
        """Train from scratch until the surrogate tells the classes apart, block by block."""
        recipe, copies = self.recipe, self.copies
        if self.blocks == 0 and self.made > 0:
            self._trainer = recipe.trainer(copies.points, self.made)
        plan, fixed = recipe.training(len(copies.points)), self._frozen_body
        # Only clean images can show that a surrogate is underfit; later, that it is uncertain is what was wanted.
        most = plan.most if self.made == 0 else plan.blocks
        while not fixed and self.blocks < plan.blocks:
            self._train_block(plan, most)
            yield False
        uncertainty = self._uncertainty()
        while not fixed and uncertainty > CLEAN_TARGET and self.blocks < most:
            self._train_block(plan, most)
            yield False
            uncertainty = self._uncertainty()
        steps = self.blocks * plan.steps
        if self.made == 0 and uncertainty > UNDERFIT:
            raise ConfigError(_underfit(recipe.surrogate, uncertainty, steps, fixed))
        self.trainings.append({"round": self.made, "steps": steps, "uncertainty": round(uncertainty, 4)})
        self.ready = True
        yield True

    def _train_block(self, plan: Training, most: int) -> None:
        number = self.blocks
        self.trainer.set_learning_rate(self.recipe.learning_rate(number, plan))
        text = f"training the surrogate: {number * plan.steps} steps of {plan.blocks * plan.steps}"
        if number >= plan.blocks:
            text = f"training the surrogate on, it is still underfit: {number * plan.steps} steps"

        def tell(share: float) -> None:
            done = (number + share) / most
            if self.made == 0:
                self.context.tell("fit", _TRAINED * done, text)
            else:
                self._tell_round(done / 2, text)

        tell(0.0)
        # A small network that sees ever new crops may never fit a few thousand images (.37 after 2,160 steps on 3,000
        # of CIFAR-10); on the images as they are, as in the public code, it did in half of that.
        self.trainer.steps(
            plan.steps, self.copies.delta_of, self._generator(0, number), tell, plain=number >= plan.blocks
        )
        self.blocks += 1

    def _uncertainty(self) -> float:
        """How badly the surrogate tells the classes of the copies apart, as they are; of several, the worst."""
        recipe, classes = self.recipe, len(self.dataset.classes)
        return worst_uncertainty(
            self._members(), self.copies, classes, self._generator(3, 0), sigma=recipe.sigma, scale=recipe.scaling
        )

    # ------------------------------------------------------------------ what came of it
    def _measure(self) -> Iterator[bool]:
        """The cross-fitted estimate of each arm, one after the other."""
        recipe = self.recipe
        if not recipe.estimate_images:
            return
        dataset = self.dataset.to("cpu")
        cross_fitted = CrossFittedError(
            dataset, recipe.budget, seed=recipe.seed, device=recipe.device,
            max_images=recipe.estimate_images, steps=recipe.estimate_steps,
        )  # fmt: skip
        for number, arm in enumerate(ARMS):
            if arm in self.found:
                continue

            def tell(share: float, number: int = number, arm: str = arm) -> None:
                done = _ASCENDED + (1 - _ASCENDED) * (number + share) / len(ARMS)
                self.context.tell("fit", done, f"estimating the Bayes error with fresh networks: {arm} images")

            tell(0.0)
            noise = (
                random_noise(dataset, self._noise_budget(), cross_fitted.index, recipe.seed + 1)
                if arm == "noise"
                else None
            )

            def delta_of(index: Tensor, noise: Any = noise) -> Tensor:
                return self._whole_levels(index) if noise is None else noise(index)

            self.found[arm] = cross_fitted(None if arm == "clean" else delta_of, tell).to_json()
            yield True

    def _noise_budget(self) -> Budget:
        """That of random signs as large as the perturbations may be."""
        recipe = self.recipe
        return recipe.budget if recipe.rms is None else Budget(min(recipe.budget.epsilon, recipe.rms))

    def _whole_levels(self, index: Tensor) -> Tensor:
        """Perturbations as the bank will hold them, in units of the full range."""
        delta = self.copies.delta[index.to(self.copies.delta.device)].float()
        return round_into_ball(delta, self.recipe.budget, self.recipe.rms) / 255.0

    def _conclude(self) -> None:
        recipe, points = self.recipe, len(self.copies.points)
        self.context.surrogate_sha256 = self.trainer.model.fingerprint()
        if "precision" not in self.context.report:
            self._members()  # a fit that goes on after its last round has not asked yet
        exact = recipe.most_exact is None or points <= recipe.most_exact
        report: dict[str, Any] = {
            "surrogate": recipe.surrogate,
            "surrogate_source": self.trainer.model.source,
            "stop_rule": f"{recipe.rounds} rounds",
            "surrogate_training": "none, its body is fixed" if self._frozen_body else recipe.schedule(points),
            "references": "every image against every other" if exact else "a bank of references drawn every round",
            "known_clean_images": points - len(self.dataset),
            "trainings": self.trainings,
            "rounds": self.log,
            "final_estimate_in_sample": self.log[-1]["estimate"],
        }
        line = f"Bayes-error estimate on the surrogate itself: {self.log[-1]['estimate']:.2f}"
        if self.found:
            report["estimated_bayes_error"] = self.found
            shown = {arm: f"{value['estimate']:.2f}" for arm, value in self.found.items()}
            line = (
                f"estimated Bayes error, cross-fitted, from above: {shown['protected']} protected, "
                f"{shown['clean']} clean, {shown['noise']} with random noise"
            )
        report["caution"] = _CAUTION
        self.context.report.update(report)
        self.context.tell("fit", 1.0, line)

    # ------------------------------------------------------------------ progress and state
    def _tell_round(self, share: float, extra: str = "") -> None:
        done = _TRAINED + (_ASCENDED - _TRAINED) * (self.made + share) / self.recipe.rounds
        reached = f", estimate {self.log[-1]['estimate']:.2f}" if self.log else ""
        message = f"round {self.made + 1} of {self.recipe.rounds}{reached}"
        self.context.tell("fit", done, f"{message}: {extra}" if extra else message)

    def _generator(self, stage: int, block: int) -> torch.Generator:
        return torch.Generator().manual_seed(self.recipe.derived_seed(self.made, stage + 1, block))

    def state_dict(self) -> State:
        """Perturbations, what moves them, the surrogate, and where in which round this is."""
        facts = {
            "made": self.made,
            "blocks": self.blocks,
            "ready": self.ready,
            "count": self.stepper.count,
            "log": self.log,
            "trainings": self.trainings,
            "found": self.found,
        }
        tensors = {"delta": self.copies.delta}
        tensors |= {f"moment.{name}": value for name, value in self.stepper.moments.items()}
        tensors |= {f"trainer.{name}": value for name, value in self.trainer.pack().items()}
        return tensors, facts

    def load_state_dict(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.made, self.blocks, self.ready = facts["made"], facts["blocks"], facts["ready"]
        self.log, self.trainings, self.found = facts["log"], facts["trainings"], facts["found"]
        self.stepper.count = facts["count"]
        self.copies.delta.copy_(tensors["delta"])
        for name, value in self.stepper.moments.items():
            value.copy_(tensors[f"moment.{name}"])
        # The draw of the weights matters only where a body keeps them; what was learned comes from the state.
        self._trainer = self.recipe.trainer(self.copies.points, self._born())
        self._trainer.unpack(part_of(tensors, "trainer"))

    def _born(self) -> int:
        """The round in which the present surrogate was made."""
        present = self.made if self.ready or self.blocks else max(0, self.made - 1)
        every = self.recipe.restart_every
        return present // every * every if every else 0


def _underfit(surrogate: str, uncertainty: float, steps: int, fixed: bool) -> str:
    trained = "whose features are fixed" if fixed else f"after {steps} training steps"
    return (
        f"The surrogate {surrogate}, {trained}, cannot tell the classes of the clean images apart: the error that its "
        f"features leave is {uncertainty:.2f}, and above {UNDERFIT:g} there is little to raise. Use another surrogate "
        "(--surrogate resnet18), more images of each class, or a higher resolution (--resolution 64)."
    )


@register_method
class BayesErrorAscent(Method[Bank, BeoRecipe]):
    """Bayes-error ascent, one perturbation an image.

    Our default is a fast schedule: one surrogate, trained once until it tells the classes apart and then a little in
    every round, signed steps of epsilon / 10 taken through random crops and flips and through what files do to the
    perturbation, features centred and of length 1. ``preset="paper"`` is that of the authors' public code, in float32:
    a fresh ``resnet18-plain`` for each step (30 epochs, no augmentation), features divided by their largest value, all
    pictures compared with all whatever their number, AdamW with 1e-3, 200 rounds (the paper's own
    number of rounds is not known to us, nor were its tables).

    A raised estimate is not a bound on what a trainer learns: see docs/methods/beo.md, and run ``bitterant verify``.

    Perturbations belong to samples. Hyper-parameters are the fields of
    :class:`BeoRecipe`. Of an ensemble ``a+b`` of surrogates the members' estimates are averaged.

    Raises:
        ConfigError: a value out of range, or a clean bank that does not fit.
        UnknownNameError: no such preset, kind, scaling or rule of ascent.
    """

    name = "beo"
    needs = "labels"
    granularities = ("sample",)
    recipe_class = BeoRecipe

    @property
    def least_images_a_class(self) -> int:
        """Two: each picture is left out of its own neighbours."""
        return 2

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        _check_pairs(dataset)
        _check_clean_bank(self.recipe.clean_bank, dataset)
        return BeoFit(self.recipe, dataset.to(self.device), context).run()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        recipe, dataset = self.recipe, dataset.to(self.device)
        total += 0 if self.recipe.clean_bank is None else len(self.recipe.clean_bank)
        copies = Copies.start(dataset, len(dataset), None)
        generator = torch.Generator().manual_seed(0)
        trainer = recipe.trainer(dataset, 0)
        training = _seconds_a_step(trainer, copies, generator)
        members, _ = recipe.members(trainer.model, dataset.resolution)
        stepper = recipe.stepper(copies)
        padding = recipe.padding(dataset.resolution)
        part = copies.points.select(range(min(len(dataset), BATCH)))
        some = Copies.start(part, len(part), None)
        ascent = Ascent(
            some, members, recipe.stepper(some), sigma=recipe.sigma, kind=recipe.kind, scale=recipe.scaling,
            padding=padding, generator=generator,
        )  # fmt: skip
        for _ in ascent.step():  # the first pass also allocates: not timed
            pass
        begun = now(self.device)
        for _ in ascent.step():
            pass
        step = (now(self.device) - begun) / len(part)
        plan = recipe.training(total)
        trainings = 1 if not recipe.restart_every else -(-recipe.rounds // recipe.restart_every)
        fixed = all(member.head_only for member in trainer.model.members)
        steps = 0 if fixed else trainings * plan.blocks * plan.steps
        steps += 0 if fixed else (recipe.rounds - trainings) * recipe.round_steps(total)
        seconds = steps * training + recipe.rounds * recipe.inner_steps * total * step
        if recipe.estimate_images:
            small = trainer
            if recipe.surrogate != NETWORK:
                small = SurrogateTrainer(_small(dataset), dataset.images, copies.labels, batch_size=BATCH, augment=True)
            # Two networks an arm, in batches of half the size.
            seconds += len(ARMS) * recipe.estimate_steps * _seconds_a_step(small, copies, generator)
        pixel = 3 * dataset.resolution**2
        exact = recipe.most_exact is None or total <= recipe.most_exact
        references = total if exact else BANK_SIZE
        held = 3 * min(total, recipe.estimate_images) * pixel
        kept = total * pixel * ((6 if recipe.paper else 4) + 8 * bool(stepper.moments))
        peak = kept + max(BATCH * pixel * 64 + references * 512 * 24, held)
        return FitEstimate(seconds=seconds, peak_bytes=peak, schedule="" if fixed else recipe.schedule(total))


def _seconds_a_step(trainer: SurrogateTrainer, copies: Copies, generator: torch.Generator) -> float:
    trainer.steps(1, copies.delta_of, generator)  # the first pass also allocates: not timed
    begun = now(trainer.device)
    trainer.steps(2, copies.delta_of, generator)
    return (now(trainer.device) - begun) / 2


def _small(dataset: ImageSet) -> Surrogate:
    return create_surrogate(NETWORK, num_classes=len(dataset.classes), resolution=dataset.resolution, seed=0)


def _check_pairs(dataset: ImageSet) -> None:
    """A class with one image has no reference besides that image itself."""
    assert dataset.labels is not None
    counts = torch.bincount(dataset.labels, minlength=len(dataset.classes)).tolist()
    single = [name for name, count in zip(dataset.classes, counts, strict=True) if count == 1]
    if single:
        names = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        raise LabelError(
            f"beo needs at least two different images of every class, and {len(single)} of {len(dataset.classes)} "
            f"classes have one: {names}. Add images to these, or leave the classes out."
        )


def _check_clean_bank(clean: ImageSet | None, dataset: ImageSet) -> None:
    if clean is None:
        return
    if clean.labels is None:
        raise LabelError("The clean bank has no labels: give an ImageSet with labels and class names.")
    unknown = [name for name in clean.classes if name not in dataset.classes]
    if unknown:
        raise LabelError(f"The clean bank has classes that the data set does not have: {', '.join(unknown[:5])}.")
    if clean.resolution != dataset.resolution:
        raise ConfigError(
            f"The clean bank has {clean.resolution} px, the data set {dataset.resolution} px. Load both at the same "
            "resolution."
        )
