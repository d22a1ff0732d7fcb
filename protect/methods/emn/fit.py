"""One fit of error-minimizing noise: attempts, their stages and rounds, the self-check between, and the checkpoint."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ....imaging import Budget, ImageSet
from ..base import FitContext
from ..self_check import CheckResult, SelfCheck
from ..theta import SurrogateTrainer
from .recipe import EmnRecipe
from .stages import ClassStage, ExtraGradient, SampleStage, delta_by_class, delta_by_row

__all__ = ["EmnFit"]

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

    def go(self) -> Tensor:
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
