"""What a trainer does to undo the protection: each adversary beside the objective or network it trains."""

from .base import Adversary
from .registry import (
    adversary_classes,
    adversary_names,
    adversary_origin,
    create_adversaries,
    create_adversary,
    register_adversary,
)

__all__ = [
    "Adversary",
    "adversary_classes",
    "adversary_names",
    "adversary_origin",
    "create_adversaries",
    "create_adversary",
    "register_adversary",
]
