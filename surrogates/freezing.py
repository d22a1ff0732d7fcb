"""A frozen copy of a surrogate for inner loops: only the gradient of the input is ever computed through it."""

from __future__ import annotations

import copy
import logging

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from .base import Surrogate

__all__ = ["FrozenSurrogate"]

_log = logging.getLogger(__name__)


class FrozenSurrogate:
    """Evaluation-mode copy with batch norms folded into convolutions, optionally in bfloat16, channels last.

    Folding pays because one set of weights is used for a whole sweep (emn.md section 8.3); measured by
    ``benchmarks/emn_speed.py``. Results come back as float32, so that a vanishing loss does not underflow.

    Args:
        model: what to copy.
        bf16: compute in bfloat16.
        features: give features instead of logits; see :meth:`Surrogate.trunk`.
    """

    def __init__(self, model: nn.Module, *, bf16: bool = False, features: bool = False) -> None:
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        members = model.members if isinstance(model, Surrogate) else ()
        self._members: tuple[FrozenSurrogate, ...] = ()
        if len(members) > 1:
            self._members = tuple(FrozenSurrogate(member, bf16=bf16, features=features) for member in members)
            self._side_by_side = features
            return
        self._resize: nn.Module = nn.Identity()
        if isinstance(model, Surrogate):
            # Resizing asks for the size of its input, which a network that is traced cannot answer.
            self._resize = model.resize
            body = list(model.trunk().children())[1:] if features else [model.normalise, model.net]
            model = nn.Sequential(*body)
        copied = copy.deepcopy(model).eval()
        try:
            copied = fuse(copied, no_trace=False)
        except Exception as error:  # torch.fx raises many kinds; a network it cannot trace is used as it is
            _log.debug("batch norm not folded: %s", error)
        self.model: nn.Module = copied.to(dtype=self.dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)

    def __call__(self, images: Tensor) -> Tensor:
        """Logits float32 ``[B, K]`` (or features ``[B, D]``) of images ``[B, 3, R, R]`` in [0, 1]; differentiable.

        Of an ensemble: logits ``[E, B, K]``, or the members' features side by side.
        """
        if self._members:
            parts = [member(images) for member in self._members]
            return torch.cat(parts, dim=1) if self._side_by_side else torch.stack(parts)
        batch = self._resize(images).to(self.dtype).contiguous(memory_format=torch.channels_last)
        return self.model(batch).float()
