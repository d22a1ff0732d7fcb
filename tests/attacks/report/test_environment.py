"""Which program ran, and where: enough to repeat a run, and no names."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.report import describe_environment
from bitterant.attacks.report.files import _commit
from bitterant.surrogates import Recipe


def git(folder: Path, *words: str) -> str:
    command = ("git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@example.org", *words)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_of_a_checkout_and_whether_it_was_changed(tmp_path: Path) -> None:
    assert _commit(tmp_path) is None, "a package that was installed"
    git(tmp_path, "init", "-q")
    assert _commit(tmp_path) is None, "nothing was committed"
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "v1")
    assert _commit(tmp_path) == git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "a").write_text("2")
    assert _commit(tmp_path) == git(tmp_path, "rev-parse", "HEAD") + "-dirty"
    (tmp_path / "package").mkdir()
    assert _commit(tmp_path / "package") is None, "the checkout of somebody else"


def test_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert _commit(tmp_path) is None


def test_the_environment_names_no_machine_and_is_whole() -> None:
    found = describe_environment("cpu", 2)
    assert platform.node() not in found.model_dump_json()
    assert (found.workers, found.threads, found.device_name) == (2, 1, None)
    assert found.determinism["one thread a training"] is True
    assert found.ram_gib is None or found.ram_gib > 0.1
    assert found.versions["torch"] != "unknown"


def test_the_call_on_sets_repeats_what_was_asked_for() -> None:
    config = VerifyConfig(
        preset="smoke", adversaries=("jpeg:10",), seeds=2, seed=7, epsilon=0.03, recipe=Recipe(steps=3)
    )
    seen: dict[str, Any] = {}

    def verify_sets(*sets: object, **options: object) -> None:
        seen.update(options)

    call = config.call().removeprefix("bitterant.attacks.")
    names = {"verify_sets": verify_sets, "Recipe": Recipe, "clean": 0, "protected": 0, "test": 0}
    eval(call, names)  # it is our own text
    assert seen == {
        "preset": "smoke", "seeds": 2, "seed": 7, "adversaries": ["jpeg:10"], "epsilon": 0.03,
        "recipe": Recipe(steps=3),
    }  # fmt: skip
