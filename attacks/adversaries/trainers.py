"""Classes of trainers: what a trainer owns and spends, and what the protection was made against.

The terms, their meaning and the few lists that decide stand here and nowhere else.
"""

from __future__ import annotations

from typing import Literal

__all__ = [
    "CRAFTING_MEANINGS",
    "FEW_CLEAN",
    "HELD_OUT",
    "MUCH_COMPUTE",
    "REPORTED_RADII",
    "TRAINER_CLASSES",
    "TRAINER_MEANINGS",
    "Crafting",
    "TrainerClass",
    "crafting_of",
]

TrainerClass = Literal["W1", "W2", "W3", "W4", "W5", "W1+", "W2+", "other labels", "mixing"]
"""What a trainer owns and spends. W1 to W5 each have a worst case of their own; the rest fits none of them."""

Crafting = Literal["seen", "held-out"]
"""Whether an adversary was looked at when protections were made and tuned."""

MUCH_COMPUTE = 3.0
"""Compute of a training, in plain trainings, up to which a trainer is of class W1."""

FEW_CLEAN = 0.01
"""Share of the pictures that a trainer of class W2 has clean, at most."""

REPORTED_RADII = (4.0, 8.0)
"""Radii of adversarial training, in levels, that a worst case of class W3 should rest on."""

TRAINER_MEANINGS: dict[TrainerClass, str] = {
    "W1": "no clean pictures, no trained weights, at most three times the compute of a plain training",
    "W2": "at most 1 % clean pictures",
    "W3": "adversarial training, at any radius; 4 and 8 levels are the ones to report",
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

HELD_OUT = frozenset({"webp", "median", "coin", "bandstop", "dvae"})
"""Prefixes of the adversaries that no protection is made or tuned against.

Fixed before crafting: whoever uses one of them in a method, or to choose its settings, takes it out of this list.
Everything else counts as seen, so that nothing is called held out by oversight.
"""


def crafting_of(prefix: str) -> Crafting:
    """Whether the adversary with this prefix was seen in crafting."""
    return "held-out" if prefix in HELD_OUT else "seen"
