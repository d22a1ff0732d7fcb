"""What an interrupt of the work may hit."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest

from bitterant.app import work
from bitterant.app.work import _Inbox


def a_wire() -> Any:  # a Connection, of another kind on Windows
    return Pipe()[0]


def test_an_interrupt_waits_until_a_module_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # scipy.ndimage, broken off in the middle, failed in every job that came after.
    (tmp_path / "slow_module.py").write_text("import time\ntime.sleep(0.5)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    inbox = _Inbox(a_wire())
    inbox.begin(1, hard=True)
    loaded = False

    def use() -> None:
        nonlocal loaded
        try:
            importlib.import_module("slow_module")
        finally:
            loaded = hasattr(sys.modules.get("slow_module"), "whole")
        time.sleep(30)

    before = signal.signal(signal.SIGTERM, inbox.interrupted)
    try:
        threading.Timer(0.1, inbox._halt, [1]).start()
        with pytest.raises(KeyboardInterrupt):
            use()
    finally:
        inbox.end()
        signal.signal(signal.SIGTERM, before)
        sys.modules.pop("slow_module", None)
    assert loaded


def test_an_interrupt_of_a_job_that_is_over_does_not_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    monkeypatch.setattr(work, "_interrupt_main", lambda: sent.append(1))
    inbox = _Inbox(a_wire())
    inbox.begin(1, hard=True)
    inbox._interrupt_again(1)
    assert sent == [1]
    inbox.end()
    inbox._interrupt_again(1)
    inbox.begin(2, hard=True)
    inbox._interrupt_again(1)
    assert sent == [1]
