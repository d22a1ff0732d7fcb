"""Colours made alike in every picture: equalised histograms, or whitened channels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..base import Adversary, Pixels
from ..parameters import one_of
from .blocks import BLOCK, in_blocks

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Equalize", "Whiten", "equalized", "whitened"]

MIDDLE, SPREAD = 0.5, 0.22
"""Mean and standard deviation of every channel after whitening, in [0, 1]; 2.3 standard deviations fit."""
_RIDGE = 0.02
"""Added to the eigenvalues of the correlations: in a gray picture colour noise would otherwise fill the range."""


def equalized(images: Pixels) -> Pixels:
    """Each channel of each picture with a flat histogram: a value becomes the share of pixels at most as large.

    The darkest value becomes 0 and the brightest 255. Pillow's ``ImageOps.equalize`` counts in whole pixels a level,
    which saturates a third of the values at 32 px, and does nothing below 16 px.

    Args:
        images: uint8 ``[N, 3, R, R]``.
    """
    channels = images.reshape(-1, images.shape[-2] * images.shape[-1])
    rows = np.arange(len(channels))[:, None]
    counts = np.zeros((len(channels), 256), dtype=np.int64)
    np.add.at(counts, (rows, channels), 1)
    below = counts.cumsum(axis=1)
    first = below[rows, channels.min(axis=1, keepdims=True)]
    scale = 255.0 / np.maximum(channels.shape[1] - first, 1)
    table = np.rint((below - first).clip(0) * scale).astype(np.uint8)
    flat = first[:, 0] == channels.shape[1]  # one value alone has no rank: it stays
    table[flat] = np.arange(256, dtype=np.uint8)
    return table[rows, channels].reshape(images.shape)


class Equalize(Adversary):
    """Histogram equalisation, channel by channel: only the order of the values of a channel is left.

    What brightens, darkens or tints a whole picture, by any increasing curve, is undone up to rounding.
    """

    prefix = "equalize"
    tier = "transforms"
    source = "arXiv 2605.01718 (DUNE), adaptive defences: histogram equalisation"
    description = "the histogram of every channel made flat"

    @property
    def phrase(self) -> str:
        return "a trainer who equalises their histograms"

    def transform(self, images: Pixels) -> Pixels:
        result = np.empty_like(images)
        for start in range(0, len(images), BLOCK):
            result[start : start + BLOCK] = equalized(np.asarray(images[start : start + BLOCK]))
        return result


def whitened(batch: Tensor, *, channels: bool = False) -> Tensor:
    """Each channel of each picture at mean 0.5 and standard deviation 0.22; correlations between channels removed.

    Channels are standardised and then multiplied by the inverse root of their correlations (ZCA-cor: of all
    whitenings the one that stays nearest to the channels). What is added to or multiplied with a channel is
    therefore undone exactly.

    Args:
        batch: float ``[B, 3, R, R]`` in [0, 1].
        channels: only standardise, and leave the correlations.
    """
    import torch

    values = batch.flatten(2).double()
    values = values - values.mean(dim=2, keepdim=True)
    spread = values.square().mean(dim=2, keepdim=True).sqrt()
    values = values / spread.clamp(min=1e-6)  # of a channel of one value all is zero
    if not channels:
        correlations = values @ values.mT / values.shape[-1]
        sizes, axes = torch.linalg.eigh(correlations)
        values = axes @ ((axes.mT @ values) / (sizes[..., None] + _RIDGE).sqrt())
        spread = values.square().mean(dim=2, keepdim=True).sqrt()
        values = values / spread.clamp(min=1e-6)  # what the ridge took
    return (MIDDLE + SPREAD * values).reshape(batch.shape).to(batch.dtype)


class Whiten(Adversary):
    """Per-picture colour whitening, back in 8 bits. See :func:`whitened`.

    Args:
        parameter: ``channels`` standardises each channel (per-picture channel normalisation) and leaves the
            correlations between them.

    Raises:
        ConfigError: it is another word.
    """

    prefix = "whiten"
    tier = "transforms"
    source = "arXiv 2605.01718 (DUNE), adaptive defences: colour whitening; ZCA-cor of arXiv 1512.00809"
    description = "the colours of every picture whitened (whiten:channels leaves their correlations)"

    def __init__(self, parameter: str | None = None) -> None:
        self.variant = one_of(self.prefix, parameter, ("channels",))

    @property
    def name(self) -> str:
        return self.prefix if self.variant is None else f"{self.prefix}:{self.variant}"

    @property
    def phrase(self) -> str:
        return f"a trainer who {'whitens their colours' if self.variant is None else 'normalises their channels'}"

    def transform(self, images: Pixels) -> Pixels:
        return in_blocks(images, lambda batch, _: whitened(batch, channels=self.variant == "channels"))
