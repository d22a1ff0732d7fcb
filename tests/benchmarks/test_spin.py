"""Training beside busy processes: every way is timed, and nobody is left behind."""

from __future__ import annotations

from typing import Any

import pytest


def test_every_way_is_timed_with_its_own_setting(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[tuple[str | None, str | None]] = []
    real = script.subprocess.run

    def run(words: list[str], *, env: dict[str, str], **options: Any) -> Any:
        asked.append((env.get("OMP_NUM_THREADS"), env.get("GOMP_SPINCOUNT")))
        return real([words[0], "-c", "print(2.0)"], env=env, **options)

    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    monkeypatch.setattr(script.subprocess, "run", run)
    script.main(["--steps", "1", "--rounds", "1", "--busy", "0", "1"])
    assert asked == 2 * [("2", None), ("2", "2000"), ("1", None)]
    assert capsys.readouterr().out.count("| 2.00 - 2.00 | 1.00 |") == 6


def test_the_processes_end(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    real = script.subprocess.Popen

    def watched(*args: Any, **options: Any) -> Any:
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(script.subprocess, "Popen", watched)
    with script.busy(2):
        assert [other.poll() for other in started] == [None, None]
    assert len(started) == 2
    assert all(other.returncode is not None for other in started)


def test_the_setting_is_that_of_the_command(script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitterant.cli import boundary

    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    boundary.prepare_torch()
    assert boundary.os.environ["GOMP_SPINCOUNT"] == script.SHORT
