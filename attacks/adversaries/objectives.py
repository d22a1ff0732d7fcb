"""Trainers who train for another objective: adversarially, or in stages.

Small perturbations teach little to a network that trains on the worst pictures near each. And shallow layers learn
slowly in stages while they sort the pictures by class (after arXiv 2306.02064).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...surrogates import Surrogate, TrainingResult, add_rows, generator_on
from .base import Adversary, real_number
from .learning import Learner, PlainTraining, TrainingJob, train_job


def worst_in_ball(
    model: nn.Module,
    batch: Tensor,
    target: Tensor,
    generator: torch.Generator,
    *,
    epsilon: float,
    steps: int,
    step_size: float,
) -> Tensor:
    """Projected gradient ascent of the loss from a random start (arXiv 1706.06083).

    The model is in evaluation mode meanwhile, as in APBench: otherwise the pictures of a batch would be attacked
    through each other's batch statistics, and those would be learned from attacked pictures half done.

    Args:
        model: its mode is put back.
        batch: float ``[B, 3, R, R]`` in [0, 1].
        target: int64 ``[B]``.
        generator: of the start, uniform in the ball; on the CPU, or on the device of the pictures.
        epsilon: radius in the largest norm, in the units of the pictures.
        steps: at least 1.
        step_size: of the sign of the gradient.

    Returns:
        Pictures in [0, 1], at most ``epsilon`` from ``batch``.
    """
    was_training = model.training
    model.eval()
    low, high = (batch - epsilon).clamp_(min=0), (batch + epsilon).clamp_(max=1)
    draw = generator_on(batch.device, generator)
    start = torch.rand(batch.shape, generator=draw, device=draw.device)
    start = start.mul_(2 * epsilon).sub_(epsilon)
    found = torch.minimum(torch.maximum(batch + start, low), high)
    for _ in range(steps):
        found = found.detach().requires_grad_()
        loss = F.cross_entropy(model(found).float(), target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, found)
        found = torch.minimum(torch.maximum(found.detach() + step_size * gradient.sign(), low), high)
    model.train(was_training)
    return found.detach().contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class AdversarialObjective:
    """Trains on the worst pictures that :func:`worst_in_ball` finds.

    Attributes:
        epsilon: radius in the units of the pictures, [0, 1].
        steps: 1 is FGSM-RS (arXiv 2001.03994), 10 the usual PGD.
        step_size: relative to ``epsilon``.
    """

    epsilon: float
    steps: int
    step_size: float

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`."""
        found = worst_in_ball(
            model, batch, target, generator,
            epsilon=self.epsilon, steps=self.steps, step_size=self.step_size * self.epsilon,
        )  # fmt: skip
        logits = model(found).float()
        return F.cross_entropy(logits, target), logits


DEFAULT_LEVELS = 8.0


class AdversarialTraining(Adversary):
    """Trains on the worst pictures that ten steps of projected gradient ascent find, a quarter of the radius each.

    Args:
        parameter: radius in levels of 255, 0.5 to 32; 8 where left out.

    Raises:
        ConfigError: it is no number in that range.
    """

    prefix = "adversarial"
    tier = "training"
    source = "arXiv 1706.06083 (PGD); arXiv 2308.03258 (APBench), L-inf 8/255, 10 steps"
    description = "adversarial training, PGD with 10 steps (adversarial:4 sets the radius in levels, 8 if left out)"
    cost = 7.0
    trainer = "W3"
    levels = real_number(default=DEFAULT_LEVELS, least=0.5, most=32.0)
    doing = "trains adversarially"

    def learner(self) -> Learner:
        return PlainTraining(AdversarialObjective(self.levels / 255.0, steps=10, step_size=0.25))


class FastAdversarialTraining(AdversarialTraining):
    """Trains on one signed gradient step of 1.25 radii from a random start (FGSM-RS), cut back to the ball."""

    prefix = "fast-adversarial"
    source = "arXiv 2001.03994 (FGSM from a random start)"
    description = "adversarial training with one step (fast-adversarial:4 sets the radius in levels, 8 if left out)"
    cost = 1.5
    doing = "trains adversarially in one step"

    def learner(self) -> Learner:
        return PlainTraining(AdversarialObjective(self.levels / 255.0, steps=1, step_size=1.25))


