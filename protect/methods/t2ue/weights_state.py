"""An optimiser's state as named tensors, so that it can be kept without pickle."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["pack_optimiser", "unpack_optimiser"]


def pack_optimiser(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """``{parameter number}.{name}`` to tensor."""
    state = optimiser.state_dict()["state"]
    return {f"{number}.{name}": value for number, values in state.items() for name, value in values.items()}


def unpack_optimiser(optimiser: torch.optim.Optimizer, packed: dict[str, Tensor]) -> None:
    """The reverse of :func:`pack_optimiser`, into an optimiser of the same parameters."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in packed.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
