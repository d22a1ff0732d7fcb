"""The script of the papers' tables, small and on a CPU; and that the loops behind it do not make a device wait."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bitterant.attacks.adversaries.objectives import AdversarialObjective
from bitterant.protect.methods.pgd import pgd_min
from bitterant.surrogates import FrozenSurrogate, Recipe, create_surrogate, train_classifier

from ..fake_device import FakeDevice


def small_rows(script: ModuleType, data: Path, work: Path, device: str, images: int) -> list[dict[str, Any]]:
    """The rows of all parts on so many pictures and half as many to test on."""
    words = [
        "--data", str(data), "--work", str(work), "--images", str(images), "--tests", str(images // 2),
        "--device", device, "--surrogate", "small-cnn", "--victim", "small-cnn", "--epochs", "1", "--rounds", "1",
        "--steps", "2", "--loop-steps", "2",
    ]  # fmt: skip
    script.main(words)
    rows = [json.loads(line) for line in (work / "gpu_tables.jsonl").read_text().splitlines()]
    assert {row["part"] for row in rows} == set(script.PARTS)
    return rows


def test_every_part_runs_and_its_rows_are_kept(
    script: ModuleType, tmp_path: Path, write_pictures: Callable[..., Path]
) -> None:
    data = write_pictures(tmp_path / "pictures.npz", train=48, test=24)
    rows = small_rows(script, data, tmp_path / "work", "cpu", 48)
    found = {(row["trainer"], row["arm"]) for row in rows if row["part"] == "victims"}
    assert found == {(name, arm) for name in script.TRAINERS for arm in ("clean", "emn")}
    assert all(row["over_bare"] > 0 for row in rows if row["part"] == "speed")
    (loop,) = [row for row in rows if row["part"] == "loop"]
    assert loop["images_a_second"] > 0
    assert loop["airbench94_on_an_a100"] == pytest.approx(129_243, abs=1)


def test_what_no_longer_fits_is_named(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], write_pictures: Callable[..., Path]
) -> None:
    data = write_pictures(tmp_path / "pictures.npz", train=8, test=4)
    words = ["--data", str(data), "--work", str(tmp_path), "--images", "8", "--tests", "4", "--device", "cpu"]
    script.main([*words, "--minutes", "0"])
    told = capsys.readouterr().out
    assert all(f"{part}: not done within the 0 minutes" in told for part in script.PARTS)


def test_a_missing_package_is_told_before_anything_is_read(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(script.NEEDED, "uc", ("no_such_package",))
    with pytest.raises(SystemExit, match="no_such_package"):
        script.main(["--data", "nowhere.npz", "--parts", "uc"])


def test_every_part_runs_on_a_gpu(
    script: ModuleType, tmp_path: Path, write_pictures: Callable[..., Path], gpu: FakeDevice,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nothing of it meets a tensor or a generator of the CPU; a graph and a compiled step are not for a fake one."""

    def missing(*args: object, **more: object) -> None:
        raise RuntimeError("not here")

    monkeypatch.setattr(torch, "compile", missing)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", missing)
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", torch.backends.cudnn.benchmark)
    data = write_pictures(tmp_path / "pictures.npz", train=32, test=16)
    rows = small_rows(script, data, tmp_path / "work", "cuda", 32)
    assert not [row for row in rows if "failed" in row]
    assert {row["device"] for row in rows} == {"fake"}


class Questions(TorchDispatchMode):
    """Counts what a device would have to answer before the next operation may be queued."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).startswith(("aten._local_scalar_dense", "aten.nonzero", "aten.is_nonzero"))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("objective", [None, AdversarialObjective(8 / 255, 3, 0.25)])
def test_training_asks_the_device_no_more_for_more_steps(objective: AdversarialObjective | None) -> None:
    images = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    counts = []
    for steps in (4, 12):
        model = create_surrogate("small-cnn", num_classes=4, resolution=16, seed=0)
        with Questions() as asked:
            train_classifier(
                model, images, torch.arange(32) % 4, Recipe(steps=steps, batch_size=16), seed=0, evals=1,
                objective=objective,
            )  # fmt: skip
        counts.append(asked.count)
    assert counts[0] == counts[1]


def test_a_sweep_asks_the_device_nothing() -> None:
    frozen = FrozenSurrogate(create_surrogate("small-cnn", num_classes=4, resolution=16, seed=0))
    images = torch.rand(8, 3, 16, 16)
    with Questions() as asked:
        pgd_min(frozen, images, torch.arange(8) % 4, torch.zeros_like(images), epsilon=0.03, step_size=0.01, steps=3)
    assert asked.count == 0
