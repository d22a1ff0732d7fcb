"""Error-minimizing noise (Huang et al., ICLR 2021, arXiv 2101.04898).

A barely trained surrogate and the perturbations descend the same loss in turn, until the perturbed images look
already learned: a trainer's network then finds nothing left to learn from the pictures themselves.

One fit of error-minimizing noise: attempts, their stages and rounds, the self-check between, and the checkpoint.

What a fit of error-minimizing noise will cost, from a first batch.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ....errors import UnknownNameError
from ....imaging import Budget, ImageSet
from ....surrogates import Precision, now
from ...bank import Bank, Granularity
from ..base import FitContext, FitEstimate, Method, settled_precision
from ..pgd import class_gradient
from ..registry import SURROGATE, own_surrogate, register_method
from ..self_check import CheckResult, SelfCheck
from ..surrogate_training import SurrogateTrainer
from .stages import (
    PAPER_ROUNDS,
    TINT,
    ClassStage,
    EmnRecipe,
    ExtraGradient,
    SampleStage,
    delta_by_class,
    delta_by_row,
)

_Stage = ClassStage | SampleStage


class EmnFit:
    """One fit: attempts, each of one or two stages, each of rounds; state goes to the checkpoint after every round."""

    def __init__(
        self, recipe: EmnRecipe, dataset: ImageSet, context: FitContext, *, extra: ExtraGradient | None = None
    ) -> None:
        self.recipe, self.dataset, self.context, self.extra = recipe, dataset, context, extra
        assert dataset.labels is not None
        self.labels = dataset.labels
        self.check = SelfCheck(dataset.to("cpu"), Budget(recipe.epsilon), seed=recipe.seed, device=recipe.device)
        self.log: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.best: Tensor | None = None
        self.best_residual = float("inf")
        self.best_attempt = 0

    def run(self) -> Tensor:
        recipe = self.recipe
        attempts = max(1, recipe.attempts)
        resumed = self.context.checkpoint.load()
        attempt = 0
        if resumed is not None:
            attempt = self._restore(*resumed)
        while True:
            trainer, delta = self._craft(attempt, resumed)
            resumed = None  # it holds as much as the perturbations
            if not recipe.attempts or not self.check.possible:
                reason = "switched off" if not recipe.attempts else "too few images to hold some out"
                self._conclude(trainer, attempt, None, f"self-check: {reason}")
                return delta
            result = self._self_check(delta, attempt)
            better = result.residual < self.best_residual
            if better:
                self.best_residual, self.best_attempt = result.residual, attempt
                self.context.surrogate_sha256 = trainer.model.fingerprint()
            if not result.conclusive:
                verdict = "inconclusive: clean images are not learned from either, so the check cannot tell"
            elif result.residual <= recipe.target:
                verdict = f"reached: residual learnability {result.residual:.2f} <= {recipe.target:g}"
            elif attempt + 1 >= attempts:
                verdict = (
                    f"not reached in {attempts} attempts: the best left residual learnability "
                    f"{self.best_residual:.2f} > {recipe.target:g}"
                )
            else:
                if better:
                    self.best = None  # before the next is made beside it
                    self.best = self._levels(delta)
                del delta, trainer
                attempt += 1
                self._save(attempt, 0, 0, {}, important=True)
                continue
            self._conclude(trainer, attempt, result, verdict)
            if better:
                return delta
            assert self.best is not None
            del delta
            return self.best.to(torch.float16).div_(255.0)

    def _levels(self, delta: Tensor) -> Tensor:
        """The same in whole levels, as a bank holds them, a byte each where they fit: kept beside the next attempt."""
        budget = Budget(self.recipe.epsilon)
        levels = torch.empty(delta.shape, dtype=torch.int8 if budget.levels < 128 else torch.int16)
        for rows in torch.arange(len(delta)).split(32):
            levels[rows] = budget.quantise(budget.project(delta[rows.to(delta.device)].float())).cpu().to(levels.dtype)
        return levels

    def _craft(self, attempt: int, resumed: tuple[dict[str, Tensor], dict[str, Any]] | None) -> tuple[
        SurrogateTrainer, Tensor
    ]:  # fmt: skip
        """One attempt: the stages in order, from the checkpoint if it lies in this attempt."""
        recipe, dataset = self.recipe, self.dataset
        trainer = recipe.trainer(dataset, attempt)
        stages: list[_Stage] = []
        if recipe.granularity == "class" or not recipe.paper:
            stages.append(replace(recipe.class_stage(dataset), extra=self.extra))
        if recipe.granularity == "sample":
            stages.append(recipe.sample_stage(dataset))
        first_stage, made, error, state = 0, 0, 1.0, dict[str, Tensor]()
        if resumed is not None and resumed[1]["made"] + resumed[1]["stage"] > 0:
            tensors, facts = resumed
            first_stage, made, error = facts["stage"], facts["made"], facts["error"]
            trainer.unpack({k[8:]: v for k, v in tensors.items() if k.startswith("trainer.")})
            state = {k[6:]: v.to(self.recipe.device) for k, v in tensors.items() if k.startswith("state.")}
        for position in range(first_stage, len(stages)):
            stage = stages[position]
            if not state:
                state = stage.start() if isinstance(stage, ClassStage) else stage.start(None)
            while not stage.done(made, error):
                seed = recipe.derived_seed(attempt, position + 1, made)
                generator = torch.Generator().manual_seed(seed)
                where = (position + made / stage.rounds) / len(stages)
                label = f"{stage.name}, round {made + 1} of at most {stage.rounds}"

                def tell(share: float, base: float = where, text: str = label, stage: _Stage = stage) -> None:
                    inside = base + share / stage.rounds / len(stages)
                    self._tell(attempt, inside, text)

                tell(0.0)
                record = stage.run_round(made, state, trainer, generator, tell)
                made, error = made + 1, record.error
                self.log.append({"attempt": attempt, **record.to_json()})
                self._save(attempt, position, made, _packed(state, trainer), error=error)
            if position + 1 < len(stages):
                following = stages[position + 1]
                assert isinstance(following, SampleStage)
                state, made, error = following.start(state["delta"]), 0, 1.0
                self._save(attempt, position + 1, 0, _packed(state, trainer), important=True)
        return trainer, state["delta"]

    def _delta_of(self, delta: Tensor) -> Any:
        by_class = self.recipe.granularity == "class"
        lookup = delta_by_class(delta, self.labels, None) if by_class else delta_by_row(delta, None)
        return lambda index: lookup(index.to(self.recipe.device))

    def _self_check(self, delta: Tensor, attempt: int) -> CheckResult:
        self._tell(attempt, 0.9, "self-check: training a fresh victim")
        known = self.checks[0]["clean_accuracy"] if self.checks else None
        result = self.check(self._delta_of(delta), attempt=attempt, clean_accuracy=known)
        self.checks.append({"attempt": attempt, **result.to_json()})
        return result

    def _tell(self, attempt: int, share: float, message: str) -> None:
        attempts = max(1, self.recipe.attempts)
        prefix = f"attempt {attempt + 1} of at most {attempts}: " if attempt else ""
        # Nobody knows how many attempts it will take. The geometric mean of the least and the most that are still
        # possible is never off by more than the root of their ratio, which for three is below two.
        expected = math.sqrt((attempt + 1) * attempts)
        done = share * (0.9 if self.recipe.attempts else 1.0)
        self.context.tell("fit", (attempt + done) / expected, prefix + message)

    def _save(
        self,
        attempt: int,
        stage: int,
        made: int,
        tensors: dict[str, Tensor],
        *,
        error: float = 1.0,
        important: bool = False,
    ) -> None:
        """Keep the state where that is due: rounds are redone alike, so a skipped save costs only time.

        ``error`` is that of the last round as it is: the log holds it rounded, which the stop rule must not see.
        """
        if not self.context.checkpoint.due(important=important):
            return
        facts = {
            "attempt": attempt,
            "stage": stage,
            "made": made,
            "error": error,
            "log": self.log,
            "checks": self.checks,
            "best_residual": self.best_residual if self.best is not None else None,
            "best_attempt": self.best_attempt,
            "surrogate_sha256": self.context.surrogate_sha256,
        }
        kept = tensors if self.best is None else {**tensors, "best": self.best}
        self.context.checkpoint.save(kept, facts)

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> int:
        self.log, self.checks = facts["log"], facts["checks"]
        self.context.surrogate_sha256 = facts["surrogate_sha256"]
        if "best" in tensors:
            self.best, self.best_residual = tensors["best"], facts["best_residual"]
            self.best_attempt = facts["best_attempt"]
        return int(facts["attempt"])

    def _conclude(self, trainer: SurrogateTrainer, attempt: int, result: CheckResult | None, verdict: str) -> None:
        context, recipe = self.context, self.recipe
        context.computed_in(recipe.surrogate, trainer.precision)
        if not context.surrogate_sha256:
            context.surrogate_sha256 = trainer.model.fingerprint()
        rounds = [row for row in self.log if row["attempt"] == self.best_attempt]
        last = rounds[-1] if rounds else {"error": None}
        context.report.update(
            {
                "surrogate": recipe.surrogate,
                "surrogate_source": trainer.model.source,
                "stop_rule": f"surrogate error <= {recipe.stop_error:g}, or {recipe.rounds} class-wise"
                + (f" and {recipe.sample_rounds} sample-wise" if recipe.granularity == "sample" else "")
                + " rounds",
                "final_error": last["error"],
                "rounds": self.log,
                "self_check": {
                    "target_residual": recipe.target if recipe.attempts else None,
                    "attempts_made": attempt + 1,
                    "attempts_allowed": recipe.attempts,
                    "chosen_attempt": self.best_attempt,
                    "results": self.checks,
                    "outcome": verdict,
                },
            }
        )
        context.tell("fit", 1.0, verdict)


def _packed(state: dict[str, Tensor], trainer: SurrogateTrainer) -> dict[str, Tensor]:
    kept = {f"state.{name}": value for name, value in state.items()}
    return kept | {f"trainer.{name}": value for name, value in trainer.pack().items()}


def estimate_fit(recipe: EmnRecipe, dataset: ImageSet, total: int) -> FitEstimate:
    """The cost of fitting ``total`` images like those of ``dataset``, which is on the device of computation."""
    trainer, stage = recipe.trainer(dataset, 0), recipe.class_stage(dataset)
    generator = torch.Generator().manual_seed(0)
    labels = stage.dataset.labels
    assert labels is not None
    state = stage.start()
    patterns = delta_by_class(state["delta"], labels, stage.resize)
    trainer.steps(1, patterns, generator)  # the first pass also allocates: not timed
    begun = now(recipe.device)
    trainer.steps(2, patterns, generator)
    training = (now(recipe.device) - begun) / 2
    # The sample may be smaller than a batch of the fit.
    training *= min(recipe.batch_size, total) / min(recipe.batch_size, len(dataset))
    frozen, images = trainer.frozen(), stage.dataset.images[:128].float() / 255
    own, crop = labels[: len(images)], stage.crop(generator)
    class_gradient(frozen, images, own, state["delta"], crop=crop)
    begun = now(recipe.device)
    for _ in range(2):
        class_gradient(frozen, images, own, state["delta"], crop=crop)
    step = (now(recipe.device) - begun) / 2 / len(images)
    classes, paper = len(dataset.classes), recipe.paper
    seconds = 0.0
    if recipe.granularity == "class" or not paper:
        per_round = stage.subset * total if paper else stage.updates * stage.per_class * classes
        seconds += _expected(recipe.rounds, paper) * (recipe.theta_steps * training + per_round * step * 1.3)
    if recipe.granularity == "sample":
        per_round = total * recipe.pgd_steps
        seconds += _expected(recipe.sample_rounds, paper) * (recipe.theta_steps * training + per_round * step)
    if recipe.attempts:  # 300 steps of 64 images for each of two victims cost about 300 surrogate steps of 128
        seconds += 300 * training
    pixel = 3 * dataset.resolution**2
    rows = total if recipe.granularity == "sample" else classes
    # Half precision now and a byte for the best attempt; at the end beside them the levels of the bank.
    return FitEstimate(seconds=seconds, peak_bytes=rows * pixel * (6 if paper else 4) + 512 * pixel * 64)


def _expected(rounds: int, paper: bool) -> int:
    """Ours are nearly always made; the paper's end when the error is small, ten on CIFAR-10."""
    return min(rounds, 10) if paper else rounds


