"""What makes a result repeat, and where to compute it: generators lent and given back, sums in one order, one thread
where it matters, and bfloat16 only where gradients keep the signs of float32."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError, SetupError
from .base import class_losses
from .freezing import FrozenSurrogate


@contextmanager
def own_randomness(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Seed the global generators of the CPU and of this device for a while, and put them back.

    Initial weights, dropout and drop path draw from them and take no generator. No other device is touched:
    ``torch.manual_seed`` would seed the generators of every GPU, and the caller's draws there would begin anew.

    Args:
        seed: in [0, 2**63).
        device: where the work inside draws, besides the CPU.
    """
    device = torch.device(device)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif before is not None:
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


def device_generator(device: torch.device | str, seed: int) -> torch.Generator:
    """A seeded generator on this device. All that are not on the CPU are made here."""
    return torch.Generator(device).manual_seed(seed)


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """What draws numbers on ``device``, of a generator that lives on the CPU.

    On a CPU it is the generator itself. Elsewhere the CPU draws a seed and the device the numbers: those of a batch
    that are drawn on a CPU have to be copied, and a copy makes the device wait. A generator that is on the device
    already is handed back.
    """
    if generator.device.type == device.type:
        return generator
    return device_generator(device, int(torch.randint(2**62, (), generator=generator)))


def transfer(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; to a CUDA device through pinned memory, which lets neither side wait for the other.

    A plain copy waits until the device has done all that it was given before.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fused(parameters: Iterable[Tensor]) -> bool | None:
    """What torch's optimisers take as ``fused``: one kernel a step on CUDA, and elsewhere torch's own choice."""
    return True if all(parameter.device.type == "cuda" for parameter in parameters) else None


def add_rows(total: Tensor, index: Tensor, rows: Tensor) -> Tensor:
    """Add ``rows [B, ...]`` to ``total [K, ...]`` at ``index`` int64 ``[B]``, in place, in the order they come in.

    ``index_add_`` on a GPU adds in whatever order its threads arrive, and float sums depend on the order; putting with
    accumulation sorts first there. On a CPU it is the other way round.
    """
    if total.device.type == "cpu":
        return total.index_add_(0, index, rows)
    return total.index_put_((index,), rows, accumulate=True)


@contextmanager
def one_thread(device: str) -> Iterator[None]:
    """One thread on a CPU: sums then run in one order, so the result is the same however many workers there are."""
    if not device.startswith("cpu"):
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def seeded(generator: torch.Generator, device: torch.device) -> Iterator[None]:
    """Seed the global generators from ``generator`` for a while, and put them back.

    kornia and torchvision's transforms draw from them. Nothing else would make the same seed give the same pictures in
    every process.
    """
    seed = int(torch.randint(2**62, (), generator=generator))
    with own_randomness(seed, device):
        yield


def resolve_device(name: str | torch.device = "auto") -> torch.device:
    """``auto`` takes cuda, then mps, then cpu; a named device (``cpu``, ``cuda``, ``cuda:1``, ``mps``) is checked.

    Raises:
        ConfigError: not one of these names. torch knows many more kinds of device, on which nothing here was tried.
        SetupError: the device is not there.
    """
    name = str(name)
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


Precision = Literal["auto", "float32", "bfloat16"]
"""``auto``: bfloat16 where it is faster and agrees with float32; see :func:`choose_precision`."""

LEAST_AGREEMENT = 0.95
"""Of the signs of the input gradient. Crafting follows nothing but these signs."""

_IMAGES = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ChosenPrecision:
    """What a network is computed in, and why.

    Attributes:
        name: ``float32`` or ``bfloat16``.
        agreement: share of the signs of the input gradient that are the same in both, in [0, 1]; ``None`` where it was
            not measured.
        reason: for people.
    """

    name: Literal["float32", "bfloat16"]
    agreement: float | None
    reason: str

    @property
    def bf16(self) -> bool:
        """Whether it is bfloat16."""
        return self.name == "bfloat16"

    def to_json(self) -> dict[str, Any]:
        """JSON-safe, rounded for reading."""
        agreement = None if self.agreement is None else round(self.agreement, 4)
        return {"precision": self.name, "sign_agreement": agreement, "reason": self.reason}


def choose_precision(
    model: nn.Module, device: torch.device, *, resolution: int, asked: Precision = "auto"
) -> ChosenPrecision:
    """What to compute this network in; one rule for CPUs and GPUs.

    Args:
        model: maps float ``[B, 3, R, R]`` in [0, 1] to logits; left as it is.
        device: where it will be computed.
        resolution: R in px.
        asked: ``float32`` and ``bfloat16`` are obeyed. ``auto`` takes bfloat16 where the device computes it faster and
            :func:`sign_agreement` is at least :data:`LEAST_AGREEMENT`.
    """
    if asked == "float32":
        return ChosenPrecision("float32", None, "asked for")
    if asked == "auto":
        if not supports_bf16(device):
            return ChosenPrecision("float32", None, f"bfloat16 is not faster on this {device.type}")
        if device.type == "cpu" and not bool(getattr(model, "bf16_on_cpu", False)):
            return ChosenPrecision("float32", None, "this network is slower in bfloat16 on a CPU")
    agreement = sign_agreement(model, device, resolution)
    if asked == "bfloat16":
        if agreement < LEAST_AGREEMENT:
            _log.warning("bfloat16 was asked for, and only %.0f %% of the gradient's signs keep", 100 * agreement)
        return ChosenPrecision("bfloat16", agreement, "asked for")
    enough = agreement >= LEAST_AGREEMENT
    reason = f"{100 * agreement:.1f} % of the gradient's signs agree, {100 * LEAST_AGREEMENT:.0f} % are wanted"
    return ChosenPrecision("bfloat16" if enough else "float32", agreement, reason)


def sign_agreement(model: nn.Module, device: torch.device, resolution: int) -> float:
    """Share of the entries of the input gradient whose sign is the same in bfloat16 and in float32, in [0, 1].

    Measured on sixteen smooth drawn pictures, always the same ones, with the frozen network. Entries that are zero in
    float32 do not count.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(_IMAGES, 3, 8, 8, generator=generator)
    images = F.interpolate(coarse, (resolution, resolution), mode="bilinear", align_corners=False).to(device)
    exact, rounded = (_gradient(FrozenSurrogate(model, bf16=bf16), images) for bf16 in (False, True))
    counted = exact != 0
    return float((exact.sign() == rounded.sign())[counted].float().mean()) if bool(counted.any()) else 1.0


def _gradient(frozen: FrozenSurrogate, images: Tensor) -> Tensor:
    device = images.device
    frozen.to(device)
    leaf = images.clone().requires_grad_(True)
    logits = frozen(leaf)
    labels = torch.arange(len(images), device=device) % logits.shape[-1]
    (gradient,) = torch.autograd.grad(class_losses(logits, labels).sum(), leaf)
    return gradient
