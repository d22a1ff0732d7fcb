"""What a trainer owns and spends follows from what the adversary declares, and what it lacks is told."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast, get_args

import pytest

from bitterant.attacks import verify, verify_folder
from bitterant.attacks.adversaries import Adversary, adversary_classes, create_adversary
from bitterant.attacks.adversaries.base import real_number
from bitterant.attacks.config import VerifyConfig
from bitterant.attacks.request import plan_conditions, resolve_request
from bitterant.attacks.terms import (
    CRAFTING_MEANINGS,
    HELD_OUT,
    TRAINER_CLASSES,
    TRAINER_MEANINGS,
    Crafting,
    TrainerClass,
    crafting_of,
)
from bitterant.attacks.training.cells import VALIDATION
from bitterant.attacks.verify import _stage
from bitterant.errors import ConfigError, SetupError


@pytest.mark.parametrize(
    ("name", "trainer"),
    [
        ("none", "W1"),
        ("early-stop", "W1"),
        ("jpeg:10", "W1"),
        ("projection", "W1"),
        ("ueraser:max", "W1"),
        ("compose:grayscale+jpeg:10", "W1"),
        ("compose:grayscale+purify:encoder.safetensors", "W4"),
        ("bandstop", "W1"),
        ("few-denoise:0.01", "W2"),
        ("few-denoise:0.04", "W2+"),
        ("fast-adversarial:4", "W3"),
        ("last-layer:0.01", "W2"),
        ("recover:0.01", "W2"),
        ("simclr:0.005", "W2"),
        ("last-layer", "W2+"),
        ("recover:0.05", "W2+"),
        ("simclr:1", "W2+"),
        ("adversarial:4", "W3"),
        ("adversarial:8", "W3"),
        ("fast-adversarial:16", "W3"),
        ("linear-probe", "W4"),
        ("knn:efficientnet-lite0", "W4"),
        ("fine-tune", "W4"),
        ("freeze-early", "W4"),
        ("purify:somewhere", "W4"),
        ("regroup:2", "other labels"),
        ("finer:2", "other labels"),
        ("mix:0.99", "mixing"),
    ],
)
def test_the_class_of_a_trainer(name: str, trainer: str) -> None:
    assert create_adversary(name).trainer_class == trainer


@pytest.mark.parametrize(("images", "trainer"), [(None, "W2+"), (3000, "W2+"), (20_000, "W2"), (50_000, "W2")])
def test_two_hundred_clean_pictures_are_few_among_many(images: int | None, trainer: str) -> None:
    adversary = create_adversary("validated-stop")
    assert adversary.clean_pictures == VALIDATION
    assert adversary.trainer_among(images) == trainer
    request = resolve_request(VerifyConfig(
        preset="quick", victims=None, adversaries=("validated-stop",), seeds=None, seed=0,
        require_tier=None, require_grade=None, max_minutes=None, recipe=None,
    ))  # fmt: skip
    assert [planned.trainer for planned in plan_conditions(request, images=images)][:2] == ["W1", trainer]


class Made(Adversary):
    prefix, tier, source, description = "made", "training", "a test", "a test"


class Tilted(Made):
    prefix, doing = "tilted", "tilts them by {self.degrees:g} degrees"
    degrees = real_number(default=10.0, least=0.0, most=45.0)


class Turned(Tilted):
    prefix = "turned"


def test_a_parameter_is_one_line_of_the_class() -> None:
    assert (Tilted.degrees, Tilted().degrees, Tilted("2.5").degrees) == (10.0, 10.0, 2.5)
    assert (Tilted().name, Tilted("2.50").name, Turned("3").name) == ("tilted:10", "tilted:2.5", "turned:3")
    assert Turned("3").phrase == "a trainer who tilts them by 3 degrees"
    assert (Made().name, Made().phrase) == ("made", "a trainer who uses made")
    with pytest.raises(ConfigError, match="turned:50 is not a number from 0 to 45"):
        Turned("50")
    with pytest.raises(ConfigError, match="takes no parameter"):
        Made("1")


@pytest.mark.parametrize(("cost", "trainer"), [(1.0, "W1"), (3.0, "W1"), (3.5, "W1+")])
def test_compute_decides_where_nothing_else_does(cost: float, trainer: str) -> None:
    assert type("Costly", (Made,), {"cost": cost})().trainer_class == trainer


def test_an_adversary_may_name_its_class() -> None:
    Leaked = type("Leaked", (Made,), {"trainer": "W5", "clean_share": 0.2, "cost": 9.0})
    assert Leaked().trainer_class == Leaked.listed_trainer() == "W5"


def test_the_list_says_what_the_default_parameters_are() -> None:
    for name, cls in adversary_classes().items():
        if name not in ("superclass", "purify", "compose"):  # these need a file, or names
            made = create_adversary(name)
            assert (cls.listed_trainer(), cls.listed_crafting()) == (made.trainer_class, made.crafting), name


def test_every_term_has_a_meaning() -> None:
    assert set(TRAINER_MEANINGS) == set(TRAINER_CLASSES) == set(get_args(TrainerClass))
    assert set(CRAFTING_MEANINGS) == set(get_args(Crafting))


@pytest.mark.parametrize("prefix", ["webp", "median", "bandstop", "dvae"])
def test_held_out_from_crafting(prefix: str) -> None:
    assert crafting_of(prefix) == "held-out"


def test_everything_else_was_seen() -> None:
    seen = (
        "none", "early-stop", "jpeg:50", "grayscale", "blur", "down-up", "bit-depth", "projection", "cutout", "mixup",
        "cutmix",
    )  # fmt: skip
    assert {create_adversary(name).crafting for name in seen} == {"seen"}
    assert {name for name, cls in adversary_classes().items() if cls.listed_crafting() == "held-out"} <= HELD_OUT


def test_a_row_of_transforms_is_held_out_where_one_of_its_parts_is() -> None:
    assert create_adversary("compose:grayscale+median").crafting == "held-out"
    assert create_adversary("compose:grayscale+jpeg:10").crafting == "seen"


@pytest.fixture
def _no_kornia(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitterant.attacks.adversaries.base.find_spec", lambda name: None)


@pytest.mark.usefixtures("_no_kornia")
@pytest.mark.parametrize("name", ["ueraser", "ueraser:max", "simclr:0.1"])
def test_what_needs_kornia_says_so(name: str) -> None:
    with pytest.raises(SetupError, match=rf"{name} .*not installed.*bitterant\[augment\]"):
        create_adversary(name).check_packages()


PACKAGES = {"kornia": "augment", "open_clip": "clip", "lpips": "lpips"}


@pytest.mark.parametrize(
    ("package", "options"),
    [
        ("kornia", {"adversaries": ["ueraser"]}),
        ("kornia", {"adversaries": ["grayscale", "simclr:0.1"]}),
        ("open_clip", {"adversaries": ["linear-probe:clip:RN50/openai"]}),
        ("open_clip", {"adversaries": ["knn:clip:RN50/openai"]}),
        ("lpips", {"lpips": "weights.safetensors"}),
    ],
    ids=str,
)
def test_a_missing_package_is_told_before_a_picture_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str, options: dict[str, Any]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    monkeypatch.setattr(verify, "load_labellings", lambda *_, **__: pytest.fail("pictures were read"))
    with pytest.raises(SetupError, match=rf"pip install 'bitterant\[{PACKAGES[package]}\]'"):
        verify_folder(tmp_path / "a", tmp_path / "b", device="cpu", **options)


@pytest.mark.usefixtures("_no_kornia")
def test_all_that_is_missing_is_told_at_once() -> None:
    with pytest.raises(SetupError) as missing:
        resolve_request(VerifyConfig(adversaries=("ueraser", "simclr")))
    assert all(name in str(missing.value) for name in ("2 things are wrong", "ueraser", "simclr"))


@pytest.mark.usefixtures("_no_kornia")
@pytest.mark.parametrize("named", [False, True])
def test_a_preset_goes_on_without_it(named: bool) -> None:
    adversaries = {name: create_adversary(name) for name in ("none", "grayscale", "ueraser", "simclr")}
    request = cast(Any, SimpleNamespace(adversaries=adversaries, named=named))
    store = cast(Any, SimpleNamespace(labelling=lambda name: name, resolution=32))
    if named:
        with pytest.raises(SetupError, match="ueraser"):
            _stage(request, store)
        return
    labellings, skipped = _stage(request, store)
    assert set(skipped) == {"ueraser", "simclr"}
    assert all("kornia" in reason for reason in skipped.values())
    assert set(labellings) == set(adversaries)
