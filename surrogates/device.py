"""Where to compute, and in which precision."""

from __future__ import annotations

import re
import time

import torch

from ..errors import ConfigError, SetupError

__all__ = ["now", "resolve_device", "supports_bf16"]


def resolve_device(name: str = "auto") -> torch.device:
    """``auto`` takes cuda, then mps, then cpu; a named device (``cpu``, ``cuda``, ``cuda:1``, ``mps``) is checked.

    Raises:
        ConfigError: not one of these names. torch knows many more kinds of device, on which nothing here was tried.
        SetupError: the device is not there.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:(0|[1-9]\d{0,2}))?", name, re.ASCII):
        raise ConfigError(f"{name!r} is not a device. Use auto, cpu, cuda, cuda:1 or mps.")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SetupError("No CUDA device was found. Use --device cpu, or install a CUDA build of torch and its driver.")
    if device.type == "cuda" and device.index is not None and device.index >= torch.cuda.device_count():
        known = ", ".join(f"cuda:{i}" for i in range(torch.cuda.device_count()))
        raise SetupError(f"There is no device {name}. This machine has {known}.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise SetupError("No MPS device was found. Use --device cpu.")
    return device


def supports_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there: AVX512-BF16 or AMX on a CPU, Ampere or newer on CUDA."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()) and _cpu_has_bf16()
    return False


def now(device: torch.device | str) -> float:
    """Seconds of a clock, once the device has done all that it was given: without that a GPU's work costs nothing."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
    return time.perf_counter()


def _cpu_has_bf16() -> bool:
    capabilities = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
    checks = [getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")]
    return "AVX512" in str(capabilities) and any(bool(check()) for check in checks if check is not None)
