"""Bayes-error ascent ("Towards Provably Unlearnable Examples via Bayes Error Optimisation", AAAI 2026,
arXiv 2511.08191).

Perturbations move images towards those of other classes in the features of a surrogate, so that the classes overlap:
what is raised is a plug-in estimate of the error that the best possible classifier of the perturbed images makes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ....errors import ConfigError, LabelError, UnknownNameError
from ....imaging import Budget, ImageSet
from ....surrogates import Precision, Surrogate, create_surrogate, now
from ...bank import Bank, Granularity
from ..base import FitContext, FitEstimate, Method, settled_precision
from ..registry import SURROGATE, own_surrogate, register_method
from ..surrogate_training import SurrogateTrainer
from .ascent import BANK_SIZE, BATCH, Ascent, Copies
from .cross_fit import NETWORK
from .fit import ARMS, BeoFit, BeoRecipe
from .posterior import Kind, Scale

_PAPER_SURROGATE = "resnet18-plain"


@register_method
class BayesErrorAscent(Method[Bank]):
    """Bayes-error ascent, one perturbation an image.

    Our default is a fast schedule: one surrogate, trained once until it tells the classes apart and then a little in
    every round, signed steps of epsilon / 10 taken through random crops and flips and through what files do to the
    perturbation, features centred and of length 1. ``preset="paper"`` is that of the authors' public code, in float32:
    a fresh ``resnet18-plain`` for each step (30 epochs, no augmentation), features divided by their largest value, all
    pictures compared with all whatever their number, AdamW with 1e-3, 200 rounds (the paper's own
    number of rounds is not known to us, nor were its tables).

    A raised estimate is not a bound on what a trainer learns: see docs/methods/beo.md, and run ``bitterant verify``.

    Args:
        budget: default 8/255.
        granularity: ``sample``, the only one.
        surrogate: registry name; default ``small-cnn``, on a GPU ``resnet18``, in the paper preset ``resnet18-plain``,
            which sees pictures as they are in [0, 1]. Of an ensemble ``a+b`` the members' estimates are averaged.
        seed: of everything random.
        device: where to compute.
        weights: weights of the surrogate.
        allow_download: let the surrogate fetch weights.
        preset: ``None`` or ``"paper"``.
        kind: ``max``: raise one minus the largest posterior, whose optimum is ambiguity. ``true``: one minus that of
            the own label.
        sigma: bandwidth of the kernel, in units of the scaled features.
        scaling: ``unit`` or ``global``; see :class:`Scaling`. Default ``unit``, in the paper preset ``global``.
        ascent: ``sign`` or ``adam``. Default ``sign``, in the paper preset ``adam``.
        step_size: in units of the full range; default epsilon / 10, for ``adam`` 1e-3.
        rounds: T; default 30, in the paper preset 200.
        inner_steps: ascent steps of every image in a round; default 2, in the paper preset 1.
        first_epochs: epochs of a training from scratch (by default prolonged, without crops and flips, while the
            surrogate is underfit).
        epochs: of the continued training in a round.
        restart_every: rounds between trainings from scratch, 0 for never; default 0, in the paper preset 1.
        clean_bank: known clean images of the same classes from other sources, at the same resolution. The surrogate
            learns them too and they join the references, so that the Bayes error of the mix is raised.
        estimate_images: how many images the report's estimates are made on; 0 leaves them out.
        estimate_steps: training steps of each of the six small networks for them.
        rms: a second bound beside the budget, an L2 ball: the root mean square of each perturbation at the working
            resolution, as a fraction of the full range, after rounding too; at least 1/255.
        precision: ``float32``, ``bfloat16`` or ``auto``; the paper preset computes in float32.

    Raises:
        ConfigError: a value out of range, or a clean bank that does not fit.
        UnknownNameError: no such preset, kind, scaling or rule of ascent.
    """

    name = "beo"
    needs = "labels"
    granularities = ("sample",)
    default_surrogate = SURROGATE

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
        kind: Kind = "max",
        sigma: float = 0.3,
        scaling: Scale | None = None,
        ascent: Literal["sign", "adam"] | None = None,
        step_size: float | None = None,
        rounds: int | None = None,
        inner_steps: int | None = None,
        first_epochs: int = 30,
        epochs: int = 2,
        restart_every: int | None = None,
        clean_bank: ImageSet | None = None,
        estimate_images: int = 2000,
        estimate_steps: int = 300,
        rms: float | None = None,
        precision: Precision = "auto",
    ) -> None:
        if preset not in (None, "paper"):
            raise UnknownNameError("preset of beo", str(preset), ["paper"])
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
        rule = ascent or ("adam" if paper else "sign")
        usual = min(1e-3, self.budget.epsilon) if rule == "adam" else self.budget.epsilon / 10
        self.clean_bank = clean_bank
        self.recipe = BeoRecipe(
            budget=self.budget,
            surrogate=model,
            seed=seed,
            device=self.device,
            weights=weights,
            allow_download=allow_download,
            preset=preset,
            kind=kind,
            sigma=sigma,
            scaling=scaling or ("global" if paper else "unit"),
            ascent=rule,
            step_size=step_size if step_size is not None else usual,
            rounds=rounds if rounds is not None else (200 if paper else 30),
            inner_steps=inner_steps if inner_steps is not None else (1 if paper else 2),
            first_epochs=first_epochs,
            epochs=epochs,
            restart_every=restart_every if restart_every is not None else int(paper),
            estimate_images=estimate_images,
            estimate_steps=estimate_steps,
            rms=rms,
            precision=settled_precision(precision, paper=paper),
        )

    def settings(self) -> dict[str, Any]:
        """The resolved hyper-parameters, JSON-safe; of a clean bank, its digest."""
        return {**super().settings(), **self.recipe.settings(), "clean_bank": _digest(self.clean_bank)}

    @property
    def least_images_a_class(self) -> int:
        """Two: each picture is left out of its own neighbours."""
        return 2

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        _check_pairs(dataset)
        _check_clean_bank(self.clean_bank, dataset)
        return BeoFit(self.recipe, dataset.to(self.device), self.clean_bank, context).run()

    def _estimate(self, dataset: ImageSet, total: int) -> FitEstimate:
        recipe, dataset = self.recipe, dataset.to(self.device)
        total += 0 if self.clean_bank is None else len(self.clean_bank)
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
        for _ in ascent.sweep():  # the first pass also allocates: not timed
            pass
        begun = now(self.device)
        for _ in ascent.sweep():
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
        return FitEstimate(seconds=seconds, peak_bytes=kept + max(BATCH * pixel * 64 + references * 512 * 24, held))


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


def _digest(clean: ImageSet | None) -> str | None:
    if clean is None:
        return None
    digest = hashlib.sha256("\n".join((*clean.classes, *clean.keys)).encode())
    digest.update(clean.images.cpu().numpy().tobytes())
    if clean.labels is not None:
        digest.update(clean.labels.cpu().numpy().tobytes())
    return digest.hexdigest()
