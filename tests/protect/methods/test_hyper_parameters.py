"""Hyper-parameters by name: unknown ones and values of the wrong kind are told before anything is fitted."""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal, cast

import pytest
import torch
from pydantic import Field
from torch import Tensor

from bitterant.errors import ConfigError, UnknownNameError
from bitterant.imaging import Budget, ImageSet
from bitterant.protect import Method, create_method, method_names
from bitterant.protect.methods import FitContext
from bitterant.protect.methods.recipe import CraftingRecipe, MethodRecipe
from bitterant.protect.methods.registry import check_settable, method_class


class MakerRecipe(MethodRecipe):
    count: int | None = Field(default=None, ge=2)
    """How many
    there are."""
    rate: float = Field(default=0.1, gt=0, le=1)
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    twice: float = Field(default_factory=lambda told: 2 * told["rate"])


class Maker(Method):
    name = "maker"
    needs = "nothing"
    granularities = ("sample", "class")
    recipe_class = MakerRecipe

    def _fit(self, dataset: ImageSet, context: FitContext) -> Tensor:
        return torch.zeros(len(dataset), 3, dataset.resolution, dataset.resolution)


def made(**given: Any) -> MakerRecipe:
    return cast(MakerRecipe, Maker(device="cpu", **given).recipe)


def test_a_signature_shows_what_every_method_takes_and_the_fields() -> None:
    shown = inspect.signature(Maker).parameters
    assert list(shown)[:2] == ["budget", "granularity"]
    assert list(shown)[-5:] == ["count", "rate", "kind", "flag", "twice"]
    assert (shown["rate"].default, shown["twice"].default) == (0.1, None)


def test_what_can_be_set_is_described_by_its_field() -> None:
    found = {each.name: each for each in MakerRecipe.settable()}
    assert list(found) == ["count", "rate", "kind", "flag", "twice"]
    assert found["count"].values == "a whole number, at least 2"
    assert found["count"].meaning == "How many there are."
    assert found["rate"].values == "a number, more than 0 and at most 1"
    assert (found["kind"].values, found["flag"].default) == ("'a' or 'b'", "false")


@pytest.mark.parametrize("given", [{}, {"count": 3}, {"count": None}, {"rate": 1}, {"rate": 0.5}, {"kind": "b"},
                                   {"flag": True}])  # fmt: skip
def test_what_fits_is_taken(given: dict[str, Any]) -> None:
    recipe = made(**given)
    expected = {"count": None, "rate": 0.1, "kind": "a", "flag": False, **given}
    assert {name: getattr(recipe, name) for name in expected} == expected
    assert recipe.twice == 2 * recipe.rate
    assert recipe.settings() == {
        "method": "maker", "granularity": "sample", "epsilon": 8 / 255, "norm": "linf", "surrogate": None,
        "weights": None, "seed": 0, "device": "cpu", "twice": 2 * recipe.rate, **expected,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": "three"}, "count of maker is a whole number, not 'three'"),
        ({"count": 2.5}, "a whole number, not 2.5"),
        ({"count": True}, "a whole number"),
        ({"count": 1}, "count of maker must be at least 2, not 1"),
        ({"rate": "fast"}, "rate of maker is a number"),
        ({"rate": True}, "a number"),
        ({"rate": 0}, "rate of maker must be more than 0 and at most 1, not 0"),
        ({"rate": 1.5}, "more than 0 and at most 1, not 1.5"),
        ({"rate": math.nan}, "not nan"),
        ({"twice": math.inf}, "a finite number, not inf"),
        ({"kind": "c"}, "no kind of maker named 'c'.*Known: a, b"),
        ({"flag": 1}, "true or false"),
        ({"seed": -1}, "seed -1 is outside"),
        ({"surrogate": "small-cnn"}, "maker uses no surrogate"),
        ({"granularity": "cluster"}, "works per sample or per class"),
        ({"count": 1, "rate": 0}, "(?s)2 things are wrong.*count of maker.*rate of maker"),
    ],
)
def test_what_does_not_fit_is_told(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        made(**given)


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"hyper-parameter of uc named 'cluster'.*Known: attempts, batch_size"):
        create_method("uc", cluster=3)
    with pytest.raises(ConfigError, match="noise has no hyper-parameters"):
        create_method("noise", rounds=3)
    with pytest.raises(ConfigError, match="noise has no preset 'paper'"):
        create_method("noise", preset="paper")
    with pytest.raises(ConfigError, match="texture computes in one precision only"):
        create_method("texture", precision="bfloat16")
    with pytest.raises(UnknownNameError, match="no preset of emn named 'quick'"):
        create_method("emn", preset="quick")  # type: ignore[arg-type]


def test_options_of_every_method_and_objects_are_not_set_by_name() -> None:
    for name in ("seed", "self", "device", "preset", "name", "weights", "precision"):
        with pytest.raises(ConfigError, match=f"{name} is no hyper-parameter"):
            check_settable(method_class("uc"), {name: 1})
    with pytest.raises(ConfigError, match="no plain value"):
        check_settable(method_class("beo"), {"clean_bank": "x"})
    check_settable(method_class("beo"), {"rms": 0.1})


def test_a_constructor_of_somebody_else_is_left_to_check_itself() -> None:
    class Own(Maker):
        def __init__(self, *, extra: int = 1, **shared: Any) -> None:
            super().__init__(**shared)
            self.extra = extra

    class Closed(Maker):
        def __init__(self, *, extra: int = 1, seed: int = 0) -> None:
            super().__init__(seed=seed)

    assert Own(extra=4, device="cpu", count=3).extra == 4
    check_settable(Own, {"extra": "x", "whatever": 2})
    check_settable(Closed, {"extra": "x"})
    with pytest.raises(ConfigError, match="whatever"):
        check_settable(Closed, {"whatever": 2})


@pytest.mark.parametrize("name", method_names())
def test_every_hyper_parameter_is_described_and_takes_its_own_default(name: str) -> None:
    cls = method_class(name)
    for field in cls.recipe_class.hyper_parameters().values():
        assert field.description
    method = cls(device="cpu")
    own = {found.name: getattr(method.recipe, found.name) for found in cls.recipe_class.settable()}
    assert cls(device="cpu", **own).settings() == method.settings()


@pytest.mark.parametrize("name", ["emn", "beo", "uc"])
def test_a_preset_is_what_it_sets_and_the_defaults_elsewhere(name: str) -> None:
    ours = create_method(name, device="cpu").settings()
    assert create_method(name, device="cpu", preset="balanced").settings() == ours
    presets = cast("type[CraftingRecipe]", method_class(name).recipe_class).presets
    assert set(presets) == {"fast", "paper"}
    for preset, instance in presets.items():
        budget = Budget(4 / 255)
        settings = create_method(name, device="cpu", preset=cast(Any, preset), budget=budget).settings()
        told = instance.settings()
        differing = {key for key, value in settings.items() if value != ours[key]} - {"epsilon", "step_size"}
        assert differing <= instance.model_fields_set
        assert all(settings[key] == told[key] for key in instance.model_fields_set - {"budget"})
        assert settings["epsilon"] == 4 / 255  # what is given wins
    assert create_method(name, preset="fast").settings()["rounds"] < ours["rounds"]
