"""Models of diffusers on a device: their ``to`` is typed for its own decorator, not for callers."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import nn

__all__ = ["move"]

_Model = TypeVar("_Model", bound=nn.Module)


def move(model: _Model, device: torch.device) -> _Model:
    """The model itself, on the device."""
    return cast(Any, model).to(device)
