"""Perturbations put on the pictures they were fitted to, in memory, at the working resolution."""

from __future__ import annotations

import torch
from torch import Tensor

from bitterant.imaging import ImageSet
from bitterant.protect import Bank

__all__ = ["protected_by"]


def protected_by(bank: Bank, dataset: ImageSet) -> Tensor:
    """uint8 ``[N, 3, R, R]``: what a trainer sees, checked against the bank's budget."""
    levels = torch.stack([torch.from_numpy(bank.levels_for(key)) for key in dataset.keys])
    protected = (dataset.images + levels.permute(0, 3, 1, 2)).clamp(0, 255).to(torch.uint8)
    most = int((protected.int() - dataset.images.int()).abs().max())
    if most > bank.budget.levels:
        raise SystemExit(f"over budget: {most} levels")
    return protected
