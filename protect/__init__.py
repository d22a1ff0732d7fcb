"""What makes data unlearnable: methods, the bank of perturbations, and the run over a folder.

Each name is fetched when it is first used: the zero-contact commands put noise on pictures where torch need not even be
installed, and must not load it on the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._lazy import lazy_exports

if TYPE_CHECKING:
    from ..records.manifest import MANIFEST_NAME, ManifestRow, read_manifest
    from ..records.run_file import RunFile, read_run_file
    from .bank import Bank, load_bank
    from .datasets import Protect, ProtectedDataset
    from .folder import (
        Preview,
        PreviewedPicture,
        apply_folder,
        fit_folder,
        merge_folders,
        protect_folder,
        publish_folder,
    )
    from .folder.report import FitSummary, RunSummary
    from .methods import (
        BayesErrorAscent,
        ErrorMinimizing,
        FitProgress,
        Method,
        RandomNoise,
        TextToUnlearnable,
        Texture,
        UnlearnableClusters,
        create_method,
        method_class,
        method_names,
        register_method,
    )
    from .methods.ranks import several_processes
    from .streams import StreamPlan, StreamSummary, apply_stream
    from .textures import TextureBank

__all__ = [
    "MANIFEST_NAME",
    "Bank",
    "BayesErrorAscent",
    "ErrorMinimizing",
    "FitProgress",
    "FitSummary",
    "ManifestRow",
    "Method",
    "Preview",
    "PreviewedPicture",
    "Protect",
    "ProtectedDataset",
    "RandomNoise",
    "RunFile",
    "RunSummary",
    "StreamPlan",
    "StreamSummary",
    "TextToUnlearnable",
    "Texture",
    "TextureBank",
    "UnlearnableClusters",
    "apply_folder",
    "apply_stream",
    "create_method",
    "fit_folder",
    "load_bank",
    "merge_folders",
    "method_class",
    "method_names",
    "protect_folder",
    "publish_folder",
    "read_manifest",
    "read_run_file",
    "register_method",
    "several_processes",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "bank": ("Bank", "load_bank"),
        "datasets": ("Protect", "ProtectedDataset"),
        "folder": (
            "Preview",
            "PreviewedPicture",
            "apply_folder",
            "fit_folder",
            "merge_folders",
            "protect_folder",
            "publish_folder",
        ),
        "methods": (
            "BayesErrorAscent",
            "ErrorMinimizing",
            "FitProgress",
            "Method",
            "RandomNoise",
            "TextToUnlearnable",
            "Texture",
            "UnlearnableClusters",
            "create_method",
            "method_class",
            "method_names",
            "register_method",
        ),
        "methods.ranks": ("several_processes",),
        ".records.manifest": ("MANIFEST_NAME", "ManifestRow", "read_manifest"),
        "folder.report": ("FitSummary", "RunSummary"),
        ".records.run_file": ("RunFile", "read_run_file"),
        "streams": ("StreamPlan", "StreamSummary", "apply_stream"),
        "textures": ("TextureBank",),
    },
)
