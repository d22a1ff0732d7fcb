"""What was asked for, checked as a whole before any work begins.

Names are fetched when first used: :mod:`.config` is what help and completion read, without numpy and torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazy_exports

if TYPE_CHECKING:
    from .checks import Request, check_bank_place, check_fit, check_source, check_write
    from .config import ApplyConfig, FitConfig, FitFolderConfig, ProtectConfig, WriteConfig
    from .places import check_writable

__all__ = [
    "ApplyConfig",
    "FitConfig",
    "FitFolderConfig",
    "ProtectConfig",
    "Request",
    "WriteConfig",
    "check_bank_place",
    "check_fit",
    "check_source",
    "check_writable",
    "check_write",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "checks": ("Request", "check_bank_place", "check_fit", "check_source", "check_write"),
        "config": ("ApplyConfig", "FitConfig", "FitFolderConfig", "ProtectConfig", "WriteConfig"),
        "places": ("check_writable",),
    },
)
