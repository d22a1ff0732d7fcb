"""What a data thief does: victims, adversaries, the grid that runs them, the statistics and the verdict.

Names are fetched when first used, so that listing adversaries and presets loads no torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_exports

if TYPE_CHECKING:
    from .adversaries import Adversary, adversary_names, create_adversary, register_adversary
    from .config import PRESETS
    from .own_victims import register_victim
    from .retrieval import verify_retrieval
    from .schema import VerificationReport
    from .training import victim_names
    from .verify import verify_folder, verify_sets

__all__ = [
    "PRESETS",
    "Adversary",
    "VerificationReport",
    "adversary_names",
    "create_adversary",
    "register_adversary",
    "register_victim",
    "verify_folder",
    "verify_retrieval",
    "verify_sets",
    "victim_names",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "adversaries": ("Adversary", "adversary_names", "create_adversary", "register_adversary"),
        "retrieval": ("verify_retrieval",),
        "own_victims": ("register_victim",),
        "config": ("PRESETS",),
        "schema": ("VerificationReport",),
        "training": ("victim_names",),
        "verify": ("verify_folder", "verify_sets"),
    },
)
