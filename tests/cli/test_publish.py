"""``bitterant publish``: words to a call and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bitterant.cli import main
from bitterant.protect import protect_folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / "src" / name).mkdir(parents=True)
        Image.linear_gradient("L").resize((24, 24)).convert("RGB").save(tmp_path / "src" / name / "0.png")
    protect_folder(tmp_path / "src", tmp_path / "out", method="noise", device="cpu", resolution=16)
    return tmp_path / "out"


def test_people_hear_what_stays_and_where_the_reservation_goes(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "mine.txt").write_text("x")
    assert main(["publish", str(out), str(tmp_path / "dest"), "--with-tdmrep", "/photos"]) == 0
    told = capsys.readouterr().err
    assert "left behind: mine.txt (bitterant did not write it)" in told
    assert "2 protected pictures" in told
    assert "/.well-known/tdmrep.json" in told


def test_programs_get_one_object_and_a_dry_run_writes_nothing(
    tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["publish", str(out), str(tmp_path / "dest"), "--dry-run", "--json", "--quiet"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["pictures"], told["dry_run"], told["exit_code"]) == (2, True, 0)
    assert not (tmp_path / "dest").exists()


def test_a_refusal_is_a_usage_error(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest/mine.txt").write_text("x")
    assert main(["publish", str(out), str(tmp_path / "dest")]) == 2
    assert "mine.txt" in capsys.readouterr().err
