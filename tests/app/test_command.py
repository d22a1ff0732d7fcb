"""``bitterant app`` as people start and end it."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from bitterant.app.server import _wants_window
from bitterant.cli.app import app
from bitterant.errors import SetupError


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else real(name, *more))


def test_without_the_extra_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "nicegui")
    result = CliRunner().invoke(app, ["app", "--no-browser"])
    assert result.exit_code == 3
    assert 'pip install "bitterant[app]"' in result.stderr


def test_a_window_that_cannot_be_opened_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "webview")
    with pytest.raises(SetupError, match="pip install pywebview"):
        _wants_window("window")
    assert not _wants_window("auto")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SetupError, match="display"):
        _wants_window("window")
    assert not _wants_window("auto")
    monkeypatch.setenv("DISPLAY", ":0")
    assert _wants_window("window")
    assert _wants_window("auto")
    assert not _wants_window("browser")
    assert not _wants_window("nothing")


def status(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=30) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.skipif(importlib.util.find_spec("nicegui") is None, reason="the extra 'app' is not installed")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_it_prints_an_address_that_alone_gets_in_and_ends_with_130(tmp_path: Path, number: signal.Signals) -> None:
    process: Any = subprocess.Popen(
        [sys.executable, "-m", "bitterant", "app", "--no-browser"], stderr=subprocess.PIPE, text=True, cwd=tmp_path
    )
    try:
        found = re.search(r"http://127\.0\.0\.1:\d+/\S+", process.stderr.readline())
        assert found is not None
        address = found[0]
        assert status(address) == 200
        root, token = re.fullmatch(r"(http://[^/]+/)([^/]+)/", address).groups()  # type: ignore[union-attr]
        for path in ("", "docs", "openapi.json", "_nicegui_ws/socket.io/?EIO=4&transport=polling", f"?token={token}"):
            assert status(root + path) == 403
        assert status(address, Host="evil.example") == 403
        assert status(address, Origin="http://evil.example") == 403
        for path in ("report/protect", "report/verify", "picture/1/0/after", "report/../../etc/passwd"):
            assert status(address + path) == 404
        process.send_signal(number)
        said = process.stderr.read()
        assert process.wait(60) == 130
    finally:
        process.kill()
    assert "Stopped." in said
    assert "Traceback" not in said
    assert list(tmp_path.iterdir()) == []


WEBVIEW = """
import pathlib, urllib.request
def create_window(title, address, **more):
    pathlib.Path("opened.txt").write_text(address)
def start():
    address = pathlib.Path("opened.txt").read_text()
    with urllib.request.urlopen(address, timeout=30) as answer:
        pathlib.Path("seen.txt").write_text(str(answer.status))
    {then}
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="displays are told by the environment on Linux")
@pytest.mark.skipif(importlib.util.find_spec("nicegui") is None, reason="the extra 'app' is not installed")
@pytest.mark.parametrize(("then", "code"), [("", 0), ("raise RuntimeError('no toolkit')", 3)])
def test_closing_the_window_ends_it_and_one_that_fails_is_told(tmp_path: Path, then: str, code: int) -> None:
    (tmp_path / "webview.py").write_text(WEBVIEW.format(then=then), encoding="utf-8")
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "bitterant", "app", "--window"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "DISPLAY": ":99"},
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    assert (tmp_path / "seen.txt").read_text(encoding="utf-8") == "200"
    assert ("Take --browser" in done.stderr) == bool(code)
