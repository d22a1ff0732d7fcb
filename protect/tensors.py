"""Float tensors in [0, 1] as 8-bit pixels, for what works on pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError

__all__ = ["on_pixels"]


def on_pixels(image: Tensor, change: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """What a function of uint8 ``[H, W, 3]`` makes of a float tensor ``[3, H, W]`` in [0, 1]: of its type and device.

    Raises:
        ConfigError: another type or shape.
    """
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        found = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ConfigError(f"Expected a float tensor [3, H, W], got {found}.")
    # At least single precision: half precision cannot tell all 256 levels apart, and numpy has no bfloat16.
    exact = image.dtype if image.dtype == torch.float64 else torch.float32
    scaled = image.detach().to(exact).permute(1, 2, 0).mul(255.0).round().clamp(0.0, 255.0)
    changed = torch.from_numpy(change(scaled.to(torch.uint8).cpu().numpy()))
    return changed.permute(2, 0, 1).contiguous().to(exact).div(255.0).to(image.device, image.dtype)
