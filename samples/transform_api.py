"""Protection as a transform of torchvision, on batches with their labels: ``python samples/transform_api.py``."""

from __future__ import annotations

from typing import Any

import torch
from tiny_pictures import CLASSES, draw
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision.transforms import v2

from bitterant import ImageSet, Protect, Texture

IMAGES, LABELS = draw()
BANK = Texture(seed=0).fit(ImageSet.from_tensors(IMAGES, LABELS, classes=CLASSES))

# Before all augmentation, and with the labels: textures are those of classes.
PROTECT = Protect(BANK, classes=CLASSES)
PIPELINE = v2.Compose([PROTECT, v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)])


def collate(items: list[Any]) -> Any:
    """A batch, protected and then augmented."""
    return PIPELINE(*default_collate(items))


def main() -> None:
    loader = DataLoader(TensorDataset(IMAGES, LABELS), batch_size=10, collate_fn=collate)
    shapes = {tuple(images.shape) for images, _ in loader}
    print(f"{len(loader)} batches of shape {shapes.pop()}, protected by {PROTECT}.")


if __name__ == "__main__":
    main()
