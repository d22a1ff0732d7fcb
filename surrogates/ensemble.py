"""Several networks as one surrogate: their losses are averaged, so that noise has to work on all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .base import Surrogate

__all__ = ["Ensemble"]


class Ensemble(Surrogate):
    """Members side by side. Its output is that of every member, ``[E, N, K]``; see :func:`class_losses`.

    Args:
        members: two or more surrogates with the same number of classes.
    """

    def __init__(self, members: Sequence[Surrogate]) -> None:
        super().__init__(
            nn.ModuleList(members),
            name="+".join(member.name for member in members),
            num_classes=members[0].num_classes,
            source="+".join(member.source for member in members),
            bf16_on_cpu=all(member.bf16_on_cpu for member in members),
        )

    @property
    def members(self) -> tuple[Surrogate, ...]:
        """The networks it consists of."""
        return tuple(self.net)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Logits of every member, float ``[E, N, K]``."""
        return torch.stack([member(images).float() for member in self.net])  # type: ignore[union-attr]

    def trunk(self) -> nn.Module:
        """The members' features side by side, ``[N, D1 + D2 + ...]``."""
        return _SideBySide([member.trunk() for member in self.members])

    def train(self, mode: bool = True) -> Surrogate:
        """Each member decides for itself what training mode means."""
        self.training = mode
        for member in self.members:
            member.train(mode)
        return self

    def fingerprint(self, *, head: bool = True) -> str:
        """sha256 over the members' fingerprints."""
        return hashlib.sha256("".join(member.fingerprint(head=head) for member in self.members).encode()).hexdigest()


class _SideBySide(nn.Module):
    def __init__(self, trunks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.trunks = nn.ModuleList(trunks)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([trunk(images).float() for trunk in self.trunks], dim=1)
