"""The pass of a stranger: its folder, what it takes for a terminal's screen, and that it finds what is wrong."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

needs_browser = pytest.mark.skipif(
    importlib.util.find_spec("selenium") is None or not shutil.which("chromium") or not shutil.which("chromedriver"),
    reason="selenium, chromium or chromedriver is not installed",
)
posix = pytest.mark.skipif(os.name == "nt", reason="terminals of POSIX")


def test_pictures_lie_as_the_camera_was_held(script: Any, tmp_path: Path) -> None:
    script.draw_phone(tmp_path / "phone", 4)
    names = sorted(path.name for path in (tmp_path / "phone").iterdir())
    assert names[:2] == [".DS_Store", "IMG_2001 copy.JPG"]
    assert names[-1].startswith("Screenshot")
    for number, orientation in enumerate((1, 6, 8, 3)):
        with Image.open(tmp_path / "phone" / f"IMG_{2001 + number}.JPG") as image:
            assert image.getexif()[0x0112] == orientation
            upright = ImageOps.exif_transpose(image)
        scene = script.scene(number)
        assert upright.size == scene.size
        seen, drawn = (np.asarray(picture.resize((8, 6))).astype(int) for picture in (upright, scene))
        assert np.abs(seen - drawn).max() < 16


def test_a_screen_is_what_was_drawn_last(script: Any) -> None:
    drawn = "\x1b[1mbar 1/2\x1b[0m\r\x1b[2Kbar 2/2\nsecond line\n\x1b[1A\rover\x1b[K\nend\n"
    assert script.screen_of(drawn) == "bar 2/2\nover\nend\n"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("a word " * 12, True),
        ("a word " * 11, False),
        ("report  /a/folder/" + "x" * 90, False),
        ("Next: bitterant verify " + "a-folder " * 12, False),
        ("Traceback (most recent call last):", True),
        ("time 3 s, 0.0 pictures a second", True),
    ],
)
def test_what_a_person_should_not_meet(script: Any, line: str, wrong: bool) -> None:
    assert bool(script.faults_of_text(line)) == wrong


@posix
def test_a_command_gets_the_width_of_its_terminal(script: Any, tmp_path: Path) -> None:
    look = "import os, sys; print(os.get_terminal_size().columns, sys.stderr.isatty()); sys.exit(3)"
    assert script.in_terminal([sys.executable, "-c", look], tmp_path, 70) == (3, "70 True\n")


@needs_browser
@posix
def test_a_page_that_can_be_pushed_sideways_and_a_cut_word_are_found(script: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text(
        "<meta charset=utf-8><p style='width: 50px; overflow: hidden; white-space: nowrap'>much too long for it</p>"
        "<p>as it should be</p>"
    )
    with script.opened(tmp_path / "profile", 390) as tab:
        tab.driver.get(page.as_uri())
        assert tab.keep(tmp_path / "shot.png") == ["shot.png: cut: much too long for it"]
        page.write_text("<p style='width: 500px'>wide</p>")
        tab.driver.get(page.as_uri())
        (fault,) = tab.keep(tmp_path / "shot.png")
        assert "on a screen of 390" in fault
