"""What makes data unlearnable: methods, the bank of perturbations, and the run over a folder."""

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
