"""What a file does to a perturbation, and pictures as a trainer reads them: what is judged is what is written.

**Sizes** (:class:`ResizeOperator`): up to the picture's own size, and back down when a trainer shrinks it. Both resizes
are linear and separable, so together they are one small matrix on each side of the perturbation. At a working
resolution of 64 px and pictures of 160 px a pattern of two pixels keeps a third of its strength, one of eight nine
tenths (the whole matters little: 100 or 3,000 px give the same to a hundredth). Noise crafted as if it reached the
trainer untouched puts its strength where the file loses it; crafted through both resizes it does not.

**Files** (:class:`WrittenCopies`): where they are known, each is read again, perturbed by the very function that the
writer uses, saved where saving loses something, and shrunk. Only so do the figures know of a bit depth, of channels
that are not there, of transparent places, and of pixels that are black or white already at full size, which cannot be
seen in the shrunken picture.

**Colours** (:class:`TintBound`): a bound on the slow ones, casts and large stains, which the eye sees before all else.
It resolves colour far more coarsely than brightness, and is most sensitive to it at the lowest frequencies (Mullen,
*The contrast sensitivity of human colour vision to red-green and blue-yellow chromatic gratings*, J. Physiol. 359,
1985). A pattern crafted for networks alone puts much of its strength just there.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...errors import ConfigError, ImageError
from ...imaging import Budget, ImageSet, add_delta, decode, encode, squash, upsample_delta
from ...imaging.image_set import Origin

_PASSES = 4


class TintBound:
    """Holds the colour of a perturbation, as far as it varies slowly over the frame, within some levels.

    A perturbation is its mean over the channels (brightness) and the rest (colour). The slow part of the colour is its
    projection on the lowest cosines of a DCT in each direction: the mean over the frame is the first of them. Where
    that part exceeds the bound anywhere, it is scaled down, which leaves brightness and all finer colour as they were.

    Args:
        resolution: side R of the perturbations.
        levels: largest slow colour crop of any channel of any pixel, in 1/255 of the full range; 0 removes it.
        device: where the perturbations are.
        cosines: how many of the lowest frequencies count as slow, in each direction; 4 go up to one and a half waves
            over the frame. As many as the resolution leave no colour at all.

    Raises:
        ConfigError: a value out of range.
    """

    def __init__(self, resolution: int, levels: float, device: torch.device | str = "cpu", *, cosines: int = 4) -> None:
        if not (levels >= 0 and cosines >= 1):
            raise ConfigError(f"tint must be a number of levels from 0, not {levels:g}, of at least one cosine.")
        self._limit = levels / 255
        count = min(cosines, resolution)
        places = (torch.arange(resolution, dtype=torch.float64) + 0.5) * (math.pi / resolution)
        waves = torch.cos(torch.arange(count, dtype=torch.float64)[:, None] * places)
        waves /= waves.norm(dim=1, keepdim=True)
        self._slow = (waves.T @ waves).float().to(device)

    def slow_colour(self, delta: Tensor) -> Tensor:
        """The slow part of the colour of ``delta [..., 3, R, R]``, of the same shape; its channels sum to 0."""
        colour = delta - delta.mean(dim=-3, keepdim=True)
        return self._slow @ colour @ self._slow

    def __call__(self, delta: Tensor, epsilon: float) -> Tensor:
        """The nearest perturbation within both bounds, or nearly: alternating projections, a few times.

        Args:
            delta: float ``[..., 3, R, R]`` in units of the full range.
            epsilon: bound on every value, in the same units; it holds exactly.

        Returns:
            A new tensor.
        """
        for _ in range(_PASSES):
            slow = self.slow_colour(delta)
            most = slow.abs().amax(dim=(-3, -2, -1), keepdim=True)
            excess = 1 - (self._limit / most.clamp(min=1e-12)).clamp(max=1)
            delta = (delta - excess * slow).clamp(-epsilon, epsilon)
        return delta


class ResizeOperator:
    """``delta -> H delta W^T`` with the matrices of one picture size.

    Args:
        resolution: working resolution R in px.
        native: height and width of the pictures in px.
        device: where the perturbations are.
    """

    def __init__(self, resolution: int, native: tuple[int, int], device: torch.device | str = "cpu") -> None:
        self.rows = _matrix(resolution, native[0]).to(device)
        self.columns = _matrix(resolution, native[1]).to(device)

    def __call__(self, delta: Tensor) -> Tensor:
        """What of ``delta [..., R, R]`` a trainer sees at resolution R, of the same shape."""
        return self.rows @ delta @ self.columns.T

    def adjoint(self, gradient: Tensor) -> Tensor:
        """The gradient with respect to ``delta`` of a function of what the trainer sees."""
        return self.rows.T @ gradient @ self.columns

    @classmethod
    def of(cls, dataset: ImageSet) -> ResizeOperator | None:
        """That of a data set's typical picture; ``None`` where the pictures have the working resolution themselves."""
        side = dataset.resolution
        if dataset.native_size is None or dataset.native_size == (side, side):
            return None
        return cls(side, dataset.native_size, dataset.images.device)


