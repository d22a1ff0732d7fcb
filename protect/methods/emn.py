"""Error-minimizing noise (Huang et al., ICLR 2021, arXiv 2101.04898).

A barely trained surrogate and the perturbations descend the same loss in turn, until the perturbed images look
already learned: a trainer's network then finds nothing left to learn from the pictures themselves.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ...errors import ConfigError, UnknownNameError
from ...imaging import Budget, ImageSet
from ...surrogates import create_surrogate
from ..bank import Granularity
from ..self_check import CheckResult, SelfCheck
from .base import FitContext, FitEstimate, Method
from .emn_stages import ClassStage, SampleStage, delta_by_class, delta_by_row
from .registry import register_method
from .round_trip import RoundTrip
from .sweep import class_gradient
from .theta import SurrogateTrainer

__all__ = ["ErrorMinimizing"]

_AnyStage = ClassStage | SampleStage


@register_method
class ErrorMinimizing(Method):
    """Error-minimizing noise, one pattern a class or one perturbation an image.

    The default differs from the paper where that was measured to help (docs/methods/emn.md has the figures):
    patterns follow the sign of the class's summed gradient, taken through random crops and flips; sample-wise noise
    starts from the class patterns and leaves images alone that the surrogate already gets right; after crafting, a
    fresh victim is trained in seconds, and crafting starts again from another seed if that victim still learns.
    ``preset="paper"`` is the published schedule: un-augmented, T = 20 (sample) or 1 (class),
    M = 10, error 0.01, noise swept in batches of 512, surrogate ``resnet18`` (emn.md sections 2 and 3), no check.

    Args:
        budget: default 8/255.
        granularity: ``class`` (default: fast, and a new picture needs no optimisation) or ``sample``.
        surrogate: registry name; default ``small-cnn``, in the paper preset ``resnet18``.
        seed: of everything random.
        device: where to compute.
        weights: weights of the surrogate; the paper's surrogate starts untrained.
        allow_download: let the surrogate fetch weights.
        preset: ``None`` or ``"paper"``.
        step_size: alpha of the class stage in units of the full range; default epsilon / 10, as in the paper.
        theta_steps: M, steps of the surrogate a round.
        rounds: of the class stage, at most.
        sample_rounds: of the sample stage, at most.
        pgd_steps: T of the sample stage.
        stop_error: lambda.
        attempts: how often crafting may start anew after a failed self-check; 0 switches the check off.
        target: residual learnability (0..1) that the self-check accepts.

    Raises:
        ConfigError: a value out of range.
    """

    name = "emn"
    needs = "labels"
    granularities = ("class", "sample")
    default_surrogate = "small-cnn"

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
        rounds: int = 30,
        sample_rounds: int | None = None,
        pgd_steps: int | None = None,
        stop_error: float = 0.01,
        attempts: int | None = None,
        target: float = 0.2,
    ) -> None:
        if preset not in (None, "paper"):
            raise UnknownNameError("preset of emn", str(preset), ["paper"])
        paper = preset == "paper"
        super().__init__(
            budget=budget,
            granularity=granularity,
            surrogate=surrogate or ("resnet18" if paper else None),
            seed=seed,
            device=device,
            weights=weights,
            allow_download=allow_download,
        )
        self.preset = preset
        self.step_size = step_size if step_size is not None else self.budget.epsilon / 10
        self.theta_steps = theta_steps
        self.rounds = rounds
        self.sample_rounds = sample_rounds if sample_rounds is not None else (30 if paper else 3)
        self.pgd_steps = pgd_steps if pgd_steps is not None else (20 if paper else 5)
        self.stop_error = stop_error
        self.attempts = attempts if attempts is not None else (0 if paper else 3)
        self.target = target
        whole = {"theta_steps": 1, "rounds": 1, "sample_rounds": 1, "pgd_steps": 1, "attempts": 0}
        for field, least in whole.items():
            if getattr(self, field) < least:
                raise ConfigError(f"{field} must be at least {least}, not {getattr(self, field)}.")
        if not 0 < self.step_size <= 2 * self.budget.epsilon:
            raise ConfigError(f"step_size {self.step_size:g} must lie in (0, 2 epsilon].")
        for field in ("stop_error", "target"):
            if not 0.0 <= getattr(self, field) <= 1.0:
                raise ConfigError(f"{field} is a share in [0, 1], not {getattr(self, field)}.")

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe."""
        names = ("preset", "step_size", "theta_steps", "rounds", "sample_rounds", "pgd_steps", "stop_error")
        return {**super().settings(), **{n: getattr(self, n) for n in (*names, "attempts", "target")}}

    # ------------------------------------------------------------------ stages
    def _class_stage(self, dataset: ImageSet) -> ClassStage:
        paper = self.preset == "paper"
        return ClassStage(
            dataset=dataset,
            epsilon=self.budget.epsilon,
            step_size=self.step_size,
            theta_steps=self.theta_steps,
            rounds=self.rounds,
            min_rounds=1 if paper else min(self.rounds, 20),
            stop_error=self.stop_error,
            batch_size=512 if paper else 128,
            through_shifts=not paper,
            trip=None if paper else RoundTrip.of(dataset),
            paper_update=paper,
        )

    def _sample_stage(self, dataset: ImageSet) -> SampleStage:
        paper = self.preset == "paper"
        return SampleStage(
            dataset=dataset,
            epsilon=self.budget.epsilon,
            step_size=self.budget.epsilon / 10,
            theta_steps=self.theta_steps,
            rounds=self.sample_rounds,
            min_rounds=1,
            stop_error=self.stop_error,
            batch_size=512 if paper else 128,
            through_shifts=not paper,
            trip=None if paper else RoundTrip.of(dataset),
            steps=self.pgd_steps,
            skip_below=0.0 if paper else 0.01,
        )

    def _trainer(self, dataset: ImageSet, attempt: int) -> SurrogateTrainer:
        assert self.surrogate is not None
        assert dataset.labels is not None
        model = create_surrogate(
            self.surrogate,
            num_classes=len(dataset.classes),
            resolution=dataset.resolution,
            seed=self._derived_seed(attempt, 0, 0),
            weights=self.weights,
            allow_download=self.allow_download,
        )
        paper = self.preset == "paper"
        return SurrogateTrainer(
            model, dataset.images, dataset.labels, batch_size=512 if paper else 128, augment=not paper
        )

    def _derived_seed(self, attempt: int, stage: int, number: int) -> int:
        return ((self.seed * 1009 + attempt) * 1009 + stage) * 10007 + number

    # ------------------------------------------------------------------ the fit
    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return _Run(self, dataset.to(self.device), context).go()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        dataset = dataset.to(self.device)
        trainer, stage = self._trainer(dataset, 0), self._class_stage(dataset)
        generator = torch.Generator().manual_seed(0)
        labels = stage.dataset.labels
        assert labels is not None
        state = stage.start()
        patterns = delta_by_class(state["delta"], labels, stage.trip)
        trainer.steps(1, patterns, generator)  # the first pass also allocates: not timed
        begun = time.perf_counter()
        trainer.steps(2, patterns, generator)
        theta = (time.perf_counter() - begun) / 2
        frozen, images = trainer.frozen(), stage.dataset.images[:128].float() / 255
        own, shift = labels[: len(images)], stage._shift(generator)
        class_gradient(frozen, images, own, state["delta"], shift=shift)
        begun = time.perf_counter()
        for _ in range(2):
            class_gradient(frozen, images, own, state["delta"], shift=shift)
        sweep = (time.perf_counter() - begun) / 2 / len(images)
        classes, paper = len(dataset.classes), self.preset == "paper"
        seconds = 0.0
        if self.granularity == "class" or not paper:
            per_round = stage.subset * total if paper else stage.updates * stage.per_class * classes
            seconds += self.rounds * (self.theta_steps * theta + per_round * sweep * 1.3)
        if self.granularity == "sample":
            seconds += self.sample_rounds * (self.theta_steps * theta + total * self.pgd_steps * sweep)
        if self.attempts:  # 300 steps of 64 images for each of two victims cost about 300 surrogate steps of 128
            seconds += 300 * theta
        pixel = 3 * dataset.resolution**2
        rows = total if self.granularity == "sample" else classes
        return FitEstimate(seconds=seconds, peak_bytes=rows * pixel * 6 + 512 * pixel * 64)


