"""``bitterant demo`` with the long parts replaced: what it passes on, and that its verdict decides the exit code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitterant.cli import main


@pytest.fixture
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Protecting and verifying answer at once; their exit codes can be set."""
    codes: dict[str, Any] = {"protect": 0, "verify": 0}
    monkeypatch.setattr("bitterant.cli.demo.PER_CLASS", 2)
    monkeypatch.setattr("bitterant.cli.demo.TEST_PER_CLASS", 1)
    monkeypatch.setattr("bitterant.cli.demo.tell_summary", lambda *_: None)
    monkeypatch.setattr("bitterant.cli.demo.tell_verdict", lambda *_: None)

    def protect(source: Path, target: Path, **options: Any) -> SimpleNamespace:
        codes["pictures"] = sum(1 for _ in source.rglob("*.*"))
        return SimpleNamespace(exit_code=codes["protect"], report=target / "report.html")

    def verify(*folders: Path, **options: Any) -> SimpleNamespace:
        return SimpleNamespace(exit_code=lambda: codes["verify"], verdict=SimpleNamespace(headline="said so"))

    monkeypatch.setattr("bitterant.protect.protect_folder", protect)
    monkeypatch.setattr("bitterant.attacks.verify_folder", verify, raising=False)
    return codes


@pytest.mark.parametrize(("protect", "verify", "expected"), [(0, 0, 0), (0, 5, 5), (1, 0, 1), (1, 5, 1)])
def test_the_exit_code_is_that_of_the_first_half_that_failed(
    stand_ins: dict[str, Any], tmp_path: Path, protect: int, verify: int, expected: int
) -> None:
    stand_ins.update(protect=protect, verify=verify)
    assert main(["demo", "-o", str(tmp_path / "demo"), "--quiet"]) == expected
    assert stand_ins["pictures"] > 0


def test_a_place_that_is_no_folder_is_the_users_business_not_a_fault(
    stand_ins: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["demo", "-o", str(tmp_path / "file")]) == 3
    assert "Check the path" in capsys.readouterr().err
