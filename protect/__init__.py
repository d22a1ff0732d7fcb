"""What makes data unlearnable: methods, the bank of perturbations, and the run over a folder."""

from .bank import Bank, load_bank
from .folder import apply_folder, fit_folder, protect_folder
from .methods import (
    ErrorMinimizing,
    FitEstimate,
    FitProgress,
    Method,
    RandomNoise,
    create_method,
    method_names,
    register_method,
)

__all__ = [
    "Bank",
    "ErrorMinimizing",
    "FitEstimate",
    "FitProgress",
    "Method",
    "RandomNoise",
    "apply_folder",
    "create_method",
    "fit_folder",
    "load_bank",
    "method_names",
    "protect_folder",
    "register_method",
]
