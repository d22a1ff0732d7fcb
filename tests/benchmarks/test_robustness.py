"""How the table of one cheap step after another is put together."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


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
