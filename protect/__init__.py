"""What makes data unlearnable: methods, the bank of perturbations, and the run over a folder."""

from .bank import Bank, load_bank
from .folder import apply_folder, fit_folder, protect_folder
from .interrupt import StopRequest, interruptible
from .manifest import MANIFEST_NAME, ManifestRow, read_manifest
from .methods import (
    ErrorMinimizing,
    FitEstimate,
    FitProgress,
    Method,
    RandomNoise,
    create_method,
    method_class,
    method_names,
    register_method,
)
from .plan import Plan
from .progress import ProgressCallback
from .report import REPORT_NAME
from .run_file import RUN_FILE_NAME, RunFile, read_run_file
from .summary import FitSummary, RunSummary

__all__ = [
    "MANIFEST_NAME",
    "REPORT_NAME",
    "RUN_FILE_NAME",
    "Bank",
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
