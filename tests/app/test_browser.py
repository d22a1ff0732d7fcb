"""The whole way in a real browser: choose a folder, look, protect, stop, go on, verify, in two tabs and by keyboard."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
MISSING = [
    *(f"the package {name}" for name in ("nicegui", "selenium") if importlib.util.find_spec(name) is None),
    *(name for name, found in (("chromium", CHROMIUM), ("chromedriver", DRIVER)) if found is None),
]
pytestmark = [
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
    pytest.mark.timeout(600),
]

MakePictures = Callable[..., Path]
#: The command, but for a verification as short as can be.
SCRIPT = """
import sys
from bitterant.app import serve
if __name__ == "__main__":
    short = {"epochs": 0.1, "resolution": 16, "device": "cpu", "workers": 1}
    try:
        serve(show="nothing", verify=short, say=lambda text: print(text, flush=True))
    except KeyboardInterrupt:
        sys.exit(130)
"""


class Tab:
    """A browser with one tab, seen as people do."""

    def __init__(self, profile: Path, address: str, width: int = 1200) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
        for flag in (*flags.split(), "disable-component-update", "disable-sync", f"user-data-dir={profile}"):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--window-size={width},1000")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        options.binary_location = str(CHROMIUM)
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(str(DRIVER)))
        screen = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.get(address)

    def all(self, selector: str) -> list[Any]:
        """Elements that can be seen."""
        return [found for found in self.driver.find_elements("css selector", selector) if found.is_displayed()]

    def until(self, condition: Callable[[], Any], seconds: float = 240) -> Any:
        """Wait; elements may be drawn anew meanwhile."""
        from selenium.common.exceptions import WebDriverException

        end = time.monotonic() + seconds
        while True:
            try:
                if found := condition():
                    return found
            except (WebDriverException, IndexError):
                pass
            assert time.monotonic() < end, self.text
            time.sleep(0.1)

    @property
    def text(self) -> str:
        """What can be read."""
        return self.driver.find_element("tag name", "body").text

    def see(self, words: str) -> None:
        """Wait until something can be read."""
        self.until(lambda: words in self.text)

    def press(self, label: str) -> None:
        """Press the button of that name, once it can be pressed."""

        def pressed() -> bool:
            for button in self.all("button"):
                if button.text.strip() == label and button.is_enabled():
                    self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", button)
                    button.click()
                    return True
            return False

        self.until(pressed)

    def write(self, selector: str, *keys: str) -> None:
        """Type into a field."""
        self.until(lambda: self.all(selector))[0].send_keys(*keys)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The running app, and its address."""
    script = tmp_path / "app.py"
    script.write_text(SCRIPT, encoding="utf-8")
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield process, found[0]
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(90)
        finally:
            process.kill()


@pytest.fixture
def open_tab(tmp_path: Path) -> Iterator[Callable[..., Tab]]:
    """``open_tab(address, width=1200)`` -> a tab of a browser of its own."""
    tabs: list[Tab] = []

    def open_one(address: str, width: int = 1200) -> Tab:
        tabs.append(Tab(tmp_path / f"profile-{len(tabs)}", address, width))
        return tabs[-1]

    yield open_one
    for tab in tabs:
        tab.driver.quit()


def outside(tab: Tab, address: str) -> list[str]:
    """What the page loaded from elsewhere."""
    loaded = tab.driver.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert loaded
    return [name for name in loaded if not name.startswith((address, "data:", "blob:"))]


