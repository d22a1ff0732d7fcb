"""Going on from a trained victim with a few clean pictures: the last layer anew, or all layers a little."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from ...surrogates import Surrogate, TrainingResult, predict_logits, train_classifier
from ..training.probes import linear_probe
from .job import Job
from .plain import trained_network

__all__ = ["LastLayerRefit", "Recovery", "features_of"]


@torch.no_grad()
def features_of(network: Surrogate, images: Tensor, device: str) -> Tensor:
    """What the last layer gets, float32 ``[N, D]``, in evaluation mode."""
    return predict_logits(network.trunk().eval().to(device), images)


def judged(predictions: Tensor, train_accuracy: float, steps: int, loss: float, begun: float) -> TrainingResult:
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


@dataclass(frozen=True)
class LastLayerRefit:
    """Freezes the body of the trained victim and fits a new last layer on the clean pictures (arXiv 2305.19254).

    The fit is a logistic regression on standardised features, solved and not stepped. The training accuracy is that on
    the clean pictures it was fitted on.
    """

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        return refit(job, trained_network(job), 0 if job.arm == "untrained" else job.recipe.steps, begun)


def refit(job: Job, network: Surrogate, steps: int, begun: float) -> TrainingResult:
    """A new last layer on the few clean pictures."""
    few_images, few_labels = job.few()
    features = features_of(network, torch.cat([few_images, job.test_images]), job.device).numpy()
    if not np.isfinite(features).all():
        return judged(torch.zeros(len(job.test_images), dtype=torch.int64), 0.0, steps, math.nan, begun)
    with threadpool_limits(1):  # sums in one order, as everywhere
        predicted = torch.from_numpy(linear_probe(features[: len(few_images)], few_labels.numpy(), features))
    fitted, predictions = predicted[: len(few_images)], predicted[len(few_images) :]
    return judged(predictions, float((fitted == few_labels).float().mean()), steps, 0.0, begun)


@dataclass(frozen=True)
class Recovery:
    """Trains the trained victim on, on the clean pictures alone, gently (the recovery of arXiv 2405.03316).

    Attributes:
        rate: learning rate relative to the recipe's.
        steps: relative to the recipe's.
    """

    rate: float = 0.2
    steps: float = 0.25

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        begun = time.perf_counter()
        few_images, few_labels = job.few()
        steps = max(1, round(self.steps * job.recipe.steps))
        # The control learns from the clean pictures alone, from scratch: at the full rate, or it would not start.
        rate = job.recipe.lr * (1.0 if job.arm == "untrained" else self.rate)
        recipe = replace(job.recipe, lr=rate, steps=steps, batch_size=min(job.recipe.batch_size, len(few_images)))
        result = train_classifier(
            trained_network(job),
            few_images,
            few_labels,
            recipe,
            seed=job.seed,
            test_images=job.test_images,
            test_labels=job.test_labels,
            evals=job.evals,
            device=job.device,
        )
        before = 0 if job.arm == "untrained" else job.recipe.steps
        return replace(result, steps=before + steps, seconds=time.perf_counter() - begun)