def clustering(activations: Tensor, labels: Tensor, classes: int) -> Tensor:
    """How far activations are sorted by class: the share of their variance that lies between the classes.

    One-way analysis of variance for each feature, corrected for the number of classes (adjusted R squared), and the
    mean over the features: 0 is expected where class says nothing, 1 where it says everything.

    Args:
        activations: float ``[B, D]``.
        labels: int64 ``[B]``. Without a class that has two pictures nothing can be said: 0.
        classes: number of classes K.

    Returns:
        float ``[]`` on the device of the activations, which is not asked for anything.
    """
    activations = activations.float()
    counts = add_rows(activations.new_zeros(classes), labels, torch.ones_like(labels, dtype=activations.dtype))  # [K]
    present = (counts > 0).sum()
    free = len(labels) - present
    sums = add_rows(activations.new_zeros(classes, activations.shape[1]), labels, activations)  # [K, D]
    inside = (activations - (sums / counts[:, None])[labels]).square().sum(0)
    total = (activations - activations.mean(0)).square().sum(0)  # [D]
    alive = total > 1e-12
    scale = activations.new_full((), len(labels) - 1) / free
    if activations.device.type == "cpu":  # sums of what is there alone, in its own order
        mean = (inside[alive] / total[alive] * scale).mean()
    else:
        ratio = torch.where(alive, inside / total.clamp(min=1e-12) * scale, 0.0)
        mean = ratio.sum() / alive.sum()
    return torch.where((free >= 1) & (present >= 2) & alive.any(), 1 - mean, torch.zeros_like(mean))


@dataclass
class Block:
    """Some consecutive layers.

    Attributes:
        end: the module whose output is looked at.
        parameters: what learns.
        measure: running mean of :func:`clustering`, ``[]``; ``None`` before the first batch.
        rate: learning rate relative to that of the other layers, ``[]``.
        before: the parameters before the last step, where it is to be shortened.
    """

    end: nn.Module
    parameters: list[nn.Parameter]
    measure: Tensor | None = None
    rate: Tensor = field(default_factory=lambda: torch.ones(()))
    before: list[Tensor] = field(default_factory=list)


def shallow_blocks(network: nn.Module, share: float, count: int) -> list[Block]:
    """The first ``share`` of the layers with parameters, in ``count`` blocks of nearly equal length, shallow first."""
    layers = [module for module in network.modules() if next(module.parameters(recurse=False), None) is not None]
    layers = layers[: max(1, min(round(share * len(layers)), len(layers) - 1))]
    count = min(count, len(layers))
    cuts = [round(number * len(layers) / count) for number in range(count + 1)]
    parts = [layers[first:last] for first, last in pairwise(cuts)]
    return [Block(part[-1], [p for layer in part for p in layer.parameters(recurse=False)]) for part in parts]


def _pooled(output: Tensor) -> Tensor:
    """What of a layer's output goes on through a ReLU, averaged over the places: ``[B, C, H, W]`` or ``[B, T, C]``."""
    active = output.detach().float().relu()
    if active.ndim == 4:
        return active.mean((2, 3))
    return active.flatten(1, -2).mean(1) if active.ndim > 2 else active


def _watch(seen: dict[int, Tensor], number: int) -> Callable[..., None]:
    """A hook that keeps what is pooled of an output before a later layer changes it in place."""

    def look(module: nn.Module, inputs: object, output: Tensor) -> None:
        seen[number] = _pooled(output)

    return look


