"""Protect tensors, without any folder: ``python samples/batch_api.py``.

For data that lives in memory or in a format of your own. Perturbations are tied to keys, never to positions.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from bitterant import Budget, ErrorMinimizing, ImageSet, load_bank


def main() -> None:
    # Float images [N, 3, R, R] in [0, 1] and integer labels [N]; here four classes of noisy gratings.
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(128) % 4
    wave = torch.sin(torch.arange(32) * (labels[:, None] + 1) * 0.4)
    images = (0.5 + 0.2 * wave[:, None, None, :] + 0.1 * torch.randn(128, 3, 32, 32, generator=generator)).clamp(0, 1)
    images = (images * 255).round() / 255  # as decoded from 8-bit files
    data = ImageSet.from_tensors(images, labels, classes=["a", "b", "c", "d"])

    # Few rounds keep this script short. By default there are more, and crafting starts again while a fresh victim still
    # learns too much.
    method = ErrorMinimizing(
        budget=Budget.from_levels(8), granularity="class", seed=0, preset="fast", rounds=8, attempts=0
    )
    bank = method.fit(data)

    protected = bank.apply_set(images, data.keys)
    change = float((protected - images).abs().max()) * 255
    print(f"{len(protected)} images protected; the largest change is {change:.2f} of 255 levels.")

    # A bank is a file. Keep it private: whoever has it can subtract the noise.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.safetensors"
        bank.save(path)
        again = load_bank(path).apply(images[0], data.keys[0])
    print("The same image from the saved bank:", "equal" if torch.equal(again, protected[0]) else "different")


if __name__ == "__main__":
    main()
