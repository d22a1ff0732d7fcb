"""Prior knowledge: pretrained networks, a few clean pictures with labels, features learned without labels."""

from __future__ import annotations

import math
import time
import types
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from ...errors import ConfigError, SetupError
from ...surrogates import (
    Recipe,
    Surrogate,
    TrainingResult,
    check_surrogate,
    create_surrogate,
    own_randomness,
    predict_logits,
    train_classifier,
)
from ...surrogates.arithmetic import seeded
from ...surrogates.probes import linear_probe
from .base import Adversary, check_kornia, share
from .learning import Learner, TrainingJob, train_job, trained_network

DEFAULT_NETWORK = "efficientnet-lite0"


class Pretrained:
    """A network by the name of its surrogate.

    Args:
        name: as in :func:`bitterant.surrogates.create_surrogate`.

    Raises:
        UnknownNameError: no such network.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._missing: SetupError | None = None
        try:
            check_surrogate(name)
        except SetupError as error:  # a package is missing: told when the adversary is tried, so presets can name it
            self._missing = error

    @property
    def title(self) -> str:
        """The name without the path of its weights."""
        return self.name.partition("@")[0]

    def check_packages(self) -> None:
        """Make sure that the package it comes from is installed; raises SetupError."""
        if self._missing is not None:
            raise self._missing

    def source(self, resolution: int) -> str:
        """Where the weights come from; builds the network once.

        Raises:
            SetupError: weights, or a package, are not on this machine.
            ConfigError: the network has random weights, which are no prior knowledge, or cannot take this resolution.
        """
        self.check_packages()
        source = create_surrogate(self.name, num_classes=2, resolution=resolution, seed=0).source
        if "random" in source.split("+"):
            raise ConfigError(
                f"{self.name} has random weights here, so it would say nothing about a pretrained model. Name "
                "efficientnet-lite0, a network with a tag (resnet18/IMAGENET1K_V1) or with a file (NAME@FILE)."
            )
        return source


class _Probe(Adversary):
    """What both have in common: the frozen network, and the noise arm beside the others.

    Args:
        parameter: name of a surrogate; ``efficientnet-lite0`` where left out.

    Raises:
        UnknownNameError: no such network.
    """

    tier = "prior"
    cost = 0.2
    arms = ("clean", "protected", "noise")
    reading: ClassVar[str]
    doing = "{self.reading} features of the pretrained {self._pretrained.title}"

    def __init__(self, parameter: str | None = None) -> None:
        self._pretrained = Pretrained(DEFAULT_NETWORK if parameter is None else parameter)

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self._pretrained.name}"

    @property
    def surrogate(self) -> str | None:
        return self._pretrained.name

    def check_packages(self) -> None:
        self._pretrained.check_packages()

    def check(self, resolution: int) -> str:
        return f"frozen features of {self._pretrained.title}, weights: {self._pretrained.source(resolution)}"


class LinearProbe(_Probe):
    """Logistic regression on frozen features, standardised with the training pictures."""

    prefix = "linear-probe"
    source = "ours: a linear probe, as for CLIP in arXiv 2103.00020, section 3.2"
    description = "logistic regression on frozen features (linear-probe:NAME sets the network, efficientnet-lite0)"
    fit = "linear"
    reading = "fits a linear classifier on"


class NearestNeighbours(_Probe):
    """The majority of the five nearest training pictures by the cosine of their frozen features."""

    prefix = "knn"
    source = "ours: five nearest neighbours on frozen features"
    description = "five nearest neighbours by frozen features (knn:NAME sets the network, efficientnet-lite0)"
    fit = "neighbours"
    reading = "looks up the nearest neighbours by"


def renew_head(network: Surrogate, seed: int) -> None:
    """Random values for the last layer: weights whose classes happen to fit would be an answer and not knowledge."""
    with own_randomness(seed):
        device = network.head.weight.device
        network.head.to("cpu").reset_parameters()
        network.head.to(device)


def freeze_early(network: Surrogate, share: float) -> None:
    """Keep weights and batch statistics of the first layers; the last layer is never frozen."""
    layers = [module for module in network.net.modules() if next(module.parameters(recurse=False), None) is not None]
    for layer in layers[: min(round(share * len(layers)), len(layers) - 1)]:
        for parameter in layer.parameters(recurse=False):
            parameter.requires_grad_(False)
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            layer.eval()
            layer.train = types.MethodType(lambda self, mode=True: self, layer)  # stays as it is


@dataclass(frozen=True)
class FineTuning:
    """All layers, or the later ones, from pretrained weights with a new last layer.

    Attributes:
        frozen: share of the layers, from the first on, that keep their weights.
    """

    frozen: float = 0.0

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        network = job.fresh_network()
        renew_head(network, job.seed)
        freeze_early(network, self.frozen)
        return train_job(network, job)


FINE_TUNING_RATE, FINE_TUNING_STEPS = 0.1, 0.25


class FineTune(Adversary):
    """Trains all layers of a pretrained network, with a new last layer.

    At a tenth of the learning rate and for a quarter of the steps of a training from scratch.

    Args:
        parameter: name of a surrogate with trained weights, such as ``cifar-resnet20@FILE.safetensors``;
            ``efficientnet-lite0`` where left out.

    Raises:
        UnknownNameError: no such network.
        ConfigError: it is a CLIP, of which only the last layer can be trained: use a probe.
    """

    prefix = "fine-tune"
    tier = "prior"
    source = "arXiv 2603.04731 (pretrained backbones)"
    description = "a pretrained network fine-tuned (fine-tune:NAME or NAME@FILE sets it, efficientnet-lite0)"
    cost = 10.0
    doing = "fine-tunes the pretrained {self._pretrained.title}"

    def __init__(self, parameter: str | None = None) -> None:
        self._pretrained = Pretrained(DEFAULT_NETWORK if parameter is None else parameter)
        if self._pretrained.name.startswith("clip:") or "+" in self._pretrained.name:
            raise ConfigError(
                f"{self.prefix} trains one network of the image alone, and {self._pretrained.name} is none. "
                f"Use linear-probe:{self._pretrained.name}."
            )

    @property
    def name(self) -> str:
        return f"{self.prefix}:{self._pretrained.name}"

    @property
    def network(self) -> str:
        return self._pretrained.name

    def check(self, resolution: int) -> str:
        return f"fine-tuned from {self._pretrained.title}, weights: {self._pretrained.source(resolution)}"

    def adapt(self, recipe: Recipe) -> Recipe:
        return replace(recipe, lr=FINE_TUNING_RATE * recipe.lr, steps=max(1, round(FINE_TUNING_STEPS * recipe.steps)))

    def learner(self) -> Learner:
        return FineTuning()


class FreezeEarly(FineTune):
    """The same with the first half of the layers frozen: they cannot learn to see the perturbation."""

    prefix = "freeze-early"
    source = "arXiv 2605.05224 (frozen shallow layers filter perturbations)"
    description = "the same with the first half of the layers frozen (freeze-early:NAME sets the network)"
    cost = 6.0
    doing = "fine-tunes the later layers of the pretrained {self._pretrained.title}"

    def learner(self) -> Learner:
        return FineTuning(frozen=0.5)


@torch.no_grad()
def features_of(network: Surrogate, images: Tensor, device: str) -> Tensor:
    """What the last layer gets, float32 ``[N, D]``, in evaluation mode."""
    return predict_logits(network.trunk().eval().to(device), images)


def untimed_result(predictions: Tensor, train_accuracy: float, steps: int, loss: float, begun: float) -> TrainingResult:
    """A result without a learning curve: the best moment is the end."""
    return TrainingResult(
        steps=steps,
        train_accuracy=train_accuracy,
        final_loss=loss,
        finite=math.isfinite(loss),
        predictions=predictions,
        peak_predictions=predictions,
        peak_step=steps,
        history=predictions[None],
        seconds=time.perf_counter() - begun,
    )


def refit(job: TrainingJob, network: Surrogate, steps: int, begun: float) -> TrainingResult:
    """A new last layer on the few clean pictures."""
    clean_subset_images, clean_subset_labels = job.clean_subset()
    features = features_of(network, torch.cat([clean_subset_images, job.test_images]), job.device).numpy()
    if not np.isfinite(features).all():
        return untimed_result(torch.zeros(len(job.test_images), dtype=torch.int64), 0.0, steps, math.nan, begun)
    with threadpool_limits(1):  # sums in one order, as everywhere
        predicted = torch.from_numpy(
            linear_probe(features[: len(clean_subset_images)], clean_subset_labels.numpy(), features)
        )
    fitted, predictions = predicted[: len(clean_subset_images)], predicted[len(clean_subset_images) :]
    return untimed_result(predictions, float((fitted == clean_subset_labels).float().mean()), steps, 0.0, begun)


class _CleanSubset(Adversary):
    """Goes on from the victims that ``none`` trained; the arm ``untrained`` goes on from random weights instead.

    What the control reaches comes from the clean pictures alone, and no protection can prevent it.

    Args:
        parameter: share of the training pictures that the trainer has clean, stratified; at least one a class.

    Raises:
        ConfigError: the share is not above 0 and at most 1.
    """

    tier = "prior"
    arms = ("clean", "protected", "untrained")
    continues = True
    clean_share = share(default=0.1)


@dataclass(frozen=True)
class LastLayerRefit:
    """Freezes the body of the trained victim and fits a new last layer on the clean pictures (arXiv 2305.19254).

    The fit is a logistic regression on standardised features, solved and not stepped. The training accuracy is that on
    the clean pictures it was fitted on.
    """

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        return refit(job, trained_network(job), 0 if job.arm == "untrained" else job.recipe.steps, begun)


class LastLayer(_CleanSubset):
    """Freezes the body and fits a new last layer (deep feature reweighting)."""

    prefix = "last-layer"
    source = "arXiv 2305.19254, section 4; arXiv 2204.02937 (DFR)"
    description = "the last layer fitted anew on a clean share (last-layer:0.01 sets it, 0.1 if left out)"
    cost = 0.1

    @property
    def phrase(self) -> str:
        return f"a trainer who refits the last layer on {100 * self.clean_share:g} % clean pictures"

    def learner(self) -> Learner:
        return LastLayerRefit()


@dataclass(frozen=True)
class Recovery:
    """Trains the trained victim on, on the clean pictures alone, gently (the recovery of arXiv 2405.03316).

    Attributes:
        rate: learning rate relative to the recipe's.
        steps: relative to the recipe's.
    """

    rate: float = 0.2
    steps: float = 0.25

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        clean_subset_images, clean_subset_labels = job.clean_subset()
        steps = max(1, round(self.steps * job.recipe.steps))
        # The control learns from the clean pictures alone, from scratch: at the full rate, or it would not start.
        rate = job.recipe.lr * (1.0 if job.arm == "untrained" else self.rate)
        recipe = replace(
            job.recipe, lr=rate, steps=steps, batch_size=min(job.recipe.batch_size, len(clean_subset_images))
        )
        result = train_classifier(
            trained_network(job),
            clean_subset_images,
            clean_subset_labels,
            recipe,
            seed=job.seed,
            test_images=job.test_images,
            test_labels=job.test_labels,
            evals=job.evals,
            device=job.device,
        )
        before = 0 if job.arm == "untrained" else job.recipe.steps
        return replace(result, steps=before + steps, seconds=time.perf_counter() - begun)


class Recover(_CleanSubset):
    """Trains all layers on, gently, on the clean pictures alone."""

    prefix = "recover"
    source = "arXiv 2405.03316 (PUE), recovery by slight changes of the weights"
    description = "trained on with a clean share alone (recover:0.05 sets it, 0.1 if left out)"
    cost = 0.3

    @property
    def phrase(self) -> str:
        return f"a trainer who goes on with {100 * self.clean_share:g} % clean pictures"

    def learner(self) -> Learner:
        return Recovery()


PROJECTED_WIDTH = 64


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy of two views ``[B, D]`` each: who is whose other half."""
    both = F.normalize(torch.cat([first, second]), dim=1)  # [2 B, D]
    likeness = both @ both.T / temperature  # [2 B, 2 B]
    likeness.fill_diagonal_(float("-inf"))
    count = len(first)
    partner = torch.arange(2 * count, device=both.device).roll(count)
    return F.cross_entropy(likeness, partner)


