"""Training by the recipe, if need be with another objective; and going on from such a training."""

from __future__ import annotations

import os
from dataclasses import dataclass

from safetensors.torch import load_file, save_file

from ...surrogates import Objective, Surrogate, TrainingResult, train_classifier
from .job import Job

__all__ = ["PlainTraining", "trained_network"]


@dataclass(frozen=True)
class PlainTraining:
    """The recipe from random weights.

    Attributes:
        objective: what is minimised instead of the cross-entropy of the batch; picklable.
    """

    objective: Objective | None = None

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        network, result = _train(job, self.objective)
        if self.objective is None and job.kept is not None:
            _keep(network, job)
        return result


def _train(job: Job, objective: Objective | None = None) -> tuple[Surrogate, TrainingResult]:
    network = job.fresh_network()
    result = train_classifier(
        network,
        job.images,
        job.labels,
        job.recipe,
        seed=job.seed,
        test_images=job.test_images,
        test_labels=job.test_labels,
        evals=job.evals,
        device=job.device,
        objective=objective,
    )
    return network, result


def trained_network(job: Job) -> Surrogate:
    """The victim as the plain training leaves it: read where it was kept, else trained here, which gives the same.

    The arm ``untrained`` keeps its random weights.
    """
    if job.arm == "untrained":
        return job.fresh_network()
    if job.kept is not None and job.kept.is_file():
        network = job.fresh_network()
        network.load_state_dict(load_file(job.kept))
        return network
    network, _ = _train(job)
    if job.kept is not None:
        _keep(network, job)
    return network


def _keep(network: Surrogate, job: Job) -> None:
    """Whole or not at all: several workers may keep the same network at the same time."""
    assert job.kept is not None
    part = job.kept.with_suffix(f".{os.getpid()}.part")
    save_file({key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}, part)
    part.replace(job.kept)
