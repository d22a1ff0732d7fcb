"""What makes data unlearnable: methods, the bank of perturbations, and the run over a folder.

Each name is fetched when it is first used: the zero-contact commands put noise on pictures where torch need not even be
installed, and must not load it on the way.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .bank import Bank, load_bank
    from .folder import (
        Plan,
        ProgressCallback,
        StopRequest,
        apply_folder,
        fit_folder,
        interruptible,
        protect_folder,
    )
    from .methods import (
        BayesErrorAscent,
        ErrorMinimizing,
        FitEstimate,
        FitProgress,
        Method,
        RandomNoise,
        Texture,
        UnlearnableClusters,
        create_method,
        method_class,
        method_names,
        register_method,
    )
    from .records import (
        MANIFEST_NAME,
        REPORT_NAME,
        RUN_FILE_NAME,
        FitSummary,
        ManifestRow,
        RunFile,
        RunSummary,
        read_manifest,
        read_run_file,
    )
    from .textures import TextureBank

__all__ = [
    "MANIFEST_NAME",
    "REPORT_NAME",
    "RUN_FILE_NAME",
    "Bank",
    "BayesErrorAscent",
    "ErrorMinimizing",
    "FitEstimate",
    "FitProgress",
    "FitSummary",
    "ManifestRow",
    "Method",
    "Plan",
    "ProgressCallback",
    "RandomNoise",
    "RunFile",
    "RunSummary",
    "StopRequest",
    "Texture",
    "TextureBank",
    "UnlearnableClusters",
    "apply_folder",
    "create_method",
    "fit_folder",
    "interruptible",
    "load_bank",
    "method_class",
    "method_names",
    "protect_folder",
    "read_manifest",
    "read_run_file",
    "register_method",
]

_PARTS = {
    "bank": ("Bank", "load_bank"),
    "folder": (
        "Plan",
        "ProgressCallback",
        "StopRequest",
        "apply_folder",
        "fit_folder",
        "interruptible",
        "protect_folder",
    ),
    "methods": (
        "BayesErrorAscent",
        "ErrorMinimizing",
        "FitEstimate",
        "FitProgress",
        "Method",
        "RandomNoise",
        "Texture",
        "UnlearnableClusters",
        "create_method",
        "method_class",
        "method_names",
        "register_method",
    ),
    "records": (
        "MANIFEST_NAME",
        "REPORT_NAME",
        "RUN_FILE_NAME",
        "FitSummary",
        "ManifestRow",
        "RunFile",
        "RunSummary",
        "read_manifest",
        "read_run_file",
    ),
    "textures": ("TextureBank",),
}
_PART_OF = {name: part for part, names in _PARTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _PART_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_PART_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
