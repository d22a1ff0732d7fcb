"""Which network perturbations are made on where nobody names one."""

from __future__ import annotations

from ...surrogates import resolve_device

__all__ = ["SURROGATE", "own_surrogate"]

SURROGATE = "small-cnn"
"""On a CPU: a ResNet-18 costs forty times as much there."""


def own_surrogate(device: str) -> str:
    """``resnet18``, the network of the literature, where the work is done on a CUDA device.

    Raises:
        ConfigError, SetupError: no such device.
    """
    return "resnet18" if resolve_device(device).type == "cuda" else SURROGATE
