"""What a file does to a perturbation: up to the picture's own size, and back down when a trainer shrinks it.

Both resizes are linear and separable, so together they are one small matrix on each side of the perturbation. At a
working resolution of 64 px and pictures of 160 px a pattern of two pixels keeps a third of its strength, one of eight
nine tenths (the whole matters little: 100 or 3,000 px give the same to a hundredth). Noise crafted as if it reached
the trainer untouched puts its strength where the file loses it; crafted through the round trip it does not.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...imaging import ImageSet, upsample_delta

__all__ = ["RoundTrip"]


class RoundTrip:
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
    def of(cls, dataset: ImageSet) -> RoundTrip | None:
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
