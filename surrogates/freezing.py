"""A frozen copy of a surrogate for inner loops: only the gradient of the input is ever computed through it."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

__all__ = ["FrozenSurrogate"]

_log = logging.getLogger(__name__)


class FrozenSurrogate:
    """Evaluation-mode copy with batch norms folded into convolutions, optionally in bfloat16, channels last.

    Folding pays because one set of weights is used for a whole sweep (emn.md section 8.3); measured by
    ``benchmarks/emn_speed.py``. Logits come back as float32, so that a vanishing loss does not underflow.
    """

    def __init__(self, model: nn.Module, *, bf16: bool = False) -> None:
        copied = copy.deepcopy(model).eval()
        try:
            copied = fuse(copied, no_trace=False)
        except Exception as error:  # torch.fx raises many kinds; a network it cannot trace is used as it is
            _log.debug("batch norm not folded: %s", error)
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.model: nn.Module = copied.to(dtype=self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K]`` of images ``[B, 3, R, R]`` in [0, 1]; differentiable in the images."""
        batch = images.to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.model(batch).float()