def complaints(tab: Tab) -> list[str]:
    """What the browser's console says."""
    return [line["message"] for line in tab.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


def test_from_a_folder_to_a_verdict(
    served: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Tab], make_pictures: MakePictures
) -> None:
    from selenium.webdriver.common.keys import Keys

    process, address = served
    root = make_pictures({"<img src=x onerror=alert(1)>": 45, "`${7*7}` & co": 45}, side=96)
    (root / "film <b>.mov").write_bytes(b"x")
    tab = open_tab(address)
    tab.see("Choose a folder")
    assert "Choose how strong" not in tab.text

    offers = "return [...document.querySelectorAll('#step-1 option')].map(option => option.value)"
    tab.write("#step-1 input", str(root)[:-3])
    tab.until(lambda: str(root) in tab.driver.execute_script(offers))
    tab.write("#step-1 input", str(root / "none")[len(str(root)) - 3 :], Keys.ENTER)
    tab.see("Check the path")
    tab.write("#step-1 input", *[Keys.BACKSPACE] * 5, Keys.ENTER)
    tab.see("90 pictures in 2 classes: <img src=x onerror=alert(1)>, `${7*7}` & co")
    tab.see("1 left out, and why")

    # The strength, by keyboard, and how it looks.
    tab.until(lambda: len(tab.all("#preview img")) == 9)
    chosen = "#step-2 input:checked"
    tab.until(lambda: tab.all(chosen)[0].get_attribute("value") == "balanced")
    old = tab.all("#preview img")[0].get_attribute("src")
    tab.write(chosen, Keys.ARROW_DOWN)
    tab.until(lambda: tab.all(chosen)[0].get_attribute("value") == "strong")
    tab.until(lambda: tab.all("#preview img")[0].get_attribute("src") != old)
    tab.until(lambda: len(tab.all("#preview img")) == 9)
    tab.press("Compare at full size")
    cut = tab.until(lambda: tab.all("#compare-cut"))[0]
    tab.until(lambda: tab.driver.execute_script("return document.querySelector('#compare img').naturalWidth") == 96)
    where = "return document.getElementById('compare').style.getPropertyValue('--cut')"
    before = tab.until(lambda: tab.driver.execute_script(where))
    cut.send_keys(Keys.HOME)
    tab.until(lambda: tab.driver.execute_script(where) not in ("", before))

    # Stop, and go on in another tab, as narrow as a phone.
    tab.press("Make the copies")
    tab.see("Writing protected copies")
    tab.press("Stop")
    tab.see("finished and whole")
    phone = open_tab(address, width=375)
    phone.see("finished and whole")
    assert phone.driver.execute_script("return document.documentElement.scrollWidth") <= 375
    phone.press("Go on")
    for each in (tab, phone):
        each.see("90 pictures protected, 1 skipped; 91 files in all.")
        each.see("before it was stopped")
    copies = root.with_name("photos-protected")
    assert len(list(copies.rglob("*.png"))) == 90

    # The test, stopped and gone on with.
    tab.press("Start the test")
    tab.see("Attacking the protection")
    tab.press("Stop")
    tab.see("Stopped. What is finished is whole and kept.")
    tab.press("Go on")
    verdict = tab.until(lambda: tab.all("#verdict .verdict"))[0].text
    assert verdict.startswith(("Of 100 pictures", "This test says nothing about your copies: "))
    phone.see(verdict)
    links = [link.get_attribute("href") for link in tab.all("main a")]
    assert links == [f"{address}report/protect", f"{address}report/verify"]
    assert all(link.get_attribute("target") == "_blank" for link in tab.all("main a"))

    for each in (tab, phone):
        assert outside(each, address) == []
        assert each.driver.find_elements("css selector", "main img[src=x]") == []
        assert complaints(each) == []
    tab.driver.get(links[1])  # which tells the same in the field's words
    tab.see("Networks were trained on 72 pictures of 2 classes")
    assert process.poll() is None  # closing and leaving tabs ends nothing


def test_ctrl_c_stops_what_is_under_way_so_that_it_can_go_on(
    served: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Tab], make_pictures: MakePictures
) -> None:
    from selenium.webdriver.common.keys import Keys

    process, address = served
    root = make_pictures({"cats": 60, "dogs": 60}, side=160)
    tab = open_tab(address)
    tab.write("#step-1 input", str(root), Keys.ENTER)
    tab.press("Make the copies")
    tab.see("Writing protected copies")
    process.send_signal(signal.SIGINT)
    assert process.wait(90) == 130
    kept = {path.name for path in root.with_name("photos-protected").iterdir()}
    assert "bitterant-manifest.jsonl" in kept
    assert "bitterant-run.json" not in kept
    assert not [name for name in kept if name.startswith(".bitterant-tmp")]


def test_every_control_has_a_name_and_headings_are_in_order(
    served: tuple[subprocess.Popen[str], str], open_tab: Callable[..., Tab], make_pictures: MakePictures
) -> None:
    from selenium.webdriver.common.keys import Keys

    tab = open_tab(served[1])
    tab.write("#step-1 input", str(make_pictures({"cats": 3, "dogs": 3})), Keys.ENTER)
    tab.until(lambda: len(tab.all("#preview img")) == 9)
    named = tab.all("button, input, [role=radiogroup], [role=progressbar], main img, section, summary")
    assert len(named) > 15
    assert [found.get_attribute("outerHTML") for found in named if not found.accessible_name] == []
    levels = [int(found.tag_name[1]) for found in tab.all("h1, h2, h3")]
    assert levels == [1, 2, 2, 2]
    assert tab.driver.execute_script("return document.documentElement.lang") == "en-US"
    # Looking for a folder, and giving up, by keyboard alone.
    browse = next(button for button in tab.all("#step-1 button") if button.text.strip() == "Browse")
    browse.send_keys(Keys.ENTER)
    tab.see("Choose this folder")
    tab.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    tab.until(lambda: "Choose this folder" not in tab.text)
