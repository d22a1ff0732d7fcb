"""What a trainer does to undo the protection, one module an adversary."""

from .base import TIER_TITLES, TIERS, Adversary, Pixels, Readout, Tier
from .early_stop import EarlyStop
from .grayscale import Grayscale
from .jpeg import Jpeg
from .none import NoAdversary
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
    "EarlyStop",
    "Grayscale",
    "Jpeg",
    "NoAdversary",
    "Pixels",
    "Readout",
    "Tier",
    "adversary_classes",
    "adversary_names",
    "create_adversaries",
    "create_adversary",
    "register_adversary",
]
