"""The pictures of the other samples: two classes of small gratings, drawn here, as tensors or as files."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

__all__ = ["CLASSES", "draw", "write"]

CLASSES = ("lying", "standing")


def draw(count: int = 40, side: int = 32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """uint8 ``[N, 3, side, side]`` and labels ``[N]``: waves that run down or across, in noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = torch.sin(torch.arange(side) * 0.7 + 6.3 * torch.rand(count, 1, generator=generator))
    down, across = (wave[:, None, :, None], wave[:, None, None, :])
    shapes = torch.where(labels.view(-1, 1, 1, 1) == 0, down, across)
    noise = torch.randn(count, 3, side, side, generator=generator)
    return ((0.5 + 0.2 * shapes + 0.1 * noise).clamp(0, 1) * 255).round().to(torch.uint8), labels


def write(folder: Path, count: int = 40, side: int = 32, seed: int = 0) -> Path:
    """The same as PNG files in two class folders."""
    for number, (image, label) in enumerate(zip(*draw(count, side, seed), strict=True)):
        place = folder / CLASSES[int(label)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{number:03d}.png")
    return folder
