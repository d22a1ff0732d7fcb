"""A data set of torchvision that hands out protected pictures, in a DataLoader: ``python samples/dataset_api.py``.

``ImageSet.from_dataset`` takes data sets of Hugging Face, too, and any map-style one of torch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from tiny_pictures import write
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from bitterant import ImageSet, ProtectedDataset, RandomNoise


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        # To tensors and no more: augmentation comes after the protection, in the training loop or in collate_fn.
        pictures = ImageFolder(write(Path(place) / "pictures"), transform=v2.PILToTensor())

        # Random noise is a placebo that keeps this sample short; take ErrorMinimizing or BayesErrorAscent. A pattern a
        # picture serves the pictures of the fit alone, which are found by their content.
        bank = RandomNoise(granularity="sample", seed=0).fit(ImageSet.from_dataset(pictures))
        protected = ProtectedDataset(pictures, bank)

        seen, change = 0, 0
        for number, (images, _labels) in enumerate(DataLoader(protected, batch_size=16, num_workers=1)):
            originals = torch.stack([pictures[16 * number + row][0] for row in range(len(images))])
            change = max(change, int((images.int() - originals.int()).abs().max()))
            seen += len(images)
    print(f"{seen} protected pictures from a DataLoader; largest change: {change} levels.")


if __name__ == "__main__":
    main()
