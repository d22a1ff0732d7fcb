"""What a trainer does to undo the protection, one module an adversary."""

from .base import TIER_TITLES, TIERS, Adversary, Arm, Fit, Labelling, Material, Metric, Pixels, Readout, Tier
from .registry import (
    adversary_classes,
    adversary_names,
    create_adversaries,
    create_adversary,
    register_adversary,
)
from .trainers import (
    CRAFTING_MEANINGS,
    REPORTED_RADII,
    TRAINER_CLASSES,
    TRAINER_MEANINGS,
    Crafting,
    TrainerClass,
)

__all__ = [
    "CRAFTING_MEANINGS",
    "REPORTED_RADII",
    "TIERS",
    "TIER_TITLES",
    "TRAINER_CLASSES",
    "TRAINER_MEANINGS",
    "Adversary",
    "Arm",
    "Crafting",
    "Fit",
    "Labelling",
    "Material",
    "Metric",
    "Pixels",
    "Readout",
    "Tier",
    "TrainerClass",
    "adversary_classes",
    "adversary_names",
    "create_adversaries",
    "create_adversary",
    "register_adversary",
]