class _Run:
    """One fit: attempts, each of one or two stages, each of rounds; state goes to the checkpoint after every round."""

    def __init__(self, method: ErrorMinimizing, dataset: ImageSet, context: FitContext) -> None:
        self.method, self.dataset, self.context = method, dataset, context
        assert dataset.labels is not None
        self.labels = dataset.labels
        self.trip = None if method.preset == "paper" else RoundTrip.of(dataset)
        self.check = SelfCheck(dataset.to("cpu"), seed=method.seed, device=method.device)
        self.log: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.best: Tensor | None = None
        self.best_residual = float("inf")
        self.best_attempt = 0
        self.started = time.monotonic()
        self.last_saved = 0.0

    def go(self) -> Tensor:
        method = self.method
        attempts = max(1, method.attempts)
        resumed = self.context.checkpoint.load()
        first = 0
        if resumed is not None:
            first = self._restore(*resumed)
        attempt = first
        while True:
            trainer, delta = self._craft(attempt, resumed if attempt == first else None)
            if not method.attempts or not self.check.possible:
                reason = "switched off" if not method.attempts else "too few images to hold some out"
                self._conclude(trainer, attempt, None, f"self-check: {reason}")
                return delta
            result = self._self_check(delta, attempt)
            if self.best is None or result.residual < self.best_residual:
                self.best, self.best_residual, self.best_attempt = delta, result.residual, attempt
                self.context.surrogate_sha256 = trainer.model.fingerprint()
            if not result.conclusive:
                verdict = "inconclusive: clean images are not learned from either, so the check cannot tell"
            elif result.residual <= method.target:
                verdict = f"reached: residual learnability {result.residual:.2f} <= {method.target:g}"
            elif attempt + 1 >= attempts:
                verdict = (
                    f"not reached in {attempts} attempts: the best left residual learnability "
                    f"{self.best_residual:.2f} > {method.target:g}"
                )
            else:
                attempt += 1
                self._save(attempt, 0, 0, {}, force=True)
                continue
            self._conclude(trainer, attempt, result, verdict)
            assert self.best is not None
            return self.best

    # ------------------------------------------------------------------ parts
    def _craft(self, attempt: int, resumed: tuple[dict[str, Tensor], dict[str, Any]] | None) -> tuple[
        SurrogateTrainer, Tensor
    ]:  # fmt: skip
        """One attempt: the stages in order, from the checkpoint if it lies in this attempt."""
        method, dataset = self.method, self.dataset
        trainer = method._trainer(dataset, attempt)
        stages: list[_AnyStage] = []
        if method.granularity == "class" or method.preset != "paper":
            stages.append(method._class_stage(dataset))
        if method.granularity == "sample":
            stages.append(method._sample_stage(dataset))
        first_stage, made, state = 0, 0, dict[str, Tensor]()
        if resumed is not None and resumed[1]["made"] + resumed[1]["stage"] > 0:
            tensors, facts = resumed
            first_stage, made = facts["stage"], facts["made"]
            trainer.unpack({k[8:]: v for k, v in tensors.items() if k.startswith("trainer.")})
            state = {k[6:]: v.to(self.method.device) for k, v in tensors.items() if k.startswith("state.")}
        for position in range(first_stage, len(stages)):
            stage = stages[position]
            if not state:
                state = stage.start() if isinstance(stage, ClassStage) else stage.start(None)
            error = self.log[-1]["error"] if made and self.log else 1.0
            while not stage.done(made, error):
                seed = method._derived_seed(attempt, position + 1, made)
                generator = torch.Generator().manual_seed(seed)
                where = (position + made / stage.rounds) / len(stages)
                label = f"{stage.name}, round {made + 1} of at most {stage.rounds}"

                def tell(share: float, base: float = where, text: str = label, stage: _AnyStage = stage) -> None:
                    inside = base + share / stage.rounds / len(stages)
                    self._tell(attempt, inside, text)

                tell(0.0)
                record = stage.run_round(made, state, trainer, generator, tell)
                made, error = made + 1, record.error
                self.log.append({"attempt": attempt, **record.to_json()})
                self._save(attempt, position, made, _packed(state, trainer))
            if position + 1 < len(stages):
                following = stages[position + 1]
                assert isinstance(following, SampleStage)
                state, made = following.start(state["delta"]), 0
                self._save(attempt, position + 1, 0, _packed(state, trainer), force=True)
        return trainer, state["delta"]

    def _delta_of(self, delta: Tensor) -> Any:
        by_class = self.method.granularity == "class"
        lookup = delta_by_class(delta, self.labels, self.trip) if by_class else delta_by_row(delta, self.trip)
        return lambda index: lookup(index.to(self.method.device))

    def _self_check(self, delta: Tensor, attempt: int) -> CheckResult:
        self._tell(attempt, 0.9, "self-check: training a fresh victim")
        known = self.checks[0]["clean_accuracy"] if self.checks else None
        result = self.check(self._delta_of(delta), attempt=attempt, clean_accuracy=known)
        self.checks.append({"attempt": attempt, **result.to_json()})
        return result

    def _tell(self, attempt: int, share: float, message: str) -> None:
        attempts = max(1, self.method.attempts)
        prefix = f"attempt {attempt + 1} of at most {attempts}: " if attempt else ""
        # A second attempt is rare: the bar counts the first as the whole and starts again with a second.
        self.context.tell("fit", share * (0.9 if self.method.attempts else 1.0), prefix + message)

    def _save(self, attempt: int, stage: int, made: int, tensors: dict[str, Tensor], *, force: bool = False) -> None:
        """Keep the state, at most every few seconds: rounds are redone alike, so a skipped save costs only time."""
        now = time.monotonic()
        if not force and now - self.last_saved < 5.0:
            return
        self.last_saved = now
        facts = {
            "attempt": attempt,
            "stage": stage,
            "made": made,
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
            self.best, self.best_residual = tensors["best"].to(self.method.device), facts["best_residual"]
            self.best_attempt = facts["best_attempt"]
        return int(facts["attempt"])

    def _conclude(self, trainer: SurrogateTrainer, attempt: int, result: CheckResult | None, verdict: str) -> None:
        context, method = self.context, self.method
        if not context.surrogate_sha256:
            context.surrogate_sha256 = trainer.model.fingerprint()
        rounds = [row for row in self.log if row["attempt"] == self.best_attempt]
        last = rounds[-1] if rounds else {"error": None}
        context.report.update(
            {
                "surrogate": method.surrogate,
                "surrogate_source": trainer.model.source,
                "stop_rule": f"surrogate error <= {method.stop_error:g}, or {method.rounds} class-wise"
                + (f" and {method.sample_rounds} sample-wise" if method.granularity == "sample" else "")
                + " rounds",
                "final_error": last["error"],
                "rounds": self.log,
                "self_check": {
                    "target_residual": method.target if method.attempts else None,
                    "attempts_made": attempt + 1,
                    "attempts_allowed": method.attempts,
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
