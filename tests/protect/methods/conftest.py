"""Tiny labelled sets that a small network learns in a second."""

from __future__ import annotations

import pytest
import torch

from bitterant.imaging import ImageSet


def make_set(per_class: int = 12, classes: int = 3, side: int = 16, seed: int = 0, contrast: float = 0.5) -> ImageSet:
    """Noisy gradients, one direction a class, in random colours: learnable, and not by colour."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(per_class * classes) % classes
    ramp = torch.linspace(0, 1, side)
    shapes = torch.stack([ramp.view(1, -1).expand(side, side), ramp.view(-1, 1).expand(side, side),
                          (ramp.view(1, -1) + ramp.view(-1, 1)) / 2])[labels % 3]  # fmt: skip
    colour = torch.rand(len(labels), 3, 1, 1, generator=generator)
    noise = 0.1 * torch.rand(len(labels), 3, side, side, generator=generator)
    images = (0.3 + contrast * shapes.unsqueeze(1) * colour + noise).clamp(0, 1)
    return ImageSet.from_tensors(images, labels, classes=[f"c{i}" for i in range(classes)])


@pytest.fixture(scope="session")
def tiny() -> ImageSet:
    return make_set()


@pytest.fixture(scope="session")
def faint() -> ImageSet:
    """The same task at a contrast at which eight levels of noise can compete."""
    return make_set(per_class=24, contrast=0.12)
