"""What of a perturbation the files of a set can hold: one channel in greys, nothing where nobody sees a pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

__all__ = ["Origin", "Writable"]


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that an image was read from, and the format that its copy will have.

    Attributes:
        path: of the original.
        encoder: Pillow's name of the format; ``JPEG`` loses something, all others nothing.
    """

    path: Path
    encoder: str = "PNG"


@dataclass(frozen=True)
class Writable:
    """What :func:`..perturb.add_delta` leaves of perturbations, picture by picture, before it clips and rounds.

    Calling it gives what is left. That is linear and its own adjoint, so a gradient goes back through it likewise.

    Attributes:
        grey: bool ``[N]``, pictures without colour: all channels change alike.
        opaque: uint8 ``[N, R, R]``, the share in 255ths of each place that is not fully transparent; ``None`` where
            all of every picture can be seen.
    """

    grey: Tensor
    opaque: Tensor | None = None

    def __call__(self, delta: Tensor) -> Tensor:
        """What of perturbations ``[N, 3, R, R]``, float, a row a picture, gets into the files."""
        delta = self.grey_in_greys(delta)
        return delta if self.opaque is None else delta * (self.opaque.unsqueeze(1) / 255.0)

    def grey_in_greys(self, delta: Tensor) -> Tensor:
        """The same perturbations with equal channels for the pictures that have no colour."""
        if not bool(self.grey.any()):
            return delta
        level = delta.mean(dim=1, keepdim=True).expand_as(delta)
        return torch.where(self.grey.view(-1, 1, 1, 1), level, delta)

    def select(self, index: Tensor | slice) -> Writable:
        """That of the pictures at these positions."""
        if isinstance(index, Tensor):
            index = index.to(self.grey.device)
        return replace(self, grey=self.grey[index], opaque=None if self.opaque is None else self.opaque[index])

    def to(self, device: torch.device | str) -> Writable:
        """The same on a device."""
        return Writable(self.grey.to(device), None if self.opaque is None else self.opaque.to(device))

    @classmethod
    def of(cls, grey: Sequence[bool], opaque: Sequence[np.ndarray | None], resolution: int) -> Writable | None:
        """That of pictures one by one; ``None`` where everything can be written.

        Args:
            grey: whether each has no colour.
            opaque: as :func:`..resize.opacity` gives it.
            resolution: R in px.
        """
        if not any(grey) and all(mask is None for mask in opaque):
            return None
        masks = None
        if any(mask is not None for mask in opaque):
            masks = torch.full((len(opaque), resolution, resolution), 255, dtype=torch.uint8)
            for row, mask in enumerate(opaque):
                if mask is not None:
                    masks[row] = torch.from_numpy(mask)
        return cls(torch.tensor(list(grey), dtype=torch.bool), masks)
