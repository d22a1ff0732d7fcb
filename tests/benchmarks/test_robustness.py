"""How the table of one cheap step after another is put together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest


def report(victim: str, clean: list[float], protected: list[float]) -> Any:
    arms = {"clean": SimpleNamespace(accuracies=clean), "protected": SimpleNamespace(accuracies=protected)}
    condition = SimpleNamespace(id=f"{victim}/none", victim=victim, adversary="none", arms=arms)
    return SimpleNamespace(conditions=[condition])


def test_clean_pictures_count_once_for_each_victim_and_the_worst_mean_is_over_all(script: Any) -> None:
    reports = {
        "texture": [
            report("small-cnn", [0.6, 0.5], [0.1, 0.3]),
            report("convmixer", [0.4], [0.2]),
            report("small-cnn", [0.6, 0.5], [0.2, 0.4]),
            report("convmixer", [0.4], [0.4]),
        ]
    }
    rows = script.table(reports).splitlines()
    assert "| small-cnn | none | 55.0 (50.0-60.0) | 25.0 (10.0-40.0) |" in rows
    assert "| convmixer | none | 40.0 (40.0-40.0) | 30.0 (20.0-40.0) |" in rows
    assert rows[-1] == "texture: worst mean 30.0 % (none, convmixer)"


def test_what_two_reports_of_a_copy_hold_counts_once_where_it_was_trained_most_often(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {
        "texture-12/0-small-cnn-auto-00000000": report("small-cnn", [0.6], [0.1]),
        "texture-12/0-small-cnn-auto-11111111": report("small-cnn", [0.6, 0.5, 0.4], [0.1, 0.2, 0.3]),
        "texture-12/1-small-cnn-auto-00000000": report("small-cnn", [0.6], [0.5]),
    }
    for name, each in made.items():
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "report.json").touch()
        each.model_copy = lambda update, each=each: SimpleNamespace(conditions=update["conditions"], of=each)
    monkeypatch.setattr(script, "read_report", lambda file: made[str(file.parent.relative_to(tmp_path).as_posix())])
    found = script.finished(tmp_path)
    assert [*found] == ["texture-12"]
    assert script.accuracies(found["texture-12"], "small-cnn/none", "protected") == [0.1, 0.2, 0.3, 0.5]
