"""Pictures with a perturbation on them as a trainer reads them: what is judged is what is written.

Where the files are known, each is read again, perturbed by the very function that the writer uses, saved where saving
loses something, and shrunk. Only so do the figures know of a bit depth, of channels that are not there, of transparent
places, and of pixels that are black or white already at full size, which cannot be seen in the shrunken picture.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import numpy as np
import torch
from torch import Tensor

from ...errors import ImageError
from ...imaging import Budget, ImageSet, add_delta, decode, encode, squash
from ...imaging.writable import Origin
from .round_trip import RoundTrip

__all__ = ["WrittenCopies"]

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
        self._dataset, self._budget, self._trip = dataset, budget, RoundTrip.of(dataset)

    def __call__(self, rows: Tensor, delta_of: Callable[[Tensor], Tensor]) -> Tensor:
        """The copies of some images.

        Args:
            rows: positions int64 ``[B]``.
            delta_of: positions ``[b]`` -> perturbations ``[b, 3, R, R]`` as a bank holds them, in units of the full
                range.

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
                if self._dataset.origins is None:
                    continue
                origins = [self._dataset.origins[row] for row in part.tolist()]
                for place, copy in zip(places.tolist(), pool.map(self._on_disk, origins, levels), strict=True):
                    if copy is not None:
                        copies[place] = torch.from_numpy(copy).permute(2, 0, 1)
        return copies

    def _in_memory(self, rows: Tensor, levels: Tensor) -> Tensor:
        arrived = levels.float() if self._trip is None else self._trip(levels.float())
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
