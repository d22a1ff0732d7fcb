"""Victims of the caller's own: by name, with their recipe, in the key of what is kept, and in any process."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitterant.attacks import own_victims, register_victim, verify_sets
from bitterant.attacks.own_victims import Victim, portable
from bitterant.attacks.training import check_victim, create_victim, victim_family, victim_names, victim_recipe
from bitterant.attacks.training.cache import describe
from bitterant.errors import ConfigError, UnknownNameError
from bitterant.imaging import ImageSet
from bitterant.surrogates import Recipe


def flat(num_classes: int, resolution: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * resolution**2, num_classes))


@pytest.fixture(autouse=True)
def registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_victims, "_VICTIMS", {})


def test_a_registered_victim_is_one_of_them() -> None:
    register_victim("flat", flat, recipe=Recipe(steps=100, lr=0.01), family="linear")
    assert "flat" in victim_names()
    assert check_victim("flat") == "flat"
    assert victim_family("flat") == "linear"
    recipe = victim_recipe("flat", 1000)
    assert (recipe.lr, recipe.steps) == (0.01, 190)  # twelve passes are more than its 100 steps
    a, b, c = (create_victim("flat", num_classes=3, resolution=8, seed=seed) for seed in (0, 0, 1))
    assert a.fingerprint() == b.fingerprint() != c.fingerprint()
    assert a(torch.rand(2, 3, 8, 8)).shape == (2, 3)
    state = torch.random.get_rng_state()
    create_victim("flat", num_classes=3, resolution=8, seed=0)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_as_a_decorator_it_leaves_the_function_alone() -> None:
    made = register_victim("other")(flat)
    assert made is flat
    assert victim_family("other") == "other"
    assert victim_recipe("other", 1000) == victim_recipe("small-cnn", 1000)


def test_it_gets_normalised_pictures() -> None:
    class Mean(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3))

    register_victim("mean", lambda k, r: Mean(), mean=(0.0, 0.5, 1.0), std=(1.0, 0.5, 0.25))
    out = create_victim("mean", num_classes=3, resolution=4, seed=0)(torch.ones(1, 3, 4, 4))
    assert out.tolist() == [[1.0, 1.0, 0.0]]


@pytest.mark.parametrize("name", ["", "a:b", "a/b", "a@b", "a+b", "a b"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be named"):
        register_victim(name, flat)


def test_a_name_is_taken_once_and_both_origins_are_told() -> None:
    register_victim("flat", flat)
    register_victim("flat", flat)
    with pytest.raises(ConfigError, match=r"'flat' is there already: .*\.flat\. .*other.* needs another"):

        @register_victim("flat")
        def other(num_classes: int, resolution: int) -> nn.Module:
            raise NotImplementedError

    with pytest.raises(ConfigError, match="bitterant's own"):
        register_victim("resnet18", flat)
    with pytest.raises(ConfigError, match="needs a function"):
        register_victim("number", 5)  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="Did you mean 'flat'"):
        check_victim("flatt")


def test_what_cannot_be_built_is_told() -> None:
    register_victim("nothing", lambda k, r: None)  # type: ignore[arg-type, return-value]
    register_victim("picky", lambda k, r: nn.Linear(-r, k))
    for name, words in {
        "nothing": "NoneType, not a torch.nn.Module",
        "picky": "2 classes at 8 px: RuntimeError",
    }.items():
        with pytest.raises(ConfigError, match=words):
            create_victim(name, num_classes=2, resolution=8, seed=0)


def test_source_and_settings_are_in_the_key_and_hidden_state_has_none(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def build(k, r): ...\n")
    sys.path.insert(0, str(tmp_path))
    try:
        import nets  # pyright: ignore[reportMissingImports]

        first = json.dumps(describe(Victim("a", nets.build)))
        assert first == json.dumps(describe(Victim("a", nets.build)))
        assert first != json.dumps(describe(Victim("a", nets.build, mean=(0.0, 0.0, 0.0))))
        (tmp_path / "nets.py").write_text("def build(k, r): return 1\n")
        assert first != json.dumps(describe(Victim("a", nets.build)))
    finally:
        sys.path.remove(str(tmp_path))
        del sys.modules["nets"]

    def of_width(width: int) -> Any:
        return lambda k, r: nn.Linear(width, k)

    with pytest.raises(TypeError, match="inside another function"):
        describe(Victim("a", of_width(3)))


def test_only_what_others_can_import_is_sent_to_them() -> None:
    assert portable(Victim("a", nn.Linear))
    assert portable(None)
    assert not portable(Victim("a", lambda k, r: nn.Linear(r, k)))


def sets(seed: int, count: int = 40) -> ImageSet:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    images = torch.rand(count, 3, 12, 12, generator=generator) * (0.3 + 0.7 * labels.view(-1, 1, 1, 1))
    return ImageSet.from_tensors(images, labels)


def test_verify_trains_it_and_keeps_the_trainings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    register_victim("flat", lambda k, r: flat(k, r), recipe=Recipe(steps=20))
    train, test = sets(0), sets(1)
    options: dict[str, Any] = {
        "preset": "smoke", "victims": ["flat"], "adversaries": ["grayscale"], "device": "cpu",
        "cells": tmp_path / "cells",
    }  # fmt: skip
    with caplog.at_level(logging.WARNING, "bitterant"):
        report = verify_sets(train, train, test, **options)
    assert "flat cannot be sent to other processes" in caplog.text
    assert {cell.victim for cell in report.cells} == {"flat"}
    kept = sorted(path.name for path in (tmp_path / "cells").rglob("*.npz"))
    assert kept
    again = verify_sets(train, train, test, **options, workers=1)
    assert again.verdict.headline == report.verdict.headline
    assert sorted(path.name for path in (tmp_path / "cells").rglob("*.npz")) == kept


@pytest.mark.slow
def test_other_processes_train_it_alike(tmp_path: Path) -> None:
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "from bitterant import register_victim\n"
        "from bitterant.surrogates import Recipe\n\n\n"
        "@register_victim('mine', recipe=Recipe(steps=10))\n"
        "def mine(num_classes, resolution):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * resolution**2, num_classes))\n"
    )
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "import my_nets\n"
        "import torch\n"
        "from bitterant import ImageSet, verify_sets\n\n"
        "images = torch.rand(60, 3, 12, 12, generator=torch.Generator().manual_seed(0))\n"
        "data = ImageSet.from_tensors(images, torch.arange(60) % 2)\n"
        "train, test = data.select(range(40)), data.select(range(40, 60))\n"
        "report = verify_sets(train, train, test, preset='smoke', victims=['mine'], adversaries=[], device='cpu',\n"
        "    workers=int(sys.argv[1]))\n"
        "print([(cell.arm, cell.final_loss, cell.accuracy) for cell in report.cells])\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "script.py", workers],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
            timeout=250,
        )
        for workers in ("1", "2")
    ]
    assert told[0].stdout == told[1].stdout != "[]\n"
    assert "other processes" not in told[1].stderr
