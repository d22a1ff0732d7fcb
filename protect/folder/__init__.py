"""Whole folders: protect one, fit a bank to one, apply a bank to one. Streaming, and resumable after any kill."""

from .applying import apply_folder
from .fit_only import fit_folder
from .interrupt import StopRequest, interruptible
from .plan import Plan
from .progress import ProgressCallback
from .protecting import protect_folder

__all__ = [
    "Plan",
    "ProgressCallback",
    "StopRequest",
    "apply_folder",
    "fit_folder",
    "interruptible",
    "protect_folder",
]