_PAPER_SURROGATE = "resnet18-plain"


@register_method
class ErrorMinimizing(Method[Bank]):
    """Error-minimizing noise, one pattern a class or one perturbation an image.

    The default differs from the paper where that was measured to help (docs/methods/emn.md has the figures):
    patterns follow the sign of the class's summed gradient, taken through random crops and flips; sample-wise noise
    starts from the class patterns and leaves images alone that the surrogate already gets right; after crafting, a
    fresh victim is trained in seconds, and crafting starts again from another seed if that victim still learns.
    ``preset="paper"`` is the official code's: un-augmented, T = 20 (sample) or 1 (class), M = 10, until the error is
    0.01 however many rounds that takes, noise swept in batches of 512 over all pictures (sample) or a fixed fifth
    (class), surrogate ``resnet18-plain``, which sees pictures as they are in [0, 1], in float32, no check.

    Args:
        budget: default 8/255.
        granularity: ``class`` (default: fast, and a new picture needs no optimisation) or ``sample``.
        surrogate: registry name; default ``small-cnn``, on a GPU ``resnet18``, in the paper preset ``resnet18-plain``.
        seed: of everything random.
        device: where to compute.
        weights: weights of the surrogate; the paper's surrogate starts untrained.
        allow_download: let the surrogate fetch weights.
        preset: ``None`` or ``"paper"``.
        step_size: alpha of the class stage in units of the full range; default epsilon / 10, as in the paper.
        theta_steps: M, steps of the surrogate a round.
        rounds: of the class stage, at most; default 30, in the paper preset a thousand, a hundred times what it took.
        sample_rounds: of the sample stage, at most; default 3, in the paper preset a thousand.
        pgd_steps: T of the sample stage.
        stop_error: lambda.
        attempts: how often crafting may start anew after a failed self-check; 0 switches the check off.
        target: residual learnability (0..1) that the self-check accepts.
        tint: how far slow colours (casts, large stains) may shift, in 1/255 levels. Default: 0, which removes
            them (docs/methods/emn.md has what that costs); in the paper preset no bound.
        precision: ``float32``, ``bfloat16`` or ``auto``; the paper preset computes in float32.

    Raises:
        ConfigError: a value out of range.
    """

    name = "emn"
    needs = "labels"
    granularities = ("class", "sample")
    default_surrogate = SURROGATE
    default_for = "classes, on a network"

    def __init__(
        self,
        *,
        budget: Budget | None = None,
        granularity: Granularity | None = None,
        surrogate: str | None = None,
        seed: int = 0,
        device: str = "auto",
        weights: Path | None = None,
        allow_download: bool = False,
        preset: Literal["paper"] | None = None,
        step_size: float | None = None,
        theta_steps: int = 10,
        rounds: int | None = None,
        sample_rounds: int | None = None,
        pgd_steps: int | None = None,
        stop_error: float = 0.01,
        attempts: int | None = None,
        target: float = 0.2,
        tint: float | None = None,
        precision: Precision = "auto",
    ) -> None:
        if preset not in (None, "paper"):
            raise UnknownNameError("preset of emn", str(preset), ["paper"])
        paper = preset == "paper"
        model = surrogate or (_PAPER_SURROGATE if paper else own_surrogate(device))
        super().__init__(
            budget=budget,
            granularity=granularity,
            surrogate=model,
            seed=seed,
            device=device,
            weights=weights,
            allow_download=allow_download,
        )
        self.recipe = EmnRecipe(
            granularity=self.granularity,
            epsilon=self.budget.epsilon,
            surrogate=model,
            seed=seed,
            device=self.device,
            weights=weights,
            allow_download=allow_download,
            preset=preset,
            step_size=step_size if step_size is not None else self.budget.epsilon / 10,
            theta_steps=theta_steps,
            rounds=rounds if rounds is not None else (PAPER_ROUNDS if paper else 30),
            sample_rounds=sample_rounds if sample_rounds is not None else (PAPER_ROUNDS if paper else 3),
            pgd_steps=pgd_steps if pgd_steps is not None else (20 if paper else 5),
            stop_error=stop_error,
            attempts=attempts if attempts is not None else (0 if paper else 3),
            target=target,
            tint=tint if tint is not None or paper else TINT,
            precision=settled_precision(precision, paper=paper),
        )

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe."""
        return {**super().settings(), **self.recipe.settings()}

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return EmnFit(self.recipe, dataset.to(self.device), context).run()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        return estimate_fit(self.recipe, dataset.to(self.device), total)
