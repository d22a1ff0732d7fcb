"""Methods that make data unlearnable: one module a paper, one registry. Each is loaded when it is first asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._lazy import lazy_exports
from .table import METHODS

if TYPE_CHECKING:
    from .base import FitContext, FitEstimate, FitProgress, Method
    from .beo import BayesErrorAscent
    from .emn import ErrorMinimizing
    from .noise import RandomNoise
    from .registry import create_method, method_class, method_names, register_method
    from .t2ue import TextToUnlearnable
    from .texture import Texture
    from .uc import UnlearnableClusters

__all__ = [
    "METHODS",
    "BayesErrorAscent",
    "ErrorMinimizing",
    "FitContext",
    "FitEstimate",
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
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "base": ("FitContext", "FitEstimate", "FitProgress", "Method"),
        "registry": ("create_method", "method_class", "method_names", "register_method"),
        **{module: (name,) for module, name in METHODS.values()},
    },
)
