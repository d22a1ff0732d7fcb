"""Training by the recipe, if need be with another objective; and going on from such a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ...surrogates import Objective, Surrogate, TrainingResult, train_classifier
from .job import Job
from .kept import keep_network, read_network

__all__ = ["PlainTraining", "train_job", "trained_network"]


@dataclass(frozen=True)
class PlainTraining:
    """The recipe from random weights.

    Attributes:
        objective: what is minimised instead of the cross-entropy of the batch; picklable.
    """

    objective: Objective | None = None

    def __call__(self, job: Job) -> TrainingResult:
        """See :class:`Learner`."""
        network = job.fresh_network()
        result = train_job(network, job, objective=self.objective)
        if self.objective is None and job.kept is not None:
            keep_network(network, job.kept)
        return result


def train_job(
    network: Surrogate,
    job: Job,
    *,
    objective: Objective | None = None,
    after_step: Callable[[], None] | None = None,
) -> TrainingResult:
    """Train a network in place on what a job says, and test it; see :func:`train_classifier`."""
    return train_classifier(
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
        after_step=after_step,
    )


def trained_network(job: Job) -> Surrogate:
    """The victim as the plain training leaves it: read where it was kept, else trained here, which gives the same.

    The arm ``untrained`` keeps its random weights.
    """
    if job.arm == "untrained":
        return job.fresh_network()
    if job.kept is not None:
        network = job.fresh_network()
        if read_network(network, job.kept):
            return network
    network = job.fresh_network()
    train_job(network, job)
    if job.kept is not None:
        keep_network(network, job.kept)
    return network