class Brake:
    """Watches the shallow blocks of one network while it trains, and shortens the steps of those that sort by class.

    The measure is taken from every batch. Every ``every`` steps the rate of a block is halved, down to ``slowest``,
    where its running mean or that of a later block is above the threshold: what a block sorts, all layers up to it
    have prepared. Otherwise it is doubled again, up to 1.

    A step is shortened after it was made, which is the same as a smaller learning rate for any optimiser. Measures and
    rates live where the network does: a device is not asked for them.
    """

    def __init__(self, blocks: list[Block], *, threshold: float, slowest: float, every: int) -> None:
        self.blocks = blocks
        self._threshold, self._slowest, self._every = threshold, slowest, every
        self._steps = 0

    def objective(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        """See :data:`bitterant.surrogates.Objective`: the cross-entropy, and a look at the blocks."""
        seen: dict[int, Tensor] = {}
        hooks = [block.end.register_forward_hook(_watch(seen, number)) for number, block in enumerate(self.blocks)]
        try:
            logits = model(batch).float()
        finally:
            for hook in hooks:
                hook.remove()
        for number, block in enumerate(self.blocks):
            found = clustering(seen[number], target, logits.shape[1])
            if found.device.type == "cpu":
                found = found.double()  # cheap there, and the mean keeps its last bits
            block.measure = found if block.measure is None else 0.9 * block.measure + 0.1 * found
            block.rate = block.rate.to(found.device)
            slow = found.device.type != "cpu" or bool(block.rate < 1)
            block.before = [p.detach().clone() for p in block.parameters] if slow else []
        return F.cross_entropy(logits, target), logits

    @torch.no_grad()
    def after_step(self) -> None:
        """Shorten the step that was just made, and decide about the next ones."""
        for block in self.blocks:
            for parameter, before in zip(block.parameters, block.before, strict=False):
                parameter.lerp_(before, 1 - block.rate)
        self._steps += 1
        if self._steps % self._every == 0:
            self._decide()

    def _decide(self) -> None:
        sorts: Tensor | None = None
        for block in reversed(self.blocks):
            if block.measure is not None:
                own = block.measure > self._threshold
                sorts = own if sorts is None else sorts | own
            faster = (block.rate * 2).clamp(max=1.0)
            slower = (block.rate / 2).clamp(min=self._slowest)
            block.rate = faster if sorts is None else torch.where(sorts, slower, faster)


@dataclass(frozen=True)
class StagedTraining:
    """The recipe, with a :class:`Brake` on the shallow layers.

    On 1,000 pictures of CIFAR-10 the second block of small-cnn came to 0.18 with clean pictures and to 0.25 with a
    grating of 8 levels for each class (140 steps): the threshold lies between. Deeper layers sort clean pictures too.

    Attributes:
        share: of the layers, from the first on, that count as shallow.
        blocks: how many of equal length they are cut into.
        threshold: of :func:`clustering`.
        slowest: smallest learning rate of a block relative to the recipe's.
        every: steps between two decisions.
    """

    share: float = 1 / 3
    blocks: int = 2
    threshold: float = 0.2
    slowest: float = 1 / 64
    every: int = 5

    def brake(self, network: Surrogate) -> Brake:
        """For one training of this network."""
        return Brake(
            shallow_blocks(network.net, self.share, self.blocks),
            threshold=self.threshold,
            slowest=self.slowest,
            every=self.every,
        )

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        network = job.fresh_network()
        brake = self.brake(network)
        return train_job(network, job, objective=brake.objective, after_step=brake.after_step)


class Staged(Adversary):
    """Slows the shallow layers of the victim while their activations cluster by class.

    The paper observes that a network under protected pictures learns perturbations in its shallow layers, which then
    hand them on. It measures how far activations cluster by class (Activation Cluster Measurement: distances between
    and within classes after a reduction of dimensions) and lowers the learning rates layer by layer, from the shallow
    ones on, in stages, whenever that measure says that perturbations are being learned.

    Ours is made in that spirit and is not the authors' code, of which none is published. The first third of the layers
    is cut into two blocks. After every step the activations of each block, rectified and averaged over the places, are
    compared within the batch: the share of their variance that lies between classes, corrected for chance, as a
    running mean (no reduction of dimensions). Every five steps the learning rate of the second block and of the first
    is halved where that share is above a fifth in the second, that of the first alone where it is so there only, down
    to 1/64 of the recipe's; it is doubled again where the share has fallen. Augmentations are those of every training,
    and the training is no longer than any other.
    """

    prefix = "staged"
    tier = "training"
    source = "after arXiv 2306.02064 (progressive staged training)"
    description = "shallow layers slowed while their activations cluster by class"
    cost = 1.1
    doing = "slows the shallow layers"

    def learner(self) -> Learner:
        return StagedTraining()
