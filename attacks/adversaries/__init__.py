"""What a trainer does to undo the protection, one module an adversary."""

from .base import TIER_TITLES, TIERS, Adversary, Arm, Fit, Labelling, Material, Metric, Pixels, Readout, Tier
from .early_stop import EarlyStop
from .finer import Finer
from .grayscale import Grayscale
from .jpeg import Jpeg
from .mix import Mix
from .none import NoAdversary
from .probes import LinearProbe, NearestNeighbours
from .registry import (
    adversary_classes,
    adversary_names,
    create_adversaries,
    create_adversary,
    register_adversary,
)
from .regroup import Regroup
from .superclass import Superclass

__all__ = [
    "TIERS",
    "TIER_TITLES",
    "Adversary",
    "Arm",
    "EarlyStop",
    "Finer",
    "Fit",
    "Grayscale",
    "Jpeg",
    "Labelling",
    "LinearProbe",
    "Material",
    "Metric",
    "Mix",
    "NearestNeighbours",
    "NoAdversary",
    "Pixels",
    "Readout",
    "Regroup",
    "Superclass",
    "Tier",
    "adversary_classes",
    "adversary_names",
    "create_adversaries",
    "create_adversary",
    "register_adversary",
]
