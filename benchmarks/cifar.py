"""CIFAR-10 from one npz file of JPEG bytes (``blob``, ``offsets``, ``y_train``, ``y_test``), as tensors or PNG folders.

The copy we measure on was compressed once at quality 75: figures are relative, not comparable with papers.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

_VARIABLE = "BITTERANT_CIFAR"
DEFAULT_FILE = Path(os.environ[_VARIABLE]) if os.environ.get(_VARIABLE) else None
"""What ``--data`` is where it is left out."""


class Cifar:
    """Draws reproducible subsets: subset ``s`` is the first ``n`` of a permutation of the training or test part, each
    with a seed of its own. The parts are as large as the file says: 50,000 and 10,000, or less in a trial.

    Raises:
        SystemExit: there is no such file, with what to do about it.
    """

    def __init__(self, file: Path | None = DEFAULT_FILE) -> None:
        if file is None or not file.is_file():
            missing = "No file of CIFAR-10 was named." if file is None else f"There is no file {file}."
            raise SystemExit(
                f"{missing} Give one with --data, or set {_VARIABLE}: an npz file of JPEG bytes, with blob, offsets, "
                "y_train, y_test and classes."
            )
        with np.load(file, allow_pickle=False) as data:
            self._blob = data["blob"].tobytes()
            self._offsets = data["offsets"]
            self._parts = len(data["y_train"]), len(data["y_test"])
            self._labels = torch.from_numpy(np.concatenate([data["y_train"], data["y_test"]]).astype(np.int64))
            self.classes = tuple(str(name) for name in data["classes"])

    def train(self, subset: int, count: int) -> tuple[Tensor, Tensor]:
        """uint8 ``[count, 3, 32, 32]`` and labels."""
        return self._take(_draw(subset, self._parts[0], count, 0))

    def test(self, subset: int, count: int) -> tuple[Tensor, Tensor]:
        """The same from the test part."""
        return self._take(_draw(subset, self._parts[1], count, 1) + self._parts[0])

    def _take(self, index: Tensor) -> tuple[Tensor, Tensor]:
        rows = []
        for i in index.tolist():
            with Image.open(io.BytesIO(self._blob[self._offsets[i] : self._offsets[i + 1]])) as picture:
                rows.append(np.asarray(picture.convert("RGB")))
        return torch.from_numpy(np.stack(rows)).permute(0, 3, 1, 2).contiguous(), self._labels[index]

    def write_folder(self, root: Path, images: Tensor, labels: Tensor) -> Path:
        """PNG files ``root/class/number.png``; an existing folder is left as it is."""
        if not root.exists():
            for number, (image, label) in enumerate(zip(images, labels.tolist(), strict=True)):
                folder = root / self.classes[label]
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{number:05d}.png")
        return root


def _draw(subset: int, total: int, count: int, part: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + 10 * subset + part)
    return torch.randperm(total, generator=generator)[:count]
