"""The parts of the paper's network: gated blocks of convolutions that a text steers where a mask lets it.

Semantic-spatial aware convolutions (Liao et al. 2022, SSA-GAN), as the paper's generator uses them. The paper's
equation 2 leaves out the ``1 +`` and the mask; with its zero-initialised last layers it would then give 0, so the
masked form is the one here.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["GatedBlock", "MaskHead", "TextSteeredNorm", "enlarge_mask"]


def _two_layers(text_dim: int, hidden: int, channels: int, spread: float) -> nn.Sequential:
    last = nn.Linear(hidden, channels)
    nn.init.normal_(last.weight, std=spread / hidden**0.5)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(text_dim, hidden), nn.ReLU(), last)


class TextSteeredNorm(nn.Module):
    """Conditional batch norm under a mask: ``(1 + m * gamma(e)) * norm(h) + m * beta(e)``.

    The last layers of ``gamma`` and ``beta`` begin at zero in the paper, so that it ignores the text at the start;
    ``spread`` above 0 lets the text act at once.
    """

    def __init__(self, channels: int, text_dim: int, hidden: int, spread: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gamma = _two_layers(text_dim, hidden, channels, spread)
        self.beta = _two_layers(text_dim, hidden, channels, spread)

    def forward(self, h: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        """``h`` [B, C, H, W], ``text`` [B, D], ``mask`` [B, 1, H, W] in (0, 1) or None for 1 everywhere."""
        gamma, beta = self.gamma(text)[:, :, None, None], self.beta(text)[:, :, None, None]
        if mask is not None:
            gamma, beta = mask * gamma, mask * beta
        # Statistics in single precision whatever the autocast: in half precision they drift.
        with torch.autocast(h.device.type, enabled=False):
            normed = self.norm(h.float())
        return (1.0 + gamma) * normed.to(gamma.dtype) + beta


class MaskHead(nn.Module):
    """Where in the next block the text may act: logits [B, 1, H, W]."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(channels, hidden, 3, padding=1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 1, 1)
        )

    def forward(self, h: Tensor) -> Tensor:
        return self.net(h)


def enlarge_mask(logits: Tensor) -> Tensor:
    """Twice the size, as the paper's code does between blocks."""
    return F.interpolate(logits, scale_factor=2, mode="bilinear", align_corners=True)


class GatedBlock(nn.Module):
    """``shortcut(x) + g * residual(x)`` with a learnt scalar ``g``.

    Args:
        cin, cout: channels.
        text_dim: length of the text vectors.
        hidden: width of the layers that the text goes through.
        gate: what ``g`` begins with. The paper's 0 makes the noise ignore the text for long (its figure 6: 40 epochs
            without any effect); with 1 it counts at once.
        spread: of the text's layers at the start, see :class:`TextSteeredNorm`.
    """

    def __init__(self, cin: int, cout: int, *, text_dim: int, hidden: int, gate: float, spread: float = 0.0) -> None:
        super().__init__()
        self.norm1 = TextSteeredNorm(cin, text_dim, hidden, spread)
        self.conv1 = nn.Conv2d(cin, cout, 3, padding=1)
        self.norm2 = TextSteeredNorm(cout, text_dim, hidden, spread)
        self.conv2 = nn.Conv2d(cout, cout, 3, padding=1)
        self.shortcut = nn.Identity() if cin == cout else nn.Conv2d(cin, cout, 1)
        self.gate = nn.Parameter(torch.tensor(float(gate)))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None) -> Tensor:
        h = self.conv1(F.relu(self.norm1(x, text, mask)))
        h = self.conv2(F.relu(self.norm2(h, text, mask)))
        return cast(Tensor, self.shortcut(x)) + self.gate * h
