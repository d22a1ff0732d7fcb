"""Draws the pictures of docs/app.md: the page of ``bitterant app`` at work on drawn sample pictures.

    python docs/app_pictures.py [DIR]

DIR is docs/images where it is left out. Needs the extras ``app`` and ``dev``, chromium and chromedriver.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.keys import Keys

from ..cli.demo_pictures import write_pictures

COLOURS = 128
FLAGS = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync hide-scrollbars"
)


def browser(profile: Path, width: int, height: int, *, dark: bool = False) -> Any:
    """A browser of that size that nobody sees."""
    options = webdriver.ChromeOptions()
    for flag in (*FLAGS.split(), f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.binary_location = shutil.which("chromium") or "chromium"
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
    screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    look = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": look})
    return driver


def until(condition: Callable[[], Any], seconds: float = 600) -> Any:
    """Wait for something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := condition():
                return found
        except WebDriverException:
            pass
        time.sleep(0.2)
    raise SystemExit("The page did not come so far.")


def see(driver: Any, words: str) -> None:
    """Wait until something can be read."""
    until(lambda: words in driver.find_element("tag name", "body").text)


def press(driver: Any, label: str) -> None:
    """Press the button of that name."""
    buttons = [b for b in driver.find_elements("css selector", "button") if b.is_displayed() and b.text == label]
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", buttons[0])


def keep(driver: Any, name: str, place: Path, *, top: int = 0, height: int | None = None) -> None:
    """Keep a piece of the page, with few colours."""
    time.sleep(0.5)
    driver.execute_script("document.activeElement.blur(); window.scrollTo(0, arguments[0])", top)
    time.sleep(0.5)
    target = place / f"{name}.png"
    driver.save_screenshot(str(target))
    with Image.open(target) as shot:
        piece = shot.convert("RGB").crop((0, 0, shot.width, height or shot.height))
    piece.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


def top_of(driver: Any, selector: str) -> int:
    """Where a part of the page begins, in pixels from its top."""
    script = "return Math.round(document.querySelector(arguments[0]).getBoundingClientRect().top + window.scrollY)"
    return int(driver.execute_script(script, selector))


def main(place: Path) -> None:
    """Draw them all."""
    place.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as work:
        folder = Path(work) / "holidays"
        write_pictures(folder, per_class=30, seed=0)
        command = [sys.executable, "-m", "bitterant", "app", "--no-browser"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        assert found is not None
        wide = browser(Path(work) / "wide", 1000, 1000)
        try:
            wide.get(found[0])
            see(wide, "Choose a folder")
            wide.find_element("css selector", "#step-1 input").send_keys(str(folder), Keys.ENTER)
            until(lambda: len(wide.find_elements("css selector", "#preview img")) == 9)
            keep(wide, "app-strength", place, top=top_of(wide, "#step-2") - 16, height=860)
            press(wide, "Make the copies")
            see(wide, "Start the test")
            press(wide, "Start the test")
            see(wide, "Open the full report")
            keep(wide, "app-verdict", place, top=top_of(wide, "#step-4") - 16, height=640)
            phone = browser(Path(work) / "phone", 375, 780, dark=True)
            phone.get(found[0])
            see(phone, "Choose how strong")
            keep(phone, "app-phone", place, top=top_of(phone, "#step-2") - 16)
            phone.quit()
        finally:
            wide.quit()
            process.send_signal(signal.SIGINT)
            process.wait(90)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "images")
