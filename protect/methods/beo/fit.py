"""One fit of Bayes-error ascent: a surrogate, rounds of training and ascent in turn, the estimates at the end."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ....errors import ConfigError, FitError
from ....imaging import Budget, ImageSet
from ....surrogates import FrozenSurrogate
from ..base import FitContext
from .ascent import Ascent
from .ball import round_into_ball
from .copies import join
from .held_out import HeldOutEstimate, random_noise
from .recipe import CLEAN_TARGET, UNDERFIT, BeoRecipe, Training
from .references import BATCH, worst_uncertainty

__all__ = ["ARMS", "BeoFit"]

ARMS = ("clean", "noise", "protected")
"""What the Bayes error is estimated of at the end: untouched, with random noise of the same budget, and protected."""

_TRAINED, _ASCENDED = 0.2, 0.85  # shares of the progress bar
_CAUTION = (
    "The estimate is about these pictures in the features of small networks. It bounds nothing that a trainer reaches "
    "on clean pictures: bitterant verify measures that."
)


class BeoFit:
    """One fit. :meth:`advance` makes one round; state goes to the checkpoint after every round and training block.

    Args:
        recipe: hyper-parameters.
        dataset: images with labels, on the device of computation, two or more of every class.
        clean: known clean images of other sources, or ``None``.
        context: where to report and to keep state.
    """

    def __init__(self, recipe: BeoRecipe, dataset: ImageSet, clean: ImageSet | None, context: FitContext) -> None:
        self.recipe, self.dataset, self.context = recipe, dataset, context
        self.copies = recipe.start(join(dataset, clean), len(dataset))
        self.stepper = recipe.stepper(self.copies)
        self.made, self.blocks, self.ready = 0, 0, False
        self.log: list[dict[str, Any]] = []
        self.trainings: list[dict[str, Any]] = []
        self.found: dict[str, dict[str, Any]] = {}
        resumed = context.checkpoint.load()
        if resumed is not None:
            self._restore(*resumed)
        else:
            self.trainer = recipe.trainer(self.copies.points, 0)

    def go(self) -> Tensor:
        """All rounds that are left, then the estimates. Returns ``[N, 3, R, R]`` in units of the full range.

        Raises:
            ConfigError: the surrogate is underfit.
            FitError: it gives features that are not numbers.
        """
        while self.made < self.recipe.rounds:
            self.advance()
        self._save(force=True)
        self._measure()
        self._conclude()
        if self.recipe.rms is None:
            return self.copies.delta
        if not bool(self.copies.delta.isfinite().all()):
            raise FitError("The fit of beo broke down: it gave numbers that are not finite. Nothing was saved.")
        everything = torch.arange(self.copies.own, device=self.copies.delta.device)
        return torch.cat([self._whole_levels(part).half() for part in everything.split(BATCH)])

    def advance(self) -> None:
        """One round: the surrogate learns the copies as they are, then the copies step up its Bayes error."""
        recipe, copies = self.recipe, self.copies
        if recipe.starts_anew(self.made):
            if not self.ready:
                self._train_anew()
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
            for moved, errors in ascent.sweep():
                total += errors.sum()
                self._tell_round(0.5 + 0.5 * (inner + moved / copies.own) / recipe.inner_steps)
            estimate = float(total) / copies.own
            if not math.isfinite(estimate):
                raise FitError(
                    f"The surrogate {recipe.surrogate} broke down in round {self.made + 1}: some of its features are "
                    "not numbers. Nothing was saved. Use another surrogate, or another --seed."
                )
        self.log.append({"round": self.made, "estimate": round(estimate, 4)})
        self.made, self.blocks, self.ready = self.made + 1, 0, False
        self._save()

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

    def _train_anew(self) -> None:
        """Train from scratch until the surrogate tells the classes apart, block by block."""
        recipe, copies = self.recipe, self.copies
        if self.blocks == 0 and self.made > 0:
            self.trainer = recipe.trainer(copies.points, self.made)
        plan, fixed = recipe.training(len(copies.points)), self._frozen_body
        # Only clean images can show that a surrogate is underfit; later, that it is uncertain is what was wanted.
        most = plan.most if self.made == 0 else plan.blocks
        while not fixed and self.blocks < plan.blocks:
            self._train_block(plan, most)
        uncertainty = self._uncertainty()
        while not fixed and uncertainty > CLEAN_TARGET and self.blocks < most:
            self._train_block(plan, most)
            uncertainty = self._uncertainty()
        steps = self.blocks * plan.steps
        if self.made == 0 and uncertainty > UNDERFIT:
            raise ConfigError(_underfit(recipe.surrogate, uncertainty, steps, fixed))
        self.trainings.append({"round": self.made, "steps": steps, "uncertainty": round(uncertainty, 4)})
        self.ready = True
        self._save(force=True)

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
        self._save()

    def _uncertainty(self) -> float:
        """How badly the surrogate tells the classes of the copies apart, as they are; of several, the worst."""
        recipe, classes = self.recipe, len(self.dataset.classes)
        return worst_uncertainty(
            self._members(), self.copies, classes, self._generator(3, 0), sigma=recipe.sigma, scale=recipe.scaling
        )

    # ------------------------------------------------------------------ what came of it
    def _measure(self) -> None:
        """The cross-fitted estimate of each arm, one after the other."""
        recipe = self.recipe
        if not recipe.estimate_images:
            return
        dataset = self.dataset.to("cpu")
        held_out = HeldOutEstimate(
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
                random_noise(dataset, self._noise_budget(), held_out.index, recipe.seed + 1) if arm == "noise" else None
            )

            def delta_of(index: Tensor, noise: Any = noise) -> Tensor:
                return self._whole_levels(index) if noise is None else noise(index)

            self.found[arm] = held_out(None if arm == "clean" else delta_of, tell).to_json()
            self._save(force=True)

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
                f"estimated Bayes error, held out, from above: {shown['protected']} protected, {shown['clean']} clean, "
                f"{shown['noise']} with random noise"
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

    def _save(self, *, force: bool = False) -> None:
        """Keep the state where that is due: work is redone alike, so a skipped save costs only time."""
        if not self.context.checkpoint.due(important=force):
            return
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
        self.context.checkpoint.save(tensors, facts)

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.made, self.blocks, self.ready = facts["made"], facts["blocks"], facts["ready"]
        self.log, self.trainings, self.found = facts["log"], facts["trainings"], facts["found"]
        self.stepper.count = facts["count"]
        self.copies.delta.copy_(tensors["delta"])
        for name, value in self.stepper.moments.items():
            value.copy_(tensors[f"moment.{name}"])
        # The draw of the weights matters only where a body keeps them; what was learned comes from the state.
        self.trainer = self.recipe.trainer(self.copies.points, self._born())
        self.trainer.unpack({name[8:]: value for name, value in tensors.items() if name.startswith("trainer.")})

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
