"""bitterant: unlearnable examples for image folders, and an honest attack on them.

Whole folders::

    import bitterant

    bitterant.protect_folder("photos", "photos-protected")
    report = bitterant.verify_folder("photos", "photos-protected")

Tensors, without any folder::

    from bitterant import Budget, ErrorMinimizing, ImageSet

    data = ImageSet.from_tensors(images, labels)                      # [N, 3, R, R] in [0, 1]
    bank = ErrorMinimizing(budget=Budget(8 / 255), granularity="class").fit(data)
    protected = bank.apply(images[0], data.keys[0])

Importing this package loads nothing heavy: each name below is fetched from its room when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy_exports
from ._version import __version__

if TYPE_CHECKING:
    from .attacks import verify_folder
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
        RandomNoise,
        Texture,
        TextureBank,
        UnlearnableClusters,
        apply_folder,
        fit_folder,
        load_bank,
        protect_folder,
    )

__all__ = [
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
    "OutputError",
    "RandomNoise",
    "RequestError",
    "ResumeError",
    "SetupError",
    "Texture",
    "TextureBank",
    "UnknownNameError",
    "UnlearnableClusters",
    "WeightsError",
    "__version__",
    "apply_folder",
    "fit_folder",
    "load_bank",
    "protect_folder",
    "verify_folder",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "attacks": ("verify_folder",),
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
            "RandomNoise",
            "Texture",
            "TextureBank",
            "UnlearnableClusters",
            "apply_folder",
            "fit_folder",
            "load_bank",
            "protect_folder",
        ),
    },
)
