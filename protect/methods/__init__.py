"""Methods that make data unlearnable: one module a paper, one registry. Each is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazy_exports

if TYPE_CHECKING:
    from .base import FitContext, FitProgress, Method
    from .beo import BayesErrorAscent
    from .beo.method import BeoRecipe
    from .emn import ErrorMinimizing
    from .minimization import MinimizationRecipe
    from .noise import RandomNoise
    from .recipe import MethodRecipe
    from .registry import create_method, method_class, method_names, method_origin, register_method
    from .t2ue import TextToUnlearnable
    from .t2ue.method import T2ueRecipe
    from .texture import ClassTextureRecipe, Texture
    from .uc import UnlearnableClusters
    from .uc.method import UcRecipe

#: Module below this package, and class, by the name in the registry; in the order in which they are told.
METHODS: dict[str, tuple[str, str]] = {
    "texture": ("texture", "Texture"),
    "emn": ("emn", "ErrorMinimizing"),
    "uc": ("uc", "UnlearnableClusters"),
    "beo": ("beo", "BayesErrorAscent"),
    "t2ue": ("t2ue", "TextToUnlearnable"),
    "noise": ("noise", "RandomNoise"),
}

__all__ = [
    "METHODS",
    "BayesErrorAscent",
    "BeoRecipe",
    "ClassTextureRecipe",
    "ErrorMinimizing",
    "FitContext",
    "FitProgress",
    "Method",
    "MethodRecipe",
    "MinimizationRecipe",
    "RandomNoise",
    "T2ueRecipe",
    "TextToUnlearnable",
    "Texture",
    "UcRecipe",
    "UnlearnableClusters",
    "create_method",
    "method_class",
    "method_names",
    "method_origin",
    "register_method",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("FitContext", "FitProgress", "Method"),
        "registry": ("create_method", "method_class", "method_names", "method_origin", "register_method"),
        **{module: (name,) for module, name in METHODS.values()},
        "beo.method": ("BeoRecipe",),
        "minimization": ("MinimizationRecipe",),
        "recipe": ("MethodRecipe",),
        "t2ue.method": ("T2ueRecipe",),
        "texture": ("ClassTextureRecipe", "Texture"),
        "uc.method": ("UcRecipe",),
    },
)
