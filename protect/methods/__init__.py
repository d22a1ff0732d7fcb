"""Methods that make data unlearnable: one module a paper, one registry."""

from .base import FitContext, FitEstimate, FitProgress, Method
from .beo import BayesErrorAscent
from .emn import ErrorMinimizing
from .noise import RandomNoise
from .registry import create_method, method_class, method_names, method_origin, register_method
from .t2ue import TextToUnlearnable
from .texture import Texture
from .uc import UnlearnableClusters

__all__ = [
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
    "method_origin",
    "register_method",
]