@lru_cache(maxsize=4)
def _views(side: int) -> nn.Module:
    """Crops, flips and colours as in the paper, section 3; without the blur, which it leaves out at 32 px."""
    import kornia.augmentation as K

    return K.AugmentationSequential(
        K.RandomResizedCrop((side, side), scale=(0.2, 1.0)),
        K.RandomHorizontalFlip(p=0.5),
        K.ColorJitter(0.4, 0.4, 0.4, 0.1, p=0.8),
        K.RandomGrayscale(p=0.2),
    )


class _Projected(nn.Module):
    """Trunk and projection; gives logits that mean nothing, so that the plain loop can train it."""

    def __init__(self, network: Surrogate) -> None:
        super().__init__()
        self.trunk = network.trunk()
        width = network.head.in_features
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, PROJECTED_WIDTH))

    def forward(self, images: Tensor) -> Tensor:
        return self.project(self.trunk(images))


@dataclass(frozen=True)
class _ContrastiveObjective:
    temperature: float

    def __call__(
        self, model: nn.Module, batch: Tensor, target: Tensor, generator: torch.Generator, progress: float = 0.0
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), seeded(generator, batch.device):
            views = _views(batch.shape[-1])
            both = torch.cat([views(batch), views(batch)]).contiguous(memory_format=torch.channels_last)
        projected = model(both).float()
        loss = nt_xent(projected[: len(batch)], projected[len(batch) :], self.temperature)
        return loss, projected[: len(batch)].detach()


