"""Draws the sample pictures again: ``python samples/make_samples.py [FOLDER] [PICTURES_A_CLASS]``.

The pictures are procedural: ten classes told apart by shape, with colours, light, size and place left to chance.
The same seed draws the same pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from bitterant.cli.demo_pictures import CLASSES, write_pictures


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "pictures"
    per_class = int(sys.argv[2]) if len(sys.argv) > 2 else 8
    count = write_pictures(folder, per_class=per_class, seed=0)
    print(f"{count} pictures of {len(CLASSES)} classes in {folder}")


if __name__ == "__main__":
    main()
