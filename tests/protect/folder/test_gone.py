"""A disk that is taken out in mid-run stops the run; the same call goes on when it is back, to the same end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bitterant.errors import ConfigError, OutputError
from bitterant.protect.folder import fit_folder, protect_folder
from bitterant.records.places import StillThere

NOISE: dict[str, Any] = {"method": "noise", "device": "cpu", "resolution": 16, "workers": 1}


@pytest.mark.parametrize("mounted_on", [False, True], ids=["gone", "an empty mount point"])
@pytest.mark.parametrize("stage", ["read", "write"])
def test_the_source_goes_and_comes_back(kit: Any, stage: str, mounted_on: bool) -> None:
    source, output, away = kit.folder(), kit.root / "out", kit.root / "away"
    plain = kit.root / "plain"
    protect_folder(source, plain, **NOISE)

    def progress(name: str, done: float, total: float, message: str = "", /) -> None:
        if name == stage and done >= 2 and not away.exists():
            source.rename(away)
            if mounted_on:
                source.mkdir()

    with pytest.raises(OutputError, match="no longer there"):
        protect_folder(source, output, **NOISE, progress=progress)
    if mounted_on:
        source.rmdir()
    away.rename(source)
    assert protect_folder(source, output, **NOISE).counts["failed"] == 0
    assert kit.result(output) == kit.result(plain)


def test_a_single_file_that_goes_is_a_failed_one(kit: Any) -> None:
    source, output = kit.folder(), kit.root / "out"

    def progress(name: str, done: float, total: float, message: str = "", /) -> None:
        if name == "read" and done == total:
            (source / "class1" / "2.png").unlink(missing_ok=True)

    assert protect_folder(source, output, **NOISE, progress=progress).counts["failed"] == 1


def test_what_is_looked_for_is_the_folder_itself(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    there = StillThere(tmp_path / "a", tmp_path / "never")
    there.check()
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(OutputError, match="no longer there"):
        there.check()
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError, match="no longer there"):
        there.check()


def test_a_fit_that_is_done_says_so_and_another_is_refused(kit: Any) -> None:
    source, bank = kit.folder(), kit.root / "x.bank"
    first = fit_folder(source, bank, **NOISE)
    assert not first.already_done
    before = bank.read_bytes()
    again = fit_folder(source, bank, **NOISE)
    assert again.already_done
    assert (again.exit_code, again.images) == (0, first.images)
    assert "Nothing to do" in again.headline
    with pytest.raises(ConfigError, match="exists already"):
        fit_folder(source, bank, **NOISE, seed=1)
    with pytest.raises(ConfigError, match="exists already"):
        fit_folder(source, bank, **NOISE, resume=False)
    (source / "class0" / "0.png").write_bytes((source / "class1" / "1.png").read_bytes())
    with pytest.raises(ConfigError, match="exists already"):
        fit_folder(source, bank, **NOISE)
    assert bank.read_bytes() == before
