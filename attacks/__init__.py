"""What a data thief does: victims, adversaries, the grid that runs them, the statistics and the verdict.

Names are fetched when first used, so that listing adversaries and presets loads no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adversaries import Adversary, adversary_names, create_adversary, register_adversary
    from .image_text import RetrievalVerification, verify_retrieval
    from .presets import PRESETS, Preset
    from .schema import VerificationReport
    from .training import victim_names
    from .verify import verify_folder, verify_sets

__all__ = [
    "PRESETS",
    "Adversary",
    "Preset",
    "RetrievalVerification",
    "VerificationReport",
    "adversary_names",
    "create_adversary",
    "register_adversary",
    "verify_folder",
    "verify_retrieval",
    "verify_sets",
    "victim_names",
]

_HOMES = {
    "adversaries": ("Adversary", "adversary_names", "create_adversary", "register_adversary"),
    "image_text": ("RetrievalVerification", "verify_retrieval"),
    "presets": ("PRESETS", "Preset"),
    "schema": ("VerificationReport",),
    "training": ("victim_names",),
    "verify": ("verify_folder", "verify_sets"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