@lru_cache(maxsize=16)
def _matrix(resolution: int, native: int) -> Tensor:
    """``[R, R]``: bilinear to ``native``, antialiased bilinear back, as imaging's upsample_delta and squash do."""
    basis = np.eye(resolution, dtype=np.float32)[:, :, None]
    up = torch.from_numpy(np.ascontiguousarray(upsample_delta(basis, native, resolution)[:, :, 0]))[None, None]
    if native == resolution:
        return up[0, 0]
    return F.interpolate(up, (resolution, resolution), mode="bilinear", antialias=True, align_corners=False)[0, 0]


_PART: Final = 256  # rows of perturbations in memory at once
_THREADS: Final = 4  # Pillow works outside the interpreter lock


class WrittenCopies:
    """Makes the copies of a set.

    Args:
        dataset: the clean images, on the CPU. Where its ``origins`` are known, the files are read again; otherwise
            the images are taken as they are in memory.
        budget: what the perturbations are rounded within.
    """

    def __init__(self, dataset: ImageSet, budget: Budget) -> None:
        self._dataset, self._budget, self._resize = dataset, budget, ResizeOperator.of(dataset)

    def __call__(
        self, rows: Tensor, delta_of: Callable[[Tensor], Tensor], tell: Callable[[float], None] | None = None
    ) -> Tensor:
        """The copies of some images.

        Args:
            rows: positions int64 ``[B]``.
            delta_of: positions ``[b]`` -> perturbations ``[b, 3, R, R]`` as a bank holds them, in units of the full
                range.
            tell: called along the way with the share done.

        Returns:
            uint8 ``[B, 3, R, R]`` on the CPU.
        """
        side = self._dataset.resolution
        copies = torch.empty((len(rows), 3, side, side), dtype=torch.uint8)
        with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1), thread_name_prefix="bitterant-written") as pool:
            for places in torch.arange(len(rows)).split(_PART):
                part = rows[places]
                levels = self._budget.quantise(self._budget.project(delta_of(part).float().cpu()))
                copies[places] = self._in_memory(part, levels)
                if self._dataset.origins is not None:
                    origins = [self._dataset.origins[row] for row in part.tolist()]
                    for place, copy in zip(places.tolist(), pool.map(self._on_disk, origins, levels), strict=True):
                        if copy is not None:
                            copies[place] = torch.from_numpy(copy).permute(2, 0, 1)
                        if tell is not None:
                            tell(place / len(rows))
        return copies

    def _in_memory(self, rows: Tensor, levels: Tensor) -> Tensor:
        arrived = levels.float() if self._resize is None else self._resize(levels.float())
        if self._dataset.writable is not None:
            arrived = self._dataset.writable.select(rows)(arrived)
        return (self._dataset.images[rows].float() + arrived.round()).clamp_(0, 255).to(torch.uint8)

    def _on_disk(self, origin: Origin, levels: Tensor) -> np.ndarray | None:
        """uint8 ``[R, R, 3]``; ``None`` where the file cannot be read any more, which the writer will report."""
        try:
            picture = decode(origin.path)
            copy = add_delta(picture, levels.permute(1, 2, 0).float().numpy(), self._budget)
            if origin.encoder == "JPEG":
                copy = decode(encode(copy, format="JPEG"))
        except (ImageError, OSError):
            return None
        return squash(copy, self._dataset.resolution)
