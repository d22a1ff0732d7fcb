"""Draws the documentation's picture from what ``bitterant demo`` wrote: ``python samples/make_figures.py [FOLDER]``.

Three rows: originals, protected copies, and the difference amplified ten times (grey is no change).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from bitterant.imaging import decode, difference_tile
from bitterant.protect import MANIFEST_NAME, read_manifest

SHOWN = ("houses", "leaves", "rings", "suns", "waves")
SIDE, GAP, GAIN = 176, 8, 10
TARGET = Path(__file__).resolve().parents[1] / "docs" / "images" / "before-after.png"


def main() -> None:
    demo = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("bitterant-demo")
    clean, protected = demo / "pictures", demo / "pictures-protected"
    rows = [row for row in read_manifest(protected / MANIFEST_NAME).rows if row.status == "protected" and row.output]
    if not rows:
        sys.exit(f"There is no protected folder in {demo}. Run first: bitterant demo --output {demo}")
    side = GAP + SIDE
    sheet = np.full((3 * side + GAP, len(SHOWN) * side + GAP, 3), 255, dtype=np.uint8)
    for column, name in enumerate(SHOWN):
        row = max((row for row in rows if row.source.startswith(f"{name}/")), key=lambda row: row.width or 0)
        before, after = (square(decode(path).rgb8()) for path in (clean / row.source, protected / str(row.output)))
        for line, tile in enumerate((before, after, difference_tile(before, after, gain=GAIN))):
            top, left = GAP + line * side, GAP + column * side
            sheet[top : top + SIDE, left : left + SIDE] = tile
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(TARGET, optimize=True)
    print(TARGET)


def square(pixels: np.ndarray) -> np.ndarray:
    """The middle, made ``SIDE`` pixels wide without smoothing, so that the noise stays what it is."""
    edge = min(pixels.shape[:2])
    top, left = ((length - edge) // 2 for length in pixels.shape[:2])
    cut = Image.fromarray(pixels[top : top + edge, left : left + edge])
    return np.asarray(cut.resize((SIDE, SIDE), Image.Resampling.NEAREST))


if __name__ == "__main__":
    main()
