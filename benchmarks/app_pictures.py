"""Draws the pictures of docs/app.md: the page of ``bitterant app`` at work on drawn sample pictures.

    python benchmarks/app_pictures.py [DIR]

DIR is docs/images where it is left out. Needs the extras ``app`` and ``dev``, chromium and chromedriver.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from five_minutes import opened, served

from bitterant.cli.demo_pictures import write_pictures


def main(place: Path) -> None:
    """Draw them all."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work, served() as address:
        folder = Path(work) / "holidays"
        write_pictures(folder, per_class=30, seed=0)
        with opened(Path(work) / "wide", 1000) as wide:
            wide.driver.get(address)
            wide.see("Choose a folder")
            wide.driver.find_element("css selector", "#step-1 input").send_keys(str(folder))
            wide.press("Look inside")
            wide.count("#preview img", 9)
            wide.until(lambda: wide.complete)
            wide.keep(place / "app-strength.png", top=wide.top_of("#step-2") - 16, height=860)
            wide.press("Make the copies")
            wide.see("Start the test")
            wide.press("Start the test")
            wide.see("Open the full report")
            wide.keep(place / "app-verdict.png", top=wide.top_of("#step-4") - 16, height=640)
        with opened(Path(work) / "phone", 375, dark=True) as phone:
            phone.driver.get(address)
            phone.see("Choose how strong")
            phone.until(lambda: phone.complete)
            phone.keep(place / "app-phone.png", top=phone.top_of("#step-2") - 16, height=780)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1] / "docs" / "images")