@dataclass(frozen=True)
class Contrastive:
    """Pretrains on the arm's pictures without labels, then fits a linear classifier on clean pictures with labels.

    Attributes:
        length: steps relative to the recipe's; contrastive learning is slow.
        rate: learning rate of Adam.
        temperature: of the loss; 0.5 is the paper's for CIFAR-10.
    """

    length: float = 4.0
    rate: float = 1e-3
    temperature: float = 0.5

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        network, steps = job.fresh_network(), max(1, round(self.length * job.recipe.steps))
        if job.arm == "untrained":
            return refit(job, network, 0, begun)
        recipe = replace(job.recipe, steps=steps, optimiser="adamw", lr=self.rate, weight_decay=1e-4, warmup=0.1)
        with own_randomness(job.seed):
            model = _Projected(network)
        trained = train_classifier(
            model,
            job.images,
            job.labels,
            recipe,
            seed=job.seed,
            evals=1,
            device=job.device,
            objective=_ContrastiveObjective(self.temperature),
        )
        if not trained.finite:
            empty = torch.zeros(len(job.test_labels), dtype=torch.int64)
            return untimed_result(empty, 0.0, steps, float("nan"), begun)
        return refit(job, network, steps, begun)


class SimClr(Adversary):
    """Pretrains on the pictures of the arm without labels, then fits a linear classifier on clean, labelled ones.

    The control ``untrained`` fits the same classifier on a body of random weights.

    Args:
        parameter: share of the training pictures that the trainer has clean for the classifier; 0.1 where left out.
            The literature's linear evaluation is 1.

    Raises:
        ConfigError: the share is not above 0 and at most 1.
    """

    prefix = "simclr"
    tier = "prior"
    source = "arXiv 2002.05709; arXiv 2402.04010 (protection against contrastive learning), linear evaluation"
    description = "SimCLR, then a linear classifier on a clean share (simclr:1 sets it, 0.1 if left out)"
    cost = 10.0
    arms = ("clean", "protected", "untrained")
    clean_share = share(default=0.1)
    doing = "learns features without labels (SimCLR)"

    def check_packages(self) -> None:
        """Make sure that kornia, which it augments with, is installed."""
        check_kornia(self.name)

    def learner(self) -> Learner:
        return Contrastive()
