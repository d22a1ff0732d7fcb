"""The words of the verifier: arms, tiers, metrics, classes of trainers, and how many pictures a verification takes.

The terms, their meaning and the few lists that decide stand here and nowhere else. Nothing here loads torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Tier = Literal["naive", "transforms", "training", "prior", "relabel", "mixing"]
Readout = Literal["final", "peak", "validated"]
"""When a victim is judged: at the end, at the best moment by the test answers, or by that of a few clean pictures."""

Arm = Literal["clean", "protected", "noise", "mixed", "part", "noise-mixed", "untrained", "shuffled"]
"""What is trained on: all pictures in one version, or (mixing) a part clean and the rest protected, absent or noisy.

``untrained`` is the control of adversaries that go on from a trained network: they go on from random weights instead.
``shuffled`` is the control of the whole test (gate G4): clean pictures with labels that say nothing about them.
"""

ARM_WORDS: dict[Arm, str] = {"clean": "the originals", "noise": "random noise", "protected": "the copies"}
"""What all pictures are, in the arms that every verification has."""

Metric = Literal["rho", "mv"]
"""Residual learnability, or the marginal value of the protected share."""

Task = Literal["classes", "image_to_text", "text_to_image"]
"""What a victim is tested by: naming the class of each picture, or ranking captions for pictures, or pictures for
captions."""

TASK_TITLES: dict[Task, str] = {
    "classes": "Classes of pictures",
    "image_to_text": "Captions for pictures",
    "text_to_image": "Pictures for captions",
}

Fit = Literal["network", "linear", "neighbours"]
"""What learns: a victim trained from scratch, a linear probe, or the nearest neighbours, on frozen features."""

TIERS: tuple[Tier, ...] = ("naive", "transforms", "training", "prior", "relabel", "mixing")
"""From the least to the most effort for the trainer."""

TIER_TITLES: dict[Tier, str] = {
    "naive": "trains on the pictures as they are",
    "transforms": "cheap transforms before training",
    "training": "strong training: augmentation, adversarial training, purification",
    "prior": "prior knowledge: pretrained models, a few clean pictures",
    "relabel": "other labels on the same pictures",
    "mixing": "mixes protected with clean pictures",
}


@dataclass(frozen=True)
class Labelling:
    """Labels for the training and the test pictures.

    Attributes:
        train: int64 ``[N]``.
        test: int64 ``[M]``.
        classes: number of classes K; labels lie in 0..K-1.
        detail: how they came about, for people; ``None`` for those of the folders.
    """

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    classes: int
    detail: str | None = None


TrainerClass = Literal["W1", "W2", "W3", "W4", "W5", "W1+", "W2+", "other labels", "mixing"]
"""What a trainer owns and spends. W1 to W5 each have a worst case of their own; the rest fits none of them."""

Crafting = Literal["seen", "held-out"]
"""Whether an adversary was looked at when protections were made and tuned."""

MUCH_COMPUTE = 3.0
"""Compute of a training, in plain trainings, up to which a trainer is of class W1."""

SMALL_CLEAN_SHARE = 0.01
"""Share of the pictures that a trainer of class W2 has clean, at most."""

REPORTED_RADII = (4.0, 8.0)
"""Radii of adversarial training, in levels, that a worst case of class W3 should rest on, besides a larger budget."""

TRAINER_MEANINGS: dict[TrainerClass, str] = {
    "W1": "no clean pictures, no trained weights, at most three times the compute of a plain training",
    "W2": "at most 1 % clean pictures",
    "W3": "adversarial training, at any radius; 4 and 8 levels, and a larger budget, are the ones to report",
    "W4": "pretrained weights",
    "W5": "leaked pairs: originals beside their protected copies",
    "W1+": "outside the classes: as W1, with more than three times the compute",
    "W2+": "outside the classes: more than 1 % clean pictures",
    "other labels": "outside the classes: other labels on the same pictures",
    "mixing": "outside the classes: trains on clean and protected pictures together",
}
TRAINER_CLASSES: tuple[TrainerClass, ...] = tuple(TRAINER_MEANINGS)
"""In the order in which they are reported."""

CRAFTING_MEANINGS: dict[Crafting, str] = {
    "seen": "counts as known when bitterant's protections were made and tuned",
    "held-out": "kept out of the making and tuning of bitterant's protections; other tools may have known it",
}

HELD_OUT = frozenset({"webp", "median", "bandstop", "dvae"})
"""Prefixes of the adversaries that no protection is made or tuned against.

Fixed before crafting: whoever uses one of them in a method, or to choose its settings, takes it out of this list.
Everything else counts as seen, so that nothing is called held out by oversight.
"""


def crafting_of(prefix: str) -> Crafting:
    """Whether the adversary with this prefix was seen in crafting."""
    return "held-out" if prefix in HELD_OUT else "seen"


TEST_SHARE: Final = 0.2

FEWEST_TESTED: Final = 5
"""Test pictures a class, on average over the tested classes, below which nothing is trained: with 2 a class,
intervals of 95 % held the true figure in 77 to 95 % of simulated runs, so a grade would be guessed; with 5 in 91 to
96 % (tests/attacks/test_statistics.py)."""

#: Groups are not of one size, and the share held out of each is rounded.
_ROOM: Final = 1.2


def enough_to_hold_out(counts: Sequence[int]) -> bool:
    """Whether classes of so many pictures each can be trained on and tested with the share that is held out."""
    held = [max(1, round(count * TEST_SHARE)) for count in counts if count > 1]
    return len(held) >= 2 and sum(held) >= FEWEST_TESTED * len(held)


def enough_to_verify(counts: Sequence[int]) -> bool:
    """Whether a verification can hold out enough of so many pictures a class; one class is sorted into groups."""
    return enough_to_hold_out(counts) if len(counts) > 1 else sum(counts) >= fewest_for_groups()


def fewest_of_a_class() -> int:
    """Pictures of each class of which enough can be held out to test on."""
    return round(FEWEST_TESTED / TEST_SHARE)


def fewest_for_groups(groups: int = 2) -> int:
    """Pictures without classes that are needed to tell so many groups of them apart."""
    return round(groups * FEWEST_TESTED / TEST_SHARE * _ROOM)
