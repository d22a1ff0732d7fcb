"""What a trainer does to undo the protection, one module an adversary."""

from .base import TIER_TITLES, TIERS, Adversary, Arm, Fit, Labelling, Material, Metric, Pixels, Readout, Tier
from .registry import (
    adversary_classes,
    adversary_names,
    create_adversaries,
    create_adversary,
    register_adversary,
)

__all__ = [
    "TIERS",
    "TIER_TITLES",
    "Adversary",
    "Arm",
    "Fit",
    "Labelling",
    "Material",
    "Metric",
    "Pixels",
    "Readout",
    "Tier",
    "adversary_classes",
    "adversary_names",
    "create_adversaries",
    "create_adversary",
    "register_adversary",
]
