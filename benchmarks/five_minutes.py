"""A stranger's first five minutes: phone pictures in one folder, through the two commands and through the window.

    python benchmarks/five_minutes.py OUT [--photos DIR] [--pictures 60] [--only commands|window]

OUT/photos is drawn: JPEG files lying on their side with the orientation beside them, HEIC files, a video of a Live
Photo, a screenshot with alpha, and a file that was cut off. ``protect`` and ``verify`` get a terminal of 80 columns,
the window a headless Chromium: light, dark, and as wide as a phone. OUT/terminal.txt and OUT/screens hold what a
person sees. Exit code 1 where a line is wider than the terminal, a traceback shows, a page can be pushed sideways, a
word of it is cut, or the browser complains. Needs the extras ``app``, ``heif`` and ``dev``, chromium, chromedriver, and
POSIX.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

COLUMNS: Final = 80
PHONE: Final = 390
COLOURS: Final = 128
ORIENTATIONS: Final = (1, 6, 8, 3)
_FLAGS: Final = (
    "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update "
    "disable-sync hide-scrollbars"
)
#: What acts on a terminal and shows nothing.
_CONTROL: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07]*\x07")
#: Texts that a person can see only a part of; a box that scrolls shows all of it.
_CUT: Final = """
return [...document.querySelectorAll('body *')].filter(e => e.children.length == 0 && e.textContent.trim() &&
  e.offsetParent && e.tagName != 'OPTION' && e.scrollWidth > e.clientWidth + 1 && e.clientWidth > 1 &&
  getComputedStyle(e).overflowX == 'hidden').map(e => e.textContent.trim().slice(0, 60))
"""


# ---------------------------------------------------------------------- the folder
def scene(number: int, width: int = 640, height: int = 480) -> Image.Image:
    """Something like a photo: a sky, hills, and by ``number`` a few suns, fences or houses, with grain."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    sky, ground = rng.uniform(100, 220, 3), rng.uniform(40, 140, 3)
    line = height * (0.55 + 0.08 * np.sin(x / width * rng.uniform(3, 9) + rng.uniform(0, 6)))
    fade = (y / height)[..., None]
    pixels = np.where((y < line)[..., None], sky * (1.1 - 0.5 * fade), ground * (0.6 + 0.5 * fade))
    picture = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    colour = tuple(int(c) for c in rng.integers(30, 230, 3))
    for _ in range(4):
        a, b, s = rng.uniform(0, width), rng.uniform(0.2, 0.8) * height, rng.uniform(0.08, 0.16) * width
        if number % 3 == 0:
            draw.ellipse([a - s, b - s, a + s, b + s], fill=colour)
        elif number % 3 == 1:
            for step in range(6):
                draw.rectangle([a + step * s / 2, b, a + step * s / 2 + s / 6, b + s], fill=colour)
        else:
            draw.rectangle([a, b, a + s, b + s], fill=colour)
            draw.polygon([(a - s / 5, b), (a + s / 2, b - s / 2), (a + 1.2 * s, b)], fill=colour)
    grain = rng.normal(0, 3, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(picture) + grain, 0, 255).astype(np.uint8))


