"""Fine-tuning a network that somebody else trained."""

from __future__ import annotations

import types
from dataclasses import dataclass

from torch import nn

from ...surrogates import Surrogate, TrainingResult, own_randomness
from .job import Job
from .plain import train_job

__all__ = ["FineTuning", "freeze_early", "renew_head"]


@dataclass(frozen=True)
class FineTuning:
    """All layers, or the later ones, from pretrained weights with a new last layer.

    Attributes:
        frozen: share of the layers, from the first on, that keep their weights.
    """

    frozen: float = 0.0

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        network = job.fresh_network()
        renew_head(network, job.seed)
        freeze_early(network, self.frozen)
        return train_job(network, job)


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
