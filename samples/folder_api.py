"""Fit on a folder, protect a whole batch of tensors: ``python samples/folder_api.py``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from tiny_pictures import write

from bitterant import Budget, ImageSet, Texture


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = write(Path(place) / "pictures")  # your own pictures go here: one folder for each class
        data = ImageSet.from_folder(folder)

    # Any method does. This one needs neither a surrogate nor time.
    bank = Texture(budget=Budget.from_levels(8), seed=0).fit(data)
    protected = bank.apply_set(data.images, data.keys)

    change = (protected.int() - data.images.int()).abs().max()
    print(f"{len(data)} pictures at {data.resolution} px: {', '.join(data.classes)}; largest change: {change} levels.")


if __name__ == "__main__":
    main()