def from_camera(picture: Image.Image, orientation: int, path: Path) -> None:
    """Save as a phone does: the pixels as the sensor lay, and beside them how to turn them."""
    turn = {1: None, 3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = orientation, "Example", "Phone 1"
    lying = turn[orientation]
    stored = picture if lying is None else picture.transpose(lying)
    if path.suffix == ".HEIC":
        try:
            heif = importlib.import_module("pillow_heif")
        except ImportError:
            raise SystemExit('HEIC files are written by an extra: pip install "bitterant[heif]"') from None
        heif.from_pillow(stored).save(path, quality=90, exif=exif.tobytes())
    else:
        stored.save(path, "JPEG", quality=92, exif=exif)


def draw_phone(folder: Path, count: int, photos: Path | None = None) -> None:
    """A folder as it comes off a phone, with ``count`` pictures; of ``photos``, where given, else drawn."""
    folder.mkdir(parents=True)
    given = sorted(p for p in photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")) if photos else []
    for number in range(count):
        if given:
            with Image.open(given[number * len(given) // count]) as found:
                picture = found.convert("RGB").resize((found.width * 4, found.height * 4), Image.Resampling.BICUBIC)
        else:
            picture = scene(number)
        name = f"IMG_{2001 + number}"
        if number % 5 == 4:
            from_camera(picture, 1, folder / f"{name}.HEIC")
        else:
            from_camera(picture, ORIENTATIONS[number % 4], folder / f"{name}.JPG")
        if number == 4:
            video = b"\x00\x00\x00\x14ftypqt  \x00\x00\x00\x00qt  " + bytes(400)
            (folder / f"{name}.MOV").write_bytes(video)
    screen = scene(count, 390, 844).convert("RGBA")
    screen.putalpha(Image.linear_gradient("L").resize(screen.size).point([max(v, 128) for v in range(256)]))
    screen.save(folder / "Screenshot 2026-05-01 at 09.41.00.png")
    whole = (folder / "IMG_2001.JPG").read_bytes()
    (folder / "IMG_2001 copy.JPG").write_bytes(whole[: len(whole) // 3])
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")


# ---------------------------------------------------------------------- the commands
def in_terminal(words: Sequence[str], folder: Path, columns: int = COLUMNS) -> tuple[int, str]:
    """Run a command on a terminal of that width.

    Returns:
        Its exit code, and what a person reads when it is done: lines that were drawn over are left out.
    """
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment)
    os.close(theirs)
    parts = []
    with contextlib.suppress(OSError):  # the other end is closed
        while data := os.read(ours, 65536):
            parts.append(data)
    os.close(ours)
    return process.wait(), screen_of(b"".join(parts).decode("utf-8", "replace"))


def screen_of(drawn: str) -> str:
    """What is left on a terminal: up, carriage return and erase are followed, colours dropped."""
    lines, row, column = [""], 0, 0
    for piece in re.split(r"(\x1b\[[0-9;?]*[A-Za-z]|\r|\n)", drawn):
        if piece == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif piece == "\r":
            column = 0
        elif piece.startswith("\x1b[") and piece.endswith("A"):
            row = max(0, row - int(piece[2:-1] or 1))
        elif piece.startswith("\x1b[") and piece.endswith("K"):
            lines[row] = "" if piece[2:-1] == "2" else lines[row][:column]
        else:
            piece = _CONTROL.sub("", piece)
            lines[row] = lines[row][:column].ljust(column) + piece + lines[row][column + len(piece) :]
            column += len(piece)
    return "\n".join(line.rstrip() for line in lines).strip("\n") + "\n"


def faults_of_text(text: str, columns: int = COLUMNS) -> list[str]:
    """What a person should not meet in a terminal. A single word, such as a path, may be as long as it is."""
    faults = []
    for line in text.splitlines():
        if len(line) > columns and max(map(len, line.split())) < columns - 24 and not line.startswith("Next:"):
            faults.append(f"wider than {columns} columns: {line}")
        if re.search(r"Traceback|\bNone\b|\bnan\b|0\.0 pictures a second", line):
            faults.append(f"not for people: {line}")
    return faults


def run_commands(out: Path, photos: Path, preset: str = "smoke") -> list[str]:
    """``protect``, what it says comes next, and ``publish``; OUT/terminal.txt holds all of it."""
    faults, copies = [], photos.with_name(f"{photos.name}-protected").name  # where the window looks for them
    with (out / "terminal.txt").open("w", encoding="utf-8") as kept:

        def typed(*words: str) -> str:
            code, text = in_terminal([sys.executable, "-m", "bitterant", *words], out)
            told = f"$ bitterant {shlex.join(words)}\n{text}(exit code {code})\n"
            print(told, flush=True)
            kept.write(told + "\n")
            faults.extend(faults_of_text(text))
            if code not in (0, 1, 5):  # single files may fail, and a small test may be too small to say anything
                faults.append(f"exit code {code}: bitterant {shlex.join(words)}")
            return text

        after = re.search(r"^Next: bitterant (.+)$", typed("protect", photos.name, copies), re.MULTILINE)
        if after is None:
            faults.append("protect does not say what comes next")
        else:
            words = shlex.split(after[1])  # inspect, where the pictures are too few to verify
            typed(*words, *(("--preset", preset) if words[0] == "verify" else ()))
        typed("publish", copies, "public")
    return faults


# ---------------------------------------------------------------------- the window
class Tab:
    """A browser with one tab that nobody sees."""

    def __init__(self, profile: Path, width: int, height: int = 1000, *, dark: bool = False) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        for flag in (*_FLAGS.split(), f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.binary_location = shutil.which("chromium") or "chromium"
        service = webdriver.ChromeService(shutil.which("chromedriver") or "chromedriver")
        self.driver = webdriver.Chrome(options=options, service=service)
        self.width = width
        self.size(height)
        look = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": look})

    def size(self, height: int) -> None:
        """The window's height; its width stays."""
        screen = {"width": self.width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)

    def until(self, condition: Callable[[], Any], seconds: float = 1200) -> Any:
        """Wait for something; elements may be drawn anew meanwhile."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(WebDriverException, IndexError):
                if found := condition():
                    return found
            time.sleep(0.2)
        raise SystemExit(f"The page did not come so far:\n{self.text}")

    @property
    def text(self) -> str:
        """What can be read."""
        return self.driver.find_element("tag name", "body").text

    def see(self, words: str) -> None:
        """Wait until something can be read."""
        self.until(lambda: words in self.text)

    @property
    def complete(self) -> bool:
        """Whether all pictures of the page have come."""
        return bool(self.driver.execute_script("return [...document.images].every(image => image.complete)"))

    def count(self, selector: str, number: int) -> None:
        """Wait for so many elements."""
        self.until(lambda: len(self.driver.find_elements("css selector", selector)) == number)

    def press(self, label: str) -> None:
        """Press the button of that name, once it can be pressed."""

        def button() -> Any:
            found = self.driver.find_elements("css selector", "button")
            return next(b for b in found if b.is_displayed() and b.is_enabled() and b.text.strip() == label)

        self.driver.execute_script(
            "arguments[0].scrollIntoView({block: 'center'}); arguments[0].click()", self.until(button)
        )

    def top_of(self, selector: str) -> int:
        """Where a part of the page begins, in pixels from its top."""
        script = "return Math.round(document.querySelector(arguments[0]).getBoundingClientRect().top + window.scrollY)"
        return int(self.driver.execute_script(script, selector))

    def keep(self, target: Path, *, top: int = 0, height: int | None = None) -> list[str]:
        """Keep the page, or a piece of it, as a picture of few colours.

        Returns:
            What is wrong with how the page is laid out.
        """
        self.driver.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
        whole = int(self.driver.execute_script("return document.documentElement.scrollHeight"))
        self.size(min(whole, 8000))
        time.sleep(1)
        self.driver.save_screenshot(str(target))
        wide = int(self.driver.execute_script("return document.documentElement.scrollWidth"))
        cut = self.driver.execute_script(_CUT)
        self.size(1000)
        with Image.open(target) as shot:
            piece = shot.convert("RGB").crop((0, top, shot.width, min(shot.height, top + (height or shot.height))))
        piece.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)
        pushed = [f"{target.name}: {wide} pixels wide on a screen of {self.width}"] if wide > self.width else []
        return pushed + [f"{target.name}: cut: {text}" for text in cut]

    def complaints(self) -> list[str]:
        """What the browser wrote into its console."""
        return [
            f"console: {entry['message']}" for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"
        ]


@contextlib.contextmanager
def opened(profile: Path, width: int, *, dark: bool = False) -> Iterator[Tab]:
    """A tab that is closed at the end."""
    tab = Tab(profile, width, dark=dark)
    try:
        yield tab
    finally:
        tab.driver.quit()


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The running window; yields its address."""
    words = [sys.executable, "-m", "bitterant", "app", "--no-browser"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        found = re.search(r"http://\S+", process.stderr.readline())
        if found is None:
            raise SystemExit("bitterant app gave no address.")
        yield found[0]
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(90)


def run_window(out: Path, photos: Path) -> list[str]:
    """The five steps of the page, each kept as pictures in OUT/screens."""
    screens, faults = out / "screens", []
    screens.mkdir(exist_ok=True)
    with served() as address, opened(out / "profiles" / "wide", 1100) as wide:
        wide.driver.get(address)
        wide.see("Choose a folder")
        faults += wide.keep(screens / "1-begin.png")
        wide.driver.find_element("css selector", "#step-1 input").send_keys(str(photos))
        wide.press("Look inside")
        wide.count("#preview img", 9)
        wide.until(lambda: "Seeing how long" not in wide.text)
        faults += wide.keep(screens / "2-folder.png")
        wide.press("Compare at full size")
        wide.until(lambda: wide.driver.find_elements("css selector", "#compare-cut"))
        faults += wide.keep(screens / "3-full-size.png")
        wide.press("Go to those copies" if "Go to those copies" in wide.text else "Make the copies")
        wide.see("Start the test")
        faults += wide.keep(screens / "4-copies.png")
        wide.press("Start the test")
        wide.see("Open the full report")
        faults += wide.keep(screens / "5-verdict.png")
        for name, width, dark in (("phone", PHONE, True), ("phone-light", PHONE, False), ("dark", 1100, True)):
            with opened(out / "profiles" / name, width, dark=dark) as other:
                other.driver.get(address)
                other.see("Open the full report")
                other.until(lambda tab=other: tab.complete)
                faults += other.keep(screens / f"6-{name}.png")
                for kind in ("protect", "verify"):
                    other.driver.get(f"{address.rstrip('/')}/report/{kind}")
                    other.until(lambda tab=other: tab.driver.find_elements("css selector", "h1"))
                    faults += other.keep(screens / f"7-report-{kind}-{name}.png")
                faults += other.complaints()
        faults += wide.complaints()
    return faults


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 0 where nothing is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("out", type=Path, help="a new folder")
    parser.add_argument("--photos", type=Path, help="pictures to use instead of drawn ones")
    parser.add_argument("--pictures", type=int, default=60, help="how many")
    parser.add_argument("--only", choices=["commands", "window"])
    given = parser.parse_args(words)
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    photos = out / "photos"
    if not photos.exists():
        draw_phone(photos, given.pictures, given.photos)
    faults = []
    if given.only != "window":
        faults += run_commands(out, photos)
    if given.only != "commands":
        faults += run_window(out, photos)
        print(f"screens: {out / 'screens'}")
    print("\n".join(["Wrong:", *(f"  {fault}" for fault in faults)]) if faults else "Nothing wrong was found.")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
