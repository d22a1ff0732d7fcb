"""The samples run as they stand, in a process of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).resolve().parents[2] / "samples"


def run(script: str, *words: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(SAMPLES / script), *words], cwd=cwd, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_batch_api(tmp_path: Path) -> None:
    told = run("batch_api.py", cwd=tmp_path)
    assert "128 images protected; the largest change is 8.00 of 255 levels." in told
    assert "The same image from the saved bank: equal" in told


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("folder_api.py", "40 pictures at 32 px: lying, standing; largest change: 8 levels."),
        ("dataset_api.py", "40 protected pictures from a DataLoader; largest change: 8 levels."),
        ("transform_api.py", "4 batches of shape (10, 3, 32, 32), protected by Protect(method='texture'"),
        ("own_method.py", "checks made patterns for lying, standing; largest change: 8 levels."),
        ("own_adversary.py", "tried: none, posterise:3"),
        ("own_victim.py", "trained: two-layers"),
    ],
)
def test_samples_of_the_python_side(script: str, words: str, tmp_path: Path) -> None:
    assert words in run(script, cwd=tmp_path)
    assert not list(tmp_path.iterdir()), "it left files where it was called"


def test_make_samples(tmp_path: Path) -> None:
    assert "10 pictures of 10 classes" in run("make_samples.py", str(tmp_path / "pictures"), "1", cwd=tmp_path)


@pytest.mark.slow
def test_own_comparison(tmp_path: Path) -> None:
    """The adversary undoes the method that it knows, and not the other."""
    rows = re.findall(r"(\w+) +(\w+) +clean +(\d+)% +protected +(\d+)%", run("own_comparison.py", cwd=tmp_path))
    left = {(method, adversary): int(protected) / int(clean) for method, adversary, clean, protected in rows}
    assert left["stripes", "none"] < 0.7 < left["stripes", "means"]
    assert left["texture", "means"] < 0.7


@pytest.mark.slow
def test_quickstart(tmp_path: Path) -> None:
    told = run("quickstart.py", str(tmp_path / "work"), cwd=tmp_path)
    assert "400 pictures protected" in told
    assert (tmp_path / "work/verification/report.json").is_file()
    assert (tmp_path / "work/protected/bitterant-report.html").is_file()
