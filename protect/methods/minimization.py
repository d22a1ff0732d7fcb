"""Error minimisation (Huang et al., ICLR 2021, arXiv 2101.04898): surrogate and perturbations descend a loss in turn.

Read in order: the hyper-parameters and what is built from them, one fit (attempts, each of one or two stages of rounds,
with a self-check between), and what a fit will cost, from a first batch. ``emn`` minimises the error of the labels,
``uc`` that of the numbers of clusters.

The self-check says what a trainer would still learn. The surrogate's own stop error certifies nothing: at the same
error, victims scored .10 or .51 in our trials. So a part of the images is held out; a fresh small victim trains on the
protected copies of the rest and is tested on the clean held-out ones, beside a victim trained on the clean rest. The
two have the same seed in a first attempt; further attempts draw another protected victim and compare it with the same
clean one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any, Final

import torch
from pydantic import Field
from torch import Tensor

from ...imaging import Budget, ImageSet
from ...surrogates import create_surrogate, now, recipe_for, step_cost, train_classifier
from .base import FitContext, FitEstimate
from .checkpoint import State, part_of, run_resumable
from .pgd import gradient_sums
from .ranks import ranks
from .recipe import CraftingRecipe, StepSize, tenth_of_the_budget
from .stages import ClassStage, ExtraGradient, SampleStage
from .surrogate_training import SurrogateTrainer, delta_by_class, delta_by_row
from .written import ResizeOperator, TintBound, WrittenCopies

VICTIM = "small-cnn"
CHECK_IMAGES, CHECK_STEPS = 2000, 300
"""Images that a victim of the self-check trains on at most, and the steps of its training."""
LEARNABLE_MARGIN = 0.10
"""The clean victim must beat chance by this much, or the check cannot tell protection from a hard data set."""


@dataclass(frozen=True)
class CheckResult:
    """One self-check. Accuracies are shares in [0, 1] on held-out clean images.

    Attributes:
        protected_accuracy: of the victim trained on protected copies.
        clean_accuracy: of the victim trained on clean images.
        chance: share of the largest class among the held-out.
        train_accuracy: of the first victim on its own training images; near 1 when it took the bait.
        held_out: number of test images.
    """

    protected_accuracy: float
    clean_accuracy: float
    chance: float
    train_accuracy: float
    held_out: int

    @property
    def conclusive(self) -> bool:
        """Whether the clean victim learned enough for a comparison."""
        return self.clean_accuracy - self.chance >= LEARNABLE_MARGIN

    @property
    def residual(self) -> float:
        """Residual learnability in [0, 1]: 0 as if nothing could be learned, 1 as if nothing had been done."""
        gap = max(self.clean_accuracy - self.chance, 1e-9)
        return min(1.0, max(0.0, (self.protected_accuracy - self.chance) / gap))

    def to_json(self) -> dict[str, Any]:
        """The fields and the residual, JSON-safe."""
        return {**asdict(self), "residual": round(self.residual, 4), "conclusive": self.conclusive}


@dataclass(frozen=True)
class CheckWork:
    """What a self-check costs, in passes of one image through its victim, the way back counted as two; in a
    :class:`FitWork` in its units.

    Attributes:
        copies: to write the copies that the victim trains on. A pass of ``small-cnn`` takes a CPU about as long as
            reading, changing and shrinking a picture with as many pixels does.
        victim: to train one victim. A first check trains two, of which the clean one serves the others.
    """

    copies: float
    victim: float

    @classmethod
    def on(cls, dataset: ImageSet, trained: int, steps: int = CHECK_STEPS) -> CheckWork:
        """That of a check which trains on so many of images like those of ``dataset``."""
        side = dataset.resolution
        height, width = dataset.native_size or (side, side)
        victim = steps * min(recipe_for(VICTIM).batch_size, trained)
        return cls(copies=trained * max(1.0, height * width / side**2), victim=3.0 * victim)

    def of(self, attempt: int) -> float:
        """All of the check after this attempt."""
        return self.copies + self.victim * (2 if attempt == 0 else 1)


@dataclass(frozen=True)
class FitWork:
    """What the parts of a fit are expected to cost, in units of equal time: the measure of its progress.

    Attributes:
        stages: of one attempt.
        check: its self-check; ``None`` without.
        attempts: how many are allowed.
    """

    stages: tuple[float, ...]
    check: CheckWork | None
    attempts: int

    def of(self, attempt: int) -> float:
        """One attempt with its check."""
        return sum(self.stages) + (0.0 if self.check is None else self.check.of(attempt))

    def share(self, attempt: int, done: float) -> float:
        """Of the whole fit, when so much of an attempt is done.

        Nobody knows how many attempts it will take. The geometric mean of the least and the most that are still
        possible is never off by more than the root of their ratio, which for three is below two.
        """
        expected = math.sqrt((attempt + 1) * self.attempts)
        before = 0.0 if attempt == 0 else self.of(0) + (attempt - 1) * self.of(1)
        return (before + done) / (self.of(0) + (expected - 1) * self.of(1))


@dataclass(frozen=True)
class PassCost:
    """What one pass of one image costs, in equal units of time.

    Attributes:
        trained: through the surrogate, a third of a training step's share.
        swept: through the frozen surrogate, half of what a gradient of the input takes.
        victim: through the victim of the self-check.
    """

    trained: float
    swept: float
    victim: float


def fit_work(
    recipe: MinimizationRecipe,
    stages: Sequence[ClassStage | SampleStage],
    images: int,
    check: CheckWork | None,
    cost: PassCost,
) -> FitWork:
    """What the parts of a fit on so many images cost: the progress takes rough costs of a pass, the dry run measured
    ones, and both count the same passes."""
    costs = [stage.trained(images) * cost.trained + stage.swept(images) * cost.swept for stage in stages]
    rounds = [_expected(stage.rounds, recipe.paper) for stage in stages]
    if check is not None:
        check = CheckWork(check.copies * cost.victim, check.victim * cost.victim)
    whole = tuple(count * each for count, each in zip(rounds, costs, strict=True))
    return FitWork(whole, check, max(1, recipe.attempts))


class SelfCheck:
    """Estimates what is still learnable from perturbations under way.

    Args:
        dataset: all images with labels, on the CPU.
        budget: what perturbations are rounded within.
        seed: of the split, the victims and their training.
        device: where to train.
        steps: optimiser steps of each victim.
    """

    def __init__(
        self,
        dataset: ImageSet,
        budget: Budget,
        *,
        seed: int,
        device: torch.device,
        steps: int = CHECK_STEPS,
    ) -> None:
        self._dataset, self._seed, self._device, self._steps = dataset, seed, device, steps
        self._train, self._held_out = _split(dataset, seed)
        self._written = WrittenCopies(dataset, budget)

    @property
    def possible(self) -> bool:
        """Whether two classes have images on both sides of the split."""
        labels = self._dataset.labels
        if labels is None or len(self._held_out) == 0:
            return False
        return len(labels[self._train].unique()) > 1 and len(labels[self._held_out].unique()) > 1

    @property
    def work(self) -> CheckWork:
        """What it costs."""
        return CheckWork.on(self._dataset, len(self._train), self._steps)

    def __call__(
        self,
        delta_of: Callable[[Tensor], Tensor],
        *,
        attempt: int,
        clean_accuracy: float | None = None,
        tell: Callable[[float], None] = lambda passes: None,
    ) -> CheckResult:
        """Run the check.

        Args:
            delta_of: positions ``[B]`` in the data set -> perturbations ``[B, 3, R, R]`` as the bank will hold them, in
                units of the full range. The victim trains on what the writer makes of them.
            attempt: varies the victim's seed, so that one lucky victim cannot pass every attempt.
            clean_accuracy: of an earlier check on the same data, to save the clean training.
            tell: called along the way with what is done, in the passes of :attr:`work`.
        """
        labels = self._dataset.labels
        assert labels is not None
        work = self.work

        def within(begin: float, passes: float) -> Callable[[float], None]:
            return lambda share: tell(begin + share * passes)

        copies = self._written(self._train, delta_of, within(0.0, work.copies))
        jobs: list[tuple[Any, ...]] = [(*self._job(copies, attempt=attempt), within(work.copies, work.victim))]
        if clean_accuracy is None:
            # Another process trains it at the same time, and tells nobody.
            alone = within(work.copies + work.victim, work.victim) if ranks().size == 1 else None
            jobs.append((*self._job(self._dataset.images[self._train], attempt=0), alone))
        (accuracy, fitted), *clean = ranks().map(_train_victim, jobs)
        if clean_accuracy is None:
            clean_accuracy, _ = clean[0]
        held_out = labels[self._held_out]
        return CheckResult(
            protected_accuracy=accuracy,
            clean_accuracy=clean_accuracy,
            chance=float(torch.bincount(held_out).max()) / len(held_out),
            train_accuracy=fitted,
            held_out=len(held_out),
        )

    def _job(self, images: Tensor, *, attempt: int) -> tuple[Any, ...]:
        labels = self._dataset.labels
        assert labels is not None
        seed = (self._seed * 1_000_003 + 7919 * (attempt + 1)) % 2**31
        tested = self._dataset.images[self._held_out], labels[self._held_out]
        classes = len(self._dataset.classes)
        return images, labels[self._train], *tested, classes, seed, self._steps, self._device


def _train_victim(
    images: Tensor,
    labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    classes: int,
    seed: int,
    steps: int,
    device: torch.device,
    progress: Callable[[float], None] | None,
) -> tuple[float, float]:
    """Accuracy on the test images and on its own."""
    victim = create_surrogate(VICTIM, num_classes=classes, resolution=images.shape[-1], seed=seed)
    result = train_classifier(
        victim,
        images,
        labels,
        recipe_for(VICTIM, steps=steps),
        seed=seed,
        test_images=test_images,
        test_labels=test_labels,
        evals=1,
        device=device,
        progress=progress,
    )
    assert result.predictions is not None
    return float((result.predictions == test_labels).float().mean()), result.train_accuracy


_MOST_HELD_OUT: Final = 500
"""Images that a self-check tests on at most: it takes seconds, however large the folder is."""


def _split(dataset: ImageSet, seed: int) -> tuple[Tensor, Tensor]:
    """A stratified 30 % held out, every class with at least two images on both sides."""
    labels = dataset.labels
    if labels is None:
        return torch.arange(0), torch.arange(0)
    generator = torch.Generator().manual_seed(seed)
    share_train = min(1.0, CHECK_IMAGES / max(1, len(labels)))
    share_held = min(0.3, _MOST_HELD_OUT / max(1, len(labels)))
    train, held = [], []
    for label in range(len(dataset.classes)):
        own = (labels == label).nonzero().flatten()
        own = own[torch.randperm(len(own), generator=generator)]
        test_count = min(len(own) - 1, max(1, round(share_held * len(own)))) if len(own) > 1 else 0
        held.append(own[:test_count])
        rest = own[test_count:]
        train.append(rest[: max(1, round(share_train * len(rest)))] if len(rest) else rest)
    return torch.cat(train).sort().values, torch.cat(held).sort().values


PAPER_ROUNDS = 1000
"""The official code goes on until the error is small enough, ten rounds on CIFAR-10; some sets never get there."""


_FEW_IMAGES: Final = 32
_BUSY_PIXELS: Final = 1 << 21


class MinimizationRecipe(CraftingRecipe):
    """Hyper-parameters of error minimisation, and what is built from them."""

    seed_places = (1009, 1009, 10007)  # attempt, stage, round

    step_size: StepSize = Field(default_factory=tenth_of_the_budget)
    """Alpha of the class stage, in units of the full range; default epsilon / 10, as in the paper."""
    surrogate_steps: int = Field(default=10, ge=1)
    """M, steps of the surrogate a round."""
    rounds: int = Field(default=30, ge=1)
    """Of the class stage, at most; in the paper preset a thousand, a hundred times what it took."""
    sample_rounds: int = Field(default=3, ge=1)
    """Of the sample stage, at most; in the paper preset a thousand."""
    pgd_steps: int = Field(default=5, ge=1)
    """T of the sample stage; in the paper preset 20."""
    stop_error: float = Field(default=0.01, ge=0, le=1)
    """Lambda: the error of the surrogate at which crafting ends."""
    attempts: int = Field(default=3, ge=0)
    """How often crafting may start anew after a failed self-check; 0 switches the check off, as in the paper preset."""
    target: float = Field(default=0.2, ge=0, le=1)
    """Residual learnability that the self-check accepts."""
    tint: float | None = Field(default=0.0, ge=0, le=255)
    """How far slow colours (casts, large stains) may shift, in 1/255 levels: 0 removes them (docs/methods/emn.md has
    what that costs); in the paper preset no bound."""

    @property
    def batch_size(self) -> int:
        """Images a step of the surrogate, and of the paper's class-wise sweep."""
        return 512 if self.paper else 128

    def block(self, resolution: int) -> int:
        """Images that one process passes through the frozen surrogate at once, however many processes there are. Few
        enough that several have something to do, and, on a GPU, enough to keep it busy; a CPU does not mind."""
        few = _FEW_IMAGES if self.device.type == "cpu" else max(_FEW_IMAGES, _BUSY_PIXELS // resolution**2)
        return min(self.batch_size, few)

    def tint_bound(self, dataset: ImageSet) -> TintBound | None:
        """The bound on slow colours at the resolution of ``dataset``, where there is one."""
        return None if self.tint is None else TintBound(dataset.resolution, self.tint, dataset.images.device)

    def class_stage(self, dataset: ImageSet) -> ClassStage:
        """The class-wise stage with these hyper-parameters."""
        paper = self.paper
        return ClassStage(
            dataset=dataset,
            epsilon=self.epsilon,
            step_size=self.step_size,
            surrogate_steps=self.surrogate_steps,
            rounds=self.rounds,
            min_rounds=1 if paper else min(self.rounds, 20),
            stop_error=self.stop_error,
            batch_size=self.batch_size,
            block=self.block(dataset.resolution),
            through_crops=not paper,
            resize=None if paper else ResizeOperator.of(dataset),
            tint=self.tint_bound(dataset),
            paper=paper,
            subset_seed=self.derived_seed(0, 9, 0),
        )

    def sample_stage(self, dataset: ImageSet) -> SampleStage:
        """The sample-wise stage with these hyper-parameters."""
        paper = self.paper
        return SampleStage(
            dataset=dataset,
            epsilon=self.epsilon,
            step_size=self.epsilon / 10,
            surrogate_steps=self.surrogate_steps,
            rounds=self.sample_rounds,
            min_rounds=1,
            stop_error=self.stop_error,
            batch_size=self.batch_size,
            block=self.block(dataset.resolution),
            through_crops=not paper,
            resize=None if paper else ResizeOperator.of(dataset),
            tint=self.tint_bound(dataset),
            paper=paper,
            steps=self.pgd_steps,
            skip_below=0.0 if paper else 0.01,
        )

    def stages(self, dataset: ImageSet, extra: ExtraGradient | None = None) -> list[ClassStage | SampleStage]:
        """Those of one attempt, in order; ``extra`` is added to the gradient of the class patterns."""
        stages = list[ClassStage | SampleStage]()
        if self.granularity == "class" or not self.paper:
            stages.append(replace(self.class_stage(dataset), extra=extra))
        if self.granularity == "sample":
            stages.append(self.sample_stage(dataset))
        return stages

    def trainer(self, dataset: ImageSet, attempt: int) -> SurrogateTrainer:
        """A fresh surrogate; another draw of its weights in every attempt."""
        assert dataset.labels is not None
        model = create_surrogate(
            self.surrogate,
            num_classes=len(dataset.classes),
            resolution=dataset.resolution,
            seed=self.derived_seed(attempt, 0, 0),
            weights=self.weights,
        )
        return SurrogateTrainer(
            model, dataset.images, dataset.labels, batch_size=self.batch_size, augment=not self.paper,
            clamp=not self.paper, precision=self.precision,
        )  # fmt: skip


MinimizationRecipe.presets = {
    "fast": MinimizationRecipe(preset="fast", rounds=15, sample_rounds=2, attempts=1),
    "paper": MinimizationRecipe(
        preset="paper", surrogate="resnet18-plain", precision="float32", rounds=PAPER_ROUNDS,
        sample_rounds=PAPER_ROUNDS, pgd_steps=20, attempts=0, tint=None,
    ),
}  # fmt: skip


class MinimizationFit:
    """One fit: attempts, each of one or two stages, each of rounds; a piece of work is a round.

    Args:
        recipe: hyper-parameters.
        dataset: images with labels, on the device of computation.
        context: where to report and to keep state.
        extra: another gradient for the patterns of classes, added to that of the labels.
    """

    def __init__(
        self, recipe: MinimizationRecipe, dataset: ImageSet, context: FitContext, *, extra: ExtraGradient | None = None
    ) -> None:
        self.recipe, self.dataset, self.context, self.extra = recipe, dataset, context, extra
        assert dataset.labels is not None
        self.labels = dataset.labels
        self.check = SelfCheck(dataset.to("cpu"), Budget(recipe.epsilon), seed=recipe.seed, device=recipe.device)
        self.attempt = self.stage = self.made = 0
        self.error = 1.0  # of the last round as it is: the log holds it rounded, which the stop rule must not see
        self.trainer: SurrogateTrainer | None = None
        self.state: dict[str, Tensor] = {}
        self.log: list[dict[str, Any]] = []
        self.checks: list[dict[str, Any]] = []
        self.best: Tensor | None = None
        self.best_residual = float("inf")
        self.best_attempt = 0

    def run(self) -> Tensor:
        """``[M, 3, R, R]`` in units of the full range: those of the attempt that left least to learn."""
        run_resumable(self, self.context.checkpoint)
        ranks().forget()
        self.context.given_away = True
        if self.state:
            return self.state["delta"]
        assert self.best is not None
        return self.best.to(torch.float16).div_(255.0)

    def pieces(self) -> Iterator[bool]:
        """Attempts, until the self-check is content or no further one is allowed."""
        recipe, attempts = self.recipe, max(1, self.recipe.attempts)
        while True:
            yield from self._craft()
            if not recipe.attempts or not self.check.possible:
                reason = "switched off" if not recipe.attempts else "too few images to hold some out"
                self._conclude(f"self-check: {reason}")
                return
            result = self._self_check()
            better = result.residual < self.best_residual
            if better:
                self.best_residual, self.best_attempt = result.residual, self.attempt
                self.context.surrogate_sha256 = self._trainer().model.fingerprint()
            if not result.conclusive:
                verdict = "inconclusive: clean images are not learned from either, so the check cannot tell"
            elif result.residual <= recipe.target:
                verdict = f"reached: residual learnability {result.residual:.2f} <= {recipe.target:g}"
            elif self.attempt + 1 >= attempts:
                verdict = (
                    f"not reached in {attempts} attempts: the best left residual learnability "
                    f"{self.best_residual:.2f} > {recipe.target:g}"
                )
            else:
                if better:
                    self.best = None  # before the next is made beside it
                    self.best = self._levels(self.state["delta"])
                self.state, self.trainer = {}, None
                self.attempt, self.stage, self.made, self.error = self.attempt + 1, 0, 0, 1.0
                yield True
                continue
            self._conclude(verdict)
            if not better:
                self.state = {}
            return

    def _levels(self, delta: Tensor) -> Tensor:
        """The same in whole levels, as a bank holds them, a byte each where they fit: kept beside the next attempt."""
        budget = Budget(self.recipe.epsilon)
        levels = torch.empty(delta.shape, dtype=torch.int8 if budget.levels < 128 else torch.int16)
        for rows in torch.arange(len(delta)).split(32):
            levels[rows] = budget.quantise(budget.project(delta[rows.to(delta.device)].float())).cpu().to(levels.dtype)
        return levels

    def _trainer(self) -> SurrogateTrainer:
        if self.trainer is None:
            self.trainer = self.recipe.trainer(self.dataset, self.attempt)
        return self.trainer

    def _stages(self) -> list[ClassStage | SampleStage]:
        return self.recipe.stages(self.dataset, self.extra)

    def _craft(self) -> Iterator[bool]:
        """What is left of this attempt: the stages in order."""
        trainer, stages = self._trainer(), self._stages()
        while True:
            stage: ClassStage | SampleStage = stages[self.stage]
            if not self.state:
                self.state = stage.start() if isinstance(stage, ClassStage) else stage.start(None)
            while not stage.done(self.made, self.error):
                seed = self.recipe.derived_seed(self.attempt, self.stage + 1, self.made)
                rounds = _expected(stage.rounds, self.recipe.paper)
                each = self.work.stages[self.stage] / rounds
                begin = sum(self.work.stages[: self.stage]) + min(self.made, rounds - 1) * each
                tell = self._within(begin, each, f"{stage.name}, round {self.made + 1} of at most {stage.rounds}")
                tell(0.0)
                record = stage.run_round(self.made, self.state, trainer, torch.Generator().manual_seed(seed), tell)
                self.made, self.error = self.made + 1, record.error
                self.log.append({"attempt": self.attempt, **record.to_json()})
                yield False
            if self.stage + 1 == len(stages):
                return
            following = stages[self.stage + 1]
            assert isinstance(following, SampleStage)
            self.state = following.start(self.state["delta"])
            self.stage, self.made, self.error = self.stage + 1, 0, 1.0
            yield True

    def _delta_of(self, delta: Tensor) -> Any:
        by_class = self.recipe.granularity == "class"
        lookup = delta_by_class(delta, self.labels, None) if by_class else delta_by_row(delta, None)
        return lambda index: lookup(index.to(self.recipe.device))

    def _self_check(self) -> CheckResult:
        begin, message = sum(self.work.stages), "self-check: training a fresh victim"
        self._tell(begin, message)
        known = self.checks[0]["clean_accuracy"] if self.checks else None
        result = self.check(
            self._delta_of(self.state["delta"]), attempt=self.attempt, clean_accuracy=known,
            tell=lambda passes: self._tell(begin + passes, message),
        )  # fmt: skip
        self.checks.append({"attempt": self.attempt, **result.to_json()})
        return result

    @cached_property
    def work(self) -> FitWork:
        """What the fit is expected to cost."""
        recipe, each = self.recipe, step_cost(self.recipe.surrogate)
        check = self.check.work if recipe.attempts and self.check.possible else None
        return fit_work(recipe, self._stages(), len(self.dataset), check, PassCost(each, each, 1.0))

    def _within(self, begin: float, work: float, message: str) -> Callable[[float], None]:
        """What reports the share of a piece of work that begins here in an attempt."""
        return lambda share: self._tell(begin + share * work, message)

    def _tell(self, done: float, message: str) -> None:
        prefix = f"attempt {self.attempt + 1} of at most {self.work.attempts}: " if self.attempt else ""
        self.context.tell("fit", self.work.share(self.attempt, done), prefix + message)

    def state_dict(self) -> State:
        """Perturbations, surrogate and the best attempt so far, and where in which attempt this is."""
        tensors = {f"state.{name}": value for name, value in self.state.items()}
        if self.trainer is not None:
            tensors |= {f"trainer.{name}": value for name, value in self.trainer.pack().items()}
        if self.best is not None:
            tensors["best"] = self.best
        facts = {
            "attempt": self.attempt,
            "stage": self.stage,
            "made": self.made,
            "error": self.error,
            "log": self.log,
            "checks": self.checks,
            "best_residual": self.best_residual if self.best is not None else None,
            "best_attempt": self.best_attempt,
            "surrogate_sha256": self.context.surrogate_sha256,
        }
        return tensors, facts

    def load_state_dict(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Go back to what :meth:`state_dict` gave."""
        self.attempt, self.stage, self.made = (int(facts[name]) for name in ("attempt", "stage", "made"))
        self.error, self.log, self.checks = facts["error"], facts["log"], facts["checks"]
        self.context.surrogate_sha256 = facts["surrogate_sha256"]
        if "best" in tensors:
            self.best, self.best_residual = tensors["best"], facts["best_residual"]
            self.best_attempt = facts["best_attempt"]
        self.state = {name: value.to(self.recipe.device) for name, value in part_of(tensors, "state").items()}
        if self.state:
            self._trainer().unpack(part_of(tensors, "trainer"))

    def _conclude(self, verdict: str) -> None:
        context, recipe, trainer = self.context, self.recipe, self._trainer()
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
                    "attempts_made": self.attempt + 1,
                    "attempts_allowed": recipe.attempts,
                    "chosen_attempt": self.best_attempt,
                    "results": self.checks,
                    "outcome": verdict,
                },
            }
        )
        context.tell("fit", 1.0, verdict)


def estimate_fit(recipe: MinimizationRecipe, dataset: ImageSet, total: int) -> FitEstimate:
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
    frozen, images = trainer.frozen(), stage.dataset.images[: stage.block].float() / 255
    own, crop = labels[: len(images)], stage.crop(0)
    gradient_sums(frozen, images, own, own, state["delta"], crop=crop)
    begun = now(recipe.device)
    for _ in range(2):
        gradient_sums(frozen, images, own, own, state["delta"], crop=crop)
    step = (now(recipe.device) - begun) / 2 / len(images)
    trained = training / (3 * min(recipe.batch_size, len(dataset)))
    cost = PassCost(trained, step / 2, trained / step_cost(recipe.surrogate))
    check = CheckWork.on(dataset, max(1, min(CHECK_IMAGES, round(0.7 * total)))) if recipe.attempts else None
    seconds = fit_work(recipe, recipe.stages(dataset), total, check, cost).of(0)
    classes, paper = len(dataset.classes), recipe.paper
    pixel = 3 * dataset.resolution**2
    rows = total if recipe.granularity == "sample" else classes
    # Half precision and a byte for the best attempt; the paper's in single, and at the end beside it the bank's levels.
    return FitEstimate(seconds=seconds, peak_bytes=rows * pixel * (6 if paper else 3) + 512 * pixel * 64)


def _expected(rounds: int, paper: bool) -> int:
    """Ours are nearly always made; the paper's end when the error is small, ten on CIFAR-10."""
    return min(rounds, 10) if paper else rounds
