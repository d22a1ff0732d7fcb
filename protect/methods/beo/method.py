"""Bayes-error ascent ("Towards Provably Unlearnable Examples via Bayes Error Optimisation", AAAI 2026,
arXiv 2511.08191).

Perturbations move images towards those of other classes in the features of a surrogate, so that the classes overlap:
what is raised is a plug-in estimate of the error that the best possible classifier of the perturbed images makes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....errors import ConfigError, LabelError
from ....imaging import ImageSet
from ....surrogates import Surrogate, create_surrogate, now
from ...bank import Bank
from ..base import FitContext, FitEstimate, Method
from ..registry import register_method
from ..surrogate_training import SurrogateTrainer
from .ascent import BANK_SIZE, BATCH, Ascent, Copies
from .cross_fit import NETWORK
from .fit import ARMS, BeoFit, BeoRecipe


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
    :class:`~bitterant.protect.methods.beo.fit.BeoRecipe`. Of an ensemble ``a+b`` of surrogates the members' estimates
    are averaged.

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
