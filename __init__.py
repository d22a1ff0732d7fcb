"""bitterant: unlearnable examples for image folders, and an honest attack on them.

Whole folders::

    import bitterant

    bitterant.protect_folder("photos", "photos-protected")
    report = bitterant.verify_folder("photos", "photos-protected")

Tensors and data sets, without writing any file::

    from bitterant import Budget, ErrorMinimizing, ImageSet, ProtectedDataset

    data = ImageSet.from_tensors(images, labels)     # [N, 3, R, R] in [0, 1]; or from_folder, from_dataset
    bank = ErrorMinimizing(budget=Budget(8 / 255), granularity="class").fit(data)
    protected = bank.apply_set(data.images, data.keys)
    dataset = ProtectedDataset(torchvision_dataset, bank)

Importing this package loads nothing heavy: each name below is fetched from its package when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_exports
from ._version import __version__

if TYPE_CHECKING:
    from .attacks import Adversary, register_adversary, register_victim, verify_folder, verify_sets
    from .errors import (
        BankError,
        BitterantError,
        BudgetExceeded,
        BundleError,
        CaptionError,
        ConfigError,
        FitError,
        FolderError,
        ImageError,
        Interrupted,
        LabelError,
        OutputError,
        RequestError,
        ResumeError,
        SetupError,
        UnknownNameError,
        WeightsError,
    )
    from .imaging import Budget, ImageSet
    from .protect import (
        Bank,
        BayesErrorAscent,
        ErrorMinimizing,
        Method,
        Protect,
        ProtectedDataset,
        RandomNoise,
        TextToUnlearnable,
        Texture,
        TextureBank,
        UnlearnableClusters,
        apply_folder,
        apply_stream,
        fit_folder,
        load_bank,
        protect_folder,
        register_method,
    )

__all__ = [
    "Adversary",
    "Bank",
    "BankError",
    "BayesErrorAscent",
    "BitterantError",
    "Budget",
    "BudgetExceeded",
    "BundleError",
    "CaptionError",
    "ConfigError",
    "ErrorMinimizing",
    "FitError",
    "FolderError",
    "ImageError",
    "ImageSet",
    "Interrupted",
    "LabelError",
    "Method",
    "OutputError",
    "Protect",
    "ProtectedDataset",
    "RandomNoise",
    "RequestError",
    "ResumeError",
    "SetupError",
    "TextToUnlearnable",
    "Texture",
    "TextureBank",
    "UnknownNameError",
    "UnlearnableClusters",
    "WeightsError",
    "__version__",
    "apply_folder",
    "apply_stream",
    "fit_folder",
    "load_bank",
    "protect_folder",
    "register_adversary",
    "register_method",
    "register_victim",
    "verify_folder",
    "verify_sets",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "attacks": ("Adversary", "register_adversary", "register_victim", "verify_folder", "verify_sets"),
        "errors": (
            "BankError",
            "BitterantError",
            "BudgetExceeded",
            "BundleError",
            "CaptionError",
            "ConfigError",
            "FitError",
            "FolderError",
            "ImageError",
            "Interrupted",
            "LabelError",
            "OutputError",
            "RequestError",
            "ResumeError",
            "SetupError",
            "UnknownNameError",
            "WeightsError",
        ),
        "imaging": ("Budget", "ImageSet"),
        "protect": (
            "Bank",
            "BayesErrorAscent",
            "ErrorMinimizing",
            "Method",
            "Protect",
            "ProtectedDataset",
            "RandomNoise",
            "TextToUnlearnable",
            "Texture",
            "TextureBank",
            "UnlearnableClusters",
            "apply_folder",
            "apply_stream",
            "fit_folder",
            "load_bank",
            "protect_folder",
            "register_method",
        ),
    },
)
