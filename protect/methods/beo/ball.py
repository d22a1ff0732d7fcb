"""An L2 bound beside the budget: the root mean square of a perturbation, so that it means the same at every size."""

from __future__ import annotations

import torch
from torch import Tensor

from ....imaging import Budget

__all__ = ["into_ball", "round_into_ball"]

_EACH = (1, 2, 3)


def into_ball(delta: Tensor, rms: float | None) -> Tensor:
    """The nearest perturbations whose root mean square is at most ``rms``: an L2 ball of radius ``rms * sqrt(3 R^2)``.

    Args:
        delta: float ``[B, 3, R, R]`` in units of the full range.
        rms: in the same units; ``None`` for no such bound.
    """
    if rms is None:
        return delta
    size = delta.square().mean(_EACH, keepdim=True).sqrt()
    return delta * (rms / size.clamp(min=1e-20)).clamp(max=1.0)


def round_into_ball(delta: Tensor, budget: Budget, rms: float | None) -> Tensor:
    """Whole levels inside the budget and the ball: what rounding lifts out of the ball is shrunk before it is rounded.

    Args:
        delta: float ``[B, 3, R, R]`` in units of the full range.
        budget: the bound of every entry.
        rms: see :func:`into_ball`.

    Returns:
        int16 of the same shape.
    """
    levels = budget.quantise(delta)
    if rms is None:
        return levels
    scale = torch.ones(len(delta), 1, 1, 1, device=delta.device)
    while (outside := levels.float().square().mean(_EACH) > (rms * 255) ** 2).any():
        scale[outside] *= 0.98
        levels = budget.quantise(delta * scale)
    return levels
