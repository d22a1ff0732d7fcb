"""The script for a GPU, small and on a CPU: the table, going on, and what does not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from bitterant.attacks.adversaries import transforms

ARMS = ("clean", "texture", "texture-8", "emn")


@pytest.fixture
def go(
    script: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    write_pictures: Callable[..., Path],
) -> Callable[..., str]:
    """Runs the script on made-up pictures; gives what it printed."""
    monkeypatch.setattr(transforms, "LINEAR_STEPS", 60)  # a thousand take seconds, and are tested elsewhere
    data = write_pictures(tmp_path / "pictures.npz", train=48, test=24)
    fixed = [
        "--data", str(data), "--work", str(tmp_path / "work"), "--images", "48", "--tests", "24", "--epochs", "2",
        "--batch-size", "16", "--victims", "small-cnn", "--device", "cpu", "--workers", "1", "--emn-images", "24",
        "--emn-rounds", "1", "--emn-attempts", "0",
    ]  # fmt: skip

    def run(*words: str) -> str:
        script.main([*fixed, *words])
        return capsys.readouterr().out

    return run


def rows_of(text: str) -> dict[str, list[str]]:
    """Of the printed table, by trainer."""
    lines = [
        [part.strip() for part in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return {line[1]: line[2:] for line in lines[2:]}


def test_the_table_is_whole_and_a_second_call_makes_nothing_anew(
    script: ModuleType, go: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = go()
    table = rows_of(first)
    assert list(table) == ["none", "none, best epoch", *script.ADVERSARIES[1:], "**worst cheap step**"]
    for trainer, (*values, published) in table.items():
        assert len(values) == len(ARMS)
        for value in values[trainer.startswith("**") :]:
            assert 0 <= float(value) <= 100
        assert published
    for arm in range(len(ARMS)):
        assert float(table["none, best epoch"][arm]) >= float(table["none"][arm])
    cheap = [name for name in table if "adversarial" not in name and not name.startswith("**")]
    for arm in (1, 2):
        assert float(table["**worst cheap step**"][arm]) == max(float(table[name][arm]) for name in cheap)
    assert "Not run" not in first
    kept = (tmp_path / "work/rows.jsonl").read_bytes()
    assert len(kept.splitlines()) == len(ARMS) * len(script.ADVERSARIES)
    assert {json.loads(line)["steps"] for line in kept.splitlines()} == {6}  # 2 epochs of 48 pictures in batches of 16

    monkeypatch.setattr(script, "Pictures", None)  # not even looked at
    assert rows_of(go()) == table
    assert (tmp_path / "work/rows.jsonl").read_bytes() == kept


def test_what_does_not_fit_is_named(go: Callable[..., str], script: ModuleType) -> None:
    begun = go("--arms", "clean", "--adversaries", "none")
    told = go("--arms", "clean", "texture", "--adversaries", "none", "cutmix", "--minutes", "0")
    table = rows_of(told)
    assert table["none"][0] == rows_of(begun)["none"][0]
    assert table["none"][1] == table["cutmix"][0] == table["cutmix"][1] == table["**worst cheap step**"][1] == "not run"
    assert rows_of(go("--arms", "texture", "--adversaries", "none"))["**worst cheap step**"][0] != "not run"
    partial = rows_of(go("--arms", "texture", "--adversaries", "none", "cutmix", "--minutes", "0"))
    assert partial["**worst cheap step**"][0].endswith(", of 1 of 2")
    named = told.partition("Not run within 0 minutes:\n")[2]
    for each in ("texture under none", "clean under cutmix", "texture under cutmix"):
        assert f"- {each} (small-cnn, seed 0)" in named
    assert "clean under none" not in named


def test_trainings_that_are_too_long_are_left_out_or_broken_off(
    go: Callable[..., str], script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = script.predicted
    monkeypatch.setattr(script, "predicted", lambda cell, *rest: 1e6 if cell.family == "blur" else real(cell, *rest))
    train = script.train
    monkeypatch.setattr(
        script,
        "train",
        lambda cell, pictures, args, deadline: train(
            cell, pictures, args, -1.0 if cell.family == "grayscale" else deadline
        ),
    )
    told = go("--arms", "clean", "--adversaries", "grayscale", "none", "blur:1")
    assert "- clean under grayscale (small-cnn, seed 0): broken off after" in told
    assert "- clean under blur:1 (small-cnn, seed 0): would take some 1000000 s" in told
    assert rows_of(told)["none"][0] != "not run"
    assert len((tmp_path / "work/rows.jsonl").read_text().splitlines()) == 1


def test_time_is_predicted_from_trainings_of_the_same_victim_on_the_same_device(script: ModuleType) -> None:
    def cell(adversary: str, victim: str = "resnet9") -> Any:
        return script.Cell(setting="s", victim=victim, arm="clean", adversary=adversary, seed=0)

    cells = [cell("none"), cell("fast-adversarial:8"), cell("none", "resnet18")]
    rows = {cells[0].id: {"seconds": 10.0, "device": "gpu"}, cells[1].id: {"seconds": 30.0, "device": "gpu"}}
    assert script.predicted(cell("fast-adversarial:4"), cells, rows, "gpu") == pytest.approx(31.5)
    assert script.predicted(cell("grayscale"), cells, rows, "gpu") == pytest.approx(1.2 * (10 + 20) / 2)
    assert script.predicted(cell("none"), cells, rows, "another") is None
    assert script.predicted(cells[2], cells, rows, "gpu") is None


def test_other_adversaries_are_refused(go: Callable[..., str]) -> None:
    with pytest.raises(SystemExit, match=r"linear-probe.* is not among those"):
        go("--adversaries", "linear-probe")


def test_resnet9(script: ModuleType) -> None:
    images = torch.rand(2, 3, 32, 32)
    made = [script.ResNet9(10, seed).eval() for seed in (1, 1, 2)]
    first, again, other = (network(images) for network in made)
    assert first.shape == (2, 10)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert sum(part.numel() for part in made[0].parameters()) == 6_573_120
