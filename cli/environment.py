"""What is known about broken installations: which message means which mistake, and its remedy."""

from __future__ import annotations

import importlib
import os
import sys

__all__ = ["PAIR_REMEDY", "explain_import_failure", "pin_arithmetic", "prepare_torch"]

PAIR_REMEDY = (
    "Install the two as a matching pair from one source, for example: "
    "pip install --upgrade --force-reinstall torch torchvision"
)


def explain_import_failure(error: BaseException) -> str | None:
    """A plain message with the remedy where ``error`` is a known failure of the installation, else None."""
    text = str(error)
    if "torchvision::nms does not exist" in text:
        return (
            "torch and torchvision do not fit together (the 'operator torchvision::nms does not exist' failure): "
            f"they come from different sources or versions. {PAIR_REMEDY}"
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("bitterant"):
        package = error.name.partition(".")[0]
        return (
            f"The package {package!r} is not installed. Install bitterant with its dependencies: pip install bitterant"
        )
    if isinstance(error, ImportError) and "torch" in text:
        return f"torch cannot be loaded ({text}). {PAIR_REMEDY}"
    return None


_LOWEST = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE"}


def pin_arithmetic() -> None:
    """Load torch so that a CPU computes alike on every x86-64 machine: with the instructions that all of them have,
    and one thread. Otherwise the last bits of sums, and even of random numbers, depend on the processor.

    What the environment says is overruled. It works only in a process that has not loaded torch yet.
    """
    if "torch" in sys.modules:
        return
    os.environ.update(_LOWEST)
    prepare_torch()
    import torch

    torch.set_num_threads(1)


def prepare_torch() -> None:
    """Set up the memory allocator, then load torch. Commands that compute call this first; ``--help`` never does."""
    from ..imaging.allocator import tune_allocator

    tune_allocator()
    importlib.import_module("torch")
