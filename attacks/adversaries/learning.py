"""How a victim is trained: the job, the learner that does it, and checkpoints for those that go on from a network."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from ...errors import OutputError
from ...imaging import write_atomic
from ...surrogates import Objective, Recipe, Surrogate, TrainingResult, create_surrogate, train_classifier
from ...surrogates.tasks import FileInMemory
from ..own_victims import Victim
from ..terms import Arm

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingJob:
    """One training.

    Attributes:
        arm: what the pictures are; ``untrained`` asks for the control.
        victim: name of the network.
        classes: number of classes K.
        images, labels: int ``[N, 3, R, R]`` and int64 ``[N]``.
        test_images, test_labels: the same for testing.
        clean_subset_images, clean_subset_labels: what the trainer has clean, or ``None``.
        clean_subset_in_arm: the same pictures as the arm has them, for adversaries that learn from such pairs, or
            ``None``.
        own: the victim itself, where it is none of ours: another process does not know what was registered here.
        recipe: of the plain training.
        seed: of everything random.
        evals: points of the learning curve.
        device: where to train.
        checkpoint: file for the network of the plain training, which writes it and adversaries that go on from it
            read it; ``None`` where nobody does.
    """

    arm: Arm
    victim: str
    classes: int
    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    clean_subset_images: Tensor | None
    clean_subset_labels: Tensor | None
    recipe: Recipe
    seed: int
    evals: int
    device: str
    checkpoint: Path | FileInMemory | None = None
    clean_subset_in_arm: Tensor | None = None
    own: Victim | None = None

    def clean_subset(self) -> tuple[Tensor, Tensor]:
        """What the trainer has clean. Only for adversaries with a ``clean_share``."""
        assert self.clean_subset_images is not None
        assert self.clean_subset_labels is not None
        return self.clean_subset_images, self.clean_subset_labels

    def pairs(self) -> tuple[Tensor, Tensor]:
        """Pictures before and after the protection. Only for adversaries with :meth:`Adversary.leaked`."""
        assert self.clean_subset_images is not None
        assert self.clean_subset_in_arm is not None
        return self.clean_subset_images, self.clean_subset_in_arm

    def fresh_network(self) -> Surrogate:
        """The victim before training, on its device."""
        side = int(self.images.shape[-1])
        if self.own is not None:
            return self.own.make(self.classes, side, self.seed).to(self.device)
        network = create_surrogate(self.victim, num_classes=self.classes, resolution=side, seed=self.seed)
        return network.to(self.device)


class Learner(Protocol):
    """Trains and tests a victim. Importable by name and picklable: it is sent to other processes."""

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """The same job gives the same result in any process."""
        ...


@dataclass(frozen=True)
class PlainTraining:
    """The recipe from random weights.

    Attributes:
        objective: what is minimised instead of the cross-entropy of the batch; picklable.
    """

    objective: Objective | None = None

    def __call__(self, job: TrainingJob) -> TrainingResult:
        """See :class:`Learner`."""
        network = job.fresh_network()
        result = train_job(network, job, objective=self.objective)
        if self.objective is None and job.checkpoint is not None:
            save_checkpoint(network, job.checkpoint)
        return result


def train_job(
    network: Surrogate,
    job: TrainingJob,
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


def trained_network(job: TrainingJob) -> Surrogate:
    """The victim as the plain training leaves it: from its checkpoint, else trained here, which gives the same.

    The arm ``untrained`` keeps its random weights.
    """
    if job.arm == "untrained":
        return job.fresh_network()
    if job.checkpoint is not None:
        network = job.fresh_network()
        if load_checkpoint(network, job.checkpoint):
            return network
    network = job.fresh_network()
    train_job(network, job)
    if job.checkpoint is not None:
        save_checkpoint(network, job.checkpoint)
    return network


def save_checkpoint(network: Surrogate, path: Path | FileInMemory) -> None:
    """Write weights and buffers, whole or not at all: several workers may keep the same network at the same time.

    Where that cannot be done nothing is lost but time: whoever goes on from the network trains it again.
    """
    state = {key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}
    about = {"name": path.stem, "sha256": network.fingerprint()}
    content = save(state, about)
    if isinstance(path, FileInMemory):
        path.content = content
        return
    try:
        write_atomic(path, content, overwrite=True, private=True)
    except OutputError as error:
        logger.info("a trained network is not kept: %s", error)


def load_checkpoint(network: Surrogate, path: Path | FileInMemory) -> bool:
    """Load what :func:`save_checkpoint` wrote under this name.

    Args:
        network: gets the weights. Where this fails it may hold some of them, and must not be used.
        path: need not exist.

    Returns:
        Whether the very network was there.
    """
    if not path.is_file():
        return False
    try:
        content = path.read_bytes()
        network.load_state_dict(load(content))
    except (SafetensorError, RuntimeError, OSError) as error:
        logger.warning("%s is not used: %s. The network is trained again.", path, str(error).partition("\n")[0])
        return False
    # What was loaded begins with the length of a header in JSON, and the header.
    about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__", {})
    if (about.get("name"), about.get("sha256")) != (path.stem, network.fingerprint()):
        logger.warning("%s is not used: it holds another network than its name says. It is trained again.", path)
        return False
    return True
